"""Triton kernels, the portable path on GPUs: one program solves one problem from start to finish, in float64.

They are tried in Triton's interpreter and compiled offline, for NVIDIA (sm_80, sm_90) and for AMD (gfx942), where they
are untried. Imported only where they are asked for.
"""

from __future__ import annotations

import torch

from ..interface import Adjoint, Answer, Options, Rows, Vectors
from .launch import LARGEST_M, LARGEST_N, launch_adjoint, launch_forward, variant_of

__all__ = ["adjoint", "forward", "obstacle", "variant"]


def obstacle(rows: Rows, mixed: bool) -> str:
    """Why the kernels cannot take such problems, as advice; empty where they can."""
    if rows.n > LARGEST_N or rows.m > LARGEST_M:
        most = f"{LARGEST_N} variables and {LARGEST_M} rows at most"
        return f"it takes {most} (bounds are rows), not {rows.n} and {rows.m}"
    return "it has no mixed precision; take precision='float64'" if mixed else ""


def variant(rows: Rows, mixed: bool) -> tuple[object, ...]:
    """What the kernels are compiled for."""
    return tuple(variant_of(rows)[0])


def forward(rows: Rows, options: Options, start: Vectors | None = None) -> Answer:
    """As the reference's forward."""
    with torch.cuda.device_of(rows.g):  # Triton launches on the current device
        return launch_forward(rows, options, start)


def adjoint(rows: Rows, at: Vectors, grad: Vectors, options: Options) -> Adjoint:
    """As the reference's adjoint."""
    with torch.cuda.device_of(rows.g):
        return launch_adjoint(rows, at, grad, options)
