"""Triton's iteration of ADMM: interpreted, beside the reference's, and in the place of it in a solve."""

import pytest
import torch
from gpu.cases import differences_of_iterations
from helpers import as_rows
from interpreted import patch_once
from test_admm import admm, shared

import qplayer_gpu as qp

kernels = pytest.importorskip("qplayer_gpu.kernels.triton.admm")

if not torch.cuda.is_available():
    patch_once()

ONLY_BOUNDS = {"H": torch.eye(3).double(), "g": torch.arange(12).double().reshape(4, 3), "lb": -torch.ones(3).double()}
CASES = {
    "8": shared(20, 8, 5),
    "17-bounds": shared(5, 17, 17, bounds=True),
    "33": shared(3, 33, 40),
    "only-bounds": ONLY_BOUNDS,
    "no-rows": {name: ONLY_BOUNDS[name] for name in "Hg"},
}


@pytest.mark.parametrize("single", [False, True], ids=["float64", "float32"])
@pytest.mark.parametrize("case", CASES)
def test_iterations_are_the_reference_s(case, single):
    found = differences_of_iterations(kernels.iterate, as_rows(CASES[case]), single)
    assert {name: far for name, far in found.items() if not far <= 1} == {}


@pytest.mark.parametrize("precision", ["float64", "mixed"])
def test_solves(precision):
    args = shared(20, 8, 8)
    sol = qp.solve_qp(**args, settings=admm(1e-4, precision), backend="triton").check()
    other = qp.solve_qp(**args, settings=admm(1e-4, precision))
    torch.testing.assert_close(sol.x, other.x, rtol=0, atol=1e-2)  # eps times the condition of H
    assert (sol.info.iterations - other.info.iterations).abs().max() <= 20


def test_what_it_does_not_take():
    own, many = shared(2, 4, 4), shared(2, 65, 4)
    own["H"] = own["H"].repeat(2, 1, 1)
    with pytest.raises(qp.BackendError, match="for batches that share H, A and C"):
        qp.solve_qp(**own, settings=admm(), backend="triton")
    with pytest.raises(qp.BackendError, match="64 variables and 128 rows at most"):
        qp.solve_qp(**many, settings=admm(), backend="triton")
