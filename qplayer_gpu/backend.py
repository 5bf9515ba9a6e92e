"""Which kernels run."""

from __future__ import annotations

import importlib
import importlib.util
import os
from functools import cache
from typing import cast

import torch

from .errors import BackendError
from .kernels import cpu, reference
from .kernels.interface import Kernels, Rows

BACKENDS: dict[str, Kernels] = {"torch": reference, "cpu": cast(Kernels, cpu)}
LAZY = ("triton",)  # imported when asked for by name; not taken by "auto" before it has been tried on a GPU
CPU_LARGEST = 256  # variables; beyond, a factorization by many threads is worth more


def select(name: str, rows: Rows) -> Kernels:
    """The kernels of a backend for these rows: "auto" takes the fastest that runs here, any other name that or none.

    Raises:
        BackendError: the name is unknown, or that backend cannot run here.
    """
    if name == "auto":
        name = fastest(rows)
    if name not in (*BACKENDS, *LAZY):
        known = ", ".join(map(repr, ("auto", *BACKENDS, *LAZY)))
        raise BackendError(f"backend {name!r} is not available; this version has {known}")
    why = obstacle(name, rows.g.device)
    if why:
        raise BackendError(f"backend {name!r} cannot run here: {why}, or take 'torch' or 'auto'")
    return importlib.import_module(f".kernels.{name}", __package__) if name in LAZY else BACKENDS[name]


def fastest(rows: Rows) -> str:
    """The name of the fastest backend for these rows that is known to run here."""
    if rows.g.device.type == "cpu" and rows.n <= CPU_LARGEST and not why_no_cpu():
        return "cpu"
    return "torch"


def obstacle(name: str, device: torch.device) -> str:
    """What keeps a backend from running on tensors on this device, as advice; empty where nothing does."""
    if name == "cpu":
        return why_no_cpu() if device.type == "cpu" else f"the tensors are on {device}; move them with .cpu()"
    if name == "triton":
        return _why_no_triton(device)
    return ""


def _why_no_triton(device: torch.device) -> str:
    if importlib.util.find_spec("triton") is None:
        return "install triton (pip install 'triton>=3.6')"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return ""
    if not torch.cuda.is_available():
        return "there is no CUDA device; set TRITON_INTERPRET=1 before the first import to have it interpreted, slowly"
    return "" if device.type == "cuda" else f"the tensors are on {device}; move them to a CUDA device with .cuda()"


@cache
def why_no_cpu() -> str:
    """What keeps the C++ kernels from being compiled here; empty where nothing does."""
    try:
        cpu.load()
    except (cpu.BuildError, OSError) as error:
        return str(error)
    return ""
