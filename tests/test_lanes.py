"""Small problems of a batch are solved a lane each: against the same problems one by one."""

from functools import partial

import families as f
import hard as h
import pytest
import reported as r
import torch
from helpers import OPTIONS, OTHER_OPTIONS, as_rows

from qplayer_gpu.kernels import cpu
from qplayer_gpu.kernels.cpu import build, library
from qplayer_gpu.kernels.interface import Answer, Rows, Status, Vectors

pytestmark = pytest.mark.usefixtures("compiler")

MANY, FEW = 100, 3  # problems of a batch that are solved in lanes, and that are not
SAME = 1e-8  # rounding errors of two orders of summation, where an optimum can be known
UNIQUE = {
    "feasible": partial(f.feasible, two_sided=True, bounds=True),
    "one-sided": f.feasible,
    "excluding": lambda B, n, s: f.excluding_halfspaces(B, n, seed=s),
    "overdetermined": f.overdetermined,
    "ill-scaled": h.ill_scaled,
    "unbounded": h.unbounded,
    "simplex": r.simplex,
    "indefinite": r.indefinite,
}
MANY_OPTIMA = {"lp": f.lp, "degenerate": h.degenerate, "nonnegative": r.nonnegative, "control": r.control}
WITHOUT = {"AVX2": ("-mno-avx512f",), "SSE2": ("-mno-avx512f", "-mno-avx2", "-mno-fma", "-mno-avx")}


def one_by_one(rows: Rows, options=OPTIONS, start=None) -> Answer:
    """The answers to batches so small that no lanes are used."""
    answers = []
    for index in torch.arange(rows.batch).split(FEW):
        answers.append(cpu.forward(rows.take(index), options, start and Vectors(*(t[index] for t in start))))
    return Answer(*map(torch.cat, zip(*answers, strict=True)))


def compared(rows: Rows, options=OPTIONS, start=None, share=0.05) -> tuple[Answer, Answer]:
    """In lanes and one by one: the same statuses, and as many steps but for a share where rounding errors decide."""
    ours, theirs = cpu.forward(rows, options, start), one_by_one(rows, options, start)
    assert ours.status.tolist() == theirs.status.tolist()
    apart = (ours.iterations - theirs.iterations).abs()
    assert (apart > 0).double().mean() <= share
    assert apart.sum() <= share * theirs.iterations.sum()
    return ours, theirs


def assert_same(rows: Rows, options=OPTIONS, start=None) -> Answer:
    ours, theirs = compared(rows, options, start)
    for name in ("x", "z", "s"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=SAME, atol=SAME, equal_nan=True)
    return ours


def cost(rows: Rows, x):
    Hx = 0.0 if rows.H is None else (rows.H @ x.unsqueeze(-1)).squeeze(-1)
    return (x * (0.5 * Hx + rows.g)).sum(-1)


@pytest.mark.parametrize("n", [1, 2, 5, 8, 13, 16])
@pytest.mark.parametrize("family", UNIQUE)
def test_the_same_answers(family, n):
    assert_same(as_rows(UNIQUE[family](MANY, n, n)))


@pytest.mark.parametrize("n", [1, 2, 5, 8, 13])
@pytest.mark.parametrize("family", MANY_OPTIMA)
def test_the_same_optimum_where_there_are_many(family, n):
    """Rounding errors choose among them, and lead along other steps more often."""
    rows = as_rows(MANY_OPTIMA[family](MANY, n, n))
    ours, theirs = compared(rows, share=0.3)
    torch.testing.assert_close(cost(rows, ours.x), cost(rows, theirs.x), rtol=SAME, atol=SAME)
    assert max(ours.primal.max(), ours.dual.max()) <= OPTIONS.eps_abs


@pytest.mark.parametrize("changes", OTHER_OPTIONS, ids=str)
def test_the_same_with_other_options(changes):
    options = OPTIONS._replace(**changes)
    for args in (f.feasible(MANY, 7, bounds=True), f.overdetermined(MANY, 3)):
        assert_same(as_rows(args), options)


def test_what_mixed_precision_leaves(monkeypatch):
    monkeypatch.setattr(cpu, "MIXED_STEPS", 6)
    assert_same(as_rows(f.feasible(MANY, 7)), OPTIONS._replace(mixed=True))


