"""The solve in eager code on a CPU: one call of the library from the arguments to the answer, one for the gradients.

The operators take rows, which many small operations of torch make of the arguments; for a few problems these would
take longer than the solve. Here the library does what they do. Whatever is no plain tensor, or is looked at by a
transform, a mode or a tracer, goes the way of ``general.py``, and so does a backward that is differentiated again.
"""

from __future__ import annotations

from collections.abc import Sequence
from sys import float_info
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from . import backend as backends
from . import general
from .derivatives import outer, outer_symmetric
from .kernels import cpu
from .kernels.cpu.arguments import PARTS, WORDS, PullBackCall, SolveCall
from .kernels.cpu.running import run
from .memory import check
from .plans import EMPTY, Plan
from .problem import DTYPES, QP, WEIGHTS
from .settings import Settings
from .solution import Info, Solution

PLAIN = (Tensor, nn.Parameter)
MATRICES = H, A, _ = 0, 2, 4  # among the arguments
NOWHERE = (0,) * PARTS
MOST = 1000  # plans that are kept
_plans: dict[Any, Plan] = {}


def solve(qp: QP, warm_start: Solution | None, settings: Settings, backend: str) -> Solution | None:
    """The answer, or None where it is to be had by the operators.

    Raises:
        QPError: as in :func:`.solve_qp`.
    """
    described = _description(qp) if _is_watched_by_nobody() else None
    if described is None:
        return None
    shapes, wanted = described
    key = settings, shapes
    plan = _plans.get(key)
    if plan is None:
        plan = Plan(qp, settings)
        if len(_plans) >= MOST:
            _plans.clear()
        _plans[key] = plan
    check(plan.doubles, qp.g.device)
    if plan.options.mixed or backends.select(backend, plan.rows, False) is not cpu:
        return None
    start = () if warm_start is None else _parts(warm_start, plan)
    if start is None:
        return None
    if wanted and torch.is_grad_enabled():
        answer = _Solve.apply(plan, settings, start, *qp)
    else:
        answer, _ = _solve(plan, qp, start, None)
    x, y, z, z_box, s_eq, s_in, s_box, status, *measures = answer
    return Solution(x, y, z, z_box, s_eq, s_in, s_box, status, Info(*measures))


def _is_watched_by_nobody() -> bool:
    level: int = forward_ad._current_level
    return not (
        level >= 0
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._get_tracing_state()
    )


def _is_of_many(t: Tensor | None) -> bool:
    """Whether it stands for several tensors, as ``torch.autograd.grad(is_grads_batched=True)`` hands them over."""
    return t is not None and torch._C._functorch.is_legacy_batchedtensor(t)


def _description(qp: Sequence[Any]) -> tuple[tuple[Any, ...], bool] | None:
    """What a plan depends on, and whether a tensor requires a gradient; None where one is not plain."""
    dtype, wanted = getattr(qp[1], "dtype", None), False
    if dtype not in DTYPES:
        return None
    known: list[Any] = [dtype]
    for value in qp:
        kind = type(value)
        if value is None:
            known.append(None)
        elif kind in PLAIN:
            is_dense = value.is_cpu and value.layout is torch.strided and not value.is_nested
            if value.dtype is not dtype or not is_dense or (not value.is_contiguous() and 0 in value.stride()):
                return None
            known.append(value.shape)
            wanted = wanted or value.requires_grad
        elif kind is float or (kind is int and abs(value) <= float_info.max):
            known.append(kind)
        else:
            return None
    known.extend(w for w in qp[-len(WEIGHTS) :] if w is not None and not isinstance(w, Tensor))
    return tuple(known), wanted


def _parts(warm_start: Solution, plan: Plan) -> list[Tensor] | None:
    """The vectors of an earlier answer, or None where one is not plain or not of these sizes."""
    found = []
    for t, like in zip(vars(warm_start).values(), plan.answer[:PARTS], strict=False):
        if type(t) not in PLAIN or not t.is_cpu or t.shape != like.shape:
            return None
        found.append(t.double().contiguous())
    return found


def _solve(
    plan: Plan, given: Sequence[Any], start: Sequence[Tensor], kept: Tensor | None
) -> tuple[list[Tensor], list[Tensor]]:
    """The parts of the answer, and what the library has read in their place."""
    held, words = [], []
    for value in given:
        if isinstance(value, Tensor):
            held.append(value.double().contiguous())
            words.append(held[-1].data_ptr())
        else:
            words.append(0 if value is None else value)
    answer = [torch.empty_like(like) for like in plan.answer]
    call = SolveCall.from_buffer_copy(plan.solve)
    starts = [t.data_ptr() for t in start] or NOWHERE
    kept_at = 0 if kept is None else kept.data_ptr()
    plan.words.pack_into(call, WORDS, *words, kept_at, *starts, *[t.data_ptr() for t in answer])
    run(cpu.load().qplayer_solve, call, *plan.extent, (held, start, kept, answer))
    return [t.float() if t.is_floating_point() else t for t in answer] if plan.single else answer, held


