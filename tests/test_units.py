"""Problems whose unknowns, or whose rows, have units that differ by many orders of magnitude."""

import families as f
import hard as h
import pytest
import torch

import qplayer_gpu as qp

SOLVED, CLOSEST = qp.Status.SOLVED, qp.Status.SOLVED_CLOSEST_FEASIBLE
B = 40
SIZES = [(4, 1), (8, 2), (16, 3)]  # n and a seed
FEASIBLE = {
    "boxed": h.boxed,
    "feasible": lambda B, n, seed: f.feasible(B, n, seed, two_sided=seed % 2 == 0, bounds=True),
    "lp": f.lp,
}


def assert_solved_in_units(args, unit):
    """To the optimum of the problem as it is, but for what bounds of a tiny x may be passed by."""

    def objective(x):
        curved = 0.0 if args["H"] is None else 0.5 * f.times(args["H"], x)
        return (x * (curved + args["g"])).sum(-1)

    usual, sol = qp.solve_qp(**args).check(), qp.solve_qp(**h.resized(args, unit))
    assert (sol.status == SOLVED).all()
    torch.testing.assert_close(objective(sol.x * unit), objective(usual.x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("decades", [8, 14])
@pytest.mark.parametrize(("n", "seed"), SIZES)
@pytest.mark.parametrize("family", FEASIBLE)
def test_unknowns_in_any_units(family, n, seed, decades, backend):
    """No bound counts as nothing beside another, and what rounding leaves of a search is no shift."""
    args = FEASIBLE[family](B, n, seed)
    unit = 10 ** (decades * (torch.rand(args["g"].shape[-1]).double() - 0.5))
    assert_solved_in_units(args, unit)


@pytest.mark.parametrize("decades", [18, 22])
@pytest.mark.parametrize("n", [3, 10])
def test_unknowns_in_units_that_no_search_could_bear(n, decades, backend):
    """Shifts next to which others weigh 1e20 times as much would leave no factor."""
    assert_solved_in_units(h.boxed(B, n, n), torch.logspace(decades / 2, -decades / 2, n).double())


@pytest.mark.parametrize("family", FEASIBLE)
def test_an_unknown_in_a_tiny_unit_makes_no_row_nothing(family, backend):
    args = FEASIBLE[family](B, 8, 2)
    unit = torch.ones(args["g"].shape[-1]).double()
    unit[0] = 1e-14
    assert_solved_in_units(args, unit)


@pytest.mark.parametrize("decades", [4, 8])
@pytest.mark.parametrize(("n", "seed"), SIZES)
def test_rows_in_any_units_that_exclude_each_other(n, seed, decades, backend):
    args = h.rescaled(f.opposite_halfspaces(B, n, 1 + seed, seed), seed, decades)
    sol = qp.solve_qp(**args)
    assert (sol.status == CLOSEST).all()
    assert sol.info.iterations.max() <= 40
