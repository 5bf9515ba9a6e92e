"""Derivatives of the solve, of its adjoint and of the adjoint's adjoint, all by one linear solve.

At a solution the rows split into ``W``, those that an infeasible problem shifts (and all its equalities), ``K``, the
other active ones, and the rest. The optimality conditions are, for the unknowns x, beta and z_K,

    H x + W'w W beta + K'z_K = -g,   W'w W x = W'w h_W,   K x = h_K,   z_W = w W beta,   s = W x - h_W

with the weights w of the shifts (Bambade, Schramm, Taylor, Carpentier, ICLR 2024). Their matrix is symmetric: one
operator, the adjoint of the kernels, gives the derivatives in both directions, and being a linear solve its own
derivatives need no other. W and K are held fixed throughout: where a constraint is weakly active, the derivatives are
those with that constraint inactive.

Hard rows that press on the shift are rows of W, with a weight of the operator's that stands for infinity. So no formula
below multiplies by w: where one has ``w c`` for a vector c of rows, the part of it in the range of ``w W`` goes into
the unknown, and what is left, ``w (c - W eta)`` with ``W'w (c - W eta) = 0``, is another answer of the operator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from .adjoint import outer, outer_symmetric
from .kernels.interface import Adjoint, Rows


class Point(NamedTuple):
    """The part of an answer that the conditions are linearised at."""

    x: Tensor  # [B, n]
    z: Tensor  # [B, m]
    s: Tensor  # [B, m]
    status: Tensor  # [B]


Operator = Callable[[Rows, Point, Tensor, Tensor, Tensor], Adjoint]


class Change(NamedTuple):
    """A change of the matrices: tangents of H, A and C."""

    H: Tensor | None  # [B|1, n, n]
    A: Tensor  # [B|1, n_eq, n]
    C: Tensor  # [B|1, n_in, n]

    def hessian(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x) if self.H is None else _product(self.H, x)

    def rows(self, x: Tensor, m: int) -> Tensor:
        """``dG x``, with zeros for the identity rows: [B, n] -> [B, m]."""
        parts = [_product(self.A, x), _product(self.C, x)]
        return torch.cat([*parts, x.new_zeros(x.shape[0], m - self.A.shape[-2] - self.C.shape[-2])], -1)

    def columns(self, z: Tensor) -> Tensor:
        """``dG'z``: [B, m] -> [B, n]."""
        n_eq, n_in = self.A.shape[-2], self.C.shape[-2]
        return _product(self.A.mT, z[..., :n_eq]) + _product(self.C.mT, z[..., n_eq : n_eq + n_in])


def _product(M: Tensor, x: Tensor) -> Tensor:
    return (M @ x.unsqueeze(-1)).squeeze(-1)


