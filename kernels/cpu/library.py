"""The compiled library."""

from __future__ import annotations

import ctypes
from ctypes import Structure, c_int, c_int64, c_void_p
from functools import cache

from ..call import BackwardCall, ForwardCall
from .build import build


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
    for call, names in ((ForwardCall, ("forward", "forward_mixed")), (BackwardCall, ("backward",))):
        size = getattr(loaded, f"qplayer_size_of_{names[0]}")
        size.restype = c_int64
        assert size() == ctypes.sizeof(call), "call.py and call.h disagree"
        for name in names:
            function = getattr(loaded, f"qplayer_{name}")
            function.argtypes, function.restype = [ctypes.POINTER(call), Threads], c_int
    return loaded
