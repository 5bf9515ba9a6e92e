"""Warm starts from one epoch to the next."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

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

    The answers lie where the first of them lay, and take as much memory as all answers do. A sample without an answer,
    or whose last solve failed, starts cold. An answer alters how fast a problem is solved, not its solution.
    """

    def __init__(self, size: int):
        self.size = size
        self.last: Solution | None = None

    def __getitem__(self, index: Tensor) -> Solution | None:
        """The last answers to the samples ``index`` [B], None before there is any."""
        return None if self.last is None else self.last[index.to(self.last.x.device)]

    def __setitem__(self, index: Tensor, solution: Solution) -> None:
        """Keeps the answers to the samples ``index`` [B], without their gradients."""
        solved = solution.status <= Status.SOLVED_CLOSEST_FEASIBLE

        def known(t: Tensor) -> Tensor:
            return torch.where(solved.reshape(-1, *(1,) * (t.dim() - 1)), t, 0)

        if self.last is None:
            self.last = solution.detach().map(lambda t: t.new_zeros(self.size, *t.shape[1:]))
        parts = solution.detach().map(known)
        for whole, part in zip(pytree.tree_leaves(self.last), pytree.tree_leaves(parts), strict=True):
            whole[index.to(whole.device)] = part


def start_from(solution: Solution, sizes: Sizes, device: torch.device) -> Vectors:
    """Where to start: the vectors of a previous answer, zero where that has none.

    Raises:
        ProblemError: the answer is to problems of another shape.
    """
    start = solution.vectors("warm_start", sizes, device)
    known = torch.cat(start, -1).isfinite().all(-1, keepdim=True)
    return Vectors(*(torch.where(known, t, 0.0) for t in start))
