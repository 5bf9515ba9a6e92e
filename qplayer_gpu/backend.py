"""Which kernels run."""

from __future__ import annotations

import importlib
import importlib.util
import os

import torch

from .errors import BackendError
from .kernels import reference
from .kernels.interface import Kernels

BACKENDS = ("torch", "triton")
CPU = torch.device("cpu")


def select(name: str, device: torch.device = CPU) -> Kernels:
    """The kernels of a backend for tensors on a device: "auto" takes the fastest that runs there.

    Raises:
        BackendError: the name is unknown, or that backend cannot run here; the message says what it wants.
    """
    if name == "auto":
        return _triton() if device.type == "cuda" and _obstacle(device) is None else reference
    if name == "torch":
        return reference
    if name == "triton":
        obstacle = _obstacle(device)
        if obstacle is not None:
            raise BackendError(f"backend 'triton' cannot run here: {obstacle}, or take backend='torch'")
        return _triton()
    raise BackendError(f"backend {name!r} is not available; this version has 'auto', {', '.join(map(repr, BACKENDS))}")


def _obstacle(device: torch.device) -> str | None:
    """What keeps Triton's kernels from running on tensors on this device, as advice; None where nothing does."""
    if importlib.util.find_spec("triton") is None:
        return "install triton (pip install 'triton>=3.6')"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return None
    if not torch.cuda.is_available():
        return "there is no CUDA device; set TRITON_INTERPRET=1 before the first import to have it interpreted, slowly"
    if device.type != "cuda":
        return f"the tensors are on {device}; move them to a CUDA device with .cuda()"
    return None


def _triton() -> Kernels:
    """Imports triton, which is not needed otherwise."""
    return importlib.import_module(".kernels.triton", __package__)
