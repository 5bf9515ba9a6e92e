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
from dataclasses import dataclass
from numbers import Real
from typing import NamedTuple, TypeGuard

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

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


@dataclass(frozen=True)
class Sizes:
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


def sizes_of(qp: QP, names: Sequence[str] = QP._fields) -> Sizes:
    """The sizes of the problems, whose arguments have these names in the caller's words.

    Raises:
        ProblemError: the shapes, dtypes or devices do not fit; the message says which and what is wanted.
    """
    for field, name, value in zip(QP._fields, names, qp, strict=True):
        if _is_number(value) and field not in (*MATRICES, "g"):
            _check_number(name, value, positive=field in WEIGHTS)
        elif value is not None or field == "g":
            _check_tensor(field, name, value, qp.g, names[1])
    _check_pairs(qp, names)
    _check_column(qp, names[1])
    n = qp.g.shape[-1]
    if n == 0:
        raise ProblemError(f"{names[1]} must have at least one entry")
    n_eq, n_in = (0 if M is None else M.shape[-2] for M in (qp.A, qp.C))
    n_box = 0 if qp.lb is None and qp.ub is None else n
    of_x, of_eq, of_in = (n,), (n_eq,), (n_in,)
    shapes = ((n, n), of_x, (n_eq, n), of_eq, (n_in, n), of_in, of_in, of_x, of_x, of_eq, of_in, (n_box,))
    batch: int | None = None
    batched = ""  # the argument that says so
    for name, t, shape in zip(names, qp, shapes, strict=True):
        if not isinstance(t, Tensor):
            continue
        single = t.dim() == len(shape)
        if tuple(t.shape if single else t.shape[1:]) != shape:
            raise ProblemError(
                f"{name} must have shape {shape} or (B, ...) in front, not {tuple(t.shape)}; n = {n} is {names[1]}'s"
            )
        if single or t.shape[0] == batch:
            continue
        if batch not in (None, 1) and t.shape[0] != 1:
            raise ProblemError(f"{name} has a batch of {t.shape[0]}, {batched} one of {batch}")
        if batch in (None, 1):
            batch, batched = t.shape[0], name
    return Sizes(batch, n, n_eq, n_in, n_box)


def _is_number(value: object) -> TypeGuard[Number]:
    """Whether it is a number, also one of NumPy."""
    return not isinstance(value, Tensor) and isinstance(value, Real)


def _check_number(name: str, value: Number, positive: bool) -> None:
    if positive and not value > 0:
        raise ProblemError(f"{name} must be > 0, not {value!r}; it may be infinite, for rows that never shift")
    try:
        float(value)
    except OverflowError:
        raise ProblemError(
            f"{name} does not fit into float64: use {'inf' if value > 0 else '-inf'} for an absent side"
        ) from None


def _check_tensor(field: str, name: str, t: object, g: Tensor, g_name: str) -> None:
    if not isinstance(t, Tensor):
        number = ", or a number" if field not in (*MATRICES, "g") else ""
        raise ProblemTypeError(f"{name} must be a torch.Tensor{number}, not {type(t).__name__}")
    if t.is_nested or t.layout != torch.strided:
        form = "nested" if t.is_nested else t.layout
        raise ProblemTypeError(f"{name} must be dense, not {form}: convert it with .to_dense()")
    like_g = isinstance(g, Tensor) and g.dtype in DTYPES and field != "g"
    if t.dtype not in DTYPES or (like_g and t.dtype != g.dtype):
        wanted = f"{g.dtype}, like {g_name}" if like_g else "torch.float64 or torch.float32"
        how = " or call in a region of torch.autocast" if t.dtype in (torch.float16, torch.bfloat16) else ""
        raise ProblemTypeError(f"{name} must be {wanted}, not {t.dtype}: convert it with .to(){how}")
    if isinstance(g, Tensor) and t.device != g.device:
        raise ProblemError(f"{name} is on {t.device}, {g_name} on {g.device}: move all arguments to one device")
    if t.device.type == "meta":
        raise ProblemError(f"{name} is on the meta device, where there are no numbers to solve with")
    if not torch.compiler.is_compiling() and _stands_for_another(t):
        raise ProblemTypeError(
            f"{name} is a {type(t).__name__} without memory of its own: pass the tensor that it wraps"
        )
    base = 1 + (field in MATRICES)
    if t.dim() not in (base, base + 1):
        dimensions = "1 dimension" if base == 1 else f"{base} dimensions"
        how = ": give a number, or .expand() it to a vector" if t.dim() == 0 and field not in (*MATRICES, "g") else ""
        raise ProblemError(
            f"{name} must have {dimensions}, or {base + 1} with a batch, not shape {tuple(t.shape)}{how}"
        )


