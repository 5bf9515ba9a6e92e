"""The QP: its arguments, its shapes, its rows and its signs.

    minimise    1/2 x'H x + g'x
    subject to  A x = b,   l <= C x <= u,   lb <= x <= ub

with H symmetric positive semidefinite, or absent. Every constraint is a row ``lo <= G x <= hi``, in the order A, C, x.
A multiplier is positive where it pushes against ``hi`` and negative where it pushes against ``lo``, so that
``H x + g + G'z = 0``; a shift ``s`` moves both sides of its row, ``lo + s <= G x <= hi + s``, and an infeasible problem
has those of least ``sum w_i s_i^2``.

From the arguments to the rows all is plain torch, which autograd differentiates: casts, sums over a shared argument,
and the halves of equal sides need no code of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .errors import ProblemError, ProblemTypeError
from .kernels.interface import Rows
from .kernels.numbers import ABSENT_SIDE, ROUNDING

DTYPES = (torch.float32, torch.float64)
Number = float | int


class QP(NamedTuple):
    """The arguments of a batch of QPs, as given: batched, shared by the batch, or absent; a vector may be a number."""

    H: Tensor | None  # [(B,) n, n]
    g: Tensor  # [(B,) n]
    A: Tensor | None  # [(B,) n_eq, n]
    b: Tensor | Number | None  # [(B,) n_eq]
    C: Tensor | None  # [(B,) n_in, n]
    l: Tensor | Number | None  # [(B,) n_in]
    u: Tensor | Number | None  # [(B,) n_in]
    lb: Tensor | Number | None  # [(B,) n]
    ub: Tensor | Number | None  # [(B,) n]
    w_eq: Tensor | Number | None = None  # [(B,) n_eq]
    w_in: Tensor | Number | None = None  # [(B,) n_in]
    w_box: Tensor | Number | None = None  # [(B,) n]


MATRICES = ("H", "A", "C")
WEIGHTS = ("w_eq", "w_in", "w_box")


class Sizes(NamedTuple):
    """What the shapes of valid arguments say."""

    batch: int | None  # B, None where nothing is batched
    n: int
    n_eq: int
    n_in: int
    n_box: int  # n where x has bounds, else 0

    @property
    def rows(self) -> tuple[int, int, int]:
        """How many rows A, C and the bounds have."""
        return self.n_eq, self.n_in, self.n_box


def sizes_of(qp: QP) -> Sizes:
    """The sizes of the problems.

    Raises:
        ProblemError: the shapes, dtypes or devices do not fit; the message says which and what is wanted.
    """
    g = qp.g
    for name, value in (("g", g), *zip(QP._fields, qp, strict=True)):
        if isinstance(value, Number) and name not in (*MATRICES, "g"):
            if name in WEIGHTS and not value > 0:
                raise ProblemError(f"{name} must be > 0, not {value!r}; infinite for rows that never shift")
        elif value is not None or name == "g":
            _check_tensor(name, value, g)
    _check_pairs(qp)
    n = g.shape[-1]
    if n == 0:
        raise ProblemError("g must have at least one entry")
    n_eq, n_in = (0 if M is None else M.shape[-2] for M in (qp.A, qp.C))
    of_x, of_eq, of_in = (n,), (n_eq,), (n_in,)
    shapes = ((n, n), of_x, (n_eq, n), of_eq, (n_in, n), of_in, of_in, of_x, of_x, of_eq, of_in, of_x)
    batch: int | None = None
    for name, t, shape in zip(QP._fields, qp, shapes, strict=True):
        if not isinstance(t, Tensor):
            continue
        single = t.dim() == len(shape)
        if tuple(t.shape if single else t.shape[1:]) != shape:
            raise ProblemError(
                f"{name} must have shape {shape} or (B, ...) in front, not {tuple(t.shape)}; n = {n} is g's"
            )
        if single or t.shape[0] == batch:
            continue
        if batch not in (None, 1) and t.shape[0] != 1:
            raise ProblemError(f"{name} has a batch of {t.shape[0]}, the arguments before it one of {batch}")
        batch = t.shape[0] if batch in (None, 1) else batch
    return Sizes(batch, n, n_eq, n_in, 0 if qp.lb is None and qp.ub is None else n)


def _check_tensor(name: str, t: object, g: Tensor) -> None:
    if not isinstance(t, Tensor):
        number = ", or a number" if name not in (*MATRICES, "g") else ""
        raise ProblemTypeError(f"{name} must be a torch.Tensor{number}, not {type(t).__name__}")
    if t.dtype not in DTYPES or t.dtype != g.dtype:
        wanted = f"{g.dtype}, like g" if g.dtype in DTYPES else "torch.float64 or torch.float32"
        how = " or call in a region of torch.autocast" if t.dtype in (torch.float16, torch.bfloat16) else ""
        raise ProblemTypeError(f"{name} must be {wanted}, not {t.dtype}: convert it with .to(){how}")
    if t.layout != torch.strided:
        raise ProblemTypeError(f"{name} must be dense, not {t.layout}: convert it with .to_dense()")
    if t.device != g.device:
        raise ProblemError(f"{name} is on {t.device}, g on {g.device}: move all arguments to one device")
    if t.device.type == "meta":
        raise ProblemError(f"{name} is on the meta device, where there are no numbers to solve with")
    base = 1 + (name in MATRICES)
    if t.dim() not in (base, base + 1):
        raise ProblemError(
            f"{name} must have {base} dimensions, or {base + 1} with a batch, not shape {tuple(t.shape)}"
        )


def _check_pairs(qp: QP) -> None:
    for rows, M, sides in (("A", qp.A, {"b": qp.b}), ("C", qp.C, {"l": qp.l, "u": qp.u})):
        given = any(side is not None for side in sides.values())
        if (M is None) == given:
            names = " or ".join(sides)
            raise ProblemError(f"{rows} and {names} go together: {rows if given else names} is missing")


def rows_of(qp: QP, sizes: Sizes) -> tuple[Rows, Tensor]:
    """The rows of valid arguments in double precision, and [B|1] by how much rows have lo > hi, rounding aside.

    Such a row stands for the equality halfway.
    """
    g = _batched(qp.g, 1)
    H, A, C = (None if M is None else _batched(M, 2) for M in (qp.H, qp.A, qp.C))
    H = None if H is None else 0.5 * (H + H.mT)
    none = g.new_zeros(1, 0, sizes.n)
    A, C = (none if M is None else M for M in (A, C))
    n_eq, n_in, n_box = sizes.rows
    below = ((qp.b, n_eq, -torch.inf), (qp.l, n_in, -torch.inf), (qp.lb, n_box, -torch.inf))
    above = ((qp.b, n_eq, torch.inf), (qp.u, n_in, torch.inf), (qp.ub, n_box, torch.inf))
    sides = _stacked(g, (*below, *above))
    sides = torch.where(sides.abs() >= ABSENT_SIDE, sides.detach() * torch.inf, sides)
    lower, upper = sides.unflatten(-1, (2, n_eq + n_in + n_box)).unbind(1)
    crossed, halfway = lower > upper, 0.5 * (lower + upper)
    lo, hi = torch.where(crossed, halfway, lower), torch.where(crossed, halfway, upper)
    w, hard = _weights(qp, g, sizes)
    batch = 1 if sizes.batch is None else sizes.batch
    excess = torch.where(crossed, lower - upper - ROUNDING * halfway.abs(), 0.0).detach().sum(-1)
    return Rows(H, g, A, C, lo, hi, w, hard, batch), excess


def _batched(t: Tensor, dimensions: int) -> Tensor:
    """In double precision, with a leading batch dimension of B or 1."""
    return t.double() if t.dim() > dimensions else t.double().unsqueeze(0)


def _stacked(g: Tensor, parts: Sequence[tuple[Tensor | Number | None, int, float]]) -> Tensor:
    """Vectors side by side, each given with its length and the number that stands for an absent one: [B|1, ...]."""
    found = [
        _batched(t, 1) if isinstance(t, Tensor) else g.new_full((1, count), absent if t is None else t)
        for t, count, absent in parts
        if count or isinstance(t, Tensor)
    ]
    if not found:
        return g.new_zeros(1, 0)
    batch = next((t.shape[0] for t in found if t.shape[0] != 1), 1)
    return torch.cat([t.expand(batch, -1) for t in found], -1)


def _weights(qp: QP, g: Tensor, sizes: Sizes) -> tuple[Tensor | None, Tensor | None]:
    """The weights of the rows, 1 where infinite, and which are: [B|1, m] each, or None where numbers say 1 and none.

    Nobody asks whether a tensor holds an infinite weight.
    """
    given = (qp.w_eq, qp.w_in, qp.w_box)
    if all(w is None or (isinstance(w, Number) and w == 1) for w in given):
        return None, None
    w = _stacked(g, [(part, count, 1.0) for part, count in zip(given, sizes.rows, strict=True)])
    if not any(isinstance(part, Tensor) or part == torch.inf for part in given):
        return w, None
    hard = w == torch.inf
    return w.masked_fill(hard, 1.0), hard
