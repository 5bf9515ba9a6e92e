"""Derivatives of the solve, of its adjoint and of the adjoint's adjoint, all by one linear solve.

At a solution the rows split into ``W``, those that an infeasible problem shifts (and all its equalities), ``K``, the
other active ones, and the rest. The rows of W that push, with a multiplier that is not zero, are ``P``. The optimality
conditions are, for the unknowns x, beta and z_K,

    H x + P'w P beta + K'z_K = -g,   W'w W x = W'w h_W,   K x = h_K,   z_P = w P beta,   s = W x - h_W

with the weights w of the shifts (Bambade, Schramm, Taylor, Carpentier, ICLR 2024). One operator, the adjoint of the
kernels, and fits to W or P, which it does too, give the derivatives in both directions, and those of the operator
itself. P, W and K are held fixed throughout: where a constraint is weakly active, the derivatives are those with that
constraint inactive. P has the rank of W, but at points without a derivative.

Hard rows that press on the shift are rows of W, with a weight of the operator's that stands for infinity. So no formula
below multiplies by w: where one has ``w c`` for a vector c of rows, the part of it in the range of ``w W`` goes into
the unknown, and what is left, ``w (c - W eta)`` with ``W'w (c - W eta) = 0``, is another answer of the operator. A
change of w enters as that of its logarithm, ``dw / w``, for the same reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from .kernels.interface import Adjoint, Rows, Vectors
from .kernels.numbers import HARD_WEIGHT

Operator = Callable[[Rows, Vectors, Vectors], Adjoint]


class Change(NamedTuple):
    """A change of the matrices and of the weights: tangents of H, A, C, and of the logarithm of w."""

    H: Tensor | None  # [B|1, n, n]
    A: Tensor  # [B|1, n_eq, n]
    C: Tensor  # [B|1, n_in, n]
    log_w: Tensor  # [B|1, m], zero for hard rows

    @classmethod
    def of(cls, rows: Rows, d: Rows) -> Change:
        """From tangents of the rows, absent where nothing changes."""
        A, C = (torch.zeros_like(M) if dM is None else dM for M, dM in ((rows.A, d.A), (rows.C, d.C)))
        return cls(d.H, A, C, torch.zeros_like(rows.lo[:1]) if rows.w is None or d.w is None else d.w / rows.w)

    def hessian(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x) if self.H is None else _product(self.H, x)

    def rows(self, x: Tensor) -> Tensor:
        """``dG x``, with zeros for the identity rows: [B, n] -> [B, m]."""
        n_box = self.log_w.shape[-1] - self.A.shape[-2] - self.C.shape[-2]
        return _rows(self.A, self.C, x, x.new_zeros(x.shape[0], n_box))

    def columns(self, z: Tensor) -> Tensor:
        """``dG'z``: [B, m] -> [B, n]."""
        return _stored_columns(self.A, self.C, z)


def _product(M: Tensor, x: Tensor) -> Tensor:
    return (M @ x.unsqueeze(-1)).squeeze(-1)


def _rows(A: Tensor, C: Tensor, x: Tensor, box: Tensor) -> Tensor:
    return torch.cat([_product(A, x), _product(C, x), box], -1)


def _all_rows(rows: Rows, x: Tensor) -> Tensor:
    """``G x``: [B, n] -> [B, m]."""
    return _rows(rows.A, rows.C, x, x if rows.bounded else x[..., :0])


def _parts(A: Tensor, C: Tensor, z: Tensor) -> Sequence[Tensor]:
    """What of the rows [..., m] is of A, of C and of the bounds.

    A slice that takes all would not do: the batched gradients of ``torch.autograd.grad`` have no rule for it.
    """
    stored = A.shape[-2], C.shape[-2]
    return z.split((*stored, z.shape[-1] - sum(stored)), -1)


def _stored_columns(A: Tensor, C: Tensor, z: Tensor) -> Tensor:
    y, z_in, _ = _parts(A, C, z)
    return _product(A.mT, y) + _product(C.mT, z_in)