def _stands_for_another(t: Tensor) -> bool:
    """Whether it is a subclass that interprets what is done to it, such as a FakeTensor, while no mode does."""
    interprets = type(t).__torch_dispatch__ is not Tensor.__torch_dispatch__
    return interprets and not is_traceable_wrapper_subclass(t) and not torch._C._len_torch_dispatch_stack()


def _check_pairs(qp: QP, names: Sequence[str]) -> None:
    called = dict(zip(QP._fields, names, strict=True))
    for rows, M, sides in (("A", qp.A, {"b": qp.b}), ("C", qp.C, {"l": qp.l, "u": qp.u})):
        given = any(side is not None for side in sides.values())
        if (M is None) == given:
            of_sides = " or ".join(dict.fromkeys(called[side] for side in sides if called[side]))
            missing = called[rows] if given else of_sides
            raise ProblemError(f"{called[rows]} and {of_sides} go together: {missing} is missing")
    bounds = qp.ub if qp.lb is None else qp.lb
    for field, rows_of_it, needed in zip(WEIGHTS, (qp.A, qp.C, bounds), ("A", "C", "lb or ub"), strict=True):
        w = getattr(qp, field)
        if rows_of_it is None and isinstance(w, Tensor) and w.shape[-1] > 0:
            raise ProblemError(f"{called[field]} weighs rows that are not given: pass {needed} too, or leave it out")


def _check_column(qp: QP, name: str) -> None:
    """One vector as a column [n, 1] would count as n problems of one variable, and the other arguments as wrong."""
    n, of_one = (*qp.g.shape, 0)[:2]
    widths = {t.shape[-1] for t in (qp.H, qp.A, qp.C, qp.lb, qp.ub) if isinstance(t, Tensor)}
    if qp.g.dim() == 2 and of_one == 1 != n and widths == {n}:
        raise ProblemError(f"{name} must have shape ({n},) or (B, {n}), not ({n}, 1): take {name}.squeeze(-1)")


def rows_of(qp: QP, sizes: Sizes) -> tuple[Rows, Tensor | None]:
    """The rows of valid arguments in double precision, and half of what their sides cross by: [B|1, m] or None for 0.

    A row with lo > hi stands for the equality halfway. What crosses by a rounding error does not.
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
    rows = Rows(H, g, A, C, lo, hi, w, hard, batch)
    if (qp.l is None or qp.u is None) and (qp.lb is None or qp.ub is None):
        return rows, None
    half = 0.5 * (lower - upper)
    return rows, torch.where(half > ROUNDING * halfway.abs(), half, 0.0)


def _batched(t: Tensor, dimensions: int) -> Tensor:
    """In double precision, with a leading batch dimension of B or 1."""
    return t.double() if t.dim() > dimensions else t.double().unsqueeze(0)


def _stacked(g: Tensor, parts: Sequence[tuple[Tensor | Number | None, int, float]]) -> Tensor:
    """Vectors side by side, each given with its length and the number that stands for an absent one: [B|1, ...]."""
    found = [
        _batched(t, 1) if isinstance(t, Tensor) else g.new_full((1, count), absent if t is None else float(t))
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
    if all(w is None or (_is_number(w) and w == 1) for w in given):
        return None, None
    w = _stacked(g, [(part, count, 1.0) for part, count in zip(given, sizes.rows, strict=True)])
    known = not torch.compiler.is_compiling()  # which holds every number that it traces to be finite
    if known and not any(isinstance(part, Tensor) or part == torch.inf for part in given):
        return w, None
    hard = w == torch.inf
    return w.masked_fill(hard, 1.0), hard
