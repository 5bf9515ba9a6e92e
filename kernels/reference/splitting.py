"""The iteration of ADMM, as OSQP has it, from a measured point on.

    K step = G' rho (2 v - w) - dual,  K = H + sigma P + G' diag(rho) G
    w <- w + alpha (G step - v)
    v <- clamp(w + z / rho, lo, hi)

(Stellato, Banjac, Goulart, Bemporad, Boyd: OSQP, Mathematical Programming Computation 2020.) All is told as the way
from the point (x, z) that was measured last: the sides and v are next to G x there, and ``dual`` is ``H x + g + G'z``.
These vectors tend to zero, so that iterations in float32 lead to whatever accuracy is measured in float64. The
multipliers come by ``dz = rho (w - v)``: one vector tells both where a row has moved and its multiplier. The proximal
term draws x to the measured point, where OSQP's draws it to the last iterate, so that an iteration needs of x no more
than G x; x itself, the relaxed mean of the steps, follows from the same mean of the pushes.

So an iteration is products alone, with matrices that a batch may share: one with ``G K^-1 G'``, a row and a column for
each row; or, where those are many or x is bounded, with the inverse of K and with G twice, which is less.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import numbers
from .factor import Factor
from .products import Batched, Matrices, product
from .scaling import Scaling


@dataclass
class Metric(Batched):
    """In what ADMM weighs rows and x: by the problem, or one for all where they share their matrices."""

    rows: Tensor  # [B|1, m] E^2 / c, times the weight of the row
    x: Tensor  # [B|1, n] 1 / (c D^2)

    @classmethod
    def of(cls, lo: Tensor, hi: Tensor, scaling: Scaling, shared: bool) -> Metric:
        """That of the scaling; what a problem's unit of x adds to it is averaged where the matrices are shared."""
        equality, free = lo == hi, lo.isinf() & hi.isinf()
        by_row, by_x = scaling.E.square() / scaling.c, 1 / (scaling.c * scaling.D.square())
        if shared:
            equality, free = (t.all(0, keepdim=True) for t in (equality, free))
            by_row, by_x = (t.log().mean(0, keepdim=True).exp() for t in (by_row, by_x))
        weight = torch.where(equality, numbers.ADMM_EQUALITY, torch.where(free, numbers.ADMM_FREE, 1.0))
        return cls(weight * by_row, by_x)


@dataclass
class Operators(Batched):
    """What an iteration multiplies by, in its precision."""

    inverse: Tensor  # [B|1, n, n] of K
    response: Tensor | None  # [B|1, m, m] diag(rho) G K^-1 G', where an iteration is a product with it
    rho: Tensor  # [B|1, m]
    failed: Tensor  # [B|1] bool, whether K is not positive definite

    @classmethod
    def of(cls, matrices: Matrices, inverse: Tensor, rho: Tensor, failed: Tensor) -> Operators:
        """Those of an inverse, in its precision."""
        response = None
        if by_rows(matrices):
            G = torch.cat([block.expand(len(inverse), -1, -1) for block in matrices.blocks], 1)
            response = (rho.unsqueeze(-1) * G) @ inverse @ G.mT
        return cls(inverse, response, rho, failed)


def by_rows(matrices: Matrices) -> bool:
    """Whether a product with ``G K^-1 G'`` takes fewer multiplications than those with the inverse of K and G."""
    n, k = matrices.n, sum(G.shape[1] for G in matrices.blocks)
    return not matrices.bounded and 0 < k * k <= n * n + 2 * k * n


def operators(matrices: Matrices, metric: Metric, rho: Tensor) -> Operators:
    """Those of a penalty [B|1, 1]: one for all where nothing is batched."""
    by_row, sigma, matrices = weighed(matrices, metric, rho)
    factor = Factor(matrices, by_row, sigma.expand(len(by_row), -1))
    unit = torch.eye(matrices.n, dtype=sigma.dtype, device=sigma.device)
    root = torch.linalg.solve_triangular(factor.L, unit.expand_as(factor.L), upper=False)
    return Operators.of(matrices, root.mT @ root, by_row, factor.info > 0)


def weighed(matrices: Matrices, metric: Metric, rho: Tensor) -> tuple[Tensor, Tensor, Matrices]:
    """``diag(rho)``, ``sigma P`` and the matrices, in the precision of the iterations."""
    if matrices.single is None:
        return rho * metric.rows, numbers.ADMM_SIGMA * metric.x, matrices
    return (rho * metric.rows).float(), (numbers.ADMM_SIGMA_MIXED * metric.x).float(), matrices.single


@dataclass
class Way(Batched):
    """Where iterations begin or have led to, next to the measured point."""

    dx: Tensor  # [B, n]
    dz: Tensor  # [B, m]
    v: Tensor  # [B, m] what stands for the rows, within their sides


def iterate(
    matrices: Matrices,
    by: Operators,
    dual: Tensor,  # [B, n] H x + g + G'z
    z: Tensor,  # [B, m]
    v: Tensor,  # [B, m] and the rest: next to G x
    lo: Tensor,  # [B, m]
    hi: Tensor,  # [B, m]
    count: int,
) -> Way:
    """So many iterations, in the precision of the arrays."""
    alpha, beta = numbers.ADMM_RELAXATION, 1 - numbers.ADMM_RELAXATION
    unpushed = product(-dual, by.inverse)
    base, held = matrices.rows(unpushed), z / by.rho
    w, pushes = v, torch.zeros_like(v)
    for _ in range(count):
        push = 2 * v - w
        pushes = push + beta * pushes
        w = w + alpha * (base + moved_rows(matrices, by, push) - v)
        v = (w + held).clamp(lo, hi)
    dx = (1 - beta**count) * unpushed + alpha * moved(matrices, by, pushes)
    dz = torch.where(v == w + held, -z, by.rho * (w - v))
    return Way(dx, dz, v)


def moved(matrices: Matrices, by: Operators, push: Tensor) -> Tensor:
    """``K^-1 G' rho p``: [B, m] -> [B, n]."""
    return product(matrices.columns(by.rho * push), by.inverse)


def moved_rows(matrices: Matrices, by: Operators, push: Tensor) -> Tensor:
    """``G K^-1 G' rho p``: [B, m] -> [B, m]."""
    return matrices.rows(moved(matrices, by, push)) if by.response is None else product(push, by.response)
