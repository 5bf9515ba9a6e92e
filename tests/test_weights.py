"""Weights of the shifts: which rows of an infeasible problem give way."""

import families as f
import numpy as np
import pytest
import torch
from test_gradients import CASES, check, one_matrix

import qplayer_gpu as qp

pytestmark = pytest.mark.usefixtures("backend")


def test_shift_is_that_of_weighted_least_squares():
    args = {k: v for k, v in f.overdetermined(4, 7).items() if k not in ("C", "u")}
    w = torch.logspace(-2, 2, args["b"].shape[1]).double()
    sol = qp.solve_qp(**args, settings=qp.Settings(w_eq=w)).check()
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
    firm = qp.solve_qp(**args, settings=qp.Settings(w_box=1e4)).check()
    # min s_in^2 + 2e4 s_box^2 with 2 s_box - s_in = 1
    torch.testing.assert_close(firm.s_box, torch.full((2,), 2 / (4 + 2e4)).double())
    torch.testing.assert_close(firm.s_in, torch.tensor([-2e4 / (4 + 2e4)]).double())


@pytest.mark.parametrize("case", ["overdetermined", "only-equalities", "positive-qp", "excluding"])
@pytest.mark.parametrize("build", [dict, one_matrix], ids=["batched", "shared"])
def test_gradients(case, build):
    args, status, outputs = CASES[case]
    counts = {"w_eq": args["b"].shape[-1] if "b" in args else 0, "w_in": args["u"].shape[-1] if "u" in args else 0}
    weights = {name: 0.1 + 3 * torch.rand(count) for name, count in counts.items()}
    check(build(args), status, outputs, qp.Settings(eps_abs=1e-11, w_box=2.0, **weights))


def test_weights_do_not_matter_where_the_problem_is_feasible():
    args = f.feasible(4, 8, bounds=True)
    weighted = qp.solve_qp(**args, settings=qp.Settings(w_eq=10.0, w_in=0.1)).check()
    torch.testing.assert_close(weighted.x, qp.solve_qp(**args).x, rtol=0, atol=0)


@pytest.mark.parametrize("weights", [{"w_eq": 0.0}, {"w_in": [1.0, -1.0]}, {"w_box": float("nan")}], ids=str)
def test_weights_are_checked(weights):
    (name,) = weights
    with pytest.raises(qp.SettingsError, match=f"{name} must be"):
        qp.Settings(**weights)


def test_one_weight_for_each_row():
    with pytest.raises(qp.SettingsError, match="w_in has 3 weights for 8 rows"):
        qp.solve_qp(**f.feasible(2, 8), settings=qp.Settings(w_in=[1.0, 2.0, 3.0]))
