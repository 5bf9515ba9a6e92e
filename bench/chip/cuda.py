"""What each variant of the kernels needs on the chip, found without a GPU.

    python -m bench.chip.cuda

compiles all variants with NVRTC, through CuPy's binding, and reads from its assembler what they need, and from the
machine's code how long it is. It takes some seconds for each; a GPU and its driver are not needed, the packages cupy,
nvidia-cuda-nvrtc and triton (for its nvdisasm) are.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass
from itertools import product
from pathlib import Path

from cupy_backends.cuda.libs import nvrtc

from qplayer_gpu.kernels.cuda.source import THREADS, digest, has_tensor_cores, options, source

from ..table import parsed
from .sass import tool
from .variants import command, write

FILE = Path(__file__).with_name("cuda.csv")
ARCHITECTURES = (80, 90)
INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\d\s+)?(\w+)", re.MULTILINE)
CUPY_S = ("-ftz=true", "--device-as-default-execution-space")  # options that CuPy adds
SPILL = 512  # bytes that a thread may put aside, in all functions together
STEP_SPILL = 128  # the same, in those of a step
STEP = r"\d(newton_step|factorize|substitute|add_rows|update_sums|columns|columns_two|measure|exact_line_search)[A-Z]"
FUNCTION = re.compile(r"Function properties for (\S+)\n.*?(\d+) bytes spill stores")


@dataclass(frozen=True)
class Variant:
    """How the source is compiled."""

    kernel: str
    threads: int  # that solve a problem
    scalar: str
    architecture: int


@dataclass(frozen=True)
class Resources:
    """Of a kernel of one variant, with the functions that it calls, as cuda.csv has them."""

    source: str  # digest
    nvrtc: str
    kernel: str
    threads: int
    scalar: str
    architecture: int
    registers: int
    stack: int  # bytes of each thread
    spilled: int  # bytes that are stored for want of registers, of each thread
    spilled_in_step: int  # of them: by the functions of a step
    shared: int  # bytes of each block of a launch, static
    instructions: int  # of the machine's code
    products: int  # among them: of matrices in double precision, on tensor cores

    @property
    def variant(self) -> Variant:
        return Variant(self.kernel, self.threads, self.scalar, self.architecture)


def variants() -> Iterator[Variant]:
    """All that launch.py may ask for."""
    kernels = ("forward", "double"), ("forward", "float"), ("backward", "double")
    return (
        Variant(name, threads, scalar, sm) for threads, (name, scalar), sm in product(THREADS, kernels, ARCHITECTURES)
    )


def compiled(v: Variant, to: str = "sm", *more: str) -> tuple[str, bytes]:
    """What NVRTC says as it compiles a variant, and the machine's code ("sm"), or that before it ("compute").

    Raises:
        RuntimeError: it does not compile; the message is the compiler's.
    """
    program = nvrtc.createProgram(source(), "main.cu", (), ())
    try:
        flags = options(f"qplayer_{v.kernel}", v.threads, v.scalar == "float", v.architecture)
        nvrtc.compileProgram(program, (*flags, *CUPY_S, f"--gpu-architecture={to}_{v.architecture}", *more))
        code = nvrtc.getCUBIN(program) + b"\0" if to == "sm" else nvrtc.getPTX(program)  # CuPy drops the last byte
        return nvrtc.getProgramLog(program), code
    except nvrtc.NVRTCError as error:
        raise RuntimeError(nvrtc.getProgramLog(program)) from error
    finally:
        nvrtc.destroyProgram(program)


def measured(v: Variant) -> Resources:
    """The resources of a variant."""
    log, code = compiled(v, "sm", "--ptxas-options=-v")
    usage = re.search(r"Used (\d+) registers.*?(\d+) bytes cumulative stack size, (\d+) bytes smem", log)
    assert usage, log
    registers, stack, shared = map(int, usage.groups())
    spilled = {name: int(stored) for name, stored in FUNCTION.findall(log)}
    in_step = (stored for name, stored in spilled.items() if re.search(STEP, name))
    found = Counter(INSTRUCTION.findall(tool("nvdisasm", "-c", cubin=code)))
    instructions = found.total() - found["NOP"]
    known = (digest(), "{}.{}".format(*nvrtc.getVersion()), *astuple(v))
    return Resources(*known, registers, stack, sum(spilled.values()), sum(in_step), shared, instructions, found["DMMA"])


def faults(resources: list[Resources]) -> list[str]:
    """Which of the kernels spill too much, or have no use of the tensor cores that are there for them."""
    spilling = (r for r in resources if r.spilled > SPILL or r.spilled_in_step > STEP_SPILL)
    lost = (r for r in resources if has_tensor_cores(r.threads, r.architecture) and not r.products)
    return [f"too much spills: {r}" for r in spilling] + [f"no products: {r}" for r in lost]


def complaints(v: Variant) -> list[str]:
    """What is wrong with the variant: spills, or other resources than the table has by the same compiler."""
    now = measured(v)
    then = [r for r in parsed(FILE, Resources) if r.variant == v and r.nvrtc == now.nvrtc]
    return faults([now]) + ([f"{now}, in the table {then}"] if then and now not in then else [])


def rewrite() -> int:
    """Writes the table anew: 1 where too much spills."""
    with ProcessPoolExecutor() as pool:
        table = list(pool.map(measured, variants()))
    write(FILE, table)
    print("\n".join(faults(table)) or f"written to {FILE}")
    return int(bool(faults(table)))


if __name__ == "__main__":
    sys.exit(command("bench.chip.cuda", __doc__, variants(), complaints, rewrite))
