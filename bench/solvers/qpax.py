"""qpax: an interior point method in JAX."""

from typing import Any

from . import jax


class Adapter(jax.Adapter):
    """``solve_qp_primal`` and ``solve_qp``, to the accuracy asked for; gradients are smoothed by a thousandth of it."""

    package = "qpax"

    @staticmethod
    def answered(accuracy: Any, *arrays: Any) -> Any:
        from qpax import solve_qp

        x, _, z, y, _, iterations = solve_qp(*arrays, solver_tol=accuracy)
        return x, y, z, iterations

    @staticmethod
    def primal(accuracy: Any, *arrays: Any) -> Any:
        from qpax import solve_qp_primal

        return solve_qp_primal(*arrays, solver_tol=accuracy, target_kappa=1e-3 * accuracy)
