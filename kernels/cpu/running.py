"""How a call of the library is run: on which threads, and so that Ctrl-C ends it and a fork survives it."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from ctypes import c_int32
from functools import cache, partial

import torch

from ..call import BackwardCall, ForwardCall, Pointers, RowsStruct
from .library import Threads

LONG = 0.05  # seconds; a call that seems to take more is watched, at the cost of starting its threads
STEPS, STEP, MULTIPLICATION = 20, 1e-6, 2e-11  # of a problem, and seconds of each: a guess, on one core
PATIENCE = 0.1  # seconds, after which a signal is seen that woke another thread


def run(function: Callable[..., int], call: ForwardCall | BackwardCall, given: Pointers) -> None:
    """Runs a function of the library.

    Raises:
        MemoryError: there is not enough.
    """
    count = torch.get_num_threads()
    if count > 1:
        _give_children_one_thread()
    if seconds(call.rows, count) > LONG and threading.current_thread() is threading.main_thread():
        failed = _watched(function, call, count, given)
    else:
        failed = function(ctypes.byref(call), Threads(count, None))
    if failed:
        raise MemoryError("not enough memory to solve the QPs")


def seconds(rows: RowsStruct, threads: int) -> float:
    """About how long a call takes."""
    sizes = rows.sizes
    multiplications = sizes.n**2 * (sizes.n + sizes.n_eq + sizes.n_in)
    return rows.batch / min(threads, max(rows.batch, 1)) * STEPS * (STEP + MULTIPLICATION * multiplications)


def _watched(function: Callable[..., int], call: ForwardCall | BackwardCall, count: int, given: Pointers) -> int:
    """Runs it on another thread, while this one waits for signals; what a signal raises ends it.

    What runs on then, to the end of a Newton step, has memory of its own: nobody else will read its answer.
    """
    stop, failed, ended = c_int32(0), list[int](), threading.Event()

    def work(_: Pointers) -> None:
        failed.append(function(ctypes.byref(call), Threads(count, ctypes.addressof(stop))))
        ended.set()

    try:
        threading.Thread(target=work, args=(given,), daemon=True).start()
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
