"""Gradients are compared as derivatives along a few directions, with central differences of certified answers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from qplayer_gpu import Settings

from .certificate import certify
from .problems import QP
from .solvers.qplayer_gpu import Adapter

COUNT = 3  # directions per array
STEP = 1e-5
SETTINGS = Settings(eps_abs=1e-12)  # the differences divide the error of x by the step

Derivatives = dict[str, list[float]]


def cotangent(qp: QP) -> Tensor:
    """The loss is ``sum(cotangent * x)`` over the batch: [B, n]."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(qp.batch, qp.n, generator=generator, dtype=torch.float64)


def directions(array: Tensor) -> list[Tensor]:
    """Random ones of unit length, in the shape of the array."""
    generator = torch.Generator().manual_seed(2)
    draws = (torch.randn(array.shape, generator=generator, dtype=torch.float64) for _ in range(COUNT))
    return [draw / draw.norm() for draw in draws]


def along_directions(gradient: Tensor) -> list[float]:
    """The derivatives that a gradient stands for."""
    return [(gradient * direction).sum().item() for direction in directions(gradient)]


def central_differences(qp: QP, names: tuple[str, ...], threads: int) -> Derivatives:
    """The derivatives of the loss along the directions of each named array.

    Raises:
        RuntimeError: an answer to a moved problem fails the certificate.
    """

    def loss(direction: dict[str, Tensor], step: float) -> float:
        moved = qp.moved(direction, step)
        solver = Adapter(moved, (), threads, SETTINGS)
        solver.forward()
        answer = solver.answer()
        if certify(moved, answer).solved < 1:
            raise RuntimeError("the reference gradient has no certified answers to rest on")
        return float((cotangent(qp).numpy() * answer.x).sum())

    def derivative(name: str, direction: Tensor) -> float:
        return (loss({name: direction}, STEP) - loss({name: direction}, -STEP)) / (2 * STEP)

    return {name: [derivative(name, d) for d in directions(getattr(qp, name))] for name in names}


def relative_error(found: Derivatives, reference: Derivatives) -> float:
    """The largest over the arrays of the error's length by the reference's."""
    pairs = [(np.array(found[name]), np.array(reference[name])) for name in reference]
    return max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in pairs)
