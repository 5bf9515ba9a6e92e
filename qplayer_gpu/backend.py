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
CPU_LARGEST = 256  # variables; beyond, a factorization by many threads is worth more


def select(name: str, rows: Rows) -> Kernels:
    """The kernels of a backend for these rows: "auto" takes the fastest that runs here, any other name that or none.

    Raises:
        BackendError: the name is unknown, or that backend cannot run here.
    """
    if name == "auto":
        name = fastest(rows)
    if name == "triton":
        why = why_no_triton(rows.g.device)
        if why:
            raise BackendError(f"backend 'triton' cannot run here: {why}")
        return cast(Kernels, importlib.import_module(".kernels.triton", __package__))  # which imports triton
    if name not in BACKENDS:
        known = ", ".join(map(repr, ("auto", *BACKENDS, "triton")))
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
    if rows.g.device.type == "cuda" and not why_no_triton(rows.g.device):
        return "triton"
    return "torch"


def why_no_triton(device: torch.device) -> str:
    """What keeps Triton's kernels from running on tensors on this device; empty where nothing does."""
    if importlib.util.find_spec("triton") is None:
        return "install triton (pip install 'triton>=3.6'), or use 'torch'"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return ""
    if not torch.cuda.is_available():
        return "there is no CUDA device; use 'torch', or set TRITON_INTERPRET=1 for Triton's slow interpreter"
    if device.type != "cuda":
        return f"the tensors are on {device}: move them, or use 'torch'"
    return ""


@cache
def why_no_cpu() -> str:
    """What keeps the C++ kernels from being compiled here; empty where nothing does."""
    try:
        cpu.load()
    except (cpu.BuildError, OSError) as error:
        return str(error)
    return ""
