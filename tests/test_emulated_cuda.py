"""The CUDA kernels as NVRTC compiles them, run on the emulator (gpu/): right, without races or deadlocks."""

import importlib
import math
import sys

import families as f
import pytest
import torch
from gpu.cases import CASES, CPU, complaints, differences, rows_of
from gpu.emulated import BACKWARD, FORWARD, RANDOM
from hard import demand
from helpers import HARD_ROWS, OPTIONS, as_rows

from bench.table import read
from qplayer_gpu import checked
from qplayer_gpu.checked import Checked
from qplayer_gpu.kernels.interface import Vectors

on_cupy = pytest.importorskip("gpu.on_cupy")
counts = pytest.importorskip("gpu.counts")  # which Triton has a part in

pytestmark = [pytest.mark.usefixtures("compiler"), pytest.mark.usefixtures("nan_memory")]


@pytest.fixture
def emulation(monkeypatch):
    return on_cupy.emulate(monkeypatch)


def kernels():
    return importlib.import_module("qplayer_gpu.kernels.cuda")


def assert_clean(emulation, case, n, batch, order, precision="float64"):
    emulation.order = order
    found = differences(kernels(), case, n, batch, precision)
    assert [str(finding) for finding in emulation.findings] == []
    assert complaints(found, precision) == []


@pytest.mark.parametrize(
    ("case", "n", "batch", "order"),
    [
        ("qp", 5, 6, RANDOM),
        ("hard", 8, 3, BACKWARD),
        ("lp", 5, 9, FORWARD),
        ("qp", 40, 3, RANDOM),
        ("warm", 40, 1, BACKWARD),
    ],
)
def test_compiled_kernels_are_right(emulation, case, n, batch, order):
    assert_clean(emulation, case, n, batch, order)


def test_systems_of_each_size_on_tensor_cores(emulation):
    """Factor and solve alone; a matrix that is not definite is found out."""
    linear = importlib.import_module("qplayer_gpu.kernels.cuda.linear")
    for n in range(1, linear.LARGEST + 1):
        torch.manual_seed(n)
        emulation.order = RANDOM + n
        M, r = torch.randn(3, n, n, dtype=torch.float64), torch.randn(3, 2, n, dtype=torch.float64)
        K = M @ M.mT / n + 0.1 * torch.eye(n, dtype=torch.float64)
        K[1, n // 2, n // 2] = -1.0
        x, failed = linear.cholesky_solve(K, r)
        assert [str(finding) for finding in emulation.findings] == []
        assert failed.tolist() == [False, True, False]
        assert x[1].isnan().all()
        good = torch.tensor([0, 2])
        residual = (x @ K - r)[good].norm()
        assert residual <= torch.finfo(torch.float64).eps * n * K[good].norm() * x[good].norm(), n
        assert any(kind == "product of matrices" for _, kind in emulation.launches[-1].counts)


def test_they_pass_their_own_check(emulation, monkeypatch):
    """That of their first launch on a device, of the forward and of the adjoint; nothing is kept of it."""
    monkeypatch.setattr(checked, "replaced", lambda *_: None)
    rows, one = rows_of("qp", 5, 3), Checked("cuda", kernels(), CPU, "checked_on_the_emulator")
    answer = one.forward(rows, OPTIONS)
    one.adjoint(rows, answer.point, Vectors(*map(torch.ones_like, answer.point)), OPTIONS)
    assert one.verdicts.right == {"cuda forward (8, False)", "cuda adjoint (8, False)"}
    assert [str(finding) for finding in emulation.findings] == []


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float64", "mixed"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("n", [1, 5, 8, 9, 17, 33, 40, 64, 100])
def test_each_variant_is_right(emulation, case, n, precision):
    several = 9 if n <= 8 else 3  # of which four share a warp
    for batch, order in ((1, FORWARD), (several, RANDOM)):
        assert_clean(emulation, case, n, batch, order, precision)


EXECUTED = {(line["kernels"], int(line["n"])): int(line["instructions"]) for line in read(counts.FILE)}
SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "n", [pytest.param(8, marks=SLOW), pytest.param(16, marks=SLOW), 32, 64, pytest.param(128, marks=SLOW)]
)
def test_a_step_does_not_grow(emulation, n):
    _, executed = counts.executed("cuda", n, emulation)
    assert sum(executed.values()) == pytest.approx(EXECUTED["cuda", n], rel=0.05)  # nor are the rows older than a gain
    assert any(kind == "product of matrices" for _, kind in executed) == (n > 8)


@pytest.mark.slow
@pytest.mark.parametrize("n", [8, 16, 32, 64])
def test_a_step_is_shorter_than_triton_s_without_tensor_cores_too(monkeypatch, n):
    """Which is why "auto" takes the CUDA kernels first on every device."""
    _, executed = counts.executed("cuda", n, on_cupy.emulate(monkeypatch, architecture=86))
    assert sum(executed.values()) < EXECUTED["triton", n]
    assert not any(kind == "product of matrices" for _, kind in executed)


def found_in(emulation, rows):
    """Whether a forward and a backward have findings."""
    emulation.findings.clear()
    try:
        answer = kernels().forward(rows, OPTIONS)
        kernels().adjoint(rows, answer.point, Vectors(*map(torch.ones_like, answer.point)), OPTIONS)
    except RuntimeError:
        assert emulation.findings
    return bool(emulation.findings)


def barriers():
    """Where the source has the barriers of what was compiled, from `file:line` on."""
    programs = {kernel.program for kernel in sys.modules["cupy"].kernels.values()}
    sites = (site for program in programs for site in program.translation.sites)
    return sorted({site.place.chain for site in sites if site.opcode.startswith("bar")})


REDUNDANT = 45  # of 84: next to another one, or to a loop in which each thread reads what it wrote itself


@pytest.mark.slow
def test_a_barrier_that_is_missing_is_found(emulation):
    """Each in turn, on problems that lead through all branches that hold one, with a warp or a block for each."""
    problems = [
        as_rows(f.overdetermined(1, 18)),
        as_rows(f.excluding_halfspaces(1, 12)),
        as_rows(HARD_ROWS["equalities"]).take(torch.tensor([0])),
        as_rows(demand(1, 18) | {"w_box": math.inf}),
        as_rows(f.overdetermined(1, 35)),
        as_rows(demand(3, 40) | {"w_box": math.inf}),
    ]
    assert not any(found_in(emulation, rows) for rows in problems)
    places = barriers()
    missed = []
    for place in places:
        emulation.removed = lambda site, place=place: site.opcode.startswith("bar") and site.place.chain == place
        if not any(found_in(emulation, rows) for rows in problems):
            missed.append(place)
    assert len(missed) <= REDUNDANT, f"{len(missed)} of {len(places)}: {missed}"
