"""Triton kernels: one program solves one problem from start to finish. Imported only where they are asked for."""

from __future__ import annotations

from .. import reference
from ..interface import Adjoint, Answer, Options, Rows, Seeds, Start
from .launch import fits, launch_adjoint, launch_forward

__all__ = ["adjoint", "forward"]


def forward(rows: Rows, options: Options, start: Start | None = None) -> Answer:
    """As the reference's forward."""
    return launch_forward(rows, options, start) if fits(rows) else reference.forward(rows, options, start)


def adjoint(rows: Rows, answer: Answer, seeds: Seeds, options: Options) -> Adjoint:
    """As the reference's adjoint."""
    if fits(rows):
        return launch_adjoint(rows, answer, seeds, options)
    return reference.adjoint(rows, answer, seeds, options)