class Linearized:
    """The conditions linearised at a point, and the operator that solves them."""

    def __init__(self, rows: Rows, point: Point, operator: Operator, has_hard: bool):
        self.rows, self.point, self.operator, self.has_hard = rows, point, operator, has_hard
        shifted = point.s != 0
        self.infeasible = shifted.any(-1, keepdim=True).to(point.s.dtype)  # [B, 1]
        self.soft = self.infeasible * (~rows.hard & ((rows.lo == rows.hi) | shifted))  # [B, m]

    def solve(self, x_: Tensor, z_: Tensor, s_: Tensor) -> Adjoint:
        """The adjoint vectors for cotangents of x, z and s."""
        return self.operator(self.rows, self.point, x_, z_, s_)

    def fit(self, r: Tensor, c: Tensor | None = None) -> Adjoint:
        """Least squares in W: eta in ``b_s`` and ``w W eta`` in ``p``, with ``W'w W eta = r`` (in the range of W').

        The fit to c, [B, m], is in ``b_x``, and what it leaves, ``w (c - W b_x)``, in ``q_z``.
        """
        none = torch.zeros_like(self.point.z)
        c = none if c is None else self.shifted * c
        return self.operator(replace(self.rows, H=None), self.point._replace(z=none), self.infeasible * r, c, none)

    @cached_property
    def pressing(self) -> tuple[Tensor, Tensor]:
        """W as numbers 0 and 1, and ``w s`` with the multipliers by which hard rows press on the shift: [B, m] each."""
        ws = self.rows.w * self.point.s
        if not self.has_hard:
            return self.soft, ws
        fitted = self.fit(-self.columns(ws))
        pressing = (self.rows.hard & (fitted.ws != 0)).to(ws.dtype)
        return self.soft + pressing, ws + pressing * fitted.p

    @property
    def shifted(self) -> Tensor:
        """W as numbers 0 and 1: [B, m]."""
        return self.pressing[0]

    def columns(self, z: Tensor) -> Tensor:
        """``G'z``: [B, m] -> [B, n]."""
        stored = Change(None, self.rows.A, self.rows.C).columns(z)
        return stored + z[..., -self.rows.n :] if self.rows.bounded else stored

    def times(self, x: Tensor) -> Tensor:
        """``W x``: [B, n] -> [B, m], zero off W."""
        stored = Change(None, self.rows.A, self.rows.C).rows(x, self.rows.m)
        if self.rows.bounded:
            stored = torch.cat([stored[..., : -self.rows.n], x], -1)
        return self.shifted * stored

    def multipliers(self) -> tuple[Tensor, Tensor]:
        """The multipliers, those of W of least norm, and the beta of these."""
        z, W = self.point.z, self.shifted
        fitted = self.fit(self.columns(W * z))
        return W * fitted.p + (1 - W) * z, fitted.b_s

    def pullback(self, x_: Tensor, z_: Tensor, s_: Tensor) -> Adjoint:
        """As :meth:`solve`, with multipliers that can be differentiated again."""
        z, beta = self.multipliers()
        return replace(self.solve(x_, z_, s_), z=z, ws=self.pressing[1], b_z=beta)

    def pushforward(self, change: Change, dg: Tensor, dh: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The tangents of x, z and s, for those of the matrices, of g and of the active sides."""
        x, m = self.point.x, self.rows.m
        z, beta = self.multipliers()
        fitted = self.fit(change.columns(self.pressing[1]), change.rows(beta, m))
        target = dh - change.rows(x, m)
        x_ = -(change.hessian(x) + dg + change.columns(z))
        v = self.solve(x_, target - self.times(fitted.b_s), torch.zeros_like(z))
        return v.b_x, v.p + fitted.q_z, self.soft * (self.times(v.b_x) - target)

    def pullback_of_solve(
        self, a: Adjoint, b_x_: Tensor, p_: Tensor, b_s_: Tensor, q_z_: Tensor
    ) -> tuple[Tensor | None, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The cotangents of H, A, C, x_, z_ and s_, for those of the vectors ``a`` of :meth:`solve`."""
        fitted = self.fit(b_s_, q_z_)
        v = self.solve(b_x_, p_ + self.times(fitted.b_s), torch.zeros_like(p_))
        z_ = v.p + fitted.q_z
        ws_ = self.shifted * fitted.p - v.q_z
        left = torch.stack([a.p, z_, ws_, -a.q_z], 1)
        right = torch.stack([v.b_x, a.b_x, a.b_s, v.b_s - fitted.b_x], 1)
        H, A, C, n_eq = self.rows.H, self.rows.A, self.rows.C, self.rows.n_eq
        return (
            None if H is None else outer_symmetric(v.b_x, a.b_x, H),
            outer(left[..., :n_eq], right, A),
            outer(left[..., n_eq : n_eq + self.rows.n_in], right, C),
            v.b_x,
            z_,
            self.times(v.b_x) - self.shifted * p_,
        )

    def pushforward_of_solve(
        self, a: Adjoint, change: Change, dx_: Tensor, dz_: Tensor, ds_: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The tangents of b_x, p, b_s and q_z, for those of the matrices and of the cotangents."""
        m = self.rows.m
        fitted = self.fit(change.columns(a.q_z), change.rows(a.b_s, m))
        v = self.solve(
            dx_ - change.hessian(a.b_x) - change.columns(a.p),
            dz_ - change.rows(a.b_x, m) + self.times(fitted.b_s),
            ds_,
        )
        return v.b_x, v.p + fitted.q_z, v.b_s - fitted.b_x, v.q_z - self.shifted * fitted.p
