"""Triton's iteration of ADMM: interpreted, beside the reference's, and in the place of it in a solve."""

import families as f
import pytest
import torch
from gpu.cases import differences_of_iterations, error_of_inverses
from helpers import as_rows
from interpreted import patch_once
from test_admm import admm, shared

import qplayer_gpu as qp

kernels = pytest.importorskip("qplayer_gpu.kernels.triton.admm")

if not torch.cuda.is_available():
    patch_once()

ONLY_BOUNDS = {"H": torch.eye(3).double(), "g": torch.arange(12).double().reshape(4, 3), "lb": -torch.ones(3).double()}
OWN = {
    "own-9": f.feasible(3, 9, two_sided=True, bounds=True),
    "own-H-alone": shared(3, 5, 5) | {"H": torch.eye(5).double() * torch.arange(1, 4).double().reshape(3, 1, 1)},
    "own-C-alone": shared(3, 5, 5) | {"C": torch.randn(3, 5, 5).double(), "u": torch.ones(3, 5).double()},
    "own-lp": f.lp(3, 5),
}
CASES = OWN | {
    "8": shared(20, 8, 5),
    "17-bounds": shared(5, 17, 17, bounds=True),
    "33": shared(3, 33, 40),
    "only-bounds": ONLY_BOUNDS,
    "no-rows": {name: ONLY_BOUNDS[name] for name in "Hg"},
}


@pytest.mark.parametrize("single", [False, True], ids=["float64", "float32"])
@pytest.mark.parametrize("case", CASES)
def test_iterations_are_the_reference_s(case, single):
    found = differences_of_iterations(kernels.STEPS, as_rows(CASES[case]), single)
    assert {name: far for name, far in found.items() if not far <= 1} == {}


@pytest.mark.parametrize("single", [False, True], ids=["float64", "float32"])
@pytest.mark.parametrize("case", OWN)
def test_inverses_are_the_reference_s(case, single):
    assert error_of_inverses(kernels.STEPS, as_rows(OWN[case]), single) <= 1


@pytest.mark.parametrize("precision", ["float64", "mixed"])
@pytest.mark.parametrize("args", [shared(20, 8, 8), f.feasible(3, 6, two_sided=True)], ids=["shared", "own"])
def test_solves(args, precision):
    sol = qp.solve_qp(**args, settings=admm(1e-4, precision), backend="triton").check()
    other = qp.solve_qp(**args, settings=admm(1e-4, precision))
    torch.testing.assert_close(sol.x, other.x, rtol=0, atol=1e-2)  # eps times the condition of H
    assert (sol.info.iterations - other.info.iterations).abs().max() <= 20


def test_what_it_does_not_take():
    with pytest.raises(qp.BackendError, match="64 variables and 128 rows at most"):
        qp.solve_qp(**shared(2, 65, 4), settings=admm(), backend="triton")
