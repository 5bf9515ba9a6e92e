"""The arguments of the C++ kernels, as ``kernels/cuda/call.h`` has them."""

from __future__ import annotations

from ctypes import Structure, c_double, c_int32, c_int64, c_void_p

import torch
from torch import Tensor

from .interface import Adjoint, Answer, Options, Rows, Vectors
from .numbers import BLOCK_CHUNK, VECTORS_OF_ROWS, VECTORS_OF_X


class Array(Structure):
    """A pointer and the distance between problems in numbers, 0 where the batch shares it."""

    _fields_ = (("data", c_void_p), ("stride", c_int64))


class Sizes(Structure):
    """The sizes of each problem."""

    _fields_ = (("n", c_int32), ("n_eq", c_int32), ("n_in", c_int32), ("bounded", c_int32))


def memory(sizes: Sizes, number: int, factor_is_near: bool, tensor: bool) -> tuple[int, int]:
    """Bytes of scratch and of shared memory for each problem at once, as ``kernels/cuda/main.cu`` asks for them.

    ``number`` is the size of a number in the factor; ``tensor``: tensor cores make it.
    """
    n, stored = sizes.n, sizes.n_eq + sizes.n_in
    m = stored + (n if sizes.bounded else 0)
    if tensor:
        tiles = -(-n // 8)
        factor = sums = number * 32 * tiles * (tiles + 1)
        shared = number * 8 * tiles
    else:
        padded = -(-n // 4) * 4
        factor, sums = number * padded * (padded + 2), number * padded**2
        shared = number * (padded * (BLOCK_CHUNK + 3) + BLOCK_CHUNK)
    scratch = 8 * (VECTORS_OF_X * n + VECTORS_OF_ROWS * m) + 4 * (stored + stored % 2) + 2 * sums
    return (scratch, shared + factor) if factor_is_near else (scratch + factor, shared)


class OptionsStruct(Structure):
    """The options by their names in the interface."""

    _fields_ = (
        *((name, c_double) for name in ("eps_abs", "eps_rel", "mu_eq", "mu_in", "rho")),
        ("max_iter", c_int64),
        ("equilibrate", c_int32),
        ("closest_feasible", c_int32),
    )


class RowsStruct(Structure):
    """A batch of problems."""

    _fields_ = (
        ("batch", c_int64),
        ("sizes", Sizes),
        *((name, Array) for name in ("H", "g", "A", "C", "lo", "hi", "w", "hard")),
        ("options", OptionsStruct),
    )


class ForwardCall(Structure):
    """The arguments of a forward solve."""

    _fields_ = (
        ("rows", RowsStruct),
        *((f"{name}_start", Array) for name in Vectors._fields),
        *((name, c_void_p) for name in Answer._fields),
        ("again", c_int64),
    )


class BackwardCall(Structure):
    """The arguments of an adjoint solve."""

    _fields_ = (
        ("rows", RowsStruct),
        *((name, c_void_p) for name in (*Vectors._fields, *(f"grad_{name}" for name in Vectors._fields))),
        *((name if name != "z" else "z_unique", c_void_p) for name in Adjoint._fields),
    )


class Pointers:
    """Pointers to tensors on one device, which it keeps alive."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.kept: list[Tensor] = []

    def pointer(self, t: Tensor) -> int:
        """To the numbers of a tensor, or to a copy of it that is contiguous."""
        if t.dtype != torch.float64 or t.device != self.device:
            raise TypeError(f"the kernels take float64 on {self.device}, not {t.dtype} on {t.device}")
        self.kept.append(t.contiguous())
        return self.kept[-1].data_ptr()

    def array(self, t: Tensor | None) -> Array:
        """One array per problem, or one for all: shared by the batch or expanded to it, it is not copied."""
        if t is None:
            return Array(None, 0)
        if t.stride(0) == 0:
            t = t[:1]
        batch = t.shape[0]
        return Array(self.pointer(t), 0 if batch == 1 else t.numel() // max(batch, 1))

    def rows(self, rows: Rows, options: Options) -> RowsStruct:
        """The problems and the options."""
        *arrays, hard, batch = rows
        hard = None if hard is None else hard.double()
        numbers = options._asdict()
        return RowsStruct(
            batch,
            Sizes(rows.n, rows.n_eq, rows.n_in, rows.bounded),
            *[self.array(t) for t in (*arrays, hard)],
            OptionsStruct(*[numbers[name] for name, *_ in OptionsStruct._fields_]),
        )

    def forward(self, rows: Rows, options: Options, start: Vectors | None) -> tuple[ForwardCall, Answer]:
        """The call of a forward solve, and the answer that it writes to."""
        B, n, m = rows.batch, rows.n, rows.m
        new = rows.g.new_empty
        status, iterations = (new(B, dtype=torch.int64) for _ in range(2))
        answer = Answer(new(B, n), new(B, m), new(B, m), status, iterations, new(B), new(B), new(B))
        self.kept += answer
        begin = [self.array(t) for t in start or (None,) * 3]
        return ForwardCall(self.rows(rows, options), *begin, *[t.data_ptr() for t in answer], 0), answer

    def backward(self, rows: Rows, at: Vectors, grad: Vectors, options: Options) -> tuple[BackwardCall, Adjoint]:
        """The call of an adjoint solve, and the zeros that it writes to."""
        new = at.x.new_zeros
        b_x, b_s, b_z = (new(at.x.shape) for _ in range(3))
        p, z, ws, q_z = (new(at.z.shape) for _ in range(4))
        result = Adjoint(b_x=b_x, p=p, z=z, ws=ws, b_s=b_s, q_z=q_z, b_z=b_z)
        self.kept += result
        given = [self.pointer(t) for t in (*at, *grad)]
        return BackwardCall(self.rows(rows, options), *given, *[t.data_ptr() for t in result]), result
