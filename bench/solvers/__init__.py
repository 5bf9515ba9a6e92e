"""The solvers: a module each, with a class ``Adapter`` that imports its package only when it is made."""

from __future__ import annotations

from importlib import import_module

from .base import Adapter

OURS = "qplayer_gpu"
SOLVERS = (
    OURS,
    "qplayer_gpu_torch",
    "qplayer_gpu_triton",
    "qplayer_gpu_cuda",
    "proxqp",
    "qplayer",
    "piqp",
    "elastiqp",
    "moreau",
    "moreau_active_set",
    "cvxpylayers",
    "qpth",
    "qpax",
    "jaxopt",
    "cupiqp",
)


def adapter(name: str) -> type[Adapter]:
    """The adapter of a solver by its name."""
    return import_module(f".{name}", __name__).Adapter
