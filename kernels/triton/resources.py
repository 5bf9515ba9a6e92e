"""What each variant of the kernels needs on the chip, found without a GPU.

    python -m qplayer_gpu.kernels.triton.resources

compiles the variants of the launch table with Triton's own ptxas and reads registers, stack and shared memory from the
cubin; a stack says that registers spill. Not for a process with TRITON_INTERPRET=1, which compiles nothing.
"""

from __future__ import annotations

import argparse
import csv
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from .adjoint import adjoint_kernel
from .forward import forward_kernel
from .launch import MAXIMAL_REGISTERS, TABLE
from .problem import Config

FILE = Path(__file__).with_name("resources.csv")
KERNELS = {"forward": forward_kernel, "adjoint": adjoint_kernel}
ROWS = {8: (16,), 16: (32,), 32: (64,), 64: (128, 256)}  # padded rows by padded n
ARCHITECTURES = (80, 90)
PRECISIONS = ("float64", "mixed")
TYPES = {"status_ptr": "*i64", "steps_ptr": "*i64", "hard_ptr": "*i1", "cfg": "constexpr"}


@dataclass(frozen=True)
class Variant:
    """A kernel for one size on one architecture; with H and bounds, the larger case."""

    kernel: str
    precision: str  # as in Settings
    n: int
    m: int
    architecture: int


@dataclass(frozen=True)
class Resources:
    """Of one variant, as resources.csv has them."""

    triton: str
    kernel: str
    precision: str
    n: int
    m: int
    architecture: int
    warps: int
    chunk: int
    method: str
    registers: int
    stack: int  # bytes of each thread
    shared: int  # bytes of each program


def variants(n: int | None = None, architectures: Sequence[int] = ARCHITECTURES) -> Iterator[Variant]:
    """All variants that the table holds, or those of one padded n."""
    for size in TABLE if n is None else (n,):
        for m in ROWS[size]:
            for kernel, precision, architecture in product(KERNELS, PRECISIONS, architectures):
                yield Variant(kernel, precision, size, m, architecture)


def compiled(v: Variant) -> Any:
    """The variant as Triton compiles it: its ``asm`` has the stages from "ttir" to "cubin"."""
    launch, function = TABLE[v.n], KERNELS[v.kernel]
    cfg = Config(v.n, v.n, v.m, launch.chunk, launch.method, True, True, v.precision == "mixed")
    signature = {
        p.name: TYPES.get(p.name) or p.annotation_type or ("*fp64" if p.name.endswith("_ptr") else "i32")
        for p in function.params
    }
    # torch's allocations are aligned, and loads are 16 bytes wide only where Triton knows it
    aligned = {(i,): [["tt.divisibility", 16]] for i, kind in enumerate(signature.values()) if kind.startswith("*")}
    source = ASTSource(function, signature, {"cfg": cfg}, aligned)
    options = {"num_warps": launch.warps, "maxnreg": MAXIMAL_REGISTERS}
    return triton.compile(source, target=GPUTarget("cuda", v.architecture, 32), options=options)


def measured(v: Variant, program: Any) -> Resources:
    """The resources that cuobjdump reads from the cubin."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(program.asm["cubin"])
        command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", str(file)]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack = (int(match) for match in re.findall(r"(?:REG|STACK):(\d+)", usage)[:2])
    launch = TABLE[v.n]
    how = launch.warps, launch.chunk, ("cholesky", "sweep")[launch.method]
    return Resources(
        triton.__version__,
        v.kernel,
        v.precision,
        v.n,
        v.m,
        v.architecture,
        *how,
        registers,
        stack,
        program.metadata.shared,
    )


def imprecise(v: Variant, program: Any) -> list[str]:
    """Lines of Triton's code with a product on the tensor cores, or unasked in float32: there should be none."""
    pattern = r"tf32|tt\.dot" if v.precision == "mixed" else r"tf32|tt\.dot|\bf32\b"
    return [line for line in program.asm["ttir"].splitlines() if re.search(pattern, line)]


def read() -> dict[Variant, Resources]:
    """The committed table."""
    with FILE.open(newline="") as file:
        lines = [{k: int(t) if t.isdigit() else t for k, t in line.items()} for line in csv.DictReader(file)]
    table = [Resources(**line) for line in lines]  # type: ignore[arg-type]
    return {Variant(r.kernel, r.precision, r.n, r.m, r.architecture): r for r in table}


def complaints(v: Variant, table: dict[Variant, Resources]) -> list[str]:
    """What is wrong with the variant: float32 in it, or resources other than those in the table."""
    program = compiled(v)
    now, then = measured(v, program), table[v]
    found = [f"{v}: {line.strip()}" for line in imprecise(v, program)]
    if now.triton == then.triton and now != then:
        found.append(f"{now}, in the table {then}")
    if now.stack and now.triton == then.triton:
        found.append(f"registers spill: {now}")
    elif now.stack:
        print(f"registers spill, as they do not with Triton {then.triton}: {now}")
    return found


def main() -> int:
    """Writes the table, or with --check compares with it: 1 where something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m qplayer_gpu.kernels.triton.resources", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with resources.csv and write nothing")
    parser.add_argument("--n", type=int, choices=TABLE, help="only this padded n; needs --check")
    parser.add_argument("--architecture", type=int, nargs="*", choices=ARCHITECTURES, default=ARCHITECTURES)
    args = parser.parse_args()
    if args.check:
        table = read()
        found = [complaint for v in variants(args.n, args.architecture) for complaint in complaints(v, table)]
        print("\n".join(found) or "as in the table")
        return int(bool(found))
    with FILE.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(f.name for f in fields(Resources))
        for v in variants():
            resources = measured(v, compiled(v))
            print(asdict(resources), flush=True)
            writer.writerow(astuple(resources))
    return 0


if __name__ == "__main__":
    sys.exit(main())
