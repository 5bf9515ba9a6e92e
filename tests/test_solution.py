"""What an answer says of itself: which problems were solved, and what is to be done about the others."""

import math

import pytest
import torch
from helpers import parts_of

import qplayer_gpu as qp
from qplayer_gpu.certificate import certificate


def mixed():
    """Four problems in one variable: x >= 1 with x <= 2, x <= 0, x <= nan and, of them no side, x <= inf."""
    g = torch.tensor([[1.0], [1.0], [1.0], [-1.0]]).double()
    ub = torch.tensor([[2.0], [0.0], [float("nan")], [float("inf")]]).double()
    return {"H": None, "g": g, "lb": torch.ones(1).double(), "ub": ub}


NAMES = ["SOLVED", "SOLVED_CLOSEST_FEASIBLE", "NONFINITE_INPUT", "UNBOUNDED"]


def arrays():
    return {k: v if v is None else v.numpy() for k, v in mixed().items()}


@pytest.mark.parametrize("args", [mixed, arrays], ids=["torch", "numpy"])
def test_each_problem_says_how_it_ended(args):
    sol = qp.solve_qp(**args())
    assert sol.names() == NAMES
    assert sol.solved.tolist() == [True, True, False, False]
    assert sol[sol.solved].check().x.shape == (2, 1)
    for k, name in enumerate(NAMES):
        assert sol[k].names() == [name]
        assert bool(sol[k].solved) == name.startswith("SOLVED")


def test_printed_it_counts_and_measures():
    sol = qp.solve_qp(**mixed())
    first, *lines = repr(sol).splitlines()
    assert first == "Solution of 4 problems with 1 variables, torch.float64"
    assert [line.split()[:2] for line in lines] == [["1", name] for name in NAMES]
    assert "nan dual" in lines[NAMES.index("NONFINITE_INPUT")]
    many = qp.solve_qp(None, torch.randn(50, 3).double(), lb=-1.0, ub=1.0)
    (line,) = repr(many).splitlines()[1:]
    found = certificate(many, None, torch.zeros(50, 3).double(), lb=-1.0, ub=1.0).primal_residual.max()
    steps = many.info.iterations.max()
    assert line.startswith(f"  50 SOLVED in at most {steps} steps, residuals at most {found:.1e} primal, ")
    assert f", {many.info.gap.max():.1e} gap" in line


@pytest.mark.parametrize("form", [torch.func.vmap, torch.func.grad], ids=["vmap", "grad"])
def test_printed_where_there_are_no_numbers(form):
    shown = []

    def solve(g):
        sol = qp.solve_qp(None, g, lb=-1.0, ub=1.0)
        shown.append(f"{sol}")
        return sol.x.sum()

    form(solve)(torch.ones(3, 3).double() if form is torch.func.vmap else torch.ones(3).double())
    assert shown[0].startswith("Solution")
    shapes = torch.utils._pytree.tree_map(lambda t: t.shape, qp.solve_qp(**mixed()))
    assert "x=torch.Size([4, 1])" in repr(shapes)


def message(sol):
    with pytest.raises(qp.SolveError) as raised:
        sol.check()
    return str(raised.value)


def test_a_cost_that_is_not_convex_is_named():
    H = torch.diag(torch.tensor([1.0, -1.0])).double()
    said = message(qp.solve_qp(H, torch.ones(2).double(), lb=-1.0, ub=1.0))
    assert said.startswith("of 1 problem 1 NUMERICAL_ERROR: most likely the cost is not convex")
    assert torch.linalg.eigvalsh(H).min() < 0


def test_finite_weights_are_named_where_hard_rows_exclude_each_other():
    A, b = torch.ones(2, 2).double(), torch.tensor([1.0, 3.0]).double()
    said = message(qp.solve_qp(torch.eye(2).double(), torch.zeros(2).double(), A, b, w_eq=math.inf))
    assert said.startswith("of 1 problem 1 INFEASIBLE")
    assert said.endswith("finite weights")


def test_a_relative_tolerance_is_named_where_the_answers_are_large():
    """x of a thousand million, stopped a step before the end: what is left is small next to it, and large alone."""
    args = {"H": torch.eye(2).double(), "g": -1e9 * torch.ones(3, 2).double(), "lb": 0.0, "ub": 1e9 - 1e3}
    sol = qp.solve_qp(**args).check()
    late = torch.full_like(sol.status, qp.Status.MAX_ITERATIONS)
    stopped = qp.Solution(**{**parts_of(sol), "status": late, "info": sol.info.map(lambda t: 0 * t + 3)})
    assert "of 3 the answers are large, the residuals not: take Settings.eps_rel=1e-9" in message(stopped)
    assert "eps_rel" not in message(stopped.map(lambda t: t if t is late else t / 1e9))
    far = qp.Solution(**{**parts_of(stopped), "info": sol.info.map(lambda t: 0 * t + 10_000)})
    assert "eps_rel" not in message(far)
    assert "eps_rel" not in message(qp.solve_qp(**mixed()))
