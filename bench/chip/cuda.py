"""What each variant of the kernels needs on the chip, found without a GPU.

    python -m bench.chip.cuda

compiles all variants with NVRTC, through CuPy's binding, and reads from its assembler what they need. It takes some
twenty seconds for each; a GPU and its driver are not needed, the packages cupy and nvidia-cuda-nvrtc are.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass
from itertools import product, starmap
from pathlib import Path

from cupy_backends.cuda.libs import nvrtc

from qplayer_gpu.kernels.cuda.source import THREADS, digest, options, source

from ..table import parsed
from .variants import command, write

FILE = Path(__file__).with_name("cuda.csv")
ARCHITECTURES = (80, 90)
CUPY_S = ("-ftz=true", "--device-as-default-execution-space")  # options that CuPy adds
SPILL = 256  # bytes that a thread may put aside: so much is at the calls of the parts of a step, more is in their loops


@dataclass(frozen=True)
class Variant:
    """How the source is compiled."""

    threads: int  # that solve a problem
    scalar: str
    architecture: int


@dataclass(frozen=True)
class Resources:
    """Of a kernel of one variant, with the functions that it calls, as cuda.csv has them."""

    source: str  # digest
    nvrtc: str
    threads: int
    scalar: str
    architecture: int
    kernel: str
    registers: int
    stack: int  # bytes of each thread
    spilled: int  # bytes that are stored for want of registers, of each thread
    shared: int  # bytes of each block of a launch, static

    @property
    def variant(self) -> Variant:
        return Variant(self.threads, self.scalar, self.architecture)


def variants() -> Iterator[Variant]:
    """All that launch.py may ask for."""
    return starmap(Variant, product(THREADS, ("double", "float"), ARCHITECTURES))


def compiled(v: Variant, to: str = "sm", *more: str) -> str:
    """What NVRTC says as it compiles a variant to the machine's code ("sm"), or to that before it ("compute").

    Raises:
        RuntimeError: it does not compile; the message is the compiler's.
    """
    program = nvrtc.createProgram(source(), "main.cu", (), ())
    try:
        flags = (*options(v.threads, v.scalar == "float"), *CUPY_S, f"--gpu-architecture={to}_{v.architecture}", *more)
        nvrtc.compileProgram(program, flags)
        return nvrtc.getProgramLog(program)
    except nvrtc.NVRTCError as error:
        raise RuntimeError(nvrtc.getProgramLog(program)) from error
    finally:
        nvrtc.destroyProgram(program)


def measured(v: Variant) -> list[Resources]:
    """The resources of a variant's kernels."""
    found = []
    log = compiled(v, "sm", "--ptxas-options=-v")
    for name, text in re.findall(r"entry function '(\w+)'(.*?)(?=Compiling entry function|\Z)", log, re.DOTALL):
        usage = re.search(r"Used (\d+) registers.*?(\d+) bytes cumulative stack size, (\d+) bytes smem", text)
        assert usage, text
        registers, stack, shared = map(int, usage.groups())
        spilled = sum(map(int, re.findall(r"(\d+) bytes spill stores", text)))
        known = (digest(), "{}.{}".format(*nvrtc.getVersion()), *astuple(v), name.removeprefix("qplayer_"))
        found.append(Resources(*known, registers, stack, spilled, shared))
    return sorted(found, key=lambda r: r.kernel)


def spilling(resources: list[Resources]) -> list[str]:
    """Which of the kernels spill more than SPILL."""
    return [f"too much spills: {r}" for r in resources if r.spilled > SPILL]


def complaints(v: Variant) -> list[str]:
    """What is wrong with the variant: spills, or other resources than the table has by the same compiler."""
    now = measured(v)
    then = [r for r in parsed(FILE, Resources) if r.variant == v and r.nvrtc == now[0].nvrtc]
    return spilling(now) + [f"{r}, in the table {then}" for r in now if then and r not in then]


def rewrite() -> int:
    """Writes the table anew: 1 where too much spills."""
    with ProcessPoolExecutor() as pool:
        table = [resources for found in pool.map(measured, variants()) for resources in found]
    write(FILE, table)
    print("\n".join(spilling(table)) or f"written to {FILE}")
    return int(bool(spilling(table)))


if __name__ == "__main__":
    sys.exit(command("bench.chip.cuda", __doc__, variants(), complaints, rewrite))
