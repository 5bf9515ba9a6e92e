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

from . import general
from .derivatives import outer, outer_symmetric
from .kernels import cpu
from .kernels.cpu.arguments import PARTS, WORDS, PullBackCall, SolveCall
from .kernels.cpu.running import run
from .memory import check
from .plans import CODES, EMPTY, Plan, Rest
from .problem import DTYPES, QP, WEIGHTS
from .settings import Settings
from .solution import Solution

PLAIN = (Tensor, nn.Parameter)
MATRICES = H, A, _ = 0, 2, 4  # among the arguments
READ = (0, 1, 2, 4)  # H, g, A and C, which a backward reads where they lie; of the others it has what is kept
MOST = 1000  # plans that are kept
_plans: dict[Any, Plan] = {}


def solve(qp: QP, warm_start: Solution | None, settings: Settings, backend: str) -> Solution | None:
    """The answer, or None where it is to be had another way.

    Raises:
        QPError: as in :func:`.solve_qp`.
    """
    described = _description(qp) if _is_watched_by_nobody() else None
    if described is None:
        return None
    known, wanted = described
    key = settings, backend, known
    plan = _plans.get(key)
    if plan is None:
        plan = Plan(qp, settings, backend)
        if len(_plans) >= MOST:
            _plans.clear()
        _plans[key] = plan
    if not plan.is_for_cpu:
        return None
    check(plan.doubles, qp.g.device)
    start = (None, None) if warm_start is None else _start(warm_start, plan)
    if start is None:
        return None
    status = CODES.new_empty(plan.lead)
    if wanted and torch.is_grad_enabled():
        x, rest = _Solve.apply(plan, start, status, *qp)
    else:
        x, rest = _solve(plan, qp, start, status, None)
    return Solution.of_pieces(x, status, Rest(plan, rest))


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
            if (
                value.dtype is not dtype
                or not value.is_cpu
                or value.layout is not torch.strided
                or value.is_nested
                or value.is_neg()
            ):
                return None
            if not value.is_contiguous():
                if 0 in value.stride():  # expanded: not to be copied
                    return None
                known.append("strided")
            known.append(value.shape)
            wanted = wanted or value.requires_grad
        elif kind is float or (kind is int and abs(value) <= float_info.max):
            known.append(kind)
        else:
            return None
    known.extend(w for w in qp[-len(WEIGHTS) :] if w is not None and not isinstance(w, Tensor))
    return tuple(known), wanted


def _start(of: Solution, plan: Plan) -> tuple[Tensor, Tensor] | None:
    """An earlier answer as the library takes it, or None where it is not plain or not of these sizes."""
    x, rest, dtype = of.x, of.rest, torch.float64
    if rest is not None and rest.plan is plan and x.shape == plan.shapes[0] and x.dtype is dtype and x.is_contiguous():
        return x, rest.numbers
    vectors = [of.x, of.y, of.z, of.z_box, of.s_eq, of.s_in, of.s_box]
    if (
        not all(type(t) in PLAIN and t.is_cpu and not t.is_neg() for t in vectors)
        or [t.shape for t in vectors] != plan.shapes[:PARTS]
    ):
        return None
    x, *others = (t.detach().double() for t in vectors)
    return x.contiguous(), torch.cat([t.reshape(-1) for t in others])


def _ready(value: Any) -> Any:
    """A tensor as the library takes it; all else as given."""
    if not isinstance(value, Tensor) or (value.dtype is torch.float64 and value.is_contiguous() and not value.is_neg()):
        return value
    return value.resolve_neg().double().contiguous()


def _words(values: Sequence[Any]) -> list[Any]:
    """The addresses of tensors, 0 where there is none, and numbers."""
    return [0 if v is None else v.data_ptr() if isinstance(v, Tensor) else v for v in values]


def _solve(
    plan: Plan, given: Sequence[Any], start: Sequence[Tensor | None], status: Tensor, kept: Tensor | None
) -> tuple[Tensor, Tensor]:
    """x, and the rest of the answer, next to its status."""
    x, rest = EMPTY.new_empty(*plan.shapes[0]), EMPTY.new_empty(*plan.rest)
    arrays = *(given if plan.is_ready else map(_ready, given)), kept, *start, x, rest, status
    call = SolveCall.from_buffer_copy(plan.solve)
    plan.words.pack_into(call, WORDS, *_words(arrays))
    run(cpu.load().qplayer_solve, call, *plan.extent, arrays)
    return x.float() if plan.single else x, rest


