"""Parameter gradients from the adjoint vectors: outer products, summed over the batch for a shared parameter."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .kernels.interface import Adjoint, Rows
from .problem import Parameters


def gradients(
    parameters: Parameters,
    needed: Sequence[bool],
    rows: Rows,
    x: Tensor,  # [B, n]
    z: Tensor,  # [B, m]
    adjoint: Adjoint,
) -> list[Tensor | None]:
    """The gradient of each parameter that needs one, in its shape and dtype."""
    return [
        _gradient(name, parameter, rows, x, z, adjoint) if need and parameter is not None else None
        for name, parameter, need in zip(Parameters._fields, parameters, needed, strict=True)
    ]


def _gradient(name: str, parameter: Tensor, rows: Rows, x: Tensor, z: Tensor, adjoint: Adjoint) -> Tensor:
    part = {"A": slice(0, rows.n_eq), "C": slice(rows.n_eq, rows.n_eq + rows.n_in)}
    part |= {"b": part["A"], "l": part["C"], "u": part["C"]}
    part |= dict.fromkeys(("lb", "ub"), slice(rows.n_eq + rows.n_in, rows.m))
    if name == "H":
        return outer_symmetric(adjoint.b_x, x, parameter)
    if name == "g":
        return _vector(-adjoint.b_x, parameter)
    if name in ("A", "C"):
        left = torch.stack([adjoint.z, adjoint.p, adjoint.ws, -adjoint.q_z], 1)[..., part[name]]
        right = torch.stack([adjoint.b_x, x, adjoint.b_s, adjoint.b_z], 1)
        return outer(left, right, parameter)
    p = adjoint.p * share(name in ("u", "ub"), rows, z, adjoint.ws) if name != "b" else adjoint.p
    return _vector(p[..., part[name]], parameter)


def share(upper: bool, rows: Rows, z: Tensor, s: Tensor) -> Tensor:
    """How much each row's upper (or lower) side moves it: all where it is the active side, half where lo = hi."""
    pushes_up = torch.where(s != 0, s, z) > 0
    active = pushes_up if upper else ~pushes_up
    return torch.where(rows.lo == rows.hi, 0.5, active.to(z.dtype))


def outer(left: Tensor, right: Tensor, like: Tensor) -> Tensor:
    """``-sum_r left_r right_r'`` in the shape of a matrix; for a shared one summed over the batch by one product.

    [B, r, k], [B, r, n] -> [(B,) k, n].
    """
    if like.dim() == 3 and like.shape[0] == left.shape[0]:
        gradient = left.mT @ right
    else:
        gradient = left.flatten(0, 1).mT @ right.flatten(0, 1)
    return -gradient.reshape(like.shape).to(like.dtype)


def outer_symmetric(a: Tensor, b: Tensor, like: Tensor) -> Tensor:
    """``-(a b' + b a') / 2``, as in :func:`outer`: [B, n], [B, n] -> [(B,) n, n]."""
    halves = 0.5 * torch.stack([a, b], 1)
    return outer(halves, halves.flip(1) * 2, like)


def _vector(gradient: Tensor, like: Tensor) -> Tensor:
    if like.dim() == 1 or like.shape[0] != gradient.shape[0]:
        gradient = gradient.sum(0)
    return gradient.reshape(like.shape).to(like.dtype)
