"""QPs as most solvers take them: ``A x = b``, ``G x <= h``, all arrays there."""

from __future__ import annotations

import torch
from torch import Tensor

from ..problems import QP
from .base import below


class OneSided:
    """Which side of which row is there, in the order of ``G``: upper sides, then lower ones."""

    def __init__(self, qp: QP):
        _, lo, hi = qp.rows()
        self.qp = qp
        self.upper, self.lower = (_present(side[:, qp.n_eq :]) for side in (hi, lo))

    def convert(self, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
        """H, g, A, b, G, h; a matrix stays shared where it can."""
        qp, g = self.qp, leaves["g"]
        n = qp.n
        identity = torch.eye(n, dtype=g.dtype, device=g.device)
        C = below((leaves.get("C", g.new_zeros(0, n)), 2), (identity[: qp.n_box], 2))
        upper = self._side("u", "ub", leaves, self.upper)
        lower = self._side("l", "lb", leaves, self.lower)
        return {
            "H": leaves.get("H", g.new_zeros(n, n)),
            "g": g,
            "A": leaves.get("A", g.new_zeros(0, n)),
            "b": leaves.get("b", g.new_zeros(0)),
            "G": torch.cat([C[..., self.upper, :], -C[..., self.lower, :]], -2),
            "h": below((upper, 1), (-lower, 1)),
        }

    def _side(self, rows: str, bounds: str, leaves: dict[str, Tensor], present: Tensor) -> Tensor:
        """The sides that are there of the rows of C and of x."""
        qp, g = self.qp, leaves["g"]
        parts = [leaves.get(rows, g.new_zeros(qp.n_in)), leaves.get(bounds, g.new_zeros(qp.n_box))]
        return below(*((part, 1) for part in parts))[..., present]

    def rows(self, values: Tensor) -> Tensor:
        """Multipliers or shifts of the rows of G as those of the rows C, x: [B, n_in + n_box]."""
        rows = values.new_zeros(len(values), self.qp.n_in + self.qp.n_box)
        count = len(self.upper)
        rows.index_add_(1, self.upper, values[:, :count])
        return rows.index_add_(1, self.lower, -values[:, count:])


def _present(side: Tensor) -> Tensor:
    return side.isfinite().any(0).nonzero().squeeze(-1)
