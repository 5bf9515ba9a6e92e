"""Triton kernels: one program solves one problem from start to finish. Imported only where they are asked for."""

from __future__ import annotations

from .. import reference
from ..interface import Adjoint, Answer, Options, Rows, Seeds, Start
from ..reference.forward import settle_multipliers
from ..reference.products import Matrices
from ..reference.scaling import measure_scaling
from .launch import fits, launch_adjoint, launch_forward

__all__ = ["adjoint", "forward"]


def forward(rows: Rows, options: Options, start: Start | None = None) -> Answer:
    """As the reference's forward."""
    if not fits(rows):
        return reference.forward(rows, options, start)
    answer = launch_forward(rows, options, start)
    matrices = Matrices.of(rows, mixed=False)
    settle_multipliers(answer, rows, matrices, measure_scaling(matrices, rows.g, options.equilibrate), options)
    return answer


def adjoint(rows: Rows, answer: Answer, seeds: Seeds, options: Options) -> Adjoint:
    """As the reference's adjoint."""
    if fits(rows):
        return launch_adjoint(rows, answer, seeds, options)
    return reference.adjoint(rows, answer, seeds, options)
