"""Which method solves: the augmented Lagrangian of the kernels, ADMM, or one after the other."""

from __future__ import annotations

from .backend import select
from .errors import BackendError
from .kernels.interface import Answer, Options, Rows, Vectors
from .kernels.reference import admm
from .memory import check_operations

WITH_ADMM = ("auto", "torch")  # backends


def forward(rows: Rows, options: Options, start: Vectors | None, backend: str) -> Answer:
    """The answer of the method that the options name.

    Raises:
        BackendError: the backend asked for cannot run here, or has not this method.
        OutOfMemoryError: there is less memory than it takes.
    """
    if options.method != "admm":
        return select(backend, rows, options.mixed).forward(rows, options, start)
    if backend not in WITH_ADMM:
        raise BackendError(f"backend {backend!r} has no ADMM: take 'torch' or 'auto', or method='alm'")
    check_operations(rows)
    return admm.forward(rows, options, start)
