"""Which kernels run."""

from __future__ import annotations

from .errors import BackendError
from .kernels import reference
from .kernels.interface import Kernels

BACKENDS: dict[str, Kernels] = {"torch": reference}


def select(name: str) -> Kernels:
    """The kernels of a backend: "auto" takes the fastest that runs here, any other name that one or none.

    Raises:
        BackendError: the name is unknown, or that backend cannot run here.
    """
    if name == "auto":
        return reference
    if name in BACKENDS:
        return BACKENDS[name]
    raise BackendError(f"backend {name!r} is not available; this version has 'auto', {', '.join(map(repr, BACKENDS))}")
