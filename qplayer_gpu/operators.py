"""The solve and its adjoint as operators of PyTorch: ``torch.ops.qplayer_gpu.solve`` and ``.adjoint``.

Each operator has a fake implementation and rules for autograd and vmap. In eager mode the same rules serve a
``torch.autograd.Function``, which has one for forward mode besides.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._functorch import eager_transforms

from .adjoint import gradients, share
from .backend import select
from .kernels.interface import Adjoint, Answer, Rows, Seeds, Start, Status
from .linearized import Change, Linearized, Point
from .problem import MATRICES, Parameters, Problem, Sizes, array, sides
from .settings import Settings
from .solve import solve as solve_rows

N_PARAMETERS = len(Parameters._fields)
N_VECTORS = 4  # of the answer, that its derivatives need: x, z, s, status
TAGS = (torch.Tag.cudagraph_unsafe,)  # the number of steps depends on the data: inductor keeps them out of CUDA graphs
N_ROWS = 8  # the arrays of Rows
N_ADJOINT = 7  # the vectors of Adjoint
N_DIFFERENTIABLE = 3  # of the answer's vectors: x, z, s


def solve(parameters: Parameters, start: Start | None, settings: Settings, backend: str) -> tuple[Tensor, ...]:
    """The vectors of an answer, in their order, differentiable in the parameters."""
    begin = (None, None, None) if start is None else (start.x, start.z, start.s)
    arguments = (*parameters, *begin, settings.text, backend)
    return solve_operator(*arguments) if torch.compiler.is_compiling() else _Solve.apply(*arguments)


@torch.library.custom_op(
    "qplayer_gpu::solve",
    mutates_args=(),
    tags=TAGS,
    schema="(Tensor? H, Tensor g, Tensor? A, Tensor? b, Tensor? C, Tensor? l, Tensor? u, Tensor? lb, Tensor? ub, "
    "Tensor? start_x, Tensor? start_z, Tensor? start_s, str settings, str backend) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def solve_operator(*arguments: Any) -> tuple[Tensor, ...]:
    """Parameters, warm start, settings and backend -> the vectors of an Answer, in double precision."""
    *tensors, settings, backend = arguments
    settings = Settings.of(settings)
    problem = Problem.of(Parameters(*tensors[:N_PARAMETERS]), settings)
    start = None if tensors[-1] is None else Start(*tensors[N_PARAMETERS:])
    options = settings.options(problem.dtype, problem.rows.g.device)
    kernels = select(backend, problem.rows, options.mixed)
    answer = solve_rows(problem, options, kernels, start)
    return tuple(vars(answer).values())


@solve_operator.register_fake
def _(*arguments: Any) -> tuple[Tensor, ...]:
    parameters = Parameters(*arguments[:N_PARAMETERS])
    sizes = Sizes.of(parameters)
    batch = 1 if sizes.batch is None else sizes.batch
    m = sum(sizes.rows)

    def empty(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
        return parameters.g.new_empty(shape, dtype=dtype)

    counts = (empty(batch, dtype=torch.int64) for _ in range(2))
    return empty(batch, sizes.n), empty(batch, m), empty(batch, m), *counts, *(empty(batch) for _ in range(3))


@torch.library.custom_op(
    "qplayer_gpu::adjoint",
    mutates_args=(),
    tags=TAGS,
    schema="(Tensor? H, Tensor g, Tensor A, Tensor C, Tensor lo, Tensor hi, Tensor w, Tensor hard, Tensor x, "
    "Tensor z, Tensor s, Tensor status, Tensor grad_x, Tensor grad_z, Tensor grad_s, str settings, str backend) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def adjoint_operator(*arguments: Any) -> tuple[Tensor, ...]:
    """Rows, the point, cotangents, settings and backend -> the vectors of an Adjoint."""
    *tensors, settings, backend = arguments
    rows, (x, z, s, status), seeds = _split(tensors)
    unknown = torch.full_like(x[:, 0], torch.nan)
    answer = Answer(x, z, s, status, torch.zeros_like(status), unknown, unknown, unknown)
    options = Settings.of(settings).options(torch.float64, rows.g.device)
    kernels = select(backend, rows, mixed=False)
    return tuple(vars(kernels.adjoint(rows, answer, Seeds(*seeds), options)).values())


@adjoint_operator.register_fake
def _(*arguments: Any) -> tuple[Tensor, ...]:
    x, z = arguments[N_ROWS : N_ROWS + 2]
    return tuple(torch.empty_like(t, memory_format=torch.contiguous_format) for t in (x, z, z, z, x, z, x))


def _split(tensors: Sequence[Tensor]) -> tuple[Rows, Point, Sequence[Tensor]]:
    """The tensors of the adjoint operator as rows, the point, and the cotangents."""
    point = Point(*tensors[N_ROWS : N_ROWS + N_VECTORS])
    H, g, A, C, lo, hi, w, hard = tensors[:N_ROWS]
    return Rows(H, g, A, C, lo, hi, w, hard, point.x.shape[0]), point, tensors[N_ROWS + N_VECTORS :]


def _operator(*options: Any) -> Any:
    """The adjoint operator as :class:`Linearized` calls it."""

    def apply(rows: Rows, point: Point, *seeds: Tensor) -> Adjoint:
        arguments = (rows.H, rows.g, rows.A, rows.C, rows.lo, rows.hi, rows.w, rows.hard, *point, *seeds, *options)
        return Adjoint(*(adjoint_operator if torch.compiler.is_compiling() else _Adjoint.apply)(*arguments))

    return apply


def _setup_solve(ctx: Any, inputs: Sequence[Any], output: Sequence[Tensor]) -> None:
    ctx.settings, ctx.backend = inputs[-2:]
    saved = (*inputs[:N_PARAMETERS], *output[:N_VECTORS])
    ctx.save_for_backward(*saved)
    ctx.save_for_forward(*saved)
    ctx.mark_non_differentiable(*output[N_DIFFERENTIABLE:])


def _linearized(ctx: Any) -> tuple[Parameters, Linearized, Tensor]:
    """The parameters, the conditions at the answer, and which problems have derivatives: [B, 1] bool."""
    parameters = Parameters(*ctx.saved_tensors[:N_PARAMETERS])
    x, z, s, status = ctx.saved_tensors[N_PARAMETERS:]
    solved = (status <= Status.SOLVED_CLOSEST_FEASIBLE).unsqueeze(-1)
    settings = Settings.of(ctx.settings)
    if settings.gradient_on_failure:
        solved = x.isfinite().all(-1, keepdim=True)
    x, z, s = (torch.where(solved, t, 0.0) for t in (x, z, s))
    problem = Problem.of(parameters, settings)
    operator = _operator(ctx.settings, ctx.backend)
    return parameters, Linearized(problem.rows, Point(x, z, s, status), operator, settings.has_hard), solved


def _solve_backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
    parameters, at, solved = _linearized(ctx)
    seeds = [torch.where(solved, t, 0.0) for t in cotangents[:N_DIFFERENTIABLE]]
    adjoint = (at.pullback if torch.is_grad_enabled() else at.solve)(*seeds)
    x, z, _, _ = at.point
    return *gradients(parameters, ctx.needs_input_grad[:N_PARAMETERS], at.rows, x, z, adjoint), *(None,) * 5


def _refuse_forward_over_forward() -> None:
    """Through an autograd.Function, PyTorch loses the outer of two forward modes without a word (seen in 2.13)."""
    if getattr(eager_transforms, "JVP_NESTING", 0) > 1:
        raise NotImplementedError("forward mode over forward mode: take jacfwd(jacrev(f)), that is torch.func.hessian")


def _solve_jvp(ctx: Any, *tangents: Any) -> tuple[Tensor | None, ...]:
    _refuse_forward_over_forward()
    parameters, at, solved = _linearized(ctx)
    d = Parameters(
        *(torch.zeros_like(p) if p is not None and t is None else t for p, t in zip(parameters, tangents, strict=False))
    )
    counts = [at.rows.n_eq, at.rows.n_in, at.rows.m - at.rows.n_eq - at.rows.n_in]
    z, (_, ws) = at.point.z, at.pressing
    dh = share(True, at.rows, z, ws) * sides(d, ("b", "u", "ub"), counts, 0.0)
    dh = dh + share(False, at.rows, z, ws) * sides(d, ("b", "l", "lb"), counts, 0.0)
    dH, dA, dC = (array(d, name) for name in MATRICES)
    dH = None if dH is None else 0.5 * (dH + dH.mT)
    change = Change(dH, *(torch.zeros_like(G) if dG is None else dG for G, dG in ((at.rows.A, dA), (at.rows.C, dC))))
    dg = d.g.double() if d.g.dim() == 2 else d.g.double().unsqueeze(0)
    moved = at.pushforward(change, dg, dh)
    return *(torch.where(solved, t, 0.0) for t in moved), *(None,) * 5


def _setup_adjoint(ctx: Any, inputs: Sequence[Any], output: Sequence[Tensor]) -> None:
    *tensors, settings, backend = inputs
    ctx.options = settings, backend
    ctx.save_for_backward(*tensors, *output)
    ctx.save_for_forward(*tensors, *output)
    _, _, z, ws, _, _, b_z = output
    ctx.mark_non_differentiable(z, ws, b_z)


def _linearized_again(ctx: Any) -> tuple[Linearized, Adjoint]:
    rows, point, _ = _split(ctx.saved_tensors[:-N_ADJOINT])
    has_hard = Settings.of(ctx.options[0]).has_hard
    return Linearized(rows, point, _operator(*ctx.options), has_hard), Adjoint(*ctx.saved_tensors[-N_ADJOINT:])


def _adjoint_backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
    at, vectors = _linearized_again(ctx)
    b_x_, p_, _, _, b_s_, q_z_, _ = cotangents
    H, A, C, *seeds = at.pullback_of_solve(vectors, b_x_, p_, b_s_, q_z_)
    return H, None, A, C, *(None,) * 8, *seeds, None, None


def _adjoint_jvp(ctx: Any, *tangents: Any) -> tuple[Tensor | None, ...]:
    _refuse_forward_over_forward()
    at, vectors = _linearized_again(ctx)
    inputs = ctx.saved_tensors[:-N_ADJOINT]
    dH, _, dA, dC, *_, dx_, dz_, ds_ = (
        torch.zeros_like(t) if t is not None and dt is None else dt for t, dt in zip(inputs, tangents, strict=False)
    )
    b_x, p, b_s, q_z = at.pushforward_of_solve(vectors, Change(dH, dA, dC), dx_, dz_, ds_)
    return b_x, p, None, None, b_s, q_z, None


# The rank of each argument without a batch, and the arguments that a batch needs whole.
SOLVE_RANKS = (2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 1, 1, 0, 0)
SOLVE_WHOLE = (1, 9, 10, 11)
ADJOINT_RANKS = (2, 1, 2, 2, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 0, 0)
ADJOINT_WHOLE = range(N_ROWS, N_ROWS + N_VECTORS + N_DIFFERENTIABLE)


def _lift(t: Any, dim: int | None, rank: int, size: int, batch: int, whole: bool) -> Any:
    """A tensor of problems of a given rank, with the mapped dimension merged into the batch: [size * batch, ...].

    What is neither mapped nor batched stays shared, unless it is wanted whole.
    """
    if not isinstance(t, Tensor):
        return t
    if dim is None and not whole and (t.dim() == rank or t.shape[0] == 1):
        return t
    t = t.unsqueeze(0) if dim is None else t.movedim(dim, 0)
    t = t.unsqueeze(1) if t.dim() == rank + 1 else t
    return t.expand(size, batch, *t.shape[2:]).flatten(0, 1)


def _vmap(operator: Any, ranks: Any, whole: Any, info: Any, in_dims: Any, *arguments: Any) -> tuple[Any, Any]:
    """One call of the operator for all the mapped batches."""
    batch = 1
    for t, dim, rank in zip(arguments, in_dims, ranks, strict=True):
        if isinstance(t, Tensor) and t.dim() - (dim is not None) > rank and batch == 1:
            batch = t.shape[1 if dim == 0 else 0]
    lifted = (
        _lift(t, dim, rank, info.batch_size, batch, i in whole)
        for i, (t, dim, rank) in enumerate(zip(arguments, in_dims, ranks, strict=True))
    )
    output = operator(*lifted)
    return tuple(t.unflatten(0, (info.batch_size, batch)) for t in output), (0,) * len(output)


class _Solve(torch.autograd.Function):
    """The operator in eager mode, under any transform."""

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, ...]:
        return solve_operator(*arguments)

    setup_context = staticmethod(_setup_solve)
    backward = staticmethod(_solve_backward)
    jvp = staticmethod(_solve_jvp)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *arguments: Any) -> tuple[Any, Any]:
        return _vmap(_Solve.apply, SOLVE_RANKS, SOLVE_WHOLE, info, in_dims, *arguments)


class _Adjoint(torch.autograd.Function):
    """The adjoint operator in eager mode, under any transform."""

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, ...]:
        return adjoint_operator(*arguments)

    setup_context = staticmethod(_setup_adjoint)
    backward = staticmethod(_adjoint_backward)
    jvp = staticmethod(_adjoint_jvp)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *arguments: Any) -> tuple[Any, Any]:
        return _vmap(_Adjoint.apply, ADJOINT_RANKS, ADJOINT_WHOLE, info, in_dims, *arguments)


solve_operator.register_autograd(_solve_backward, setup_context=_setup_solve)
solve_operator.register_vmap(partial(_vmap, solve_operator, SOLVE_RANKS, SOLVE_WHOLE))
adjoint_operator.register_autograd(_adjoint_backward, setup_context=_setup_adjoint)
adjoint_operator.register_vmap(partial(_vmap, adjoint_operator, ADJOINT_RANKS, ADJOINT_WHOLE))
for _device in ("cpu", "cuda"):
    solve_operator.register_autocast(_device, torch.float32)
    adjoint_operator.register_autocast(_device, torch.float32)
