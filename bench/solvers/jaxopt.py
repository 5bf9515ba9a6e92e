"""BoxOSQP of jaxopt: ADMM in JAX."""

from functools import partial
from typing import Any

from torch import Tensor

from ..problems import QP, below
from . import jax


class Adapter(jax.Adapter):
    """``BoxOSQP(tol=...).run``, all rows as ``l <= G x <= u``; it factors by LU.

    The linear system of its gradients is solved to 1e-10, in its favour: by default they are right to two digits.
    """

    package = "jaxopt"

    def convert(self, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
        H, g, A, b, C, l, u = QP(**leaves).two_sided().values()
        return {"H": H, "g": g, "G": below(A, C, dim=2), "l": below(b, l), "u": below(b, u)}

    @staticmethod
    def answered(accuracy: Any, *arrays: Any) -> Any:
        done = _run(accuracy, *arrays)
        z = done.params.dual_eq
        return done.params.primal[0], z[:0], z, done.state.iter_num

    @staticmethod
    def primal(accuracy: Any, *arrays: Any) -> Any:
        return _run(accuracy, *arrays).params.primal[0]

    def rows(self, z: Tensor) -> Tensor:
        return z


def _run(accuracy: Any, H: Any, g: Any, G: Any, l: Any, u: Any) -> Any:
    from jaxopt import BoxOSQP
    from jaxopt.linear_solve import solve_normal_cg

    adjoint = partial(solve_normal_cg, tol=1e-10, maxiter=2000)
    solver = BoxOSQP(tol=accuracy, eq_qp_solve="lu", implicit_diff_solve=adjoint)
    return solver.run(None, params_obj=(H, g), params_eq=G, params_ineq=(l, u))
