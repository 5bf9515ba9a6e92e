"""The kernels of a GPU on blocks of fibers (fibers.cpp): real block sizes, any order of threads, all barriers."""

import math
import os
import re
import shutil
import struct
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import families as f
import numpy as np
import pytest
import torch
from hard import demand
from helpers import HARD_ROWS, OPTIONS, PUBLISHED, UNKNOWN_GRADIENTS, as_rows, written_numbers
from helpers import KERNEL_CASES as CASES

from qplayer_gpu.kernels import cpu
from qplayer_gpu.kernels.call import Sizes, memory
from qplayer_gpu.kernels.cpu import build
from qplayer_gpu.kernels.interface import Status, Vectors

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.usefixtures("compiler")
ANSWER = ("x", "z", "s", "primal", "dual", "gap")
ADJOINT = ("b_x", "p", "z_unique", "ws", "b_s", "q_z", "b_z")
WARP = 32
SAME = 1e-9  # rounding errors of other orders of summation, next to the size of a vector
SAME_MIXED = 1e-7  # eps_abs through the conditioning of the problems


@dataclass(frozen=True)
class Run:
    """How a program is to run a batch."""

    removed: int = -1  # the barrier that is left out, by its number in numbered sources
    order: int = 0  # seed of the orders in which fibers run
    near: bool = True  # whether the factor is in shared memory
    room: int = 1024  # bytes of shared memory beyond what there must be: some of the vectors go there


@dataclass(frozen=True)
class Program:
    """Solves batches on blocks of so many threads, with a factor in such numbers."""

    path: Path
    threads: int
    scalar: str
    tensor: bool  # whether whole warps have tensor cores

    @classmethod
    def compile(cls, folder, threads, scalar="double", flags=("-O1",), sources=ROOT, tensor=True):
        tensor &= threads >= WARP
        path = folder / f"blocks_{threads}_{scalar}{'_tensor' * tensor}"
        compiler = [build._compiler(build._named())[0][0], "-std=c++17", "-Wno-unknown-pragmas"]
        fibers = ["-O2", "-c", "-o", folder / "fibers.o", ROOT / "tests" / "fibers.cpp"]
        subprocess.run([*compiler, *fibers], check=True)
        define = [f"-DQP_THREADS={threads}", *["-DQP_SINGLE"] * (scalar == "float"), *["-DQP_TENSOR"] * tensor]
        blocks = [
            *define,
            "-include",
            written_numbers(folder),
            "-o",
            path,
            sources / "tests" / "blocks.cpp",
            folder / "fibers.o",
        ]
        subprocess.run([*compiler, *flags, *blocks], check=True)
        return cls(path, threads, scalar, tensor)

    def ask(self, rows, run=Run(), options=OPTIONS):
        """The process that ran."""
        double = self.scalar == "double"
        sizes = Sizes(rows.n, rows.n_eq, rows.n_in, rows.bounded)
        said = question(rows, options, run, memory(sizes, 8 if double else 4, run.near, self.tensor and double))
        environment = {**os.environ, "TSAN_OPTIONS": "halt_on_error=1"}
        return subprocess.run([self.path], input=said, env=environment, capture_output=True)

    def solve(self, rows, run=Run(), options=OPTIONS):
        """Statuses, steps and vectors of the answer and of the adjoint, by name."""
        done = self.ask(rows, run, options)
        assert done.returncode == 0, done.stderr.decode(errors="replace")[-4000:]
        return answer_of(done.stdout, rows)


def question(rows, options, run, bytes_of):
    """What the program reads; `bytes_of` scratch and shared memory."""
    names = ("eps_abs", "eps_rel", "mu_eq", "mu_in", "rho", "max_iter", "equilibrate", "closest_feasible")
    sizes = rows.n, rows.n_eq, rows.n_in, rows.bounded
    parts = [
        struct.pack("=7q", run.removed, run.order, *bytes_of, run.room, run.near, rows.batch),
        struct.pack("=4i", *sizes),
        struct.pack("=5dq2i", *(getattr(options, name) for name in names)),
    ]

    def add(t):
        numbers = np.array([]) if t is None else t.double().contiguous().numpy()
        parts.extend((struct.pack("=q", numbers.size), numbers.tobytes()))

    for t in (rows.H, rows.g, rows.A, rows.C, rows.lo, rows.hi, rows.w, rows.hard):
        add(t)
        parts.append(struct.pack("=q", t is not None and t.shape[0] == 1))
    add(torch.cat([t.flatten() for t in cotangents(rows)]))
    return b"".join(parts)


