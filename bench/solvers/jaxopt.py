"""BoxOSQP of jaxopt: ADMM in JAX."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
from torch import Tensor

from . import jax
from .base import below


class Adapter(jax.Adapter):
    """``BoxOSQP(tol=...).run``, all rows as ``l <= G x <= u``; it factors by LU.

    The linear system of its gradients is solved to 1e-10, in its favour: by default they are right to two digits.
    """

    @staticmethod
    def version() -> str:
        return version("jaxopt")

    def convert(self, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
        qp, g = self.qp, leaves["g"]
        full = {"b": (qp.n_eq, 0.0), "l": (qp.n_in, -np.inf), "u": (qp.n_in, np.inf)}
        full |= {"lb": (qp.n_box, -np.inf), "ub": (qp.n_box, np.inf)}
        sides = {k: (leaves.get(k, g.new_full((size,), value)), 1) for k, (size, value) in full.items()}
        A, C = leaves.get("A", g.new_zeros(0, qp.n)), leaves.get("C", g.new_zeros(0, qp.n))
        identity = g.new_ones(qp.n).diag()[: qp.n_box]
        return {
            "H": leaves.get("H", g.new_zeros(qp.n, qp.n)),
            "g": g,
            "G": below((A, 2), (C, 2), (identity, 2)),
            "l": below(sides["b"], sides["l"], sides["lb"]),
            "u": below(sides["b"], sides["u"], sides["ub"]),
        }

    @staticmethod
    def solve(accuracy: Any, *arrays: Any) -> Any:
        done = _run(accuracy, *arrays)
        z = done.params.dual_eq
        return done.params.primal[0], z[:0], z, done.state.iter_num

    @staticmethod
    def x(accuracy: Any, *arrays: Any) -> Any:
        return _run(accuracy, *arrays).params.primal[0]

    def rows(self, z: Tensor) -> Tensor:
        return z


def _run(accuracy: Any, H: Any, g: Any, G: Any, l: Any, u: Any) -> Any:
    from jaxopt import BoxOSQP
    from jaxopt.linear_solve import solve_normal_cg

    adjoint = partial(solve_normal_cg, tol=1e-10, maxiter=2000)
    solver = BoxOSQP(tol=accuracy, eq_qp_solve="lu", implicit_diff_solve=adjoint)
    return solver.run(None, params_obj=(H, g), params_eq=G, params_ineq=(l, u))