class _Solve(torch.autograd.Function):
    """x and the rest of the answer, differentiable in the arguments."""

    @staticmethod
    def forward(
        ctx: Any, plan: Plan, start: Sequence[Tensor | None], status: Tensor, *given: Any
    ) -> tuple[Tensor, Tensor]:
        kept = EMPTY.new_empty(plan.kept)
        ctx.plan, ctx.needs = plan, ctx.needs_input_grad[-len(given) :]
        ctx.numbers = [None if isinstance(value, Tensor) else value for value in given]
        ctx.saved = [i for i in plan.tensors if ctx.needs[i] or i in READ]
        ctx.save_for_backward(kept, *[given[i] for i in ctx.saved])
        ctx.set_materialize_grads(False)
        return _solve(plan, given, start, status, kept)

    @staticmethod
    def backward(ctx: Any, of_x: Tensor | None, of_rest: Tensor | None) -> Any:
        kept, *saved = ctx.saved_tensors
        known = dict(zip(ctx.saved, saved, strict=True))
        if torch.is_grad_enabled() or not _is_watched_by_nobody() or _is_of_many(of_x) or _is_of_many(of_rest):
            found = _traced(ctx, kept, known, of_x, of_rest)
        else:
            found = _pull_back(ctx.plan, kept, known, ctx.needs, (of_x, of_rest))
        return None, None, None, *found


def _pull_back(
    plan: Plan, kept: Tensor, known: dict[int, Tensor], needs: Sequence[bool], cotangents: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """The gradients of the arguments that need one, by the library but for the sums over a batch."""
    read = known if plan.is_ready else {i: _ready(known[i]) for i in READ if i in known}
    found: list[Any] = [None] * len(needs)
    factors: list[Any] = []
    for i in (i for i in known if needs[i]):
        if not plan.shared[i]:
            found[i] = EMPTY.new_empty(*known[i].shape)
        elif i not in MATRICES:
            found[i] = EMPTY.new_empty(plan.batch, known[i].shape[-1])
        elif not factors:
            factors = [EMPTY.new_empty(plan.batch, 4, k) for k in (plan.stored, plan.sizes.n)]
    arrays = *map(read.get, range(len(needs))), kept, *map(_ready, cotangents), *found, *(factors or (None, None))
    call = PullBackCall.from_buffer_copy(plan.pull_back)
    plan.words_back.pack_into(call, WORDS, *_words(arrays))
    run(cpu.load().qplayer_pull_back, call, *plan.extent, arrays)
    for i in (i for i in known if needs[i] and plan.shared[i]):
        found[i] = _summed(plan, i, found[i], factors).view(known[i].shape)
    return [None if t is None else t.to(plan.dtype) for t in found] if plan.single else found


def _summed(plan: Plan, i: int, each: Tensor | None, factors: Sequence[Tensor]) -> Tensor:
    """The gradient of argument i, which the batch shares."""
    if each is not None:
        return each.sum(0)
    left, right = factors
    if i == H:
        return outer_symmetric(right[:, 0], right[:, 1], plan.rows.A)
    n_eq = plan.sizes.n_eq
    return outer(left[..., :n_eq] if i == A else left[..., n_eq:], right, plan.rows.A)


def _traced(
    ctx: Any, kept: Tensor, known: dict[int, Tensor], of_x: Tensor | None, of_rest: Tensor | None
) -> list[Tensor | None]:
    """The same by the operators, which trace what they do."""
    given = [*ctx.numbers]
    for i, t in (ctx.plan.arguments(kept) | known).items():
        given[i] = t
    cotangents = [of_x, *([] if of_rest is None else Rest(ctx.plan, of_rest).vectors())]
    with torch.enable_grad():
        parts = vars(general.solve(QP(*given), None, ctx.plan.settings, "cpu")).values()
    pairs = [(t, c.to(t.dtype)) for t, c in zip(parts, cotangents, strict=False) if c is not None and t.requires_grad]
    inputs = {i: t for i, t in known.items() if ctx.needs[i]}
    gradients = torch.autograd.grad(
        [t for t, _ in pairs],
        list(inputs.values()),
        [c for _, c in pairs],
        create_graph=torch.is_grad_enabled(),
        allow_unused=True,
    )
    found: list[Tensor | None] = [None] * len(given)
    for i, gradient in zip(inputs, gradients, strict=True):
        found[i] = gradient
    return found
