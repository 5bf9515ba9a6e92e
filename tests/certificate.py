"""The optimality conditions recomputed from the data alone, in numpy: independent of the library."""

from dataclasses import dataclass

import numpy as np
import torch


@dataclass
class Certificate:
    """The worst of each residual over the batch."""

    primal: float  # violation of the shifted rows
    dual: float  # |Hx + g + A'y + C'z + z_box|
    gap: float  # sum |z| * distance from the side z pushes against, relative to 1 + |objective|
    shift: float  # |A's_eq + C's_in + s_box|: zero where s is the least-norm shift
    sign: float  # shift of a row that holds without it


def certify(args, sol) -> Certificate:
    def array(name, default, *shape):
        t = args.get(name)
        return np.broadcast_to(np.full(shape, default) if t is None else t.detach().double().numpy(), shape)

    x, y, z, z_box, s_eq, s_in, s_box = (
        np.atleast_2d(getattr(sol, k).detach().double().numpy())
        for k in ("x", "y", "z", "z_box", "s_eq", "s_in", "s_box")
    )
    (B, n), n_eq, n_in = x.shape, y.shape[1], z.shape[1]
    H, g = array("H", 0.0, B, n, n), array("g", 0.0, B, n)
    A, C = array("A", 0.0, B, n_eq, n), array("C", 0.0, B, n_in, n)
    G = np.concatenate([A, C, np.broadcast_to(np.eye(n), (B, n, n))], 1)
    b = array("b", 0.0, B, n_eq)
    lo = np.concatenate([b, array("l", -np.inf, B, n_in), array("lb", -np.inf, B, n)], 1)
    hi = np.concatenate([b, array("u", np.inf, B, n_in), array("ub", np.inf, B, n)], 1)
    multiplier, s = np.concatenate([y, z, z_box], 1), np.concatenate([s_eq, s_in, s_box], 1)

    Gx = np.einsum("bmn,bn->bm", G, x)
    Hx = np.einsum("bij,bj->bi", H, x)
    objective = 0.5 * (x * Hx).sum(1) + (g * x).sum(1)
    with np.errstate(invalid="ignore"):
        slack = np.where(multiplier > 0, hi + s - Gx, np.where(multiplier < 0, Gx - lo - s, 0.0))
    rests = np.where(s > 0, lo - Gx, np.where(s < 0, Gx - hi, -np.inf))
    return Certificate(
        primal=_worst(np.maximum(lo + s - Gx, Gx - hi - s)),
        dual=_worst(np.abs(Hx + g + np.einsum("bmn,bm->bn", G, multiplier))),
        gap=_worst((np.abs(multiplier) * np.abs(slack)).sum(1) / (1 + np.abs(objective))),
        shift=_worst(np.abs(np.einsum("bmn,bm->bn", G, s))),
        sign=_worst(rests),
    )


def _worst(values: np.ndarray) -> float:
    return float(values.max(initial=0.0))


def is_finite(*tensors: torch.Tensor | None) -> bool:
    return all(t is None or bool(t.isfinite().all()) for t in tensors)
