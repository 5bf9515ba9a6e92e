"""Which method solves: the augmented Lagrangian of the kernels, ADMM, or one after the other."""

from __future__ import annotations

import importlib

from .backend import obstacle, select
from .errors import BackendError
from .kernels.interface import Answer, Options, Rows, Vectors
from .kernels.reference import admm
from .memory import check_operations

WITH_ADMM = ("auto", "torch", "triton")  # backends

# What a start by ADMM saves on an H100, in seconds for each problem, by the least n from which it does, and what it
# costs for each batch: estimates from executed counts (docs/choosing.md), as no GPU has run it yet.
SAVED = {64: 245e-9, 32: 50e-9, 16: 22e-9}
COST = 2.5e-3


def forward(rows: Rows, options: Options, start: Vectors | None, backend: str) -> Answer:
    """The answer of the method that the options name.

    Raises:
        BackendError: the backend asked for cannot run here, or has not this method for such problems.
        OutOfMemoryError: there is less memory than it takes.
    """
    if options.method == "admm":
        steps = steps_of(rows, backend)
        check_operations(rows)
        return admm.forward(rows, options, start, steps)
    kernels = select(backend, rows, options.mixed)
    if options.method == "auto" and start is None and pays(rows):
        start = admm.approach(rows, options, steps_of(rows, "triton"))
    return kernels.forward(rows, options, start)


def steps_of(rows: Rows, backend: str) -> admm.Steps:
    """The iterations of ADMM of a backend.

    Raises:
        BackendError: it cannot run here, or has none for such problems.
    """
    if backend not in WITH_ADMM:
        raise BackendError(f"backend {backend!r} has no ADMM: take 'torch' or 'auto', or method='alm'")
    if backend != "triton":
        return admm.REFERENCE
    why = obstacle(backend, rows.g.device) or _triton().obstacle(rows)
    if why:
        raise BackendError(f"backend {backend!r} cannot run ADMM here: {why}; or take 'torch' or 'auto'")
    steps: admm.Steps = _triton().STEPS
    return steps


def _triton():  # type: ignore[no-untyped-def]
    return importlib.import_module(".kernels.triton.admm", __package__)


def pays(rows: Rows) -> bool:
    """Whether to begin with ADMM: on a CUDA device, where the batch is large and shares matrices of a size it takes."""
    if rows.g.device.type != "cuda" or not rows.share_matrices or obstacle("triton", rows.g.device):
        return False
    saved = next((saved for n, saved in SAVED.items() if rows.n >= n), 0.0)
    return not _triton().obstacle(rows) and rows.batch * saved > COST
