"""From the arguments of a call to a launch: which variant, how many blocks, in how much memory.

Nothing here waits for the device, and what a launch needs of it is asked once.
"""

from __future__ import annotations

import ctypes
from ctypes import Structure, c_int64, c_void_p
from functools import cache
from typing import Any

import cupy
import torch

from ..cache import locked
from ..call import BackwardCall, ForwardCall, memory
from .source import at_once, digest, has_tensor_cores, options, source, threads_of

STATIC_SHARED = 2048  # bytes that the kernels may have besides, for each problem at once
GRANULE = 128  # bytes: a block's shared memory is a multiple


class Launch(Structure):
    """The last argument of the kernels, as in ``main.cu``."""

    _fields_ = (
        ("scratch", c_void_p),
        ("scratch_stride", c_int64),
        ("shared_stride", c_int64),
        ("next", c_void_p),
        ("factor_is_near", c_int64),
    )


@cache
def module(name: str, threads: int, single: bool, device: int) -> Any:
    """A variant for the device (the current one), compiled by the first process that uses it, and kept by CuPy."""
    flags = options(name, threads, single, architecture(device))
    compiled = cupy.RawModule(code=source(), options=flags)
    with locked(f"nvrtc_{digest()}_{name}_{threads}_{single}"):
        compiled.compile()
    return compiled


@cache
def kernel(name: str, threads: int, single: bool, device: int) -> Any:
    """A kernel on a device (the current one), which may use all the shared memory that a block can have."""
    function = module(name, threads, single, device).get_function(name)
    function.max_dynamic_shared_size_bytes = shared_limit(device) - function.shared_size_bytes
    return function


@cache
def shared_limit(device: int) -> int:
    """The bytes of shared memory that a block can have."""
    return int(cupy.cuda.Device(device).attributes["MaxSharedMemoryPerBlockOptin"])


@cache
def architecture(device: int) -> int:
    """The device's: 80 for sm_80."""
    attributes = cupy.cuda.Device(device).attributes
    return 10 * int(attributes["ComputeCapabilityMajor"]) + int(attributes["ComputeCapabilityMinor"])


def blocks_of(function: int, threads: int, shared: int, device: int) -> int:
    """How many blocks of so many threads and bytes of shared memory the device (the current one) runs at once."""
    each = cupy.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor(function, threads, shared)
    return int(each) * int(cupy.cuda.Device(device).attributes["MultiProcessorCount"])


@cache
def at_once_with(name: str, threads: int, single: bool, device: int, least: int) -> tuple[int, int]:
    """How many blocks of a kernel that need so many bytes of shared memory the device (the current one) runs at once.

    And the bytes that each of them may then have: what is left over is shared out.
    """
    function, attributes = kernel(name, threads, single, device), cupy.cuda.Device(device).attributes
    blocks = blocks_of(function.kernel.ptr, threads * at_once(threads), least, device)
    each = attributes["MaxSharedMemoryPerMultiprocessor"] * attributes["MultiProcessorCount"] // blocks
    room = each // GRANULE * GRANULE - attributes["ReservedSharedMemoryPerBlock"] - function.shared_size_bytes
    return blocks, max(least, min(room, function.max_dynamic_shared_size_bytes))


def launch(name: str, call: ForwardCall | BackwardCall, single: bool, device: torch.device) -> None:
    """Puts one launch over the batch on torch's current stream."""
    if not call.rows.batch:
        return
    sizes, index = call.rows.sizes, device.index
    threads = threads_of(sizes.n)
    problems = at_once(threads)
    with torch.cuda.device(index):
        number, limit = 4 if single else 8, shared_limit(index) // problems - STATIC_SHARED
        tensor = not single and has_tensor_cores(threads, architecture(index))
        near = memory(sizes, number, True, tensor)[1] <= limit
        stride, shared = memory(sizes, number, near, tensor)
        stride = -(-stride // 16) * 16
        variant = name, threads, single, index
        most, room = at_once_with(*variant, problems * shared)
        shared = min(room // problems // 16 * 16, shared + stride)
        blocks = min(-(-call.rows.batch // problems), most)
        scratch = torch.empty(blocks * problems * stride, dtype=torch.uint8, device=device)
        taken = torch.zeros(1, dtype=torch.int64, device=device)
        how = Launch(scratch.data_ptr(), stride, shared, taken.data_ptr(), near)
        arguments = (c_void_p * 2)(ctypes.addressof(call), ctypes.addressof(how))  # copied by the launch
        stream = torch.cuda.current_stream(index).cuda_stream
        shape = blocks, 1, 1, threads * problems, 1, 1
        function = kernel(*variant).kernel.ptr
        cupy.cuda.driver.launchKernel(function, *shape, problems * shared, stream, ctypes.addressof(arguments), 0)
