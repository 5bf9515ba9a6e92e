"""Compiles PTX for the CPU and runs it: the answer, what is wrong with the kernel, and what it executed."""

from __future__ import annotations

import ctypes
import hashlib
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from qplayer_gpu.kernels.cache import kept
from qplayer_gpu.kernels.cpu import build

from . import opcodes, ptx, translate

HERE = Path(__file__).parent
FLAGS = ["-std=c++17", "-fPIC", "-shared", "-U_FORTIFY_SOURCE", "-ffp-contract=off", "-fno-strict-aliasing", "-w"]
MACHINE = ("machine.cpp", "memory.cpp")
SPACES = ("global", "shared", "local")  # as machine.h has them
VERBS = {"ld": "load", "st": "store", "ldmatrix": "load", "stmatrix": "store", "atom": "atomic", "red": "atomic"}
THREADS = 1024  # by which blocks are apart in the numbers of threads
KINDS = (  # as findings.h has them
    "a read of what another thread wrote with no barrier between",
    "a write where another thread read with no barrier between",
    "two writes with no barrier between",
    "out of bounds",
    "misaligned",
    "a write to what is only read",
    "a lane outside the mask",
    "lanes of a warp meet at different instructions",
    "lanes of a warp are at different barriers",
    "a deadlock",
)


class FindingStruct(ctypes.Structure):
    """As in findings.h."""

    _fields_ = (
        *((name, ctypes.c_uint32) for name in ("kind", "site", "other", "thread", "other_thread", "is_shared")),
        ("address", ctypes.c_uint64),
        ("count", ctypes.c_uint64),
    )


@dataclass(frozen=True)
class Finding:
    """What is wrong, and where."""

    kind: str
    site: opcodes.Site | None
    other: opcodes.Site | None  # of the earlier access
    thread: tuple[int, int]  # block, and in it
    other_thread: tuple[int, int]
    address: str
    count: int

    def __str__(self) -> str:
        text = f"{self.kind}: {said(self.site)} in thread {self.thread}"
        if self.other:
            text += f", before it {said(self.other)} in thread {self.other_thread}"
        return f"{text}, {self.address}, {self.count} times"


def said(site: opcodes.Site | None) -> str:
    """An instruction in words."""
    return f"{site.opcode} of {spoken(site.function)} at {site.place}" if site else "at the beginning"


def spoken(function: str) -> str:
    """The name of a function as its source has it."""
    if "_$_" in function:
        return function.split("__")[0].split("_$_")[-1]
    if mangled := re.match(r"_ZN?K?\d+qplayer(\d+)(\w+)", function):
        return mangled[2][: int(mangled[1])]
    return function


@dataclass(frozen=True)
class Run:
    """What a launch did."""

    findings: list[Finding]
    ended: bool  # as a kernel does; else the launch was stopped
    counts: Counter[tuple[str, str]]  # instructions that all threads executed, by function and kind
    cycles: float  # of all blocks, one after the other, where the translation keeps them (timed.py); else 0


@cache
def machine() -> ctypes.CDLL:
    """What all programs run on."""
    sources = [(HERE / name).read_text() for name in MACHINE]
    library = compiled("".join(sources), ("-O2",), [HERE / name for name in MACHINE])
    loaded = ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    loaded.gpu_cycles.restype = ctypes.c_double
    loaded.gpu_findings.restype = ctypes.POINTER(FindingStruct)
    return loaded


def compiled(text: str, flags: Sequence[str], files: Sequence[Path]) -> Path:
    """The library of these files, or where there are none of the text, from the cache if it was compiled before."""
    compiler, identity = build._compiler(build._named())
    command = [*compiler, *FLAGS, *flags, f"-I{HERE}"]
    headers = [path.read_bytes() for path in sorted(HERE.glob("*.h"))]
    parts = [" ".join(command).encode(), identity, text.encode(), *headers]

    def make(path: Path) -> None:
        sources = [str(file) for file in files] or ["-x", "c++", "-"]
        done = subprocess.run([*command, "-o", path, *sources], input=text.encode(), capture_output=True)
        if done.returncode:
            raise RuntimeError(done.stderr.decode(errors="replace")[:4000])

    return kept(f"emulated_{hashlib.sha256(b''.join(parts)).hexdigest()[:24]}", ".so", make)


