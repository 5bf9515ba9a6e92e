"""Phase SHIFT alone, for problems that another method suspects of being infeasible."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..interface import Options, Rows, Vectors
from ..numbers import RUNNING, Phase
from .newton import newton_step
from .outer import enter, measure, outer_step
from .products import Batched, Matrices
from .scaling import Scaling
from .state import begin


@dataclass
class Search(Batched):
    """How the search of each problem has ended."""

    x: Tensor  # [B, n]
    z: Tensor  # [B, m] a ray, where the problem is INFEASIBLE
    s: Tensor  # [B, m]
    lo: Tensor  # [B, m] after the shift
    hi: Tensor  # [B, m]
    calm: Tensor  # [B]
    status: Tensor  # [B] RUNNING where the problem has its shift, or needs none
    steps: Tensor  # [B] Newton steps
    primal: Tensor  # [B] and the rest: the residuals there
    dual: Tensor  # [B]
    gap: Tensor  # [B]


def find_shift(
    rows: Rows,
    x: Tensor,  # [B, n] where to begin
    calm: Tensor,  # [B] less after each false alarm
    matrices: Matrices,
    scaling: Scaling,
    options: Options,
) -> Search:
    """Newton steps until each problem has left the phase."""
    nothing = torch.zeros_like(rows.lo)
    st = begin(rows.g, rows.lo, rows.hi, *rows.weights(), matrices, scaling, options, Vectors(x, nothing, nothing))
    st.calm = calm
    enter(st, Phase.SHIFT, torch.ones_like(st.open), options)
    found = None
    while True:
        at = measure(st, matrices, scaling, options)
        outer_step(st, at, scaling, options)
        now = Search(st.x, st.z, st.s, st.lo, st.hi, st.calm, st.status, st.steps, at.primal, at.dual, at.gap)
        found = found or now.take(st.index.clone())
        ended = (st.status != RUNNING) | (st.phase != Phase.SHIFT)
        for whole, part in zip(vars(found).values(), vars(now).values(), strict=True):
            whole[st.index[ended]] = part[ended]
        running = (~ended).nonzero().squeeze(-1)
        if not len(running):
            return found
        if len(running) < len(ended):
            st, matrices, scaling = st.take(running), matrices.take(running), scaling.take(running)
        newton_step(st, matrices, scaling)
