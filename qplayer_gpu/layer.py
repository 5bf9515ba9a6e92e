"""The differentiable solve: the autograd operator, the function and the module around it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .adjoint import gradients
from .backend import select
from .kernels.interface import Answer, Kernels, Seeds, Start
from .problem import Parameters, Problem
from .settings import Settings
from .solution import Info, Solution
from .solve import parts, solve, start_from


def solve_qp(
    H: Tensor | None,  # [(B,) n, n]
    g: Tensor,  # [(B,) n]
    A: Tensor | None = None,  # [(B,) n_eq, n]
    b: Tensor | None = None,  # [(B,) n_eq]
    C: Tensor | None = None,  # [(B,) n_in, n]
    l: Tensor | None = None,  # [(B,) n_in]
    u: Tensor | None = None,  # [(B,) n_in]
    lb: Tensor | None = None,  # [(B,) n]
    ub: Tensor | None = None,  # [(B,) n]
    *,
    warm_start: Solution | None = None,
    settings: Settings | None = None,
    backend: str = "auto",
) -> Solution:
    """Solves a batch of QPs, each or else the closest feasible one, differentiably in every argument.

    Minimises ``1/2 x'Hx + g'x`` subject to ``A x = b``, ``l <= C x <= u`` and ``lb <= x <= ub``.

    Each argument is batched, or shared by the batch (without the dimension B, or with B = 1); the gradient of a shared
    one is the sum over the batch. All but ``g`` may be None: without H the problem is an LP. Sides may be infinite.
    H is positive semidefinite; only its symmetric part counts. Float32 arguments are solved in float64, and the answer
    is rounded.

    Where no x satisfies the rows, they are shifted by the s of least Euclidean norm for which some x does, and x is the
    optimum there (Chiche, Gilbert 2016; Bambade, Schramm, Taylor, Carpentier, ICLR 2024). A row with l > u stands for
    the equality halfway.

    Gradients pass through x, the multipliers y, z, z_box and the shifts s_eq, s_in, s_box. Where a constraint is active
    with a multiplier of zero, the derivative taken is the one with that constraint inactive. Equal sides share their
    gradient. The multipliers of shifted rows (and of all equalities of an infeasible problem) are not unique: the
    answer has those of least norm with the signs of inequalities, and their gradient is that of those of least norm.

    Args:
        warm_start: a previous answer to problems of the same shapes; only its values are used.
        settings: tolerances and limits.
        backend: "auto" for the fastest that runs here, or its name: "cpu" (compiled at first use, which takes some
            seconds once; needs a C++ compiler) or "torch" (anywhere).

    Raises:
        ProblemError: shapes, dtypes or devices do not fit.
        BackendError: the backend asked for cannot run here.
    """
    settings = Settings() if settings is None else settings
    parameters = Parameters(H, g, A, b, C, l, u, lb, ub)
    problem = Problem.of(parameters, settings)
    kernels = select(backend, problem.rows)
    start = None if warm_start is None else start_from(warm_start, problem)
    vectors = _Solve.apply(problem, settings, kernels, start, *parameters)
    if not problem.batched:
        vectors = [t.squeeze(0) for t in vectors]
    x, y, z, z_box, s_eq, s_in, s_box, status, *info = vectors
    return Solution(x, y, z, z_box, s_eq, s_in, s_box, status, Info(*info))


class QPLayer(nn.Module):
    """:func:`solve_qp` as a module that holds the settings and has no parameters of its own."""

    def __init__(self, settings: Settings | None = None, backend: str = "auto"):
        super().__init__()
        self.settings = Settings() if settings is None else settings
        self.backend = backend

    def forward(
        self,
        H: Tensor | None,
        g: Tensor,
        A: Tensor | None = None,
        b: Tensor | None = None,
        C: Tensor | None = None,
        l: Tensor | None = None,
        u: Tensor | None = None,
        lb: Tensor | None = None,
        ub: Tensor | None = None,
        *,
        warm_start: Solution | None = None,
    ) -> Solution:
        """As :func:`solve_qp`."""
        return solve_qp(
            H, g, A, b, C, l, u, lb, ub, warm_start=warm_start, settings=self.settings, backend=self.backend
        )

    def extra_repr(self) -> str:
        return f"{self.settings}, backend={self.backend!r}"


class _Solve(torch.autograd.Function):
    """The solve as an operator of autograd: the vectors of a Solution and of its Info, in their order."""

    @staticmethod
    def forward(
        ctx: Any,
        problem: Problem,
        settings: Settings,
        kernels: Kernels,
        start: Start | None,
        *parameters: Any,
    ) -> tuple[Tensor, ...]:
        answer = solve(problem, settings, kernels, start)
        ctx.save_for_backward(*parameters, *vars(answer).values())
        ctx.settings, ctx.kernels = settings, kernels
        dtype = Parameters(*parameters).g.dtype
        vectors = [t.to(dtype) for t in (answer.x, *parts(answer.z, problem), *parts(answer.s, problem))]
        info = [answer.iterations, *(t.to(dtype) for t in (answer.primal, answer.dual, answer.gap))]
        ctx.mark_non_differentiable(answer.status, *info)
        return (*vectors, answer.status, *info)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        parameters = Parameters(*ctx.saved_tensors[: len(Parameters._fields)])
        answer = Answer(*ctx.saved_tensors[len(Parameters._fields) :])
        problem = Problem.of(parameters, ctx.settings)
        x, *rows = (t.double() for t in cotangents[:7])
        z, s = (torch.cat(part, -1)[..., : problem.rows.m] for part in (rows[:3], rows[3:]))
        needed = ctx.needs_input_grad[4:]
        return (None,) * 4 + tuple(
            gradients(parameters, needed, problem, answer, Seeds(x, z, s), ctx.settings, ctx.kernels)
        )
