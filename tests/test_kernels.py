"""What the kernels promise beyond the answers that users see."""

import families as f
import torch
from helpers import OPTIONS, as_rows

from qplayer_gpu.backend import select
from qplayer_gpu.kernels.interface import Vectors


def test_the_adjoint_takes_any_multipliers_of_the_shifted_rows(backend):
    """``W's = 0``: z + s fits the optimality conditions as z does, and must give the same gradients."""
    rows = as_rows({k: v for k, v in f.overdetermined(3, 4).items() if k not in ("C", "u")})
    kernels = select(backend, rows, False)
    answer = kernels.forward(rows, OPTIONS, None)
    assert (answer.s.abs().amax(-1) > 1e-2).all()
    at, grad = answer.point, Vectors(*map(torch.randn_like, answer.point))
    first = kernels.adjoint(rows, at, grad, OPTIONS)
    other = kernels.adjoint(rows, at._replace(z=at.z + 10 * at.s), grad, OPTIONS)
    assert first.b_x.abs().amax() > 1e-2
    for ours, theirs in zip(first, other, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)


def test_multipliers_of_shifted_rows_have_the_signs_and_the_least_norm(backend):
    rows = as_rows(f.excluding_halfspaces(5, 4))
    answer = select(backend, rows, False).forward(rows, OPTIONS, None)
    shifted = answer.s > 0
    assert shifted.any(-1).all()
    assert (answer.z[shifted] >= 0).all()
    for i in range(5):  # a multiple of s taken away would break a sign
        W = shifted[i]
        assert (answer.z[i, W] / answer.s[i, W]).min() <= 1e-6


def test_no_cotangent_no_adjoint(backend):
    rows = as_rows(f.feasible(3, 5))
    kernels = select(backend, rows, False)
    answer = kernels.forward(rows, OPTIONS, None)
    grad = Vectors(*map(torch.zeros_like, answer.point))
    grad.x[1] = 1.0
    adjoint = kernels.adjoint(rows, answer.point, grad, OPTIONS)
    assert (adjoint.b_x[[0, 2]] == 0).all()
    assert (adjoint.b_x[1] != 0).any()
