"""The answer of a solve."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from .errors import ProblemError, ProblemTypeError, SolveError
from .kernels.interface import Answer, Status, Vectors
from .problem import Sizes

ADVICE = {
    Status.MAX_ITERATIONS: "raise Settings.max_iter, eps_abs or eps_rel",
    Status.INFEASIBLE: "no x satisfies the rows; Settings.closest_feasible=True solves the closest feasible problem",
    Status.UNBOUNDED: "the objective decreases without end; add bounds or a positive definite H",
    Status.NONFINITE_INPUT: "NaN or infinity in the data (allowed: l, lb = -inf, u, ub, w = inf), or a weight not > 0",
    Status.NUMERICAL_ERROR: "H must be positive semidefinite, the data well scaled, and eps_abs above rounding errors",
}

T = TypeVar("T", bound="_Record")


@dataclass(frozen=True)
class _Record:
    """A record of tensors, or of records of tensors, that moves as one; a pytree."""

    def map(self: T, f: Callable[[Tensor], Tensor]) -> T:
        """The same with f applied to each tensor."""
        parts = (getattr(self, field.name) for field in fields(self))
        return type(self)(*(t.map(f) if isinstance(t, _Record) else f(t) for t in parts))

    def detach(self: T) -> T:
        """The same without gradients."""
        return self.map(Tensor.detach)

    def to(self: T, *args: Any, **kwargs: Any) -> T:
        """The same on another device or in another dtype, with the arguments of ``Tensor.to``.

        What counts or enumerates (the status, the iterations) keeps its dtype.
        """

        def move(t: Tensor) -> Tensor:
            moved = t.to(*args, **kwargs)
            return moved if t.is_floating_point() else moved.to(t.dtype)

        return self.map(move)

    def __getitem__(self: T, index: Any) -> T:
        """The problems that ``index`` takes from the batch: a number, a slice, or a tensor of indices or of bool."""
        return self.map(lambda t: t[index])


@dataclass(frozen=True)
class Info(_Record):
    """How well each problem was solved, in the units of the data."""

    iterations: Tensor  #: [B] Newton steps
    primal_residual: Tensor  #: [B] max violation of the (shifted) rows
    dual_residual: Tensor  #: [B] ``max |Hx + g + A'y + C'z + z_box|``
    gap: Tensor  #: [B] complementarity: sum of ``|multiplier|`` times the distance from its side


@dataclass(frozen=True)
class Solution(_Record):
    """The answers of a batch; an unbatched call has no B.

    ``A x = b + s_eq``, ``l + s_in <= C x <= u + s_in``, ``lb + s_box <= x <= ub + s_box``; the shifts are zero where
    the problem is feasible. (Where sides cross, ``l > u``, both give way: ``l - s_in``, ``u + s_in``.)
    ``Hx + g + A'y + C'z + z_box = 0``; a positive ``z`` pushes against the upper side, a negative one against
    the lower. Where a problem is INFEASIBLE, its multipliers are a ray: ``A'y + C'z + z_box = 0``.
    """

    x: Tensor  #: [B, n]
    y: Tensor  #: [B, n_eq]
    z: Tensor  #: [B, n_in]
    z_box: Tensor  #: [B, n]
    s_eq: Tensor  #: [B, n_eq]
    s_in: Tensor  #: [B, n_in]
    s_box: Tensor  #: [B, n]
    status: Tensor  #: [B] of Status
    info: Info

    @classmethod
    def of(cls, answer: Answer, sizes: Sizes, dtype: torch.dtype) -> Solution:
        """The answer of the kernels in the dtype and the shapes of the problems."""

        def parts(t: Tensor) -> list[Tensor]:
            *rows, box = (part.contiguous() for part in t.to(dtype).split(sizes.rows, -1))
            return [*rows, box if sizes.n_box else t.new_zeros(t.shape[0], sizes.n, dtype=dtype)]

        info = Info(answer.iterations, *(t.detach().to(dtype) for t in (answer.primal, answer.dual, answer.gap)))
        y, z, z_box = parts(answer.z)
        s_eq, s_in, s_box = parts(answer.s)
        solution = cls(answer.x.to(dtype), y, z, z_box, s_eq, s_in, s_box, answer.status, info)
        return solution[0] if sizes.batch is None else solution

    def vectors(self, name: str, sizes: Sizes, device: torch.device) -> Vectors:
        """x, the multipliers and the shifts of all rows in double precision, without gradients.

        Raises:
            ProblemError: this, of that name in the caller's words, answers problems of other sizes.
        """
        for part in (self.x, self.y, self.z, self.z_box, self.s_eq, self.s_in, self.s_box):
            if not isinstance(part, Tensor):
                raise ProblemTypeError(f"{name} must hold tensors, not {type(part).__name__}")
        expected = (sizes.n,) if sizes.batch is None else (sizes.batch, sizes.n)
        counts = (self.y.shape[-1], self.z.shape[-1])
        if tuple(self.x.shape) != expected or counts != (sizes.n_eq, sizes.n_in) or self.x.device != device:
            raise ProblemError(
                f"{name} answers problems with x of shape {tuple(self.x.shape)}, {counts} rows of A and C, on "
                f"{self.x.device}; these have {expected}, {(sizes.n_eq, sizes.n_in)}, on {device}"
            )
        parts = [self.y, self.z, self.z_box], [self.s_eq, self.s_in, self.s_box]
        z, s = (torch.cat(part, -1)[..., : sum(sizes.rows)] for part in parts)
        batch = 1 if sizes.batch is None else sizes.batch
        return Vectors(*(t.detach().double().reshape(batch, t.shape[-1]) for t in (self.x, z, s)))

    def check(self) -> Solution:
        """Returns itself, or says what to do about the problems that were not solved.

        Raises:
            SolveError: a problem ended neither SOLVED nor SOLVED_CLOSEST_FEASIBLE.
        """
        counts = Counter(Status(code) for code in self.status.reshape(-1).tolist())
        failures = [f"{counts[status]} {status.name}: {advice}" for status, advice in ADVICE.items() if counts[status]]
        if failures:
            raise SolveError(f"of {counts.total()} problems " + "; ".join(failures))
        return self


for record in (Info, Solution):
    pytree.register_dataclass(record, serialized_type_name=f"qplayer_gpu.{record.__name__}")
torch.serialization.add_safe_globals([Info, Solution])  # torch.load(weights_only=True) takes an answer
