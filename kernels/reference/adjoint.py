"""The backward solve: the adjoint of the optimality conditions, in the least-squares sense where they lose rank.

At a solution the rows split into ``W``, the rows that an infeasible problem shifts (``s != 0``, and all its equalities)
and ``K``, the other active rows (an equality, or a multiplier that the tolerances tell from zero). Of W, the rows ``P``
push; the multipliers of the rest are 0, as their signs and the least norm want it. The conditions are

    H x + g + P' z_P + K' z_K = 0,   z_P = w P beta,   K x = h_K,   W x - s = h_W,   W'(w s) = 0

(Bambade, Schramm, Taylor, Carpentier, ICLR 2024; the multipliers of W are those of least norm, which are unique). Their
adjoint for the cotangents ``grad_x, grad_z, grad_s`` is

    H b_x + W' q_x + K' q_K = grad_x,   W b_x = W eta,   K b_x = grad_z_K,   W'w W b_s = W'(q_x + grad_s)

with eta the weighted least-squares solution of ``P eta = grad_z_P``; P has the rank of W, but at points without a
derivative. The shift sees W alone: where x is a vertex at which too many rows meet, K would keep it from following.
With ``p = (w W b_s - grad_s, q_K)``, ``b_z = beta`` and ``q_z = w (grad_z_P - P b_x)``, a change of G alters the loss
by ``-(z b_x' + p x' + w s b_s' - q_z b_z')``.

All is in double, also where the forward's factors are in single: where rows of W nearly depend on each other, a factor
in single loses the solution, and there is no second attempt, as the forward has it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import numbers
from ..interface import Adjoint, Options, Rows, Vectors
from .factor import Factor
from .least_squares import ShiftedRows, shifted_rows
from .products import Matrices, largest, take
from .scaling import Scaling, measure_scaling


def adjoint(rows: Rows, at: Vectors, grad: Vectors, options: Options) -> Adjoint:
    """The adjoint vectors of each problem; those whose cotangents are all zero are not looked at and get zeros."""
    index = torch.cat(grad, -1).any(-1).nonzero().squeeze(-1)
    x, z = torch.zeros_like(at.x), torch.zeros_like(at.z)
    whole = Adjoint(b_x=x, p=z, z=z.clone(), ws=z.clone(), b_s=x.clone(), q_z=z.clone(), b_z=x.clone())
    if not len(index):
        return whole
    matrices = Matrices.of(rows, False)
    scaling = measure_scaling(matrices, rows.g, rows.lo, rows.hi, options.equilibrate)
    matrices, scaling, rows = matrices.take(index), scaling.take(index), rows.take(index)
    x, z, s, *cotangents = (t[index] for t in (*at, *grad))
    W, w, s = shifted_rows(matrices, scaling, rows, x, s, options)
    least = numbers.ROUNDING * largest(z / scaling.E) + options.eps_abs * scaling.D.amin(-1)
    equality = rows.lo == rows.hi
    K = ~W & (equality | ((z / scaling.E).abs() > least.unsqueeze(-1)))
    P = W & (equality | (z != 0))
    part = _adjoint(matrices, scaling, W, P, w, K, z, s, *cotangents)
    for vectors, found in zip(whole, part, strict=True):
        vectors[index] = found
    return whole


def _adjoint(
    matrices: Matrices,
    scaling: Scaling,
    W: Tensor,  # [B, m] bool
    P: Tensor,  # [B, m] bool
    w: Tensor,  # [B|1, m]
    K: Tensor,  # [B, m] bool
    z: Tensor,  # [B, m]
    s: Tensor,  # [B, m]
    grad_x: Tensor,  # [B, n]
    grad_z: Tensor,  # [B, m]
    grad_s: Tensor,  # [B, m]
) -> Adjoint:
    index = W.any(-1).nonzero().squeeze(-1)  # of the infeasible problems
    beta, b_s = grad_x.new_zeros(2, len(grad_x), matrices.n).unbind()
    z_P, target, w_index = torch.zeros_like(z), K * grad_z, take(w, index)
    if len(index):
        pushing = ShiftedRows(matrices.take(index), scaling.take(index), P[index], w_index)
        fits = pushing.fit(torch.stack([z / w, grad_z], 1)[index])
        beta[index] = fits[:, 0]
        fitted = matrices.take(index).rows(fits)
        z_P[index] = P[index] * w_index * fitted[:, 0]
        target[index] = torch.where(W[index], fitted[:, 1], target[index])
    b_x, q = saddle_point(matrices, scaling, w, W, K, grad_x, target)
    p = q.clone()
    if len(index):
        shifted = ShiftedRows(matrices.take(index), scaling.take(index), W[index], w_index)
        fits = shifted.fit(torch.stack([grad_s / w, q / w], 1)[index])
        b_s[index] = fits.sum(1)
        p[index] += w_index * shifted.times(fits[:, :1]).squeeze(1) - W[index] * grad_s[index]
    return Adjoint(b_x=b_x, p=p, z=torch.where(W, z_P, z), ws=w * s, b_s=b_s, q_z=P * w * (grad_z - target), b_z=beta)


def saddle_point(
    matrices: Matrices, scaling: Scaling, w: Tensor, W: Tensor, K: Tensor, r: Tensor, target: Tensor
) -> tuple[Tensor, Tensor]:
    """Solves ``H b + G_S'q = r, G_S b = target`` on S = W + K: [B, n], [B, m] -> b [B, n], q [B, m].

    A proximal method of multipliers with one factor of ``H + P + G_S' Omega G_S``. Started at q = 0, it keeps q_W in
    the range of w W, provided that these rows weigh as their shifts do. Where the system is singular, each pass adds
    the same step along the null space; taking these steps back leaves the least-squares solution.
    """
    rho = numbers.ADJOINT_RHO
    row_weight = torch.where(W, scaling.row_unit(w) * w, K * scaling.E.square()) / (scaling.c * numbers.ADJOINT_MU)
    P = (rho / (scaling.c * scaling.D.square())).expand_as(r)
    factor = Factor(matrices, row_weight, P)
    for _ in range(numbers.ADJOINT_FACTORS - 1):
        if not (factor.info > 0).any():
            break
        rho *= numbers.ADJOINT_RHO_GROWTH
        P = torch.where((factor.info > 0).unsqueeze(-1), rho / (scaling.c * scaling.D.square()), P)
        factor = Factor(matrices, row_weight, P)
    b, q, v = torch.zeros_like(r), torch.zeros_like(target), -target
    passes = 0
    while passes < numbers.ADJOINT_PASSES:
        passes += 1
        step = factor.solve(r - matrices.hessian(b) - matrices.columns(q + row_weight * v))
        b = b + step
        v = v + (W | K) * matrices.rows(step)
        q_step = row_weight * v
        q = q + q_step
        size, moved = (largest(p / scaling.D) + largest(scaling.c * t / scaling.E) for p, t in ((b, q), (step, q_step)))
        if (moved <= numbers.ADJOINT_ACCURACY * size).all():
            break
    return b - passes * step, q - passes * q_step
