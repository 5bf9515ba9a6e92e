"""The solve by the operators: on any device, under any transform, differentiable as often as one likes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .kernels.interface import Status
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
        check(doubles_of(qp, sizes), device)
    rows, excess = rows_of(qp, sizes)
    start = None if warm_start is None else start_from(warm_start, sizes, device)
    answer = solve_rows(rows, start, settings.options(dtype, device, backend), settings.gradient_on_failure, backend)
    closest = Status.SOLVED_CLOSEST_FEASIBLE if settings.closest_feasible else Status.INFEASIBLE
    status = answer.status.where((answer.status != Status.SOLVED) | (excess <= settings.eps_abs), int(closest))
    return Solution.of(answer._replace(status=status), sizes, dtype)


def autocast(qp: QP) -> QP:
    """In a region of torch.autocast, half and bfloat16 tensors as float32, as its operators in float32 take them."""

    def cast(t: Any) -> Any:
        low = isinstance(t, Tensor) and t.dtype in (torch.float16, torch.bfloat16)
        return t.float() if low and torch.is_autocast_enabled(t.device.type) else t

    return QP(*map(cast, qp))