class Program:
    """The kernels of a module."""

    writer = translate.Writer

    def __init__(self, text: str) -> None:
        """Raises :class:`opcodes.UnsupportedError` where the text has an instruction that is not known."""
        self.translation = self.writer(ptx.parsed(text)).write()
        self.machine = machine()
        self.library = ctypes.CDLL(str(compiled(self.translation.text, ("-O1",), [])))

    def launch(
        self,
        kernel: str,
        blocks: int,
        threads: int,
        arguments: Sequence[bytes],
        memory: Sequence[tuple[int, int]],
        shared: int = 0,
        order: int = 0,
        removed: Callable[[opcodes.Site], bool] = lambda site: False,
    ) -> Run:
        """Runs a kernel on arguments, with pointers to ``memory``: addresses and sizes.

        The order of threads is 0 for forward, 1 for backward, and else the seed of random ones. Removed barriers are
        passed as if they were not there.
        """
        expected = self.translation.parameters[kernel]
        if [len(a) for a in arguments] != expected:
            raise ValueError(f"{kernel} takes arguments of {expected} bytes, not {[len(a) for a in arguments]}")
        buffers = [ctypes.create_string_buffer(a, len(a)) for a in arguments]
        pointers = (ctypes.c_void_p * len(buffers))(*map(ctypes.addressof, buffers))
        self.machine.gpu_clear_ranges()
        for at, size in memory:
            self.add_range(at, size, True)
        for buffer in buffers:
            self.add_range(ctypes.addressof(buffer), len(buffer), False)
        statics = ctypes.c_uint64.in_dll(self.library, "statics_size").value
        if statics:
            self.add_range(ctypes.addressof(ctypes.c_uint8.in_dll(self.library, "statics")), statics, True)
        counts = (ctypes.c_uint64 * len(self.translation.blocks)).in_dll(self.library, "counts")
        ctypes.memset(counts, 0, ctypes.sizeof(counts))
        function = ctypes.cast(getattr(self.library, opcodes.identifier(kernel)), ctypes.c_void_p)
        gone = bytes([0, *map(removed, self.translation.sites)])
        size = self.translation.shared + shared
        accesses = (ctypes.c_uint64 * (len(gone) * len(SPACES)))()
        ended = self.machine.gpu_launch(function, blocks, threads, size, pointers, order, gone, accesses)
        found = self.machine.gpu_findings()[: self.machine.gpu_count()]
        counted = self.executed(counts, accesses)
        return Run([self.finding(f) for f in found], bool(ended), counted, self.machine.gpu_cycles())

    def add_range(self, at: int, size: int, is_writable: bool) -> None:
        self.machine.gpu_add_range(ctypes.c_void_p(at), ctypes.c_uint64(size), int(is_writable))

    def finding(self, f: FindingStruct) -> Finding:
        """In words."""
        site, other = (self.translation.sites[k - 1] if k else None for k in (f.site, f.other))
        threads = (divmod(k, THREADS) for k in (f.thread, f.other_thread))
        where = f"{'shared memory' if f.is_shared else 'memory'} {f.address:#x}"
        return Finding(KINDS[f.kind], site, other, *threads, where, f.count)

    def executed(self, counts: Sequence[int], accesses: Sequence[int]) -> Counter[tuple[str, str]]:
        """By function and kind; accesses to memory, but those that say that it is the thread's own, as they were."""
        total: Counter[tuple[str, str]] = Counter()
        for count, (function, instructions) in zip(counts, self.translation.blocks, strict=True):
            for opcode, often in instructions.items():
                if kind := kind_of(opcode):
                    total[spoken(function), kind] += count * often
        for k, site in enumerate(self.translation.sites, 1):
            if (verb := VERBS.get(site.opcode.split(".")[0])) is None:
                continue
            for space, count in zip(SPACES, accesses[k * len(SPACES) :], strict=False):
                total[spoken(site.function), f"{verb} {space}"] += count
        return +total


def kind_of(opcode: str) -> str:
    """What an instruction is to the machine; nothing for accesses to memory that is found when they are made."""
    name, *modifiers = opcode.split(".")
    if name in VERBS:
        return next((f"{VERBS[name]} {m}" for m in modifiers if m in opcodes.OWN), "")
    if name in ("shfl", "vote", "redux"):
        return "shuffle"
    if name == "bar":
        return "barrier of a warp" if "warp" in modifiers else "barrier"
    if name == "mma":
        return "product of matrices"
    if name in ("mov", "neg"):
        return "copy"
    if name in ("bra", "ret", "call"):
        return "branch"
    is_arithmetic = name not in ("selp", "cvt")
    return "double" if "f64" in modifiers and is_arithmetic else "other"
