"""The C++ kernels on a GPU, through CuPy: a block of threads solves one problem. Imported only where asked for."""

from __future__ import annotations

from .. import reference
from ..call import Array, Pointers
from ..interface import MIXED_STEPS, Adjoint, Answer, Options, Rows, Seeds, Start
from .launch import fits, launch

__all__ = ["adjoint", "forward"]


def forward(rows: Rows, options: Options, start: Start | None = None) -> Answer:
    """As the reference's forward."""
    if not fits(rows):
        return reference.forward(rows, options, start)
    device = rows.g.device
    given = Pointers(device)
    call, answer = given.forward(rows, options, start)
    if not options.mixed:
        launch("qplayer_forward", call, single=False, device=device)
        return answer
    call.rows.options.max_iter = min(options.max_iter, MIXED_STEPS)
    launch("qplayer_forward", call, single=True, device=device)
    if options.max_iter > MIXED_STEPS:  # for those that are unsolved, without asking whether there are any
        call.rows.options.max_iter, call.again = options.max_iter - MIXED_STEPS, 1
        call.x_start = call.z_start = call.s_start = Array(None, 0)
        launch("qplayer_forward", call, single=False, device=device)
    return answer


def adjoint(rows: Rows, answer: Answer, seeds: Seeds, options: Options) -> Adjoint:
    """As the reference's adjoint."""
    if not fits(rows):
        return reference.adjoint(rows, answer, seeds, options)
    given = Pointers(rows.g.device)
    call, result = given.backward(rows, answer, seeds, options)
    launch("qplayer_backward", call, single=False, device=rows.g.device)
    return result
