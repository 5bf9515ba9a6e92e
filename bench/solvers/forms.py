"""QPs as most solvers take them: ``A x = b``, ``G x <= h``, all arrays there."""

import torch
from torch import Tensor

from ..problems import QP, below
from . import base
from .base import Task


class OneSided(base.Adapter):
    """It knows which side of which row is there, in the order of ``G``: upper sides, then lower ones."""

    def __init__(self, task: Task):
        _, lo, hi = task.qp.rows()
        there = (side[:, task.qp.n_eq :].isfinite().any(0) for side in (hi, lo))
        self.upper, self.lower = (sides.nonzero().squeeze(-1) for sides in there)
        super().__init__(task)

    def convert(self, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
        """H, g, A, b, G, h."""
        arrays = QP(**leaves).two_sided()
        C, l, u = (arrays.pop(name) for name in ("C", "l", "u"))
        G = torch.cat([C[..., self.upper, :], -C[..., self.lower, :]], -2)
        return arrays | {"G": G, "h": below(u[..., self.upper], -l[..., self.lower])}

    def rows(self, values: Tensor) -> Tensor:
        """Multipliers or shifts of the rows of G as those of the rows C, x: [B, n_in + n_box]."""
        rows = values.new_zeros(len(values), self.qp.n_in + self.qp.n_box)
        count = len(self.upper)
        rows.index_add_(1, self.upper, values[:, :count])
        return rows.index_add_(1, self.lower, -values[:, count:])
