"""The call of the library that takes the arguments as users give them, as ``arguments.h`` has it."""

from __future__ import annotations

from ctypes import Structure, c_int64, c_void_p

from ..call import ForwardCall, RowsStruct

ARGUMENTS, PARTS, MEASURES = 12, 7, 4  # of a QP, of an answer, and of what is measured of it
ABSENT, ARRAY, NUMBER = 0, 1, 2


class Form(Structure):
    """How an argument is given, and the distance between problems, 0 where the batch shares it."""

    _fields_ = (("kind", c_int64), ("stride", c_int64))


class Arguments(Structure):
    """The sizes and options, and the arguments."""

    _fields_ = (
        ("rows", RowsStruct),
        ("forms", Form * ARGUMENTS),
        ("weighted", c_int64),
        ("may_be_hard", c_int64),
        ("on_failure", c_int64),
        ("words", c_void_p * ARGUMENTS),
        ("kept", c_void_p),
    )


class SolveCall(Structure):
    """A solve: where it starts, and where its answer goes."""

    _fields_ = (
        ("given", Arguments),
        *((name, c_void_p) for name in ("x_start", "rest_start", "x", "rest", "status")),
        ("places", c_void_p * (2 * PARTS + MEASURES)),  # of each part, found by the library
        ("of_rows", ForwardCall),
    )

    @property
    def rows(self) -> RowsStruct:
        """What is solved, where a limit may be changed on the way."""
        return self.of_rows.rows


class PullBackCall(Structure):
    """Gradients of the arguments, from the cotangents of the answer."""

    _fields_ = (
        ("given", Arguments),
        ("of_x", c_void_p),
        ("of_rest", c_void_p),
        ("gradient", c_void_p * ARGUMENTS),
        ("left", c_void_p),
        ("right", c_void_p),
    )

    @property
    def rows(self) -> RowsStruct:
        """As in a solve."""
        return self.given.rows


WORDS = Arguments.words.offset  # from here on a call is addresses and numbers