class Linearized:
    """The conditions linearised at a point, and the operator that solves them."""

    def __init__(self, rows: Rows, point: Vectors, operator: Operator):
        self.rows, self.point, self.operator = rows, point, operator

    @cached_property
    def infeasible(self) -> Tensor:
        """As a number 0 or 1: [B, 1]."""
        return (self.point.s != 0).any(-1, keepdim=True).to(self.point.s.dtype)

    @cached_property
    def soft(self) -> Tensor:
        """The rows of W that are not hard, as numbers 0 and 1: [B, m]."""
        of_W = (self.rows.lo == self.rows.hi) | (self.point.s != 0)
        return self.infeasible * (of_W if self.rows.hard is None else of_W & ~self.rows.hard)

    def solve(self, grad_x: Tensor, grad_z: Tensor, grad_s: Tensor) -> Adjoint:
        """The adjoint vectors for cotangents of x, z and s."""
        return self.operator(self.rows, self.point, Vectors(grad_x, grad_z, grad_s))

    def fit(self, on: Tensor, r: Tensor, c: Tensor | None = None) -> Adjoint:
        """Least squares in W or P, ``on``: eta in ``b_s`` and ``w W eta`` in ``p``, with ``W'w W eta = r``.

        The fit to c, [B, m], is in ``b_x``, and what it leaves, ``w (c - W b_x)``, in ``q_z``.
        """
        none = torch.zeros_like(on)
        free = torch.where(on != 0, none, torch.inf)  # the others; these are equalities
        rows = self.rows._replace(H=None, lo=-free, hi=free, w=self.pressing[2], hard=None)
        return self.operator(rows, Vectors(torch.zeros_like(r), none, on), Vectors(r, none if c is None else c, none))

    @cached_property
    def pressing(self) -> tuple[Tensor, Tensor, Tensor]:
        """W as numbers 0 and 1, ``w s`` with the multipliers by which hard rows press on the shift, and w: [B|1, m]."""
        s, (w, hard) = self.point.s, self.rows.weights()
        ws, none = w * s, torch.zeros_like(s)
        if self.rows.hard is None:
            return self.soft, ws, w
        rows, point = self.rows._replace(H=None), self.point._replace(z=none)
        fitted = self.operator(rows, point, Vectors(-self.infeasible * self.columns(ws), none, none))
        pressing = hard & (fitted.ws != 0)
        w = torch.where(pressing, HARD_WEIGHT * w.amax(-1, keepdim=True), w)
        return self.soft + pressing, ws + pressing * fitted.p, w

    @property
    def shifted(self) -> Tensor:
        """W as numbers 0 and 1: [B, m]."""
        return self.pressing[0]

    @cached_property
    def pushing(self) -> Tensor:
        """P as numbers 0 and 1: [B, m]."""
        return self.shifted * ((self.rows.lo == self.rows.hi) | (self.point.z != 0))

    def columns(self, z: Tensor) -> Tensor:
        """``G'z``: [B, m] -> [B, n]."""
        stored = _stored_columns(self.rows.A, self.rows.C, z)
        return stored + _parts(self.rows.A, self.rows.C, z)[2] if self.rows.bounded else stored

    def times(self, x: Tensor) -> Tensor:
        """``W x``: [B, n] -> [B, m], zero off W."""
        return self.shifted * _all_rows(self.rows, x)

    def multipliers(self) -> tuple[Tensor, Tensor]:
        """The multipliers, those of W of least norm, and the beta of these."""
        z, W = self.point.z, self.shifted
        fitted = self.fit(self.pushing, self.columns(W * z))
        return W * fitted.p + (1 - W) * z, fitted.b_s

    def pullback(self, grad_x: Tensor, grad_z: Tensor, grad_s: Tensor) -> Adjoint:
        """As :meth:`solve`, with multipliers that can be differentiated again."""
        z, beta = self.multipliers()
        return self.solve(grad_x, grad_z, grad_s)._replace(z=z, ws=self.pressing[1], b_z=beta)

    def pushforward(self, change: Change, dg: Tensor, dh: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The tangents of x, z and s, for those of the matrices, the weights, g and the active sides."""
        x, W, ws = self.point.x, self.shifted, self.pressing[1]
        z, beta = self.multipliers()
        target = dh - change.rows(x)
        fitted = self.fit(W, change.columns(ws) + self.columns(change.log_w * ws), W * target)
        followed = self.times(fitted.b_x - fitted.b_s)  # the shift sees W alone
        cost = -(change.hessian(x) + dg + change.columns(z))
        v = self.solve(cost, W * followed + (1 - W) * target, torch.zeros_like(z))
        dz, _ = self.pushed(v.p, change.rows(beta) + change.log_w * self.times(beta))
        return v.b_x, dz, self.soft * (followed - target)

    def pushed(self, q: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """The multipliers q with those of W as P takes them, ``w (P eta + c)`` with the same ``W'q``; and that eta."""
        W, P = self.shifted, self.pushing
        fitted = self.fit(P, self.columns(W * q), P * c)
        return (1 - W) * q + P * (fitted.p + fitted.q_z), fitted.b_s - fitted.b_x

    def pullback_of_solve(
        self, a: Adjoint, grad_b_x: Tensor, grad_p: Tensor, grad_b_s: Tensor, grad_q_z: Tensor
    ) -> tuple[Rows, Vectors]:
        """The cotangents of the rows and of the cotangents, for those of the vectors ``a`` of :meth:`solve`."""
        W = self.shifted
        fitted = self.fit(W, grad_b_s, W * grad_p)
        target = self.times(fitted.b_s + fitted.b_x) + (1 - W) * grad_p
        v = self.solve(grad_b_x, target, torch.zeros_like(grad_p))
        grad_z, eta = self.pushed(v.p, grad_q_z)
        ws = W * fitted.p - fitted.q_z
        left = torch.stack([a.p, grad_z, ws, -a.q_z], 1)
        right = torch.stack([v.b_x, a.b_x, a.b_s, eta], 1)
        rows = self.rows
        of_A, of_C, _ = _parts(rows.A, rows.C, left)
        log_w = a.q_z * (self.times(eta) + grad_q_z) - ws * self.times(a.b_s)
        of_rows = rows._replace(
            H=None if rows.H is None else outer_symmetric(v.b_x, a.b_x, rows.H),
            A=outer(of_A, right, rows.A),
            C=outer(of_C, right, rows.C),
            w=None if rows.w is None else summed(self.soft * log_w / rows.w, rows.w),
        )
        return of_rows, Vectors(v.b_x, grad_z, self.times(v.b_x) - W * grad_p)

    def pushforward_of_solve(self, a: Adjoint, change: Change, d: Vectors) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The tangents of b_x, p, b_s and q_z, for those of the matrices, the weights and the cotangents."""
        W, P = self.shifted, self.pushing
        target = d.z - change.rows(a.b_x)
        pushed = self.fit(P, change.columns(a.q_z) + self.columns(change.log_w * a.q_z), P * target)
        shifted = self.fit(W, torch.zeros_like(d.x), W * (change.rows(a.b_s) + change.log_w * self.times(a.b_s)))
        v = self.solve(
            d.x - change.hessian(a.b_x) - change.columns(a.p),
            self.times(pushed.b_s + pushed.b_x) + (1 - W) * target,
            d.s,
        )
        q_z = pushed.q_z - P * pushed.p + change.log_w * a.q_z
        return v.b_x, v.p + shifted.q_z, v.b_s - shifted.b_x, q_z


def gradients(rows: Rows, needed: Sequence[bool], x: Tensor, z: Tensor, adjoint: Adjoint) -> list[Tensor | None]:
    """The gradient of each array of the rows that needs one, in its shape: outer products of the adjoint vectors."""
    need = dict(zip(Rows._fields, needed, strict=True))
    found: dict[str, Tensor] = {}
    if rows.H is not None and need["H"]:
        found["H"] = outer_symmetric(adjoint.b_x, x, rows.H)
    if need["g"]:
        found["g"] = summed(-adjoint.b_x, rows.g)
    if need["A"] or need["C"]:
        left = torch.stack([adjoint.z, adjoint.p, adjoint.ws, -adjoint.q_z], 1)
        right = torch.stack([adjoint.b_x, x, adjoint.b_s, adjoint.b_z], 1)
        of_A, of_C, _ = _parts(rows.A, rows.C, left)
        found["A"], found["C"] = outer(of_A, right, rows.A), outer(of_C, right, rows.C)
    for name, side in (("lo", rows.lo), ("hi", rows.hi)):
        if need[name]:
            found[name] = summed(adjoint.p * share(name == "hi", rows, z, adjoint.ws), side)
    if rows.w is not None and need["w"]:
        log_w = adjoint.q_z * _all_rows(rows, adjoint.b_z) - adjoint.ws * _all_rows(rows, adjoint.b_s)
        found["w"] = summed(log_w / rows.w, rows.w)
    return [found.get(name) for name in Rows._fields]


def share(upper: bool, rows: Rows, z: Tensor, s: Tensor) -> Tensor:
    """How much each row's upper (or lower) side moves it: all where it is the active side, half where lo = hi."""
    pushes_up = torch.where(s != 0, s, z) > 0
    active = pushes_up if upper else ~pushes_up
    return torch.where(rows.lo == rows.hi, 0.5, active.to(z.dtype))


def summed(gradient: Tensor, like: Tensor) -> Tensor:
    """A gradient [B, k] in the shape of its array: summed over the batch where that is shared, [B|1, k]."""
    return gradient if like.shape[0] == gradient.shape[0] else gradient.sum(0, keepdim=True)


def outer(left: Tensor, right: Tensor, like: Tensor) -> Tensor:
    """``-sum_r left_r right_r'`` in the shape of a matrix; for a shared one summed over the batch by one product.

    [B, r, k], [B, r, n] -> [B|1, k, n].
    """
    if like.shape[0] == left.shape[0]:
        return -(left.mT @ right)
    left, right = (t.reshape(t.shape[0] * t.shape[1], t.shape[2]) for t in (left, right))
    return -(left.mT @ right).unsqueeze(0)


def outer_symmetric(a: Tensor, b: Tensor, like: Tensor) -> Tensor:
    """``-(a b' + b a') / 2``, as in :func:`outer`: [B, n], [B, n] -> [B|1, n, n]."""
    halves = 0.5 * torch.stack([a, b], 1)
    return outer(halves, halves.flip(1) * 2, like)
