"""The solve and its adjoint as operators of PyTorch: ``torch.ops.qplayer_gpu.solve`` and ``.adjoint``.

They take rows and numbers; what comes before is differentiated by torch. Each operator has a fake implementation and
rules for autograd and vmap. In eager mode the same rules serve a ``torch.autograd.Function``, which has one for forward
mode besides. Records travel as their fields, one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from inspect import signature
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch._functorch import eager_transforms
from torch.autograd import forward_ad

from .backend import select
from .derivatives import Change, Linearized, gradients, share
from .kernels.interface import Adjoint, Answer, Options, Rows, Status, Vectors
from .method import forward

TAGS = (torch.Tag.cudagraph_unsafe,)  # the number of steps depends on the data: inductor keeps them out of CUDA graphs
TYPES = {
    "Tensor": "Tensor",
    "Tensor | None": "Tensor?",
    "float": "float",
    "int": "SymInt",
    "bool": "bool",
    "str": "str",
}
SOLVE = {"": Rows, "start_": Vectors, "option_": Options}
ADJOINT = {"": Rows, "point_": Vectors, "grad_": Vectors, "option_": Options}


def schema(records: dict[str, Any], more: str, result: Any) -> str:
    """The signature of an operator: the fields of each record behind its prefix, and more; the fields of the result."""
    types = {
        prefix + name: TYPES[kind.__forward_arg__] + ("?" if prefix == "start_" else "")
        for prefix, record in records.items()
        for name, kind in record.__annotations__.items()
    }
    arguments = [*(f"{kind} {name}" for name, kind in types.items()), more]
    return f"({', '.join(arguments)}) -> ({', '.join(['Tensor'] * len(result._fields))})"


def unpacked(arguments: Sequence[Any], *records: Any) -> list[Any]:
    """The records whose fields these are, and what is left."""
    rest = iter(arguments)
    return [*[record(*islice(rest, len(record._fields))) for record in records], *rest]


def solve(rows: Rows, start: Vectors | None, options: Options, on_failure: bool, backend: str) -> Answer:
    """The answer, of which x, z and s are differentiable in the arrays of the rows.

    A problem that was not solved has derivatives of zero, or with ``on_failure`` those at the iterate returned.
    """
    arguments = (*rows, *(start or (None,) * 3), *options, on_failure, backend)
    return Answer(*(_Solve.apply if _derivatives_are_wanted() else solve_operator)(*arguments))


def _derivatives_are_wanted() -> bool:
    """Whether eager code may differentiate what is computed now; what is compiled takes the operators as they are."""
    level: int = forward_ad._current_level
    return not torch.compiler.is_compiling() and (torch.is_grad_enabled() or level >= 0)


def _compute_solve(*arguments: Any) -> tuple[Tensor, ...]:
    rows, start, options, _, backend = unpacked(arguments, *SOLVE.values())
    return forward(rows, options, None if start.x is None else start, backend)


def _fake_solve(*arguments: Any) -> tuple[Tensor, ...]:
    rows = Rows(*arguments[: len(Rows._fields)])
    B, new = rows.batch, rows.g.new_empty
    counts = (new(B, dtype=torch.int64) for _ in range(2))
    return new(B, rows.n), new(B, rows.m), new(B, rows.m), *counts, *(new(B) for _ in range(3))


def _compute_adjoint(*arguments: Any) -> tuple[Tensor, ...]:
    rows, point, grad, options, backend = unpacked(arguments, *ADJOINT.values())
    return select(backend, rows, mixed=False).adjoint(rows, point, grad, options)


def _fake_adjoint(*arguments: Any) -> tuple[Tensor, ...]:
    _, (x, z, _), *_ = unpacked(arguments, *ADJOINT.values())
    return tuple(torch.empty_like(t, memory_format=torch.contiguous_format) for t in (x, z, z, z, x, z, x))


def _linearized(rows: Rows, point: Vectors, options: Options, backend: str) -> Linearized:
    """The conditions at a point, solved by the adjoint operator."""

    def operator(rows: Rows, point: Vectors, grad: Vectors) -> Adjoint:
        arguments = (*rows, *point, *grad, *options._replace(mixed=False), backend)
        return Adjoint(*(_Adjoint.apply if _derivatives_are_wanted() else adjoint_operator)(*arguments))

    return Linearized(rows, point, operator)


def _save(ctx: Any, tensors: Sequence[Tensor | None], *numbers: Any) -> None:
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)
    ctx.numbers = numbers


def _setup_solve(ctx: Any, inputs: Sequence[Any], output: Sequence[Tensor]) -> None:
    rows, _, options, on_failure, backend = unpacked(inputs, *SOLVE.values())
    *arrays, batch = rows
    answer = Answer(*output)
    _save(ctx, (*arrays, *answer.point, answer.status), batch, options, on_failure, backend)
    ctx.mark_non_differentiable(*output[len(answer.point) :])


def _at_answer(ctx: Any) -> tuple[Linearized, Tensor]:
    """The conditions at the answer, and which problems have derivatives: [B, 1] bool."""
    batch, options, on_failure, backend = ctx.numbers
    *arrays, x, z, s, status = ctx.saved_tensors
    solved = (status <= Status.SOLVED_CLOSEST_FEASIBLE).unsqueeze(-1)
    if on_failure:
        solved = x.isfinite().all(-1, keepdim=True)
    rows, point = Rows(*arrays, batch), Vectors(*(torch.where(solved, t, 0.0) for t in (x, z, s)))  # type: ignore[call-arg]
    if rows.w is not None or torch.is_grad_enabled():  # else nothing multiplies by the matrices again
        rows = _tamed(rows, solved)
    return _linearized(rows, point, options, backend), solved


def _tamed(rows: Rows, solved: Tensor) -> Rows:
    """The same without the matrices and weights of problems that have no derivatives.

    A NaN in these would reach the gradients that the batch shares: 0 times NaN is NaN.
    """

    def tame(t: Tensor | None, value: float) -> Tensor | None:
        if t is None:
            return None
        keep = solved if t.shape[0] == rows.batch else solved.any(0, keepdim=True)
        return torch.where(keep if t.dim() == 2 else keep.unsqueeze(-1), t, value)

    return rows._replace(H=tame(rows.H, 0.0), A=tame(rows.A, 0.0), C=tame(rows.C, 0.0), w=tame(rows.w, 1.0))  # type: ignore[arg-type]


def _solve_backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    at, solved = _at_answer(ctx)
    grad = Vectors(*(torch.where(solved, t, 0.0) for t in grads[: len(Vectors._fields)]))
    adjoint = (at.pullback if torch.is_grad_enabled() else at.solve)(*grad)
    found = gradients(at.rows, ctx.needs_input_grad[: len(Rows._fields)], at.point.x, at.point.z, adjoint)
    return *found, *(None,) * (len(ctx.needs_input_grad) - len(found))


def _refuse_forward_over_forward() -> None:
    """Through an autograd.Function, PyTorch loses the outer of two forward modes without a word (seen in 2.13)."""
    if getattr(eager_transforms, "JVP_NESTING", 0) > 1:
        raise NotImplementedError(
            "forward mode over forward mode is not supported: use jacfwd(jacrev(f)), which is torch.func.hessian"
        )


def _solve_jvp(ctx: Any, *tangents: Any) -> tuple[Tensor | None, ...]:
    _refuse_forward_over_forward()
    at, solved = _at_answer(ctx)
    rows, z, ws = at.rows, at.point.z, at.pressing[1]
    d = Rows(*tangents[: len(Rows._fields)])
    dh = sum(share(upper, rows, z, ws) * dside for upper, dside in ((True, d.hi), (False, d.lo)) if dside is not None)
    dh = torch.zeros_like(z) + dh
    moved = at.pushforward(Change.of(rows, d), torch.zeros_like(rows.g) if d.g is None else d.g, dh)
    return *(torch.where(solved, t, 0.0) for t in moved), *(None,) * (len(Answer._fields) - len(moved))


def _setup_adjoint(ctx: Any, inputs: Sequence[Any], output: Sequence[Tensor]) -> None:
    rows, point, _, options, backend = unpacked(inputs, *ADJOINT.values())
    *arrays, batch = rows
    _save(ctx, (*arrays, *point, *output), batch, options, backend)
    adjoint = Adjoint(*output)
    ctx.mark_non_differentiable(adjoint.z, adjoint.ws, adjoint.b_z)


def _at_adjoint(ctx: Any) -> tuple[Linearized, Adjoint]:
    batch, options, backend = ctx.numbers
    saved = ctx.saved_tensors
    arrays, rest = saved[: len(Rows._fields) - 1], saved[len(Rows._fields) - 1 :]
    point, *vectors = unpacked(rest, Vectors)
    return _linearized(Rows(*arrays, batch), point, options, backend), Adjoint(*vectors)  # type: ignore[call-arg]


def _adjoint_backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    at, adjoint = _at_adjoint(ctx)
    grad = Adjoint(*grads)
    rows, of_grad = at.pullback_of_solve(adjoint, grad.b_x, grad.p, grad.b_s, grad.q_z)
    nothing = Vectors(None, None, None)  # type: ignore[arg-type]
    of_rows = rows._replace(g=None, lo=None, hi=None, hard=None, batch=None)  # type: ignore[arg-type]
    found: tuple[Any, ...] = (*of_rows, *nothing, *of_grad)
    return *found, *(None,) * (len(ctx.needs_input_grad) - len(found))


def _adjoint_jvp(ctx: Any, *tangents: Any) -> tuple[Tensor | None, ...]:
    _refuse_forward_over_forward()
    at, adjoint = _at_adjoint(ctx)
    d, _, d_grad, *_ = unpacked(tangents, *ADJOINT.values())
    d_grad = Vectors(*(torch.zeros_like(t) if dt is None else dt for t, dt in zip(at.point, d_grad, strict=True)))
    b_x, p, b_s, q_z = at.pushforward_of_solve(adjoint, Change.of(at.rows, d), d_grad)
    return b_x, p, None, None, b_s, q_z, None


def _vmap(operator: Any, info: Any, in_dims: Any, *arguments: Any) -> tuple[Any, Any]:
    """One call of the operator for all the mapped batches, which are merged into one.

    The arrays of the rows that are neither mapped nor batched stay shared.
    """
    size, batch = info.batch_size, Rows(*arguments[: len(Rows._fields)]).batch

    def merged(k: int, t: Any, dim: int | None) -> Any:
        if not isinstance(t, Tensor):
            return t
        if dim is None and t.shape[0] == 1 and k < len(Rows._fields):
            return t
        t = t.unsqueeze(0) if dim is None else t.movedim(dim, 0)
        return t.expand(size, batch, *t.shape[2:]).flatten(0, 1)

    lifted = [merged(k, t, dim) for k, (t, dim) in enumerate(zip(arguments, in_dims, strict=True))]
    lifted[Rows._fields.index("batch")] = size * batch
    output = operator(*lifted)
    return tuple(t.unflatten(0, (size, batch)) for t in output), (0,) * len(output)


def _operator(name: str, arguments: str, compute: Any, fake: Any, **rules: Any) -> tuple[Any, Any]:
    """An operator of PyTorch, and the autograd.Function by which eager code calls it, under any transform.

    It is computed by the one function on any device, its results have the shapes of the other's, and the rules are
    ``setup_context`` and ``backward`` of both, and ``jvp``.
    """
    full = f"qplayer_gpu::{name}"
    torch.library.define(full, arguments, tags=TAGS)
    torch.library.impl(full, "CompositeExplicitAutograd", compute)
    torch.library.register_fake(full, fake)
    torch.library.register_autograd(full, rules["backward"], setup_context=rules["setup_context"])
    operator = getattr(torch.ops.qplayer_gpu, name).default
    torch.library.register_vmap(full, partial(_vmap, operator))
    for device in ("cpu", "cuda"):
        torch.library.register_autocast(full, device, torch.float32)

    def forward(*arguments: Any) -> tuple[Tensor, ...]:
        with torch._C._AutoDispatchBelowAutograd():  # its own rule is this function's
            return operator(*arguments)

    def vmap(info: Any, in_dims: Any, *arguments: Any) -> tuple[Any, Any]:
        return _vmap(function.apply, info, in_dims, *arguments)  # type: ignore[attr-defined]

    forward.__signature__ = signature(forward)  # type: ignore[attr-defined]  # which each apply asks for
    static = {k: staticmethod(rule) for k, rule in {"forward": forward, "vmap": vmap, **rules}.items()}
    function: Any = type(name, (torch.autograd.Function,), static)
    return operator, function


solve_operator, _Solve = _operator(
    "solve", schema(SOLVE, "bool on_failure, str backend", Answer), _compute_solve, _fake_solve,
    setup_context=_setup_solve, backward=_solve_backward, jvp=_solve_jvp,
)  # fmt: skip
adjoint_operator, _Adjoint = _operator(
    "adjoint", schema(ADJOINT, "str backend", Adjoint), _compute_adjoint, _fake_adjoint,
    setup_context=_setup_adjoint, backward=_adjoint_backward, jvp=_adjoint_jvp,
)  # fmt: skip
