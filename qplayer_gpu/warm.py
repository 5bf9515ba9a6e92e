"""Warm starts from one epoch to the next."""

from __future__ import annotations

from operator import index

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from .errors import ProblemError, ProblemTypeError
from .kernels.interface import Status, Vectors
from .problem import Sizes
from .solution import Solution


class WarmStart:
    """The last answer to each sample of a data set, to start the next solve of that sample from.

    ::

        cache = qp.WarmStart(len(dataset))
        for index, inputs in loader:  # index [B] int64: which samples these are
            solution = layer(**inputs, warm_start=cache[index])
            cache[index] = solution

    The answers are kept on the device of the first of them, and take as much memory as all answers together. A sample
    without an answer, or whose last solve failed, starts cold. A start changes how fast a problem is solved, not its
    solution.
    """

    def __init__(self, size: int):
        try:
            self.size = index(size)
        except TypeError:
            raise ProblemTypeError(f"size must be an integer, not {type(size).__name__}") from None
        if self.size < 0:
            raise ProblemError(f"size must be >= 0, not {size}")
        self.last: Solution | None = None

    def __getitem__(self, index: Tensor) -> Solution | None:
        """The last answers to the samples ``index`` [B], or None if there is no answer yet.

        Raises:
            ProblemTypeError: The index is not a tensor of integers or of bool.
        """
        _check_index(index)
        return None if self.last is None else self.last[index.to(self.last.x.device)]

    def __setitem__(self, index: Tensor, solution: Solution) -> None:
        """Keeps the answers to the samples ``index`` [B], without their gradients.

        Raises:
            ProblemError: There are more or fewer answers than indices, or their problems have other sizes than before.
            ProblemTypeError: The index is not a tensor of integers or of bool, or the answers are not a Solution of
                tensors.
        """
        _check_index(index)
        if not isinstance(solution, Solution) or not isinstance(solution.x, Tensor):
            of = f" of {_kind(solution.x)}" if isinstance(solution, Solution) else ""
            raise ProblemTypeError(f"what is kept must be a Solution of tensors, not {_kind(solution)}{of}")
        if solution.x.dim() != 2 or (index.dtype != torch.bool and index.numel() != len(solution.x)):
            raise ProblemError(
                f"x of shape {tuple(solution.x.shape)} is not one answer for each of {index.numel()} samples"
            )
        solved = solution.status <= Status.SOLVED_CLOSEST_FEASIBLE

        def known(t: Tensor) -> Tensor:
            return torch.where(solved.reshape(-1, *(1,) * (t.dim() - 1)), t, 0)

        parts = pytree.tree_leaves(solution.detach().map(known))
        if self.last is None:
            self.last = solution.detach().map(lambda t: t.new_zeros(self.size, *t.shape[1:]))
        wholes = pytree.tree_leaves(self.last)
        if [t.shape[1:] for t in wholes] != [t.shape[1:] for t in parts]:
            raise ProblemError(
                f"answers with x of {parts[0].shape[-1]} entries are to problems of other sizes than those kept "
                f"before, of {wholes[0].shape[-1]}: take a WarmStart for each size"
            )
        for whole, part in zip(wholes, parts, strict=True):
            whole[index.to(whole.device)] = part


torch.serialization.add_safe_globals([WarmStart])  # torch.load(weights_only=True) takes one


def _check_index(index: object) -> None:
    if not isinstance(index, Tensor) or index.is_floating_point() or index.is_complex():
        raise ProblemTypeError(f"the index must be a tensor of int64 or of bool, not {_kind(index)}")


def _kind(value: object) -> str:
    return str(value.dtype) if isinstance(value, Tensor) else type(value).__name__


def start_from(solution: Solution, sizes: Sizes, device: torch.device, crossing: Tensor | None) -> Vectors:
    """Where to start: the vectors of a previous answer, zero where that has none.

    What the sides of a row cross by (crossing, [B|1, m]) is no shift of the problem that is solved.

    Raises:
        ProblemError: the answer is to problems of another shape.
    """
    start = solution.vectors("warm_start", sizes, device)
    if crossing is not None:
        start = start._replace(s=torch.where(crossing == 0, start.s, 0.0))
    known = torch.cat([*start], -1).isfinite().all(-1, keepdim=True)
    return Vectors(*(torch.where(known, t, 0.0) for t in start))
