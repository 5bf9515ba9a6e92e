"""What each variant of the kernels needs on the chip and how much it issues, found without a GPU.

    python -m bench.chip.triton

compiles the variants of the launch table with Triton's own ptxas and reads registers, stack and shared memory from the
cubin; a stack says that registers spill. sass.py counts instructions. triton.csv keeps the rows of each version of
Triton that this has been run with on these sources. Not for a process with TRITON_INTERPRET=1, which compiles nothing.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from qplayer_gpu.kernels import numbers
from qplayer_gpu.kernels.interface import Adjoint, Answer, Vectors
from qplayer_gpu.kernels.triton import admm, linear, slots
from qplayer_gpu.kernels.triton.adjoint import adjoint_kernel
from qplayer_gpu.kernels.triton.advance import Point, Posed, advance_kernel
from qplayer_gpu.kernels.triton.forward import forward_kernel
from qplayer_gpu.kernels.triton.inverse import inverse_kernel
from qplayer_gpu.kernels.triton.launch import CHUNK, MAXIMAL_REGISTERS, VERSION, WARPS
from qplayer_gpu.kernels.triton.newton import REFINEMENTS
from qplayer_gpu.kernels.triton.problem import Arrays, Config
from qplayer_gpu.kernels.triton.solve import solve_kernel
from qplayer_gpu.kernels.triton.vectors import COMPILED

from ..table import parsed
from . import sass
from .variants import command, write

FILE = Path(__file__).with_name("triton.csv")
KERNELS = {"forward": forward_kernel, "adjoint": adjoint_kernel}
SOLVES = {"cholesky_solve": "cholesky", "sweep_solve": "sweep"}
ITERATIONS = {  # whether they are products with the response of the rows, and the problems have matrices of their own
    "admm_shared": (True, False),
    "admm_shared_bounds": (False, False),
    "admm_own": (True, True),
    "admm_own_bounds": (False, True),
}
ROWS = {8: (16,), 16: (32,), 32: (64,), 64: (128, 256)}  # padded rows by padded n
ARCHITECTURES = (80, 90)
NUMBERS, COUNTS, FLAGS = "*fp64", "*i64", "*i1"
VECTORS = Vectors._make([NUMBERS] * 3)
TYPES: dict[str, Any] = {  # of the arguments that the kernels do not annotate, but for integers
    "arrays": Arrays._make([*[NUMBERS] * 7, FLAGS]),
    **dict.fromkeys(("start", "at", "grad"), VECTORS),
    "answer": Answer._make([*VECTORS, *[COUNTS] * 2, *[NUMBERS] * 3]),
    "result": Adjoint._make([NUMBERS] * 7),
    "scratch": NUMBERS,
    "taken": "*i32",
    "failed_ptr": FLAGS,
    **dict.fromkeys(("cfg", "shape", "has_h", "bounded", "N", "M", "METHOD"), "constexpr"),
}
POINTERS = {"float64": NUMBERS, "float32": "*fp32"}
LINE_SEARCH_TRIALS = 3  # taken as usual
SADDLE_POINT_PASSES = 3  # the same


@dataclass(frozen=True)
class Variant:
    """A kernel for one size on one architecture; with H and bounds, the larger case."""

    kernel: str
    precision: str
    n: int
    m: int  # 0 for a solve alone; of ADMM the stored rows
    architecture: int


@dataclass(frozen=True)
class Resources:
    """Of one variant, as triton.csv has them."""

    triton: str
    source: str
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
    instructions: (
        int  # of each warp: of one Newton step, the adjoint of a feasible problem, a solve alone, an iteration
    )
    double: int  # those of them in double precision
    kept_instructions: int  # of a Newton step that needs no new factor; 0 where there is no step
    kept_double: int

    @property
    def variant(self) -> Variant:
        return Variant(self.kernel, self.precision, self.n, self.m, self.architecture)


def digest() -> str:
    """What tells one state of the kernels' sources from another: the first digits of a hash."""
    files = [*sorted(Path(linear.__file__).parent.glob("*.py")), Path(numbers.__file__)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def variants() -> Iterator[Variant]:
    """All variants that the tables hold."""
    for n in WARPS:
        for architecture in ARCHITECTURES:
            for m in ROWS[n]:
                yield from (Variant(kernel, "float64", n, m, architecture) for kernel in KERNELS)
            for precision in ("float64", "float32"):
                yield from (Variant(kernel, precision, n, 0, architecture) for kernel in SOLVES)
                if n in admm.WARPS:
                    some = (*ITERATIONS, "admm_inverse")
                    yield from (Variant(kernel, precision, n, 5 * n // 4, architecture) for kernel in some)


def compiled(v: Variant) -> Any:
    """The variant as Triton compiles it: its ``asm`` has the stages from "ttir" to "cubin"."""
    function, constants, warps = called(v)
    pointer = POINTERS[v.precision]
    types = TYPES | (admm_types(pointer) if v.kernel.startswith("admm") else {})
    signature = {
        p.name: types.get(p.name) or p.annotation_type or (pointer if p.name.endswith("_ptr") else "i32")
        for p in function.params
    }
    # torch's allocations are aligned, and loads are 16 bytes wide only where Triton knows it
    aligned = {path: [["tt.divisibility", 16]] for path, kind in leaves(signature.values()) if kind.startswith("*")}
    options = COMPILED | {"num_warps": warps} | ({} if v.kernel in SOLVES else {"maxnreg": MAXIMAL_REGISTERS})
    source = ASTSource(function, signature, constants, aligned)
    return triton.compile(source, target=GPUTarget("cuda", v.architecture, 32), options=options)


def called(v: Variant) -> tuple[Any, dict[str, Any], int]:
    """The function of a variant, its compile-time constants, and how many warps run it."""
    if v.kernel in SOLVES:
        return solve_kernel, {"N": v.n, "METHOD": SOLVES[v.kernel]}, linear.WARPS[v.n]
    if v.kernel in KERNELS:
        return KERNELS[v.kernel], {"cfg": Config(v.n, v.n, v.m, CHUNK[v.n], True, True, VERSION)}, WARPS[v.n]
    if v.kernel == "admm_inverse":
        sizes = {"N": v.n, "M": admm.padded(v.m)}
        return inverse_kernel, {"has_h": True, "bounded": True, **sizes}, admm.WARPS[v.n]
    by_rows, own = ITERATIONS[v.kernel]
    shape, warps = admm.shape_of(v.n, v.m, by_rows, True, not by_rows, own)
    return advance_kernel, {"shape": shape}, warps


def admm_types(pointer: str) -> dict[str, Any]:
    """The types of the arguments of ADMM's kernels, of which ``pointer`` is that to what an iteration multiplies by."""
    exact = len(Posed._fields) - 4
    point = Point._make([NUMBERS] * 6)
    posed = Posed._make([*[NUMBERS] * exact, *[pointer] * 4])
    outputs = {"numbers_ptr": NUMBERS, "failed_out": FLAGS, "inverse_out": pointer}
    return {"at": point, "to": point, "posed": posed, **outputs}


def leaves(kinds: Iterable[Any]) -> Iterator[tuple[tuple[int, ...], str]]:
    """Each type with its path: the number of the argument, and of the field where the argument is a record."""
    for i, kind in enumerate(kinds):
        if isinstance(kind, tuple):
            yield from (((i, j), field) for j, field in enumerate(kind))
        else:
            yield (i,), kind


def extents(v: Variant) -> dict[str, float]:
    """How far the loops of each function run, for :meth:`sass.Code.counts`: all m rows are there, and are active.

    A function with a loop that is inlined for each of A and C, or of H, A and C, counts with the mean of their rows.
    """
    pivots = dict.fromkeys(("cholesky", "sweep", "substituted"), v.n)
    rows = {"rows_product": v.m / 3, "columns_product": (v.m - v.n) / 2, "gram": (v.m - v.n) / 2}
    rows |= {"column_sizes": v.m / 3, "clear": slots.COLUMNS * v.n + slots.ROWS * v.m}
    few = {"exact_line_search": LINE_SEARCH_TRIALS, "solve_kernel": 1, "take_part": 1}  # right-hand side
    once = {"measure_scaling": numbers.RUIZ_PASSES, "factor_saddle_point": 1, "saddle_point": SADDLE_POINT_PASSES}
    once |= {"newton_step": REFINEMENTS.value}
    once |= {"factor": 1}  # the loop around it, where its last line ends that
    return pivots | rows | few | once


def measured(v: Variant, program: Any) -> Resources:
    """The resources that cuobjdump reads from the cubin, and the instructions counted in it."""
    printed = sass.tool("cuobjdump", "-res-usage", cubin=program.asm["cubin"])
    registers, stack = (int(match) for match in re.findall(r"(?:REG|STACK):(\d+)", printed)[:2])
    code, step = sass.Code(program.asm["cubin"]), v.kernel == "forward"
    infeasible = "fit_again" if v.kernel == "adjoint" else ""  # is called for infeasible problems only
    kept = code.counts(extents(v), within_loop=step, skipped="factor_anew") if step else (0, 0)
    chunk = CHUNK[v.n] if v.kernel in KERNELS else 0
    iterations = next((at for name, at in code.labels.items() if "_iterate__" in name), 0)
    issued = code.counts(extents(v), step or v.kernel in ITERATIONS, infeasible, iterations)
    usage = (registers, stack, program.metadata.shared, *issued, *kept)
    method = SOLVES.get(v.kernel, "" if v.kernel.startswith("admm") else "sweep")
    return Resources(triton.__version__, digest(), *astuple(v), called(v)[2], chunk, method, *usage)


def imprecise(v: Variant, program: Any) -> list[str]:
    """Lines of code with less precision than the variant has, or an unwanted product on the tensor cores: none.

    Those of ADMM take them for products in double precision.
    """
    forbidden = r"tf32" if v.kernel.startswith("admm") else r"tf32|tt\.dot"
    unwanted = r".*\b[HIQ]G?MMA\b.*" if v.kernel.startswith("admm") else r".*\b[A-Z]+MMA\b.*"
    forbidden += r"|\bf32\b" if v.precision == "float64" else ""
    lines = [line for line in program.asm["ttir"].splitlines() if re.search(forbidden, line)]
    return lines + re.findall(unwanted, sass.tool("nvdisasm", "-c", cubin=program.asm["cubin"]))


def complaints(v: Variant) -> list[str]:
    """What is wrong with the variant: its precision, spills, or other resources than this Triton has in the table."""
    known = (r for r in parsed(FILE, Resources) if r.triton == triton.__version__ and r.variant == v)
    then = next(known, None)
    program = compiled(v)
    now = measured(v, program)
    found = [f"{v}: {line.strip()}" for line in imprecise(v, program)]
    if v.kernel in ITERATIONS and v.precision == "float32" and now.double:
        found.append(f"an iteration in float32 has instructions in double precision: {now}")
    if then is not None and now != replace(then, source=now.source):
        found.append(f"{now}, in the table {then}")
    if now.stack and (then is None or not then.stack):
        found.append(f"registers spill: {now}")
    return found


def rewrite() -> int:
    """Writes the rows of this Triton beside those of others; those of other sources go."""
    kept = [r for r in parsed(FILE, Resources) if r.triton != triton.__version__ and r.source == digest()]
    new = []
    for v in variants():
        new.append(measured(v, compiled(v)))
        print(new[-1], flush=True)
    write(FILE, sorted(kept + new, key=lambda r: r.triton))
    return 0


if __name__ == "__main__":
    sys.exit(command("bench.chip.triton", __doc__, variants(), complaints, rewrite))
