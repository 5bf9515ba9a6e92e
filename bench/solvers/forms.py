"""QPs in the forms that solvers take: rows of two sides, or ``A x = b``, ``G x <= h``; all arrays are there."""

from __future__ import annotations

import torch
from torch import Tensor

from ..problems import QP
from . import base
from .base import Task


def below(*parts: tuple[Tensor, int]) -> Tensor:
    """The parts, each with its number of dimensions, below each other; batched where one of them is."""
    batch = max((part.shape[0] for part, dim in parts if part.dim() > dim), default=0)
    at = -parts[0][1]
    if not batch:
        return torch.cat([part for part, _ in parts], at)
    return torch.cat([part.expand(batch, *part.shape[part.dim() - dim :]) for part, dim in parts], at)


def two_sided(qp: QP, leaves: dict[str, Tensor], absent: float = torch.inf) -> dict[str, Tensor]:
    """H, g, A, b, C, l, u, the bounds of x below the rows of C; a matrix stays shared where it can.

    ``absent`` stands for a side that is not there, with a minus for a lower one.
    """
    g, n = leaves["g"], qp.n
    shapes = {"H": (n, n), "A": (0, n), "b": (0,), "C": (0, n)}
    full = {name: leaves.get(name, g.new_zeros(shape)) for name, shape in shapes.items()}
    sides = {"l": (qp.n_in, -absent), "u": (qp.n_in, absent), "lb": (qp.n_box, -absent), "ub": (qp.n_box, absent)}
    l, u, lb, ub = ((leaves.get(name, g.new_full((size,), value)), 1) for name, (size, value) in sides.items())
    identity = torch.eye(n, dtype=g.dtype, device=g.device)[: qp.n_box]
    return {
        "H": full["H"],
        "g": g,
        "A": full["A"],
        "b": full["b"],
        "C": below((full["C"], 2), (identity, 2)),
        "l": below(l, lb).clamp(min=-absent),
        "u": below(u, ub).clamp(max=absent),
    }


class OneSided:
    """Which side of which row is there, in the order of ``G``: upper sides, then lower ones."""

    def __init__(self, qp: QP):
        _, lo, hi = qp.rows()
        self.qp = qp
        self.upper, self.lower = (_present(side[:, qp.n_eq :]) for side in (hi, lo))

    def convert(self, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
        """H, g, A, b, G, h."""
        arrays = two_sided(self.qp, leaves)
        C, l, u = (arrays.pop(name) for name in ("C", "l", "u"))
        G = torch.cat([C[..., self.upper, :], -C[..., self.lower, :]], -2)
        return arrays | {"G": G, "h": below((u[..., self.upper], 1), (-l[..., self.lower], 1))}

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
