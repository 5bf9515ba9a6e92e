"""Runs the CUDA kernels without a GPU: compiled by NVRTC, launched through a CuPy that is not one."""

from __future__ import annotations

import ctypes
import importlib
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from cupy_backends.cuda.libs import nvrtc

from bench.chip import consumer, model
from bench.chip.cuda import CUPY_S
from qplayer_gpu import backend
from qplayer_gpu.kernels import numbers
from qplayer_gpu.kernels.call import Array, BackwardCall, ForwardCall

from .emulated import Emulation
from .program import Program

CALLS = {"qplayer_forward": ForwardCall, "qplayer_backward": BackwardCall}
MAINS = "main.cu", "systems.cu"
PROCESSORS = 2
RESIDENT = 512  # threads of a multiprocessor at once, by their registers
CARDS = {card.architecture: card for card in (*model.CARDS.values(), *consumer.CARDS)}
STATIC = 49152  # bytes of shared memory that a kernel may have unasked


class Kernel:
    """What CuPy has of a kernel."""

    def __init__(self, program: Program, name: str) -> None:
        self.program, self.name = program, name
        self.shared_size_bytes = program.translation.shared
        self.max_dynamic_shared_size_bytes = STATIC
        self.kernel = SimpleNamespace(ptr=id(self))


