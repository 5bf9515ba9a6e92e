"""Weights of the shifts: which rows of an infeasible problem give way."""

import families as f
import numpy as np
import pytest
import torch
from helpers import CASES, check, one_matrix

import qplayer_gpu as qp

pytestmark = pytest.mark.usefixtures("backend")


def test_shift_is_that_of_weighted_least_squares():
    args = {k: v for k, v in f.overdetermined(4, 7).items() if k not in ("C", "u")}
    w = torch.logspace(-2, 2, args["b"].shape[1]).double()
    sol = qp.solve_qp(**args, w_eq=w).check()
    for i in range(4):
        A, b = args["A"][i].numpy(), args["b"][i].numpy()
        root = np.sqrt(w.numpy())
        residual = A @ np.linalg.lstsq(root[:, None] * A, root * b, rcond=None)[0] - b
        np.testing.assert_allclose(sol.s_eq[i].numpy(), residual, rtol=0, atol=1e-8)


def test_a_heavy_row_hardly_bends():
    """Demand x_1 + x_2 >= 3 against capacities x <= 1."""
    args = {
        "H": torch.eye(2).double(),
        "g": torch.zeros(2).double(),
        "C": torch.ones(1, 2).double(),
        "l": torch.tensor([3.0]).double(),
        "ub": torch.ones(2).double(),
    }
    even = qp.solve_qp(**args).check()
    torch.testing.assert_close(even.s_box, torch.full((2,), 1 / 3).double())
    torch.testing.assert_close(even.s_in, torch.tensor([-1 / 3]).double())
    firm = qp.solve_qp(**args, w_box=1e4).check()
    # min s_in^2 + 2e4 s_box^2 with 2 s_box - s_in = 1
    torch.testing.assert_close(firm.s_box, torch.full((2,), 2 / (4 + 2e4)).double())
    torch.testing.assert_close(firm.s_in, torch.tensor([-2e4 / (4 + 2e4)]).double())


@pytest.mark.parametrize("case", ["overdetermined", "only-equalities", "positive-qp", "excluding"])
@pytest.mark.parametrize("build", [dict, one_matrix], ids=["batched", "shared"])
@pytest.mark.parametrize("each", [False, True], ids=["one-set", "each-its-own"])
def test_gradients(case, build, each):
    """Also those of the weights: one set for all problems, or one for each."""
    args, status, outputs = CASES[case]
    counts = {"w_eq": "b", "w_in": "u"}
    shape = (3,) if each else ()
    weights = {w: 0.1 + 3 * torch.rand(*shape, args[k].shape[-1]).double() for w, k in counts.items() if k in args}
    check(build(args) | weights | {"w_box": 2.0}, status, outputs)


def test_the_gradient_of_a_weight_solved_by_hand():
    """x >= 1 against x <= -1, of weights 1 and 4: w_1 (x - 1) + w_2 (x + 1) = 0."""
    w = torch.tensor([1.0, 4.0]).double()
    sides = {"l": torch.tensor([1.0, -torch.inf]).double(), "u": torch.tensor([torch.inf, -1.0]).double()}
    g, C = torch.zeros(1).double(), torch.ones(2, 1).double()
    jacobian = torch.func.jacrev(lambda w: qp.solve_qp(None, g, C=C, **sides, w_in=w).s_in)(w)
    expected = torch.tensor([[8 / 25, -2 / 25], [8 / 25, -2 / 25]]).double()
    torch.testing.assert_close(jacobian, expected, rtol=0, atol=1e-8)


def test_a_number_is_the_weight_of_all_and_one_set_that_of_each_problem():
    args = f.excluding_halfspaces(3, 4)
    m = args["u"].shape[-1]
    w = 0.5 + torch.rand(3, m).double()
    each = qp.solve_qp(**args, w_in=w)
    for i in range(3):
        alone = qp.solve_qp(**{k: v[i] for k, v in args.items()}, w_in=w[i])
        torch.testing.assert_close(each.s_in[i], alone.s_in, rtol=0, atol=1e-9)
    same = [qp.solve_qp(**args, w_in=w).s_in for w in (2.5, torch.full((m,), 2.5).double())]
    assert torch.equal(*same)


def test_hard_rows_may_differ_from_problem_to_problem():
    args = {"H": None, "g": torch.zeros(2, 1).double(), "C": torch.ones(2, 1).double()}
    args |= {"l": torch.tensor([1.0, -torch.inf]).double(), "u": torch.tensor([torch.inf, -1.0]).double()}
    w = torch.tensor([[1.0, torch.inf], [torch.inf, 1.0]]).double()
    sol = qp.solve_qp(**args, w_in=w).check()
    torch.testing.assert_close(sol.s_in, torch.tensor([[-2.0, 0.0], [0.0, 2.0]]).double(), rtol=0, atol=1e-8)
    assert (sol.s_in[[0, 1], [1, 0]] == 0).all()


def test_weights_do_not_matter_where_the_problem_is_feasible():
    args = f.feasible(4, 8, bounds=True)
    w = torch.full((8,), 0.1).double().requires_grad_()
    weighted = qp.solve_qp(**args, w_eq=10.0, w_in=w).check()
    torch.testing.assert_close(weighted.x, qp.solve_qp(**args).x, rtol=0, atol=0)
    weighted.x.sum().backward()
    assert (w.grad == 0).all()


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_weights_are_positive(value):
    args = f.excluding_halfspaces(2, 4)
    with pytest.raises(qp.ProblemError, match="w_in must be > 0"):
        qp.solve_qp(**args, w_in=value)
    w = torch.ones(2, args["u"].shape[-1]).double()
    w[1, 2] = value  # of a tensor nobody asks: the problem says so
    sol = qp.solve_qp(**args, w_in=w)
    assert sol.status.tolist() == [qp.Status.SOLVED_CLOSEST_FEASIBLE, qp.Status.NONFINITE_INPUT]


def test_one_weight_for_each_row():
    with pytest.raises(qp.ProblemError, match=r"w_in must have shape \(8,\)"):
        qp.solve_qp(**f.feasible(2, 8), w_in=torch.ones(3).double())
    with pytest.raises(qp.ProblemError, match=r"w_in must be a torch\.Tensor, or a number, not list"):
        qp.solve_qp(**f.feasible(2, 8), w_in=[1.0] * 8)
