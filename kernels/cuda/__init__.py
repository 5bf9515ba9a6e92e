"""The C++ kernels on a GPU, through CuPy: a block of threads solves one problem. Imported only where asked for."""

from __future__ import annotations

from ..call import Array, Pointers
from ..interface import Adjoint, Answer, Options, Rows, Vectors
from ..numbers import MIXED_STEPS
from .launch import launch
from .source import threads_of

__all__ = ["adjoint", "forward", "obstacle", "variant"]

LARGEST_N, LARGEST_M = 256, 512


def obstacle(rows: Rows, mixed: bool) -> str:
    """Why the kernels cannot take such problems; empty where they can."""
    if rows.n <= LARGEST_N and rows.m <= LARGEST_M:
        return ""
    return f"it takes {LARGEST_N} variables and {LARGEST_M} rows at most (bounds are rows), not {rows.n} and {rows.m}"


def variant(rows: Rows, mixed: bool) -> tuple[object, ...]:
    """What the kernels are compiled for."""
    return threads_of(rows.n), mixed


def forward(rows: Rows, options: Options, start: Vectors | None = None) -> Answer:
    """As the reference's forward."""
    device = rows.g.device
    given = Pointers(device)
    call, answer = given.forward(rows, options, start)
    if not options.mixed:
        launch("qplayer_forward", call, single=False, device=device)
        return answer
    call.rows.options.max_iter = min(options.max_iter, MIXED_STEPS)
    launch("qplayer_forward", call, single=True, device=device)
    if options.max_iter > MIXED_STEPS:  # for those that are unsolved, without asking whether there are any
        call.rows.options.max_iter, call.again = options.max_iter - MIXED_STEPS, 1
        call.x_start = call.z_start = call.s_start = Array(None, 0)
        launch("qplayer_forward", call, single=False, device=device)
    return answer


def adjoint(rows: Rows, at: Vectors, grad: Vectors, options: Options) -> Adjoint:
    """As the reference's adjoint."""
    given = Pointers(rows.g.device)
    call, result = given.backward(rows, at, grad, options)
    launch("qplayer_backward", call, single=False, device=rows.g.device)
    return result
