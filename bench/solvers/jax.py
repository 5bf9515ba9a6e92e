"""qpax and jaxopt, in JAX: arrays go over without a copy where they can, and functions are compiled once."""

import os
from abc import abstractmethod
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..certificate import Answer
from ..problems import QP, below
from .base import Task, numpy
from .forms import OneSided

XLA_THREADS = "8"  # of two, as on two cores, all now and then wait for ever (jaxlib 0.10.2)


class Adapter(OneSided):
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
        axes = (None, *(None if self.shares(name) else 0 for name in self.native))
        self.plain, self.kept, self.pull = self._compiled(axes)

    @classmethod
    @cache  # as a user's jit does
    def _compiled(cls, axes: tuple[int | None, ...]) -> tuple[Callable, Callable, Callable]:
        import jax

        solve, x = jax.vmap(cls.answered, in_axes=axes), jax.vmap(cls.primal, in_axes=axes)
        keep = jax.jit(lambda accuracy, *arrays: jax.vjp(partial(x, accuracy), *arrays))
        return jax.jit(solve), keep, jax.jit(lambda pull, cotangent: pull(cotangent))

    @staticmethod
    @abstractmethod
    def answered(accuracy: Any, *arrays: Any) -> Any:
        """Of one problem, in JAX: x, the multipliers of the rows A and G, and the number of iterations."""

    @classmethod
    def primal(cls, accuracy: Any, *arrays: Any) -> Any:
        """Of one problem: x alone, as it is differentiated."""
        return cls.answered(accuracy, *arrays)[0]

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


class Qpax(Adapter):
    """``solve_qp_primal`` and ``solve_qp``, to the accuracy asked for; gradients are smoothed by a thousandth of it."""

    package = "qpax"

    @staticmethod
    def answered(accuracy: Any, *arrays: Any) -> Any:
        from qpax import solve_qp

        x, _, z, y, _, iterations = solve_qp(*arrays, solver_tol=accuracy)
        return x, y, z, iterations

    @classmethod
    def primal(cls, accuracy: Any, *arrays: Any) -> Any:
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
    def answered(accuracy: Any, H: Any, g: Any, G: Any, l: Any, u: Any) -> Any:
        from jaxopt import BoxOSQP
        from jaxopt.linear_solve import solve_normal_cg

        adjoint = partial(solve_normal_cg, tol=1e-10, maxiter=2000)
        solver = BoxOSQP(tol=accuracy, eq_qp_solve="lu", implicit_diff_solve=adjoint)
        done = solver.run(None, params_obj=(H, g), params_eq=G, params_ineq=(l, u))
        z = done.params.dual_eq
        return done.params.primal[0], z[:0], z, done.state.iter_num

    def rows(self, z: Tensor) -> Tensor:
        return z
