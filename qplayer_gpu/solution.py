"""The answer of a solve."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Generic

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from typing_extensions import TypeVar

from .arrays import Array
from .errors import ProblemError, ProblemTypeError, SolveError
from .kernels.interface import Answer, Status, Vectors
from .problem import Sizes

if TYPE_CHECKING:
    from .plans import Rest

ADVICE = {
    Status.MAX_ITERATIONS: "raise Settings.eps_abs, or max_iter where it is below the default",
    Status.INFEASIBLE: "no x satisfies the rows, or not those of infinite weight; take "
    "Settings.closest_feasible=True, which solves the closest feasible problem, and finite weights",
    Status.UNBOUNDED: "the objective decreases without end; add bounds or a positive definite H",
    Status.NONFINITE_INPUT: "NaN or infinity in the data (allowed: l, lb = -inf, u, ub, w = inf), or a weight not > 0",
    Status.NUMERICAL_ERROR: "most likely the cost is not convex, and torch.linalg.eigvalsh(H) has a value below zero; "
    "if it has none, bring the data to a common scale",
}
LARGE, SMALL = 1e3, 1e-6  # of an answer, and of a residual next to it: together they ask for a relative tolerance

T = TypeVar("T", bound="Record")
S = TypeVar("S", bound="Solution[Any]")


@dataclass(frozen=True)
class Record:
    """A record of tensors, or of records of tensors, that moves as one; a pytree."""

    def map(self: T, f: Callable[[Tensor], Tensor]) -> T:
        """The same with f applied to each tensor."""
        parts = (getattr(self, field.name) for field in fields(self))
        return type(self)(*(t.map(f) if isinstance(t, Record) else f(t) for t in parts))

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
class Info(Record, Generic[Array]):
    """How well each problem was solved, in the units of the data."""

    iterations: Array
    """[B] The Newton steps that the problem took, over all phases."""
    primal_residual: Array
    """[B] The largest violation of a row, or of a shifted row where the problem is infeasible."""
    dual_residual: Array
    """[B] The largest entry of ``|Hx + g + A'y + C'z + z_box|``."""
    gap: Array
    """[B] The complementarity gap, which is the sum over the rows of ``|multiplier|`` times the distance of the row
    from the side that the multiplier pushes against."""


@dataclass(frozen=True)
class Solution(Record, Generic[Array]):
    """The answers of a batch; those of an unbatched call have no dimension B.

    The answer satisfies ``A x = b + s_eq``, ``l + s_in <= C x <= u + s_in`` and ``lb + s_box <= x <= ub + s_box``.
    (Where sides cross, ``l > u``, both give way: ``l - s_in`` and ``u + s_in``.) The multipliers satisfy
    ``Hx + g + A'y + C'z + z_box = 0``; where a problem is INFEASIBLE they are a ray, ``A'y + C'z + z_box = 0``.

    Printed, it says how many problems ended with each status, and their worst residuals.
    """

    x: Array
    """[B, n] The solutions."""
    y: Array
    """[B, n_eq] The multipliers of the equalities."""
    z: Array
    """[B, n_in] The multipliers of the inequalities, positive at an upper side and negative at a lower one."""
    z_box: Array
    """[B, n] The multipliers of the bounds, positive at an upper bound and negative at a lower one."""
    s_eq: Array
    """[B, n_eq] The shifts of the equalities. All shifts are zero where the problem is feasible."""
    s_in: Array
    """[B, n_in] The shifts of the inequalities."""
    s_box: Array
    """[B, n] The shifts of the bounds."""
    status: Array
    """[B] How each problem ended, the numbers of :class:`Status`."""
    info: Info[Array]
    """How many steps each problem took, and its residuals."""
    rest: ClassVar[Rest | None] = None  # where there are parts that nobody has read, and where a warm start reads them

    @classmethod
    def of_pieces(cls, x: Tensor, status: Tensor, rest: Rest) -> Solution[Tensor]:
        """The answer as the library gives it; the other parts take a while to make, and are when one is read."""
        solution: Any = object.__new__(cls)
        vars(solution).update(x=x, status=status, rest=rest)
        return solution

    if not TYPE_CHECKING:  # which knows the attributes

        def __getattr__(self, name: str) -> Any:
            found = {} if self.rest is None else self.rest.read(name)
            if name not in found:
                raise AttributeError(f"a Solution has no {name!r}")
            vars(self).update(found)
            return found[name]

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @staticmethod
    def of(answer: Answer, sizes: Sizes, dtype: torch.dtype) -> Solution[Tensor]:
        """The answer of the kernels in the dtype and the shapes of the problems."""

        def parts(t: Tensor) -> list[Tensor]:
            *rows, box = (part.contiguous() for part in t.to(dtype).split(sizes.rows, -1))
            return [*rows, box if sizes.n_box else t.new_zeros(t.shape[0], sizes.n, dtype=dtype)]

        info = Info(answer.iterations, *(t.detach().to(dtype) for t in (answer.primal, answer.dual, answer.gap)))
        y, z, z_box = parts(answer.z)
        s_eq, s_in, s_box = parts(answer.s)
        solution = Solution(answer.x.to(dtype), y, z, z_box, s_eq, s_in, s_box, answer.status, info)
        return solution[0] if sizes.batch is None else solution

    def vectors(self: Solution[Tensor], name: str, sizes: Sizes, device: torch.device) -> Vectors:
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

    @property
    def solved(self) -> Array:
        """[B] bool, true for the problems that ended SOLVED or SOLVED_CLOSEST_FEASIBLE."""
        solved: Any = self.status <= int(Status.SOLVED_CLOSEST_FEASIBLE)  # type: ignore[operator]
        return solved

    def names(self) -> list[str]:
        """The name of the status of each problem, as a list; an unbatched call has one."""
        return [Status(code).name for code in _numbers(self.status)]

    def check(self: S) -> S:
        """Returns itself, or says what to do about the problems that were not solved.

        Raises:
            SolveError: a problem ended neither SOLVED nor SOLVED_CLOSEST_FEASIBLE.
        """
        counts = Counter(self.names())
        failures = [f"{counts[s.name]} {s.name}: {advice}" for s, advice in ADVICE.items() if counts[s.name]]
        if failures:
            if large := self._large():
                failures.append(f"of {large} the answers are large, the residuals not: take Settings.eps_rel=1e-9")
            total = counts.total()
            raise SolveError(f"of {total} problem{'s' * (total != 1)} " + "; ".join(failures))
        return self

    def _large(self) -> int:
        """How many problems took too many steps at a large answer, next to which their residuals are small."""
        is_late: Any = self.status == Status.MAX_ITERATIONS  # type: ignore[comparison-overlap]
        late: Solution[Any] = self[is_late]
        answers = zip(*(part.tolist() for part in (late.x, late.y, late.z, late.z_box)), strict=True)
        sizes = [max(abs(number) for part in parts for number in part) for parts in answers]
        residuals = map(max, *(r.tolist() for r in (late.info.primal_residual, late.info.dual_residual, late.info.gap)))
        return sum(size >= LARGE and worst <= SMALL * size for size, worst in zip(sizes, residuals, strict=True))

    def __repr__(self) -> str:
        info = self.info
        try:
            measured = map(_numbers, (info.iterations, info.primal_residual, info.dual_residual, info.gap))
            rows = list(zip(self.names(), *measured, strict=True))
        except (AttributeError, RuntimeError, TypeError, ValueError):  # no numbers: shapes, or what a transform traces
            return f"Solution({', '.join(f'{name}={part!r}' for name, part in vars(self).items())})"
        x: Any = self.x
        of = "1 problem" if len(rows) == 1 else f"{len(rows)} problems"
        lines = [f"Solution of {of} with {x.shape[-1]} variables, {x.dtype}"]
        for name, count in Counter(row[0] for row in rows).most_common():
            _, steps, *worst = map(max, zip(*(row for row in rows if row[0] == name), strict=True))
            residuals = "{:.1e} primal, {:.1e} dual, {:.1e} gap".format(*worst)
            lines.append(f"  {count} {name} in at most {steps} steps, residuals at most {residuals}")
        return "\n".join(lines)


def _numbers(array: Any) -> list[Any]:
    """Of an array of any library."""
    return array.reshape(-1).tolist()


for record in (Info, Solution):
    pytree.register_dataclass(record, serialized_type_name=f"qplayer_gpu.{record.__name__}")
torch.serialization.add_safe_globals([Info, Solution])  # torch.load(weights_only=True) takes an answer
