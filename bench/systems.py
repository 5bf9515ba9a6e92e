"""How many Newton steps a solve takes, and how many of them have a matrix of their own to factor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from unittest.mock import patch

import torch
from torch import Tensor

import qplayer_gpu
from qplayer_gpu import Settings
from qplayer_gpu.kernels.reference import newton
from qplayer_gpu.kernels.reference.factor import Factor
from qplayer_gpu.kernels.reference.products import Matrices

from .problems import QP


def count(qp: QP, settings: Settings) -> tuple[float, float]:
    """The mean of the steps of the reference, and the share of them whose K is not that of the step before."""
    steps, factors = 0, 0
    for k in range(qp.batch):
        arrays = {name: a if qp.shares(name) else a[k] for name, a in qp.arrays().items()}
        with watched() as systems:
            qplayer_gpu.solve_qp(**{"H": None} | arrays, settings=settings, backend="torch")
        steps += len(systems)
        factors += 1 + sum(not torch.equal(now, before) for before, now in pairwise(systems))
    return steps / qp.batch, factors / steps


@contextmanager
def watched() -> Iterator[list[Tensor]]:
    """The weights, the diagonal and sigma of each system that a step of the reference solves: [B, m + n + 1]."""
    systems = []

    def factor(matrices: Matrices, w: Tensor, diagonal: Tensor, sigma: Tensor | None = None) -> Factor:
        systems.append(torch.cat([w, diagonal, (torch.ones_like(w[:, 0]) if sigma is None else sigma)[:, None]], 1))
        return Factor(matrices, w, diagonal, sigma)

    with patch.object(newton, "Factor", factor):
        yield systems