def answer_of(said, rows):
    """What the program writes, by name."""
    B, n, m = rows.batch, rows.n, rows.m
    status, steps = np.frombuffer(said[: 16 * B], dtype=np.int64).reshape(2, B)
    numbers = torch.from_numpy(np.frombuffer(said[16 * B :], dtype=np.float64).copy())
    widths = [n, m, m, 1, 1, 1, n, m, m, m, n, m, n]
    parts = numbers.split([B * width for width in widths])
    named = zip((*ANSWER, *ADJOINT), parts, widths, strict=True)
    return {"status": status, "steps": steps} | {name: part.view(B, width) for name, part, width in named}


def cotangents(rows):
    torch.manual_seed(1)
    return Vectors(*(torch.randn(rows.batch, k).double() for k in (rows.n, rows.m, rows.m)))


def solved_by(kernels, rows, options=OPTIONS):
    """What other kernels say, by the same names."""
    answer = kernels.forward(rows, options, None)
    adjoint = kernels.adjoint(rows, answer.point, cotangents(rows), options)._asdict()
    adjoint["z_unique"] = adjoint.pop("z")
    vectors = {name: getattr(answer, name).view(rows.batch, -1) for name in ANSWER}
    return {"status": answer.status.numpy(), "steps": answer.iterations.numpy(), **vectors, **adjoint}


def assert_same(ours, theirs, tolerance=SAME, names=(*ANSWER, *ADJOINT), steps=0):
    assert ours["status"].tolist() == theirs["status"].tolist()
    assert abs(ours["steps"] - theirs["steps"]).max() <= steps
    bounded = torch.as_tensor(theirs["status"]) != Status.INFEASIBLE  # a ray's dual residual is rounding
    for name in names:
        mine, other = (one[name] * bounded if name == "dual" else one[name] for one in (ours, theirs))
        assert (mine - other).norm() <= tolerance * (1 + other.norm()), name


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """Compiles each program once."""

    @cache
    def compiled(threads, scalar="double", *flags, tensor=True):
        return Program.compile(tmp_path_factory.mktemp("blocks"), threads, scalar, flags or ("-O1",), tensor=tensor)

    return compiled


@pytest.mark.parametrize(
    ("make", "near"),
    [
        (lambda: f.feasible(1, 35, bounds=True), True),
        (lambda: f.overdetermined(1, 20), False),
        (lambda: f.lp(2, 7), True),
    ],
    ids=["feasible", "infeasible-far", "lp"],
)
@pytest.mark.parametrize("tensor", [True, False], ids=["tensor", "no-tensor"])
def test_a_block_says_what_one_thread_says(program, make, near, tensor):
    rows = as_rows(make())
    assert_same(program(64, tensor=tensor).solve(rows, Run(near=near)), solved_by(cpu, rows))


def test_four_problems_share_a_warp(program):
    """In any order of their threads, each comes out as alone, to the last bit; every other one is infeasible."""
    args = f.feasible(9, 8)
    args["A"][::2, 1] = args["A"][::2, 0]
    rows = as_rows(args)
    alone = [program(8).solve(rows.take(torch.tensor([k]))) for k in range(9)]
    for order in range(3):
        together = program(8).solve(rows, Run(order=order))
        names = (*ANSWER, "b_x", "p")  # what lies in rows that say the same twice is not known as well
        assert_same(together, solved_by(cpu, rows), names=names, steps=2)
        assert len(set(together["steps"])) > 4
        for name in ("status", "steps", *ANSWER):
            assert together[name].tolist() == [row for one in alone for row in one[name].tolist()]


@pytest.mark.slow
@pytest.mark.parametrize("threads", [8, 32, 64, 128])
@pytest.mark.parametrize("case", [*(set(CASES) - set(PUBLISHED)), "hs118", *HARD_ROWS], ids=str)
def test_all_cases_on_blocks(program, case, threads):
    rows = as_rows(CASES[case]() if case in CASES else HARD_ROWS[case])
    theirs = solved_by(cpu, rows)
    names = ANSWER if case in UNKNOWN_GRADIENTS else (*ANSWER, *ADJOINT)
    tolerance = 1e-8 if case in UNKNOWN_GRADIENTS else SAME  # their optima move with eps_abs
    for order in (1, 2):
        assert_same(program(threads).solve(rows, Run(order=order)), theirs, tolerance, names)


