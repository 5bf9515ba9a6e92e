"""The QP: its shapes, its rows and its signs.

    minimise    1/2 x'H x + g'x
    subject to  A x = b,   l <= C x <= u,   lb <= x <= ub

with H symmetric positive semidefinite, or absent. Every constraint is a row ``lo <= G x <= hi``, in the order A, C, x.
A multiplier is positive where it pushes against ``hi`` and negative where it pushes against ``lo``, so that
``H x + g + G'z = 0``; a shift ``s`` moves both sides of its row, ``lo + s <= G x <= hi + s``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .errors import ProblemError, ProblemTypeError
from .kernels.interface import Rows
from .settings import Settings

DTYPES = (torch.float32, torch.float64)


class Parameters(NamedTuple):
    """The arguments of a QP, as given: each batched, shared by the batch (no batch dimension), or absent."""

    H: Tensor | None  # [(B,) n, n]
    g: Tensor  # [(B,) n]
    A: Tensor | None  # [(B,) n_eq, n]
    b: Tensor | None  # [(B,) n_eq]
    C: Tensor | None  # [(B,) n_in, n]
    l: Tensor | None  # [(B,) n_in]
    u: Tensor | None  # [(B,) n_in]
    lb: Tensor | None  # [(B,) n]
    ub: Tensor | None  # [(B,) n]


MATRICES = ("H", "A", "C")


@dataclass(frozen=True)
class Problem:
    """A batch of QPs as rows, in the precision of the solve."""

    rows: Rows
    crossed: Tensor  # [B|1] bool: some row has lo > hi; it stands for the equality halfway
    batched: bool  # whether the answer has a batch dimension
    dtype: torch.dtype  # of the arguments

    @classmethod
    def of(cls, p: Parameters, settings: Settings) -> Problem:
        """The rows of valid parameters, their shifts weighted as the settings say.

        Raises:
            ProblemError: the shapes, dtypes or devices do not fit; the message says which and what is wanted.
        """
        batch = validate(p)
        g = p.g.double()
        g = g if g.dim() == 2 else g.unsqueeze(0)
        H, A, C = (array(p, name) for name in MATRICES)
        H = None if H is None else 0.5 * (H + H.mT)
        empty = g.new_zeros(1, 0, g.shape[-1])
        A, C = (empty if M is None else M for M in (A, C))
        counts = (A.shape[1], C.shape[1], 0 if p.lb is None and p.ub is None else g.shape[-1])
        lo, hi = sides(p, ("b", "l", "lb"), counts, -torch.inf), sides(p, ("b", "u", "ub"), counts, torch.inf)
        w = settings.weights(*counts, g.device)
        crossed = lo > hi
        halfway = 0.5 * (lo + hi)
        lo, hi = torch.where(crossed, halfway, lo), torch.where(crossed, halfway, hi)
        rows = Rows(H, g, A, C, lo, hi, w.masked_fill(w.isinf(), 1.0), w.isinf(), batch=1 if batch is None else batch)
        return cls(rows, crossed.any(-1), batch is not None, p.g.dtype)


@dataclass(frozen=True)
class Sizes:
    """What the shapes of valid parameters say."""

    batch: int | None  # B, None where nothing is batched
    n: int
    n_eq: int
    n_in: int
    bounded: bool  # whether x has bounds

    @classmethod
    def of(cls, p: Parameters) -> Sizes:
        """The sizes of parameters that are checked first, as in :meth:`Problem.of`."""
        batch = validate(p)
        n_eq, n_in = (0 if M is None else M.shape[-2] for M in (p.A, p.C))
        return cls(batch, p.g.shape[-1], n_eq, n_in, not (p.lb is None and p.ub is None))

    @property
    def rows(self) -> list[int]:
        """How many rows A, C and the bounds have."""
        return [self.n_eq, self.n_in, self.n if self.bounded else 0]


def validate(p: Parameters) -> int | None:
    """Raises unless the parameters describe QPs; returns B, or None where nothing is batched."""
    _validate_tensor("g", p.g, p.g)
    for name, t in p._asdict().items():
        if t is not None:
            _validate_tensor(name, t, p.g)
    for rows, sides in (("A", ("b",)), ("C", ("l", "u"))):
        given = [side for side in sides if getattr(p, side) is not None]
        if (getattr(p, rows) is None) == bool(given):
            missing = rows if given else " or ".join(sides)
            raise ProblemError(f"{rows} and {' or '.join(sides)} go together: {missing} is missing")
    n = p.g.shape[-1]
    if n == 0:
        raise ProblemError("g must have at least one entry")
    n_eq, n_in = (0 if M is None else M.shape[-2] for M in (p.A, p.C))
    shapes = Parameters((n, n), (n,), (n_eq, n), (n_eq,), (n_in, n), (n_in,), (n_in,), (n,), (n,))  # type: ignore[arg-type]
    batch: int | None = None
    for name, t, shape in zip(Parameters._fields, p, shapes, strict=True):
        if t is None:
            continue
        single = t.dim() == len(shape)  # type: ignore[arg-type]
        if tuple(t.shape if single else t.shape[1:]) != shape:
            raise ProblemError(
                f"{name} must have shape {shape} or (B, ...) in front, not {tuple(t.shape)}; n = {n} is g's"
            )
        if single or t.shape[0] == batch:
            continue
        if batch not in (None, 1) and t.shape[0] != 1:
            raise ProblemError(f"{name} has a batch of {t.shape[0]}, the arguments before it one of {batch}")
        batch = t.shape[0] if batch in (None, 1) else batch
    return batch


def _validate_tensor(name: str, t: object, g: Tensor) -> None:
    if not isinstance(t, Tensor):
        raise ProblemTypeError(f"{name} must be a torch.Tensor, not {type(t).__name__}")
    if t.dtype not in DTYPES or t.dtype != g.dtype:
        wanted = f"{g.dtype}, like g" if g.dtype in DTYPES else "torch.float64 or torch.float32"
        how = " or call in a region of torch.autocast" if t.dtype in (torch.float16, torch.bfloat16) else ""
        raise ProblemTypeError(f"{name} must be {wanted}, not {t.dtype}: convert it with .to(){how}")
    if t.device != g.device:
        raise ProblemError(f"{name} is on {t.device}, g on {g.device}: move all arguments to one device")
    base = 1 + (name in MATRICES)
    if t.dim() not in (base, base + 1):
        raise ProblemError(
            f"{name} must have {base} dimensions, or {base + 1} with a batch, not shape {tuple(t.shape)}"
        )


def array(p: Parameters, name: str) -> Tensor | None:
    """The parameter in double precision, with a leading batch dimension of B or 1."""
    t = getattr(p, name)
    if t is None:
        return None
    return t.double() if t.dim() == 2 + (name in MATRICES) else t.double().unsqueeze(0)


def sides(p: Parameters, names: tuple[str, str, str], counts: Sequence[int], absent: float) -> Tensor:
    """One side of all rows, ``absent`` where it is not given: [B|1, m]."""
    parts = []
    for name, count in zip(names, counts, strict=True):
        side = array(p, name)
        parts.append(p.g.new_full((1, count), absent, dtype=torch.float64) if side is None else side)
    batch = next((t.shape[0] for t in parts if t.shape[0] != 1), 1)
    return torch.cat([t.expand(batch, -1) for t in parts], -1)
