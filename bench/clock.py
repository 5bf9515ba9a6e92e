"""Time and memory of one piece of work, on a CPU or a CUDA device."""

import ctypes
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import torch

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def seconds(work: Callable[[], object], device: str, on_stream: bool) -> float:
    """How long the work takes: by CUDA events where it is on PyTorch's stream, else from idle device to idle device."""
    if device == "cuda":
        torch.cuda.synchronize()
    if device == "cpu" or not on_stream:
        start = perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        return perf_counter() - start
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3


def peak_megabytes(work: Callable[[], object], device: str) -> float | None:
    """How much memory the work takes above what was in use, or None where nobody counts.

    On the CPU of the whole process, by the kernel (Linux); on a GPU what PyTorch allocates.
    """
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    if not RESET.exists():
        work()
        return None
    ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back, so that its use anew counts
    RESET.write_text("5")
    before = _resident("VmRSS")
    work()
    return max(0.0, _resident("VmHWM") - before)


def _resident(name: str) -> float:
    lines = STATUS.read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith(name))
