"""Gradients are compared as derivatives along a few directions, with central differences of certified answers."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from .certificate import Answer, certify
from .problems import QP
from .solvers.base import Task
from .solvers.qplayer_gpu import Adapter

COUNT = 3  # directions per array
STEP = 1e-5
ACTIVE = 1e-8  # of a multiplier
ACCURACY = 1e-12  # the differences divide the error of x by the step
ACCURACY_INFEASIBLE = 1e-10  # as near as every closest feasible answer comes
SMALL = 1e-2  # of the largest array's derivatives: below, an error counts as that of one so large

Derivatives = dict[str, list[float]]


def cotangent(qp: QP) -> Tensor:
    """The loss is ``sum(cotangent * x)`` over the batch: [B, n]."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(qp.batch, qp.n, generator=generator, dtype=torch.float64).to(qp.g)


def directions(qp: QP, name: str) -> list[Tensor]:
    """Random ones in the shape of the array, of unit length for each problem; symmetric for H."""
    generator = torch.Generator().manual_seed(2)
    array = getattr(qp, name)
    count = 1 if qp.shares(name) else qp.batch
    draws = [torch.randn(array.shape, generator=generator, dtype=torch.float64) for _ in range(COUNT)]
    draws = [draw + draw.mT if name == "H" else draw for draw in draws]
    return [draw * count**0.5 / draw.norm() for draw in draws]


def along_directions(qp: QP, name: str, gradient: Tensor) -> list[float]:
    """The derivatives that a gradient stands for."""
    return [(gradient.double().cpu() * direction).sum().item() for direction in directions(qp, name)]


def central_differences(qp: QP, names: tuple[str, ...], feasible: bool) -> tuple[Derivatives, list[bool]]:
    """The derivatives of the loss along the directions of each named array, and which problems they are of.

    Left out are problems whose active rows differ across a step: there, the two sides have derivatives of their own.

    Raises:
        RuntimeError: an answer to a moved problem fails the certificate.
    """
    qp = qp.map(Tensor.double)
    weights = cotangent(qp).numpy()
    accuracy = ACCURACY if feasible else ACCURACY_INFEASIBLE
    regular = np.ones(qp.batch, dtype=bool)

    def answer(name: str, direction: Tensor, step: float) -> Answer:
        moved = replace(qp, **{name: getattr(qp, name) + step * direction})
        solver = Adapter(Task(moved, (), accuracy))
        solver.forward(differentiable=False)
        if certify(moved, solver.answer()).solved < 1:
            raise RuntimeError("the reference gradient has no certified answers to rest on")
        return solver.answer()

    def derivatives(name: str, direction: Tensor) -> np.ndarray:  # [B], one for each problem
        ahead, behind = answer(name, direction, STEP), answer(name, direction, -STEP)
        regular[:] &= ((np.abs(ahead.z) > ACTIVE) == (np.abs(behind.z) > ACTIVE)).all(-1)
        return (weights * (ahead.x - behind.x)).sum(-1) / (2 * STEP)

    found = {name: [derivatives(name, direction) for direction in directions(qp, name)] for name in names}
    return {name: [float(v[regular].sum()) for v in values] for name, values in found.items()}, regular.tolist()


def relative_errors(found: Derivatives, reference: Derivatives) -> dict[str, float]:
    """Of each array: the error's length by the reference's."""
    lengths = {name: float(np.linalg.norm(values)) for name, values in reference.items()}
    floor = SMALL * max(lengths.values(), default=0.0)
    errors = {name: np.linalg.norm(np.subtract(values, reference[name])) for name, values in found.items()}
    return {name: float(error) / max(lengths[name], floor) for name, error in errors.items()}
