"""The compiled library and its structures, which mirror those of ``kernels/cuda/call.h`` and ``main.cpp``."""

from __future__ import annotations

import ctypes
from ctypes import Structure, c_double, c_int, c_int32, c_int64, c_void_p
from functools import cache

from .build import build


class Array(Structure):
    """A pointer and the distance between problems in numbers, 0 where the batch shares it."""

    _fields_ = (("data", c_void_p), ("stride", c_int64))


class Sizes(Structure):
    """The sizes of each problem."""

    _fields_ = (("n", c_int32), ("n_eq", c_int32), ("n_in", c_int32), ("bounded", c_int32))


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
        *((name, Array) for name in ("x_start", "z_start", "s_start")),
        *((name, c_void_p) for name in ("x", "z", "s", "primal", "dual", "gap", "status", "iterations")),
        ("again", c_int64),
    )


class BackwardCall(Structure):
    """The arguments of an adjoint solve."""

    _fields_ = (
        ("rows", RowsStruct),
        *((name, c_void_p) for name in ("x", "z", "s", "seed_x", "seed_z", "seed_s")),
        *((name, c_void_p) for name in ("b_x", "p", "z_unique", "ws", "b_s", "q_z", "b_z")),
    )


class Threads(Structure):
    """How a call is run."""

    _fields_ = (("count", c_int64), ("parallel", c_void_p))


@cache
def openmp() -> int | None:
    """The address by which torch's OpenMP runs a function on its threads, where it has that."""
    try:
        return ctypes.cast(ctypes.CDLL(None).GOMP_parallel, c_void_p).value
    except (AttributeError, OSError):
        return None


@cache
def load() -> ctypes.CDLL:
    """The library, compiled at first use. Calls into it release the GIL.

    Raises:
        BuildError: it cannot be compiled here.
    """
    loaded = ctypes.CDLL(str(build()))
    for name, call in (("forward", ForwardCall), ("backward", BackwardCall)):
        size = getattr(loaded, f"qplayer_size_of_{name}")
        size.restype = c_int64
        assert size() == ctypes.sizeof(call), "library.py and the sources disagree"
        for suffix in ("", "_mixed"):
            function = getattr(loaded, f"qplayer_{name}{suffix}")
            function.argtypes, function.restype = [ctypes.POINTER(call), Threads], c_int
    return loaded
