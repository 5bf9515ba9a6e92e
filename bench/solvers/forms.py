"""QPs as most solvers take them: ``A x = b``, ``G x <= h``, all arrays there."""

import torch
from torch import Tensor

from ..problems import QP, below
from . import base
from .base import Task


class OneSided:
    """Which side of which row is there, in the order of ``G``: upper sides, then lower ones."""

    def __init__(self, qp: QP):
        _, lo, hi = qp.rows()
        self.qp = qp
        self.upper, self.lower = (_present(side[:, qp.n_eq :]) for side in (hi, lo))

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


def _present(side: Tensor) -> Tensor:
    return side.isfinite().any(0).nonzero().squeeze(-1)


class OneSidedAdapter(base.Adapter):
    """Of a solver that takes its QPs so."""

    def __init__(self, task: Task):
        self.sides = OneSided(task.qp)
        super().__init__(task)

    def convert(self, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.sides.convert(leaves)
