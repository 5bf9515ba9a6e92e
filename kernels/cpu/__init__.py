"""The C++ kernels of ``kernels/cuda`` on the host: one problem on one thread, compiled at first use."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import torch

from ..call import Array, Pointers
from ..interface import Adjoint, Answer, Options, Rows, Vectors
from ..numbers import MIXED_STEPS, Status
from .build import BuildError
from .library import Threads, load, openmp

__all__ = ["BuildError", "adjoint", "forward", "load", "obstacle", "openmp"]


def obstacle(rows: Rows, mixed: bool) -> str:
    """Nothing: any problem will do."""
    return ""


def forward(rows: Rows, options: Options, start: Vectors | None = None) -> Answer:
    """Solves each problem, or the closest feasible one; what mixed precision cannot solve is solved in double.

    Raises:
        BuildError: the library cannot be compiled here.
    """
    given = Pointers(torch.device("cpu"))
    call, answer = given.forward(rows, options, start)
    if not options.mixed:
        _run(load().qplayer_forward, call)
        return answer
    call.rows.options.max_iter = min(options.max_iter, MIXED_STEPS)
    _run(load().qplayer_forward_mixed, call)
    unsolved = (answer.status == Status.MAX_ITERATIONS) | (answer.status == Status.NUMERICAL_ERROR)
    if options.max_iter > MIXED_STEPS and unsolved.any():
        call.rows.options.max_iter, call.again = options.max_iter - MIXED_STEPS, 1
        call.x_start = call.z_start = call.s_start = Array(None, 0)
        _run(load().qplayer_forward, call)
    return answer


def adjoint(rows: Rows, at: Vectors, grad: Vectors, options: Options) -> Adjoint:
    """The adjoint vectors of each problem; those whose cotangents are all zero are not looked at and get zeros.

    Raises:
        BuildError: the library cannot be compiled here.
    """
    given = Pointers(torch.device("cpu"))
    call, result = given.backward(rows, at, grad, options)
    _run(load().qplayer_backward, call)
    return result


def _run(function: Callable[..., int], call: ctypes.Structure) -> None:
    if function(ctypes.byref(call), Threads(torch.get_num_threads(), openmp())):
        raise MemoryError("not enough memory to solve the QPs")
