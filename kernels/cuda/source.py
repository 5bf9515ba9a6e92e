"""The source of the kernels as one text, and its variants."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path

from .. import numbers

FOLDER = Path(__file__).parent
INCLUDE = re.compile(r'^#include "(\w+\.h)"$', re.MULTILINE)
THREADS = (8, 32, 64, 128, 256)  # that solve a problem, by the largest n
WARP = 32
TENSOR = (80, 90, 100)  # devices whose tensor cores multiply doubles faster than their other units do


@cache
def source(main: str = "main.cu") -> str:
    """The numbers of the method, and a file with its headers in place.

    Compilers and caches need no other file, and see each change.
    """
    taken = set()

    def text(name: str) -> str:
        if name in taken:
            return ""
        taken.add(name)
        return INCLUDE.sub(lambda found: text(found[1]), (FOLDER / name).read_text().replace("#pragma once\n", ""))

    return numbers.cpp() + text(main)


def has_tensor_cores(threads: int, architecture: int) -> bool:
    """Whether blocks of so many threads use tensor cores on such a device (80 for sm_80): they take whole warps."""
    return threads >= WARP and architecture in TENSOR


def options(kernel: str, threads: int, single: bool, architecture: int) -> tuple[str, ...]:
    """What the compiler is told to make a variant of a kernel: ``qplayer_forward``, ..."""
    one = f"-DQP_{kernel.removeprefix('qplayer_').upper()}"
    tensor = has_tensor_cores(threads, architecture)
    return "-std=c++17", f"-DQP_THREADS={threads}", one, *["-DQP_SINGLE"] * single, *["-DQP_TENSOR"] * tensor


def threads_of(n: int) -> int:
    """That solve a problem."""
    return next((threads for threads in THREADS if n <= threads), THREADS[-1])


def at_once(threads: int) -> int:
    """The problems that a block of the launch solves at once."""
    return max(1, WARP // threads)


def digest() -> str:
    """What tells one state of the source from another: of its code, not of comments or spaces."""
    code = " ".join(re.sub(r"//.*", "", source()).split())
    return hashlib.sha256(code.encode()).hexdigest()[:12]
