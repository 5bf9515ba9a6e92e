"""The C++ kernels of ``kernels/cuda`` on the host: one problem on one thread, compiled at first use."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..call import Array, BackwardCall, ForwardCall, Pointers
from ..interface import Adjoint, Answer, Options, Rows, Vectors
from ..numbers import MIXED_STEPS, Status
from .build import BuildError
from .library import load, load_mixed
from .running import run, seconds

__all__ = ["BuildError", "adjoint", "forward", "load", "obstacle"]

LARGEST_MATRIX = 2**31  # places in one are counted by an int


def obstacle(rows: Rows, mixed: bool) -> str:
    """Why the kernels cannot take such problems; empty where they can."""
    if rows.n * max(rows.n, rows.n_eq + rows.n_in) < LARGEST_MATRIX:
        return ""
    return f"it takes matrices of less than {LARGEST_MATRIX} entries, not of {rows.n_eq + rows.n_in} rows and {rows.n}"


def forward(rows: Rows, options: Options, start: Vectors | None = None) -> Answer:
    """Solves each problem, or the closest feasible one; what mixed precision cannot solve is solved in double.

    Raises:
        BuildError: the library cannot be compiled here.
    """
    given = Pointers(torch.device("cpu"))
    call, answer = given.forward(rows, options, start)
    if not options.mixed:
        _run(load().qplayer_forward, call, given)
        return answer
    call.rows.options.max_iter = min(options.max_iter, MIXED_STEPS)
    _run(load_mixed().qplayer_forward_mixed, call, given)
    unsolved = (answer.status == Status.MAX_ITERATIONS) | (answer.status == Status.NUMERICAL_ERROR)
    if options.max_iter > MIXED_STEPS and unsolved.any():
        call.rows.options.max_iter, call.again = options.max_iter - MIXED_STEPS, 1
        call.x_start = call.z_start = call.s_start = Array(None, 0)
        _run(load().qplayer_forward, call, given)
    return answer


def adjoint(rows: Rows, at: Vectors, grad: Vectors, options: Options) -> Adjoint:
    """The adjoint vectors of each problem; those whose cotangents are all zero are not looked at and get zeros.

    Raises:
        BuildError: the library cannot be compiled here.
    """
    given = Pointers(torch.device("cpu"))
    call, result = given.backward(rows, at, grad, options)
    _run(load().qplayer_backward, call, given)
    return result


def _run(function: Callable[..., int], call: ForwardCall | BackwardCall, given: Pointers) -> None:
    sizes = call.rows.sizes
    run(function, call, call.rows.batch, seconds(sizes.n, sizes.n_eq + sizes.n_in), given)
