"""One certificate for all solvers: the optimality conditions, recomputed in numpy from the data alone."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from .problems import QP

Array = NDArray[np.float64]

TOLERANCES = {torch.float64: 2e-6, torch.float32: 2e-4}  # by the data: twice what solvers measure themselves


@dataclass(frozen=True)
class Answer:
    """What a solver returns, rows in the order A, C, x; ``Hx + g + G'z = 0``, ``lo + s <= G x <= hi + s``."""

    x: Array  # [B, n]
    z: Array  # [B, m]
    s: Array | None = None  # [B, m], None where the solver knows no shifts
    iterations: float | None = None  # mean, None where the solver does not say


@dataclass(frozen=True)
class Certificate:
    """The residual of each condition and problem, in the units of the data."""

    primal: Array  # [B] largest distance of a shifted row from its side, or violation of another one
    dual: Array  # [B] largest |Hx + g + G'z|
    gap: Array  # [B] sum over the other rows of |z| times the distance from its side, relative to 1 + |objective|
    shift: Array  # [B] largest |G's|: zero where s is of least norm
    tolerance: float

    @property
    def solved(self) -> float:
        """The share of the problems all of whose residuals are within the tolerance; NaN is not."""
        return float((np.stack([self.primal, self.dual, self.gap, self.shift]).max(0) <= self.tolerance).mean())

    def worst(self) -> dict[str, float]:
        """The largest of each residual over the batch."""
        return {name: float(getattr(self, name).max()) for name in ("primal", "dual", "gap", "shift")}


def certify(qp: QP, answer: Answer) -> Certificate:
    """Measures an answer to the QPs, or to the closest feasible ones.

    A shifted row holds with equality on the side that s moves, and its multiplier may have either sign: a multiple of s
    can be added to z without changing ``G'z``.
    """
    tolerance = TOLERANCES[qp.g.dtype]
    qp = qp.map(lambda t: t.double().cpu())
    G, lo, hi = (t.numpy() for t in qp.rows())
    x, z = answer.x, answer.z
    s = np.zeros_like(z) if answer.s is None else answer.s
    Gx = (G @ x[..., None])[..., 0]
    Hx = np.zeros_like(x) if qp.H is None else (qp.H.numpy() @ x[..., None])[..., 0]
    g = qp.g.numpy()
    objective = (x * (0.5 * Hx + g)).sum(-1)

    below, above = Gx - lo - s, hi + s - Gx
    shifted = np.abs(s) > tolerance
    off_side = np.abs(np.where(np.where(shifted, s, z) > 0, above, below))
    violation = np.where(shifted, off_side, np.maximum(-below, -above))
    distance = np.where(np.isinf(off_side), 1.0, off_side)  # a multiplier of an absent side counts as it is
    return Certificate(
        primal=violation.max(-1, initial=0.0),
        dual=np.abs(Hx + g + (z[:, None] @ G)[:, 0]).max(-1),
        gap=(np.abs(z) * distance * ~shifted).sum(-1) / (1 + np.abs(objective)),
        shift=np.abs((s[:, None] @ G)[:, 0]).max(-1),
        tolerance=tolerance,
    )