@pytest.mark.slow
@pytest.mark.parametrize(("scalar", "tensor"), [("double", True), ("double", False), ("float", True), ("float", False)])
@pytest.mark.parametrize("n", [1, 2, 3, 7, 17, 33, 100, 256])
def test_sizes_on_blocks(program, n, scalar, tensor):
    threads = next(t for t in (8, 32, 64, 128, 256) if n <= t)
    rows = as_rows(f.feasible(1, n, bounds=n < 100))
    options = OPTIONS._replace(max_iter=200)
    ours = program(threads, scalar, tensor=tensor).solve(rows, Run(near=n <= 128), options)
    tolerance, steps = (SAME_MIXED, 2) if scalar == "float" else (SAME, 0)
    assert_same(ours, solved_by(cpu, rows, options), tolerance, "xzs", steps)


@pytest.mark.slow
def test_sanitizers_have_nothing_to_say_of_blocks(program):
    checked = program(64, "double", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    for rows in race_cases().values():
        checked.solve(rows)


def race_cases():
    """Small problems that lead through all branches that hold a barrier."""
    torch.manual_seed(0)
    return {
        "overdetermined": as_rows(f.overdetermined(1, 18)),
        "excluding": as_rows(f.excluding_halfspaces(1, 4)),
        "hard equalities": as_rows(HARD_ROWS["equalities"]).take(torch.tensor([0])),
        "hard box": as_rows(demand(1, 18) | {"w_box": math.inf}),
        "columns for two rounds": as_rows(f.feasible(1, 35)),
    }


REDUNDANT = 40  # barriers, of 75, next to another one or to a loop in which each thread reads what it wrote itself
THREAD_SANITIZER = ("-O1", "-g", "-fsanitize=thread")


@pytest.mark.slow
@pytest.mark.parametrize("scalar", ["double", "float"])
@pytest.mark.parametrize("threads", [8, 32, 64])
def test_no_thread_reads_what_another_writes_without_a_barrier_between(program, threads, scalar):
    for rows in race_cases().values():
        if threads == 8:
            rows = rows.take(torch.zeros(5, dtype=torch.int64))  # four at once, and one more
        program(threads, scalar, *THREAD_SANITIZER).solve(rows, options=OPTIONS._replace(max_iter=200))


def number_barriers(folder):
    """Writes the sources to a folder, there with a number for each barrier; where they stand, by their numbers."""
    shutil.copytree(ROOT / "kernels" / "cuda", folder / "kernels" / "cuda")
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=lambda at, names: {n for n in names if "blocks" not in n})
    sites = []

    def numbered(match):
        sites.append(f"{file.name}:{text.count(chr(10), 0, match.start()) + 1}")
        return f"if (is_kept({len(sites) - 1})) {match['barrier']};"

    for file in sorted((folder / "kernels" / "cuda").iterdir()):
        if file.suffix in (".h", ".cu") and not file.name.endswith("_host.h"):
            barrier = r"(?<![\w.])(?P<barrier>(block\.)?sync\(\)|block\.sync_lanes\(\));"
            text = file.read_text()
            file.write_text(re.sub(barrier, numbered, text))
    return sites


@pytest.mark.slow
def test_a_barrier_that_is_missing_is_found(tmp_path):
    """Each one in turn, in some ten minutes; the redundant ones matter where the code around them changes."""
    sites = number_barriers(tmp_path)
    variants = ((32, "float"), (32, "double"), (64, "double"))
    mixed, warp, block = (Program.compile(tmp_path, *of, THREAD_SANITIZER, tmp_path) for of in variants)
    cases = race_cases()
    runs = [(mixed, cases["overdetermined"]), *((warp, rows) for rows in cases.values())]
    runs += [(block, cases[name]) for name in ("hard box", "columns for two rounds")]
    options = OPTIONS._replace(max_iter=200)

    def is_found(barrier):
        return any(program.ask(rows, Run(barrier), options).returncode for program, rows in runs)

    assert not is_found(Run().removed)
    missed = [site for barrier, site in enumerate(sites) if not is_found(barrier)]
    assert len(missed) <= REDUNDANT, f"{len(missed)} of {len(sites)}: {missed}"