@pytest.mark.parametrize("noise", [0.0, 1e-3, 1e-1, 10.0])
def test_the_same_from_a_start(noise):
    args = f.feasible(MANY, 7, two_sided=True, bounds=True)
    start = cpu.forward(as_rows(args), OPTIONS).point
    rows = as_rows(args | {"g": args["g"] + noise * torch.randn(MANY, 7).double()})
    answer = assert_same(rows, start=start)
    assert answer.iterations.double().mean() <= (1.0 if noise == 0 else 20.0)


def test_the_shift_of_a_start_is_asked_first():
    rows = as_rows(f.overdetermined(MANY, 4))
    assert_same(rows, start=cpu.forward(rows, OPTIONS).point)


def test_each_lane_is_on_its_own():
    """Among others, in another lane, or with what is not finite or infeasible beside it: bit for bit the same."""
    feasible, half = f.feasible(60, 6, seed=1), f.feasible(60, 6, seed=2)
    half["C"][::2, 1], half["u"][::2, 1] = -half["C"][::2, 0], -half["u"][::2, 0] - 1
    shared = half | {name: half[name][0] for name in "HAC"}
    for rows in map(as_rows, (half, shared, feasible)):
        alone = cpu.forward(rows, OPTIONS)
        for index in (torch.randperm(60), torch.arange(17), torch.arange(40, 60), torch.tensor([3] * 30)):
            some = cpu.forward(rows.take(index), OPTIONS)
            assert all(torch.equal(a, b[index]) for a, b in zip(some, alone, strict=True))
    wrong = as_rows({**feasible, "g": feasible["g"].clone()})
    wrong.g[::7] = torch.nan
    wrong.C[1::7], wrong.hi[2::7], wrong.lo[3::7, :1] = torch.inf, -torch.inf, torch.nan
    answer = cpu.forward(wrong, OPTIONS)
    bad = torch.arange(60) % 7 < 4
    assert (answer.status[bad] == Status.NONFINITE_INPUT).all()
    assert all(torch.equal(a[~bad], b[~bad]) for a, b in zip(answer, alone, strict=True))
    statuses = cpu.forward(as_rows(half), OPTIONS).status
    assert (statuses == torch.tensor([Status.SOLVED_CLOSEST_FEASIBLE, Status.SOLVED]).repeat(30)).all()


def test_a_problem_that_leaves_its_lane_leaves_no_scaling_behind():
    """Those that begin alone after it, from a shift, have the same matrices: bit for bit as without lanes."""
    args = f.shared(f.excluding_halfspaces(60, 6), *"HC")
    rows, begins_alone = as_rows(args), torch.arange(60) % 2 == 1
    start = Vectors(
        torch.zeros(60, rows.n).double(), torch.zeros(60, rows.m).double(), torch.zeros(60, rows.m).double()
    )
    start.s[begins_alone] = 0.1
    answers = cpu.forward(rows, OPTIONS, start), one_by_one(rows, start=start)
    assert all(torch.equal(ours[begins_alone], theirs[begins_alone]) for ours, theirs in zip(*answers, strict=True))


@pytest.mark.parametrize("names", ["H", "A", "C", "H A", "H C", "A C", "H A C", "g lo hi", "H g A C lo hi"])
def test_what_the_batch_shares(names):
    rows = as_rows(f.feasible(MANY, 6))
    one = {name: getattr(rows, name)[:1] for name in names.split()}
    if "g" not in one:
        one |= {"lo": rows.lo - 100, "hi": rows.hi + 100}  # whatever the matrices
        one["hi"][:, : rows.n_eq] = one["lo"][:, : rows.n_eq]
    shared = rows._replace(**one)
    expanded = shared._replace(**{k: t.expand(MANY, *t.shape[1:]).clone() for k, t in one.items()})
    answers = cpu.forward(shared, OPTIONS), cpu.forward(expanded, OPTIONS)
    assert all(torch.equal(a, b) for a, b in zip(*answers, strict=True))
    assert_same(shared)


@pytest.mark.slow
@pytest.mark.parametrize("registers", WITHOUT)
def test_the_same_with_fewer_lanes(registers, monkeypatch):
    narrow = library.opened(build.build(library.opened, extra=WITHOUT[registers]))
    monkeypatch.setattr(cpu, "load", lambda: narrow)
    for family in ("feasible", "ill-scaled", "excluding"):
        for n in (2, 7, 16):
            assert_same(as_rows(UNIQUE[family](MANY, n, n)))
