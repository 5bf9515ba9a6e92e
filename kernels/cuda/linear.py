"""Batches of small positive definite systems on the tensor cores of a GPU: see ``kernels/linear.py``."""

from __future__ import annotations

import ctypes
from ctypes import Structure, c_int32, c_int64, c_void_p
from functools import cache
from typing import Any

import cupy
import torch
from torch import Tensor

from .launch import architecture, blocks_of
from .source import TENSOR, WARP, options, source, threads_of

LARGEST = 128


class Systems(Structure):
    """The argument of the kernel, as in ``systems.cu``."""

    _fields_ = (
        ("batch", c_int64),
        ("n", c_int32),
        ("count", c_int32),
        *((name, c_void_p) for name in ("K", "r", "x", "failed")),
    )


def takes(K: Tensor) -> bool:
    """Whether the kernel solves with such matrices: of n <= 128 in double precision, on a device with tensor cores."""
    return K.dtype == torch.float64 and K.shape[-1] <= LARGEST and architecture(K.device.index) in TENSOR


def cholesky_solve(
    K: Tensor,  # [B, n, n]
    r: Tensor,  # [B, k, n]
) -> tuple[Tensor, Tensor]:
    """As the public function."""
    K, r = K.contiguous(), r.contiguous()
    x, failed = torch.empty_like(r), torch.zeros(r.shape[0], dtype=torch.bool, device=r.device)
    batch, count, n = r.shape
    if not batch:
        return x, failed
    threads, tiles, index = max(WARP, threads_of(n)), -(-n // 8), r.device.index
    shared = 64 * tiles + 256 * tiles * (tiles + 1)
    with torch.cuda.device(index):
        call = Systems(batch, n, count, *(t.data_ptr() for t in (K, r, x, failed)))
        function = kernel(threads, index).kernel.ptr
        grid = min(batch, blocks_of(function, threads, shared, index))
        arguments = (c_void_p * 1)(ctypes.addressof(call))
        stream = torch.cuda.current_stream(index).cuda_stream
        cupy.cuda.driver.launchKernel(
            function, grid, 1, 1, threads, 1, 1, shared, stream, ctypes.addressof(arguments), 0
        )
    return x, failed


@cache
def kernel(threads: int, device: int) -> Any:
    """The kernel on a device (the current one)."""
    flags = options("qplayer_solve", threads, False, architecture(device))
    function = cupy.RawModule(code=source("systems.cu"), options=flags).get_function("qplayer_solve")
    function.max_dynamic_shared_size_bytes = 64 * LARGEST // 8 + 256 * (LARGEST // 8) * (LARGEST // 8 + 1)
    return function
