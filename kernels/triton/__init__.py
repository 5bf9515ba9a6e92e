"""Triton kernels: one program solves one problem from start to finish. Imported only where they are asked for."""

from __future__ import annotations

import torch

from .. import reference
from ..interface import Adjoint, Answer, Options, Rows, Seeds, Start
from .launch import fits, launch_adjoint, launch_forward

__all__ = ["adjoint", "forward"]


def forward(rows: Rows, options: Options, start: Start | None = None) -> Answer:
    """As the reference's forward."""
    if not fits(rows):
        return reference.forward(rows, options, start)
    with torch.cuda.device_of(rows.g):  # Triton launches on the current device
        return launch_forward(rows, options, start)


def adjoint(rows: Rows, answer: Answer, seeds: Seeds, options: Options) -> Adjoint:
    """As the reference's adjoint."""
    if not fits(rows):
        return reference.adjoint(rows, answer, seeds, options)
    with torch.cuda.device_of(rows.g):
        return launch_adjoint(rows, answer, seeds, options)
