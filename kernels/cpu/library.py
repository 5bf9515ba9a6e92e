"""The compiled library."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from ctypes import Structure, c_int, c_int64, c_void_p
from functools import cache, partial
from pathlib import Path

from ..call import BackwardCall, ForwardCall
from .arguments import PullBackCall, SolveCall
from .build import ADVICE, MIXED, BuildError, build

Calls = Mapping[type[Structure], Sequence[str]]  # and the functions that take them
CALLS: Calls = {
    ForwardCall: ("forward",),
    BackwardCall: ("backward",),
    SolveCall: ("solve",),
    PullBackCall: ("pull_back",),
}
OF_MIXED: Calls = {ForwardCall: ("forward_mixed",)}


class Threads(Structure):
    """How a call is run."""

    _fields_ = (("count", c_int64), ("stop", c_void_p))


@cache
def load() -> ctypes.CDLL:
    """The library, compiled at first use. Calls into it release the GIL.

    Raises:
        BuildError: it cannot be compiled here.
    """
    return opened(build(opened))


@cache
def load_mixed() -> ctypes.CDLL:
    """The library of mixed precision, in the same way.

    Raises:
        BuildError: it cannot be compiled here.
    """
    declared = partial(opened, calls=OF_MIXED)
    return declared(build(declared, MIXED))


def opened(path: Path, calls: Calls = CALLS) -> ctypes.CDLL:
    """A library with its functions declared.

    Raises:
        BuildError: it cannot be loaded, or lacks a function.
    """
    try:
        library = ctypes.CDLL(str(path))
        for call, names in calls.items():
            size = getattr(library, f"qplayer_size_of_{names[0]}")
            size.restype = c_int64
            assert size() == ctypes.sizeof(call), "the structures disagree"
            for name in names:
                function = getattr(library, f"qplayer_{name}")
                function.argtypes, function.restype = [ctypes.POINTER(call), Threads], c_int
        if SolveCall in calls:
            library.qplayer_kept.argtypes, library.qplayer_kept.restype = [ctypes.POINTER(SolveCall)], c_int64
    except (OSError, AttributeError) as error:
        raise BuildError(f"what was compiled cannot be used ({error}): {ADVICE}") from error
    return library
