"""qpax and jaxopt, in JAX: arrays go over without a copy where they can, and functions are compiled once."""

import os
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..certificate import Answer
from ..problems import QP, below
from .base import Task, numpy
from .forms import OneSidedAdapter

XLA_THREADS = "8"  # of two, as on two cores, all now and then wait for ever (jaxlib 0.10.2)
_COMPILED: dict[Any, tuple[Callable, Callable, Callable]] = {}  # by solver and by what is shared, as a user's jit does


class Adapter(OneSidedAdapter):
    """One compiled function each for the answer, for x with what its backward needs, and for the backward."""

    devices = ("cpu", "cuda")
    on_stream = False

    def __init__(self, task: Task):
        super().__init__(task)
        os.environ["NPROC"] = XLA_THREADS
        import jax

        jax.config.update("jax_enable_x64", True)
        self.jax = jax
        self.arguments = [jax.dlpack.from_dlpack(v.detach().contiguous()) for v in self.native.values()]
        key = (type(self), *(v.dim() for v in self.native.values()))
        if key not in _COMPILED:
            _COMPILED[key] = self._compiled()
        self.plain, self.kept, self.pull = _COMPILED[key]

    def _compiled(self) -> tuple[Callable, Callable, Callable]:
        jax = self.jax
        axes = (None, *(0 if v.dim() > 1 + (k in "HAG") else None for k, v in self.native.items()))
        solve, x = jax.vmap(self.answered, in_axes=axes), jax.vmap(self.primal, in_axes=axes)
        keep = jax.jit(lambda accuracy, *arrays: jax.vjp(partial(x, accuracy), *arrays))
        return jax.jit(solve), keep, jax.jit(lambda pull, cotangent: pull(cotangent))

    @staticmethod
    @abstractmethod
    def answered(accuracy: Any, *arrays: Any) -> Any:
        """Of one problem, in JAX: x, the multipliers of the rows A and G, and the number of iterations."""

    @staticmethod
    @abstractmethod
    def primal(accuracy: Any, *arrays: Any) -> Any:
        """Of one problem: x alone, which can be differentiated."""

    def forward(self, differentiable: bool) -> None:
        if differentiable:
            _, self.pullback = self.jax.block_until_ready(self.kept(self.task.accuracy, *self.arguments))
        else:
            self.solution = self.jax.block_until_ready(self.plain(self.task.accuracy, *self.arguments))

    def backward(self, grad_x: Tensor) -> None:
        cotangent = self.jax.dlpack.from_dlpack(grad_x.contiguous())
        self.gradients = self.jax.block_until_ready(self.pull(self.pullback, cotangent))

    def native_gradient(self, name: str) -> Tensor | None:
        return torch.from_dlpack(self.gradients[list(self.native).index(name)])

    def answer(self) -> Answer:
        """That of the forward without a backward; the one with it runs the same solve."""
        x, y, z, iterations = (torch.tensor(np.array(a, dtype=np.float64)) for a in self.solution)
        return Answer(*numpy(x, torch.cat([y, self.rows(z)], -1)), iterations=iterations.mean().item())

    def rows(self, z: Tensor) -> Tensor:
        """The multipliers of the rows C, x from those of the rows G."""
        return self.sides.rows(z)


class Qpax(Adapter):
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


class JaxOpt(Adapter):
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