class _Solve(torch.autograd.Function):
    """The parts of the answer, of which the vectors are differentiable in the arguments."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, settings: Settings, start: Sequence[Tensor], *given: Any) -> Any:
        kept = EMPTY.new_empty(plan.kept)
        answer, held = _solve(plan, given, start, kept)
        needs = ctx.needs_input_grad[-len(given) :]
        ctx.plan, ctx.settings = plan, settings
        ctx.numbers = [None if isinstance(value, Tensor) else value for value in given]
        ctx.save_for_backward(kept, *plan.read(held), *[t for t, need in zip(given, needs, strict=True) if need])
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*answer[PARTS:])
        return tuple(answer)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> Any:
        kept, *saved = ctx.saved_tensors
        needs = ctx.needs_input_grad[-len(ctx.numbers) :]
        read, differentiable = saved[: -sum(needs)], iter(saved[-sum(needs) :])
        leaves = [next(differentiable) if need else None for need in needs]
        seeds = cotangents[:PARTS]
        if torch.is_grad_enabled() or not _is_watched_by_nobody() or any(map(_is_of_many, seeds)):
            found = _traced(ctx, kept, read, leaves, seeds)
        else:
            found = _pull_back(ctx.plan, kept, read, leaves, seeds)
        return *(None,) * (len(ctx.needs_input_grad) - len(needs)), *found


def _pull_back(
    plan: Plan, kept: Tensor, read: Sequence[Tensor], leaves: Sequence[Any], cotangents: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """The gradients of the leaves, by the library but for the sums over a batch."""
    seeds = [None if t is None else t.double().contiguous() for t in cotangents]
    found: list[Any] = []
    factors: Sequence[Tensor] = ()
    for i, leaf in enumerate(leaves):
        if leaf is None:
            found.append(None)
        elif not plan.shared[i]:
            found.append(EMPTY.new_empty(leaf.shape))
        elif i in MATRICES:
            found.append(None)
            factors = factors or [EMPTY.new_empty(plan.batch, 4, k) for k in (plan.stored, plan.sizes.n)]
        else:
            found.append(EMPTY.new_empty(plan.batch, leaf.shape[-1]))
    call = PullBackCall.from_buffer_copy(plan.pull_back)
    addresses = [0 if t is None else t.data_ptr() for t in (kept, *seeds, *found)]
    ends = [t.data_ptr() for t in factors] or (0, 0)
    plan.words_back.pack_into(call, WORDS, *plan.words_read(read), *addresses, *ends)
    run(cpu.load().qplayer_pull_back, call, *plan.extent, (kept, read, seeds, found, factors))
    for i, leaf in enumerate(leaves):
        if leaf is not None and plan.shared[i]:
            found[i] = _summed(plan, i, found[i], factors).view(leaf.shape)
    return [None if t is None else t.to(plan.dtype) for t in found]


def _summed(plan: Plan, i: int, each: Tensor | None, factors: Sequence[Tensor]) -> Tensor:
    """The gradient of argument i, which the batch shares."""
    if each is not None:
        return each.sum(0)
    left, right = factors
    if i == H:
        return outer_symmetric(right[:, 0], right[:, 1], plan.rows.A)
    of_A = left[..., : plan.sizes.n_eq]
    return outer(of_A if i == A else left[..., plan.sizes.n_eq :], right, plan.rows.A)


def _traced(
    ctx: Any, kept: Tensor, read: Sequence[Tensor], leaves: Sequence[Any], cotangents: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """The same by the operators, which trace what they do."""
    known = ctx.plan.arguments(kept, read)
    given = [
        leaf if leaf is not None else t if t is not None else number
        for leaf, t, number in zip(leaves, known, ctx.numbers, strict=True)
    ]
    with torch.enable_grad():
        parts = list(vars(general.solve(QP(*given), None, ctx.settings, "cpu")).values())
    pairs = [(t, c) for t, c in zip(parts, cotangents, strict=False) if c is not None and t.requires_grad]
    inputs = [leaf for leaf in leaves if leaf is not None]
    found = torch.autograd.grad(
        [t for t, _ in pairs], inputs, [c for _, c in pairs], create_graph=torch.is_grad_enabled(), allow_unused=True
    )
    each = iter(found)
    return [None if leaf is None else next(each) for leaf in leaves]
