"""From the arguments of a call to a launch: which variant, how many blocks, in how much memory.

Nothing here waits for the device, and what a launch needs of it is asked once.
"""

from __future__ import annotations

import ctypes
from ctypes import Structure, c_int64, c_void_p
from functools import cache
from typing import Any, NamedTuple

import cupy
import torch

from ..call import BackwardCall, ForwardCall, Sizes
from ..interface import Rows
from .source import THREADS, options, source

LARGEST_N, LARGEST_M = 256, 512
CHUNK = 16  # of factor_block.h
STATIC_SHARED = 2048  # bytes of a block that the kernels may have besides


class Launch(Structure):
    """The last argument of the kernels, as in ``main.cu``."""

    _fields_ = (
        ("scratch", c_void_p),
        ("scratch_stride", c_int64),
        ("next", c_void_p),
        ("factor_is_near", c_int64),
    )


class Memory(NamedTuple):
    """Bytes that a block works in."""

    shared: int
    scratch: int
    factor_is_near: bool


def fits(rows: Rows) -> bool:
    """Whether the kernels are for such problems: the one place that decides."""
    return rows.n <= LARGEST_N and rows.m <= LARGEST_M


def memory(sizes: Sizes, single: bool, limit: int) -> Memory:
    """What ``main.cu`` asks for, where a block may have ``limit`` bytes of shared memory."""
    F = 4 if single else 8
    n, stored = sizes.n, sizes.n_eq + sizes.n_in
    m, padded = stored + (n if sizes.bounded else 0), -(-n // 4) * 4
    factor = F * padded * (padded + 2)
    shared = F * (padded * (CHUNK + 3) + CHUNK)
    scratch = 8 * (23 * n + 36 * m) + 4 * (stored + stored % 2) + 2 * F * padded * padded
    near = shared + factor + STATIC_SHARED <= limit
    shared, scratch = (shared + factor, scratch) if near else (shared, scratch + factor)
    return Memory(shared, -(-scratch // 16) * 16, near)


@cache
def module(threads: int, single: bool) -> Any:
    """A variant, compiled at first use for the device at hand; CuPy keeps it on disk."""
    return cupy.RawModule(code=source(), options=options(threads, single))


@cache
def kernel(name: str, threads: int, single: bool, device: int) -> Any:
    """A kernel on a device (the current one), which may use all the shared memory that a block can have."""
    function = module(threads, single).get_function(name)
    function.max_dynamic_shared_size_bytes = shared_limit(device) - function.shared_size_bytes
    return function


@cache
def shared_limit(device: int) -> int:
    """The bytes of shared memory that a block can have."""
    return int(cupy.cuda.Device(device).attributes["MaxSharedMemoryPerBlockOptin"])


@cache
def blocks_at_once(name: str, threads: int, single: bool, device: int, shared: int) -> int:
    """How many blocks of a kernel the device (the current one) runs at once."""
    function = kernel(name, threads, single, device).kernel.ptr
    each = cupy.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor(function, threads, shared)
    return int(each) * int(cupy.cuda.Device(device).attributes["MultiProcessorCount"])


def launch(name: str, call: ForwardCall | BackwardCall, single: bool, device: torch.device) -> None:
    """Puts one launch over the batch on torch's current stream."""
    if not call.rows.batch:
        return
    sizes, index = call.rows.sizes, device.index
    threads = next((t for t in THREADS if sizes.n <= t), THREADS[-1])
    with torch.cuda.device(index):
        need = memory(sizes, single, shared_limit(index))
        variant = name, threads, single, index
        blocks = min(call.rows.batch, blocks_at_once(*variant, need.shared))
        scratch = torch.empty(blocks * need.scratch, dtype=torch.uint8, device=device)
        taken = torch.zeros(1, dtype=torch.int64, device=device)
        how = Launch(scratch.data_ptr(), need.scratch, taken.data_ptr(), need.factor_is_near)
        arguments = (c_void_p * 2)(ctypes.addressof(call), ctypes.addressof(how))  # copied by the launch
        stream = torch.cuda.current_stream(index).cuda_stream
        grid, block = (blocks, 1, 1), (threads, 1, 1)
        function = kernel(*variant).kernel.ptr
        cupy.cuda.driver.launchKernel(function, *grid, *block, need.shared, stream, ctypes.addressof(arguments), 0)
