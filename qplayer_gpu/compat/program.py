"""A QP whose data are affine in parameters, made smaller by equalities that define variables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .affine import Affine


class Rows(NamedTuple):
    """Rows ``K x + E e + side``, of the variables x and of those that are eliminated, e."""

    K: Affine  # [m, n]
    E: Affine | None  # [m, k]
    side: Affine  # [m]
    w: Tensor | None  # [m], of their shifts

    def __call__(self, p: Sequence[Tensor], defined: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """The matrix and the side in x alone."""
        K, side = self.K(p), self.side(p)
        if self.E is None or defined is None:
            return K, side
        E, (D, d) = self.E(p), defined
        return K + E @ D, side + times(E, d)


class Program(NamedTuple):
    """Minimises ``1/2 v'P v + q'v`` over ``v = [x, e]`` with ``e = D x + d``, under rows and bounds of x."""

    P: Affine | None  # [n, n]
    q: Affine  # [n]
    D: Affine | None  # [k, n]; with it
    d: Affine | None  # [k]
    P_e: Affine | None  # [k, k]
    P_ex: Affine | None  # [k, n]
    q_e: Affine | None  # [k]
    equal: Rows | None  # = 0
    below: Rows | None  # <= 0
    lb: Affine | None  # [n]
    ub: Affine | None  # [n]

    def arguments(self, p: Sequence[Tensor]) -> dict[str, Any]:
        """What the parameters, vectors [(B,) size], make of the arguments of solve_qp."""
        H, g = None if self.P is None else self.P(p), self.q(p)
        defined = None
        if self.D is not None and self.d is not None:
            defined = D, d = self.D(p), self.d(p)
            pull = None if self.q_e is None else self.q_e(p)
            if self.P_e is not None:
                P_e = self.P_e(p)
                H = plus(H, D.mT @ (P_e @ D))
                pull = plus(pull, times(P_e, d))
            if self.P_ex is not None:
                P_ex = self.P_ex(p)
                H = plus(H, 2 * (D.mT @ P_ex))  # only the symmetric part counts
                g = g + times(P_ex.mT, d)
            if pull is not None:
                g = g + times(D.mT, pull)
        arguments: dict[str, Any] = {"H": H, "g": g}
        bounds = {"lb": self.lb, "ub": self.ub}
        arguments |= {name: bound(p) for name, bound in bounds.items() if bound is not None}
        if self.lb is not None or self.ub is not None:
            arguments["w_box"] = torch.inf
        if self.equal is not None:
            A, side = self.equal(p, defined)
            arguments |= {"A": A, "b": -side, "w_eq": on(self.equal.w, A)}
        if self.below is not None:
            C, side = self.below(p, defined)
            arguments |= {"C": C, "u": -side, "w_in": on(self.below.w, C)}
        return arguments


def times(M: Tensor, v: Tensor) -> Tensor:
    """Matrices times vectors, each [(B,) ...]."""
    return (M @ v.unsqueeze(-1)).squeeze(-1)


def plus(a: Tensor | None, b: Tensor) -> Tensor:
    """Their sum, where None is zero."""
    return b if a is None else a + b


def on(w: Tensor | None, like: Tensor) -> Tensor | None:
    """The weights where the rows are."""
    return None if w is None else w.to(like.device)