class StandIn(ModuleType):
    """What launch.py uses of CuPy."""

    def __init__(self, architecture: int, emulation: Emulation) -> None:
        super().__init__("cupy")
        self.architecture, self.emulation = architecture, emulation
        self.kernels: dict[int, Kernel] = {}
        card = CARDS[architecture]
        self.shared, self.reserved = card.shared, card.reserved
        attributes = {"MaxSharedMemoryPerMultiprocessor": self.shared, "MultiProcessorCount": PROCESSORS}
        attributes |= {"MaxSharedMemoryPerBlockOptin": self.shared - self.reserved}
        attributes |= {"ReservedSharedMemoryPerBlock": self.reserved}
        attributes |= {"ComputeCapabilityMajor": architecture // 10, "ComputeCapabilityMinor": architecture % 10}
        driver = SimpleNamespace(launchKernel=self.launch, occupancyMaxActiveBlocksPerMultiprocessor=self.occupancy)
        self.cuda = SimpleNamespace(driver=driver, Device=lambda index: SimpleNamespace(attributes=attributes))

    def RawModule(self, code: str, options: tuple[str, ...]) -> SimpleNamespace:
        program = compiled(code, options, self.architecture)

        def get_function(name: str) -> Kernel:
            kernel = Kernel(program, name)
            self.kernels[kernel.kernel.ptr] = kernel
            return kernel

        return SimpleNamespace(get_function=get_function, compile=lambda: None)

    def occupancy(self, function: int, threads: int, shared: int) -> int:
        """How many blocks a multiprocessor holds."""
        of_block = self.kernels[function].shared_size_bytes + shared + self.reserved
        return min(RESIDENT // threads, self.shared // of_block)

    def launch(
        self, function: int, gx: int, gy: int, gz: int, bx: int, by: int, bz: int, shared: int, *more: Any
    ) -> None:
        """Runs a launch.

        Raises:
            RuntimeError: it ended early.
        """
        kernel = self.kernels[function]
        assert shared <= kernel.max_dynamic_shared_size_bytes
        _, parameters, _ = more
        sizes = kernel.program.translation.parameters[kernel.name]
        pointers = (ctypes.c_void_p * len(sizes)).from_address(parameters)
        arguments = [ctypes.string_at(p, size) for p, size in zip(pointers, sizes, strict=True)]
        if kernel.name == "qplayer_solve":
            memory = extents_of_systems(arguments[0])
        else:
            how = importlib.import_module("qplayer_gpu.kernels.cuda.launch").Launch.from_buffer_copy(arguments[1])
            scratch = how.scratch, gx * problems_of(bx, kernel) * how.scratch_stride
            ctypes.memset(*scratch[:1], 0xFF, scratch[1])  # NaN
            memory = [scratch, (how.next, 8), *extents(CALLS[kernel.name].from_buffer_copy(arguments[0]))]
        if not self.emulation.run(kernel.program, kernel.name, gx, bx, arguments, memory, shared):
            raise RuntimeError("the launch ended early")


def problems_of(threads: int, kernel: Kernel) -> int:
    """The problems that a block of so many threads solves at once."""
    return threads // kernel.program.threads


def extents(call: ForwardCall | BackwardCall) -> list[tuple[int, int]]:
    """The addresses that a call has, and how many bytes are there."""
    sizes, batch = call.rows.sizes, call.rows.batch
    n, n_eq, n_in = sizes.n, sizes.n_eq, sizes.n_in
    m = n_eq + n_in + (n if sizes.bounded else 0)
    of_matrices = {"H": n * n, "A": n_eq * n, "C": n_in * n}
    of_rows = dict.fromkeys(("lo", "hi", "w", "hard", "z", "s", "p", "z_unique", "ws", "q_z"), m)
    widths = of_matrices | of_rows | dict.fromkeys(("g", "x", "b_x", "b_s", "b_z"), n)
    found = []
    for structure in (call.rows, call):
        for name, kind in structure._fields_:
            value, width = getattr(structure, name), widths.get(name.removesuffix("_start").removeprefix("grad_"), 1)
            if kind is Array:
                found.append((value.data, ((batch - 1) * value.stride + width) * 8))
            elif kind is ctypes.c_void_p:
                found.append((value, batch * width * 8))
    return [(at, size) for at, size in found if at and size]


def extents_of_systems(argument: bytes) -> list[tuple[int, int]]:
    """The same of a batch of systems."""
    call = importlib.import_module("qplayer_gpu.kernels.cuda.linear").Systems.from_buffer_copy(argument)
    vectors = 8 * call.batch * call.count * call.n
    return [(call.K, 8 * call.batch * call.n**2), (call.r, vectors), (call.x, vectors), (call.failed, call.batch)]


@cache
def compiled(code: str, options: tuple[str, ...], architecture: int) -> Program:
    """What NVRTC makes of the source, emulated; with lines of the headers."""
    program = nvrtc.createProgram(with_lines(code), "main.cu", (), ())
    try:
        nvrtc.compileProgram(program, (*options, *CUPY_S, "-lineinfo", f"--gpu-architecture=compute_{architecture}"))
        emulated = Program(nvrtc.getPTX(program).rstrip(b"\0").decode())
    finally:
        nvrtc.destroyProgram(program)
    emulated.threads = int(options[1].removeprefix("-DQP_THREADS="))
    return emulated


def with_lines(code: str) -> str:
    """The source of the kernels, in which each line says from which file it is."""
    source = importlib.import_module("qplayer_gpu.kernels.cuda.source")
    taken = set()

    def lines(name: str) -> Iterator[str]:
        taken.add(name)
        yield f'#line 1 "{name}"'
        for number, line in enumerate((source.FOLDER / name).read_text().splitlines(), 1):
            if included := source.INCLUDE.match(line):
                if included[1] not in taken:
                    yield from lines(included[1])
                yield ""
            elif line != "#pragma once":
                yield line
                continue
            yield f'#line {number + 1} "{name}"'

    main = next(name for name in MAINS if source.source(name) == code)
    text = numbers.cpp() + "\n".join(lines(main)) + "\n"
    assert [line for line in text.splitlines() if not line.startswith("#line")] == code.splitlines()
    return text


def emulate(patch: pytest.MonkeyPatch, architecture: int = 90) -> Emulation:
    """Has backend="cuda" run on the CPU, on tensors there, until the patch is undone."""
    emulation = Emulation()
    nvrtc.getVersion()  # loads the compiler, for which the binding wants the true CuPy
    for name in [name for name in sys.modules if name.startswith("qplayer_gpu.kernels.cuda")]:
        patch.delitem(sys.modules, name)
    patch.setitem(sys.modules, "cupy", StandIn(architecture, emulation))
    patch.setattr(torch.cuda, "device", lambda index: nullcontext())
    patch.setattr(torch.cuda, "current_stream", lambda index: SimpleNamespace(cuda_stream=0))
    patch.setattr(backend, "obstacle", lambda *_: "")
    return emulation
