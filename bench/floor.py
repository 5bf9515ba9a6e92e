"""The least time that the arithmetic and the data of a forward could take, on what the machine was seen to do.

A solve is counted as its Newton steps; a product and a sum are two operations. With n variables, m rows of which m_s
are stored (not identity rows) and J of those hold with equality at the answer:

| part | operations | how often |
|---|---|---|
| factor of K, n x n | n^3 / 3 | every step whose K is not that of the step before (`factored`) |
| solve with the factor | 2 n^2 | every step |
| products with H | 2 n^2 (none in an LP) | every step |
| products with G and its transpose | 4 m_s n | every step |
| assembly of K, its upper half, from the rows that hold | n^2 J | once |

It is a floor: rows that come and go while the active set is found, the line search, equilibration and the check of the
answer are not in it. The data is read once, and x, the multipliers and the shifts are written once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from unittest.mock import patch

import torch
from torch import Tensor

import qplayer_gpu
from qplayer_gpu import Settings
from qplayer_gpu.kernels.reference import newton
from qplayer_gpu.kernels.reference.factor import Factor
from qplayer_gpu.kernels.reference.products import Matrices

from . import clock
from .problems import QP

SIDE = {"cpu": 1024, "cuda": 8192}  # of the matrices of the probe
BYTES = {"cpu": 1 << 27, "cuda": 1 << 30}  # more than the caches hold
TRIES = 7


@dataclass(frozen=True)
class Peak:
    """What a machine was seen to do, all cores at work."""

    gflops: float  # of a product of large float64 matrices
    gbytes: float  # read and written by a copy of a large array, per second


def probe(device: str) -> Peak:
    """The best of a few tries."""
    side = SIDE[device]
    a = torch.randn(side, side, dtype=torch.float64, device=device)
    source = torch.ones(BYTES[device] // 8, dtype=torch.float64, device=device)
    target, out = torch.empty_like(source), torch.empty_like(a)
    works = (lambda: torch.mm(a, a, out=out)), (lambda: target.copy_(source))
    product, copy = (min(clock.seconds(work, device, on_stream=False) for _ in range(TRIES)) for work in works)
    return Peak(2 * side**3 / product / 1e9, 2 * BYTES[device] / copy / 1e9)


def operations(n: int, stored: int, active: float, steps: float, factored: float, linear: bool = False) -> float:
    """Of the forward of one problem, by the table above; ``factored`` is the share of the steps that factor."""
    step = factored * n**3 / 3 + 2 * n**2 + (0 if linear else 2 * n**2) + 4 * stored * n
    return steps * step + n**2 * active


def milliseconds(flops: float, data: float, peak: Peak) -> float:
    """The longer of computing and of moving the data, in bytes."""
    return 1e3 * max(flops / (peak.gflops * 1e9), data / (peak.gbytes * 1e9))


def factored(qp: QP, settings: Settings) -> float:
    """The share of the reference's steps whose K is not that of the step before."""
    steps, factors = 0, 0
    for k in range(qp.batch):
        arrays = {name: a if qp.shares(name) else a[k] for name, a in qp.arrays().items()}
        with watched() as systems:
            qplayer_gpu.solve_qp(**{"H": None} | arrays, settings=settings, backend="torch")
        steps += len(systems)
        factors += 1 + sum(not torch.equal(now, before) for before, now in pairwise(systems))
    return factors / steps


@contextmanager
def watched() -> Iterator[list[Tensor]]:
    """The weights, the diagonal and sigma of each system that a step of the reference solves: [B, m + n + 1]."""
    systems = []

    def factor(matrices: Matrices, w: Tensor, diagonal: Tensor, sigma: Tensor | None = None) -> Factor:
        systems.append(torch.cat([w, diagonal, (torch.ones_like(w[:, 0]) if sigma is None else sigma)[:, None]], 1))
        return Factor(matrices, w, diagonal, sigma)

    with patch.object(newton, "Factor", factor):
        yield systems
