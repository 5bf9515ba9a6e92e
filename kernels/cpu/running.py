"""How a call of the library is run: on which threads, and so that Ctrl-C ends it and a fork survives it."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from ctypes import c_int32
from functools import cache, partial
from typing import Any

import torch

from .library import Threads

LONG = 0.05  # seconds; a call that seems to take more is watched, at the cost of starting its threads
STEPS, STEP, MULTIPLICATION = 20, 1e-6, 2e-11  # of a problem, and seconds of each: a guess, on one core
PATIENCE = 0.1  # seconds, after which a signal is seen that woke another thread


def run(function: Callable[..., int], call: Any, batch: int, each: float, kept: object) -> None:
    """Runs a function of the library, for so many problems that take each so many seconds.

    What the addresses in the call point to lives as long as ``kept``.

    Raises:
        MemoryError: there is not enough.
    """
    count = torch.get_num_threads()
    if count > 1:
        _give_children_one_thread()
    if batch * each > LONG * max(min(count, batch), 1) and threading.current_thread() is threading.main_thread():
        failed = _watched(function, call, count, kept)
    else:
        failed = function(call, _threads(count))
    if failed:
        raise MemoryError("not enough memory to solve the QPs")


_threads = cache(Threads)


def seconds(n: int, stored: int) -> float:
    """About how long a problem of n variables and so many stored rows takes."""
    return STEPS * (STEP + MULTIPLICATION * n**2 * (n + stored))


def _watched(function: Callable[..., int], call: Any, count: int, kept: object) -> int:
    """Runs it on another thread, while this one waits for signals; what a signal raises ends it.

    What runs on then, to the end of a Newton step, has memory of its own: nobody else will read its answer.
    """
    stop, failed, ended = c_int32(0), list[int](), threading.Event()

    def work(_: object) -> None:
        failed.append(function(call, Threads(count, ctypes.addressof(stop))))
        ended.set()

    try:
        threading.Thread(target=work, args=(kept,), daemon=True).start()
        while not ended.wait(PATIENCE):  # join() would not do: an exception within leaves the thread as if it had ended
            pass
    except BaseException:
        stop.value, call.rows.options.max_iter = 1, 0
        raise
    return failed[0]


@cache
def _give_children_one_thread() -> None:
    """The threads of OpenMP do not live on in a fork, where their next use would wait for them."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))
