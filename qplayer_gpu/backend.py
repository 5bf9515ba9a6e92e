"""Which kernels run."""

from __future__ import annotations

from functools import cache
from typing import cast

from .errors import BackendError
from .kernels import cpu, reference
from .kernels.interface import Kernels, Rows

BACKENDS: dict[str, Kernels] = {"torch": reference, "cpu": cast(Kernels, cpu)}
CPU_LARGEST = 256  # variables; beyond, a blocked factorization of many threads is faster


def select(name: str, rows: Rows | None = None) -> Kernels:
    """The kernels of a backend for these rows: "auto" takes the fastest that runs here, any other name that or none.

    Raises:
        BackendError: the name is unknown, or that backend cannot run here.
    """
    device = None if rows is None else rows.g.device.type
    if name == "auto":
        compiled = rows is not None and device == "cpu" and rows.n <= CPU_LARGEST and not _why_no_cpu()
        return BACKENDS["cpu" if compiled else "torch"]
    if name == "cpu":
        if device not in (None, "cpu"):
            raise BackendError(f"backend 'cpu' solves tensors on the CPU, not on {device}: move them, or use 'torch'")
        if why := _why_no_cpu():
            raise BackendError(f"backend 'cpu' cannot run here: {why}")
    if name in BACKENDS:
        return BACKENDS[name]
    raise BackendError(f"backend {name!r} is not available; this version has 'auto', {', '.join(map(repr, BACKENDS))}")


@cache
def _why_no_cpu() -> str:
    """What keeps the C++ kernels from being compiled here; empty where nothing does."""
    try:
        cpu.library()
    except (cpu.BuildError, OSError) as error:
        return str(error)
    return ""
