"""The iteration of ADMM, as OSQP has it, from a measured point on.

    K step = sigma P dx - dual + G'(rho v - dz),  K = H + sigma P + G' diag(rho) G
    moved = alpha G step + (1 - alpha) v,         dx <- alpha step + (1 - alpha) dx
    v <- clamp(moved + (z + dz) / rho, lo, hi),   dz <- dz + rho (moved - v)

(Stellato, Banjac, Goulart, Bemporad, Boyd: OSQP, Mathematical Programming Computation 2020.) All is told as the way
from the point (x, z) that was measured last: the sides and v are next to G x there, and ``dual`` is ``H x + g + G'z``.
These vectors tend to zero, so that iterations in float32 lead to whatever accuracy is measured in float64.

An iteration is products alone, with matrices that a batch may share: the inverse of K, and G twice.
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
    rho: Tensor  # [B|1, m]
    sigma: Tensor  # [B|1, n] sigma P
    failed: Tensor  # [B|1] bool, whether K is not positive definite


def operators(matrices: Matrices, metric: Metric, rho: Tensor) -> Operators:
    """Those of a penalty [B|1, 1]: one for all where nothing is batched."""
    by_row, sigma, matrices = weighed(matrices, metric, rho)
    factor = Factor(matrices, by_row, sigma.expand(len(by_row), -1))
    unit = torch.eye(matrices.n, dtype=sigma.dtype, device=sigma.device)
    root = torch.linalg.solve_triangular(factor.L, unit.expand_as(factor.L), upper=False)
    return Operators(root.mT @ root, by_row, sigma, factor.info > 0)


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
    dx, dz = torch.zeros_like(dual), torch.zeros_like(z)
    for _ in range(count):
        step = product(by.sigma * dx - dual + matrices.columns(by.rho * v - dz), by.inverse)
        moved = alpha * matrices.rows(step) + beta * v
        dx = alpha * step + beta * dx
        free = moved + (z + dz) / by.rho
        v = free.clamp(lo, hi)
        dz = torch.where(v == free, -z, dz + by.rho * (moved - v))
    return Way(dx, dz, v)
