"""The C++ kernels of ``kernels/cuda`` on the host: one problem on one thread, compiled at first use."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import torch
from torch import Tensor

from ..interface import MIXED_STEPS, Adjoint, Answer, Options, Rows, Seeds, Start, Status
from .build import BuildError
from .library import Array, BackwardCall, ForwardCall, OptionsStruct, RowsStruct, Sizes, Threads, load, openmp

__all__ = ["BuildError", "adjoint", "forward", "load", "openmp"]


def forward(rows: Rows, options: Options, start: Start | None = None) -> Answer:
    """Solves each problem, or the closest feasible one; what mixed precision cannot solve is solved in double.

    Raises:
        BuildError: the library cannot be compiled here.
    """
    new = rows.g.new_empty
    B, n, m = rows.batch, rows.n, rows.m
    status, iterations = (torch.empty(B, dtype=torch.int64) for _ in range(2))
    answer = Answer(new(B, n), new(B, m), new(B, m), status, iterations, new(B), new(B), new(B))
    given = _Pointers()
    call = ForwardCall(rows=given.rows(rows, options))
    for name in ("x", "z", "s"):
        setattr(call, f"{name}_start", given.array(None if start is None else getattr(start, name)))
    for name, t in vars(answer).items():
        setattr(call, name, t.data_ptr())
    if not options.mixed:
        _run(load().qplayer_forward, call)
        return answer
    call.rows.options.max_iter = min(options.max_iter, MIXED_STEPS)
    _run(load().qplayer_forward_mixed, call)
    unsolved = (status == Status.MAX_ITERATIONS) | (status == Status.NUMERICAL_ERROR)
    if options.max_iter > MIXED_STEPS and unsolved.any():
        call.rows.options.max_iter, call.again = options.max_iter - MIXED_STEPS, 1
        call.x_start = call.z_start = call.s_start = Array(None, 0)
        _run(load().qplayer_forward, call)
    return answer


def adjoint(rows: Rows, answer: Answer, seeds: Seeds, options: Options) -> Adjoint:
    """The adjoint vectors of each problem; those whose cotangents are all zero are not looked at and get zeros.

    Raises:
        BuildError: the library cannot be compiled here.
    """
    b_x, b_s, b_z = (torch.zeros(answer.x.shape, dtype=torch.float64) for _ in range(3))
    p, z, ws, q_z = (torch.zeros(answer.z.shape, dtype=torch.float64) for _ in range(4))
    result = Adjoint(b_x=b_x, p=p, z=z, ws=ws, b_s=b_s, q_z=q_z, b_z=b_z)
    given = _Pointers()
    call = BackwardCall(rows=given.rows(rows, options))
    for name, t in (*((k, getattr(answer, k)) for k in "xzs"), *((f"seed_{k}", v) for k, v in vars(seeds).items())):
        setattr(call, name, given.pointer(t))
    for name, t in vars(result).items():
        setattr(call, "z_unique" if name == "z" else name, t.data_ptr())
    _run(load().qplayer_backward_mixed if options.mixed else load().qplayer_backward, call)
    return result


class _Pointers:
    """Pointers to tensors, which it keeps alive."""

    def __init__(self) -> None:
        self.kept: list[Tensor] = []

    def pointer(self, t: Tensor) -> int:
        """To the numbers of a tensor, or to a copy of it that is contiguous."""
        if t.dtype != torch.float64 or t.device.type != "cpu":
            raise TypeError(f"the kernels of the CPU take float64 on the CPU, not {t.dtype} on {t.device}")
        self.kept.append(t.contiguous())
        return self.kept[-1].data_ptr()

    def array(self, t: Tensor | None) -> Array:
        """One array per problem, or one for all: shared by the batch or expanded to it, it is not copied."""
        if t is None:
            return Array(None, 0)
        shared = t.shape[0] == 1 or t.stride(0) == 0
        return Array(self.pointer(t[:1] if shared else t), 0 if shared else t[:1].numel())

    def rows(self, rows: Rows, options: Options) -> RowsStruct:
        arrays = {name: self.array(getattr(rows, name)) for name in ("H", "g", "A", "C", "lo", "hi", "w")}
        arrays["hard"] = self.array(rows.hard.double() if rows.hard.any() else None)
        names = [name for name, *_ in OptionsStruct._fields_]
        return RowsStruct(
            batch=rows.batch,
            sizes=Sizes(rows.n, rows.n_eq, rows.n_in, rows.bounded),
            options=OptionsStruct(*(getattr(options, name) for name in names)),
            **arrays,
        )


def _run(function: Callable[..., int], call: ctypes.Structure) -> None:
    if function(ctypes.byref(call), Threads(torch.get_num_threads(), openmp())):
        raise MemoryError("not enough memory to solve the QPs")
