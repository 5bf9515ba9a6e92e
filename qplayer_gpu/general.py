"""The solve by the operators: on any device, under any transform, differentiable as often as one likes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .kernels.interface import Answer, Rows, Status
from .memory import check, doubles_of
from .operators import solve as solve_rows
from .problem import QP, rows_of, sizes_of
from .settings import Settings
from .solution import Solution
from .warm import start_from


def solve(given: QP, warm_start: Solution | None, settings: Settings, backend: str) -> Solution:
    """As ``solve_qp``, of tensors.

    Raises:
        QPError: as there.
    """
    qp = autocast(given)
    sizes = sizes_of(qp)
    dtype, device = qp.g.dtype, qp.g.device
    if not torch.compiler.is_compiling():
        symmetric = 0 if qp.H is None else 2 * qp.H.numel()
        check(symmetric + doubles_of(qp, sizes), device)
    rows, crossing = rows_of(qp, sizes)
    start = None if warm_start is None else start_from(warm_start, sizes, device, crossing)
    answer = solve_rows(rows, start, settings.options(dtype, device, backend), settings.gradient_on_failure, backend)
    return Solution.of(answer if crossing is None else _crossed(answer, rows, crossing, settings), sizes, dtype)


def _crossed(answer: Answer, rows: Rows, crossing: Tensor, settings: Settings) -> Answer:
    """The answer where sides cross by more than the tolerance: both give way by half of it, unless the row is hard."""
    counts = crossing.detach() > 0.5 * settings.eps_abs
    solved = answer.status <= int(Status.SOLVED_CLOSEST_FEASIBLE)
    infeasible = counts.any(-1) & (answer.status == int(Status.SOLVED))
    ends_as = Status.SOLVED_CLOSEST_FEASIBLE if settings.closest_feasible else Status.INFEASIBLE
    status = torch.where(infeasible, int(ends_as), answer.status)
    if rows.hard is not None:
        status = torch.where(solved & (counts & rows.hard).any(-1), int(Status.INFEASIBLE), status)
    return answer._replace(status=status, s=answer.s + torch.where(counts & solved.unsqueeze(-1), crossing, 0.0))


def autocast(qp: QP) -> QP:
    """In a region of torch.autocast, half and bfloat16 tensors as float32, as its operators in float32 take them."""

    def cast(t: Any) -> Any:
        low = isinstance(t, Tensor) and t.dtype in (torch.float16, torch.bfloat16)
        return t.float() if low and torch.is_autocast_enabled(t.device.type) else t

    return QP(*map(cast, qp))
