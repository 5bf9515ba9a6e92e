"""Which kernels run."""

from __future__ import annotations

from functools import cache
from typing import cast

from .errors import BackendError
from .kernels import cpu, reference
from .kernels.interface import Kernels, Rows

BACKENDS: dict[str, Kernels] = {"torch": reference, "cpu": cast(Kernels, cpu)}
CPU_LARGEST = 256  # variables; beyond, a factorization by many threads is worth more


def select(name: str, rows: Rows) -> Kernels:
    """The kernels of a backend for these rows: "auto" takes the fastest that runs here, any other name that or none.

    Raises:
        BackendError: the name is unknown, or that backend cannot run here.
    """
    if name == "auto":
        name = fastest(rows)
    if name not in BACKENDS:
        known = ", ".join(map(repr, ("auto", *BACKENDS)))
        raise BackendError(f"backend {name!r} is not available; this version has {known}")
    if name == "cpu":
        device = rows.g.device.type
        why = why_no_cpu() if device == "cpu" else f"the tensors are on {device}: move them, or use 'torch'"
        if why:
            raise BackendError(f"backend 'cpu' cannot run here: {why}")
    return BACKENDS[name]


def fastest(rows: Rows) -> str:
    """The name of the fastest backend for these rows that runs here."""
    if rows.g.device.type == "cpu" and rows.n <= CPU_LARGEST and not why_no_cpu():
        return "cpu"
    return "torch"


@cache
def why_no_cpu() -> str:
    """What keeps the C++ kernels from being compiled here; empty where nothing does."""
    try:
        cpu.load()
    except (cpu.BuildError, OSError) as error:
        return str(error)
    return ""
