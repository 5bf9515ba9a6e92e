"""What the kernels promise beyond the answers that users see."""

from dataclasses import fields, replace

import families as f
import torch

import qplayer_gpu as qp
from qplayer_gpu.backend import select
from qplayer_gpu.kernels.interface import Seeds
from qplayer_gpu.problem import Parameters, Problem

SETTINGS = qp.Settings()
OPTIONS = SETTINGS.options(torch.float64)


def rows_of(args, settings=SETTINGS):
    return Problem.of(Parameters(*(args.get(name) for name in Parameters._fields)), settings).rows


def test_the_adjoint_takes_any_multipliers_of_the_shifted_rows(backend):
    """``W's = 0``: z + s fits the optimality conditions as z does, and must give the same gradients."""
    rows = rows_of({k: v for k, v in f.overdetermined(3, 4).items() if k not in ("C", "u")})
    kernels = select(backend, rows, False)
    answer = kernels.forward(rows, OPTIONS, None)
    assert (answer.s.abs().amax(-1) > 1e-2).all()
    seeds = Seeds(*(torch.randn_like(t) for t in (answer.x, answer.z, answer.s)))
    first = kernels.adjoint(rows, answer, seeds, OPTIONS)
    other = kernels.adjoint(rows, replace(answer, z=answer.z + 10 * answer.s), seeds, OPTIONS)
    assert first.b_x.abs().amax() > 1e-2
    for field in fields(first):
        ours, theirs = getattr(first, field.name), getattr(other, field.name)
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)


def test_multipliers_of_shifted_rows_have_the_signs_and_the_least_norm(backend):
    rows = rows_of(f.excluding_halfspaces(5, 4))
    answer = select(backend, rows, False).forward(rows, OPTIONS, None)
    shifted = answer.s > 0
    assert shifted.any(-1).all()
    assert (answer.z[shifted] >= 0).all()
    for i in range(5):  # a multiple of s taken away would break a sign
        W = shifted[i]
        assert (answer.z[i, W] / answer.s[i, W]).min() <= 1e-6


def test_no_cotangent_no_adjoint(backend):
    rows = rows_of(f.feasible(3, 5))
    kernels = select(backend, rows, False)
    answer = kernels.forward(rows, OPTIONS, None)
    seeds = Seeds(*(torch.zeros_like(t) for t in (answer.x, answer.z, answer.s)))
    seeds.x[1] = 1.0
    adjoint = kernels.adjoint(rows, answer, seeds, OPTIONS)
    assert (adjoint.b_x[[0, 2]] == 0).all()
    assert (adjoint.b_x[1] != 0).any()
