"""The solve in eager code on a CPU: one call of the library from the arguments to the answer, one for the gradients.

The operators take rows, which many small operations of torch make of the arguments; for a few problems these would
take longer than the solve. Here the library does what they do. Whatever is no plain tensor, or is looked at by a
transform, a mode or a tracer, goes the way of ``general.py``, and so does a backward that is differentiated again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from sys import float_info
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from . import general
from .derivatives import outer, outer_symmetric
from .kernels import cpu
from .kernels.cpu.arguments import ARGUMENTS, PARTS, WORDS, PullBackCall, SolveCall
from .kernels.cpu.running import run
from .memory import check
from .plans import CODES, EMPTY, READ, Plan, Rest
from .problem import DTYPES, QP, WEIGHTS
from .settings import Settings
from .solution import Solution

PLAIN, STRIDED = (Tensor, nn.Parameter), torch.strided
H, A = 0, 2  # among the arguments
OF_WEIGHTS = tuple(map(QP._fields.index, WEIGHTS))
MOST = 1000  # plans that are kept
_plans: dict[Any, Plan] = {}

Start = tuple[Tensor | None, Tensor | None]  # x and the rest of an earlier answer
Call = tuple[Plan, QP, list[int], Start, Tensor]  # with the arguments that want gradients, and the memory of the status


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
        x, rest = _Solve.apply((plan, qp, wanted, start, status), *[qp[i] for i in plan.tensors])
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


def _description(qp: Sequence[Any]) -> tuple[tuple[Any, ...], list[int]] | None:
    """What a plan depends on, and which tensors require a gradient; None where one is not plain."""
    dtype = getattr(qp[1], "dtype", None)
    if dtype not in DTYPES:
        return None
    known, wanted = [dtype], list[int]()
    for i, value in enumerate(qp):
        kind = type(value)
        if value is None:
            known.append(None)
        elif kind in PLAIN:
            if (
                value.dtype is not dtype
                or not value.is_cpu
                or value.layout is not STRIDED
                or value.is_nested
                or value.is_neg()
            ):
                return None
            if not value.is_contiguous():
                if 0 in value.stride():  # expanded: not to be copied
                    return None
                known.append("strided")
            known.append(value.shape)
            if value.requires_grad:
                wanted.append(i)
        elif kind is float or (kind is int and abs(value) <= float_info.max):
            known.append(value if i in OF_WEIGHTS else kind)
        else:
            return None
    return tuple(known), wanted


def _start(of: Solution, plan: Plan) -> Start | None:
    """An earlier answer as the library takes it, or None where it is not plain or not of these sizes."""
    rest = of.rest
    if rest is not None and rest.plan is plan:
        x = of.x
        if x.shape == plan.shapes[0] and x.dtype is torch.float64 and x.is_contiguous():
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
    plan: Plan, given: Sequence[Any], start: Start, status: Tensor, kept: Tensor | None
) -> tuple[Tensor, Tensor]:
    """x, and the rest of the answer, next to its status."""
    x, rest = EMPTY.new_empty(*plan.shapes[0]), EMPTY.new_empty(*plan.rest)
    arrays = *(given if plan.is_ready else map(_ready, given)), kept, *start, x, rest, status
    call = SolveCall.from_buffer_copy(plan.solve)
    plan.words.pack_into(call, WORDS, *_words(arrays))
    run(cpu.load().qplayer_solve, call, *plan.extent, arrays)
    return x.float() if plan.single else x, rest


class _Solve(torch.autograd.Function):
    """x and the rest of the answer, differentiable in the tensors among the arguments."""

    @staticmethod
    def forward(ctx: Any, call: Call, *_: Tensor) -> tuple[Tensor, Tensor]:
        plan, given, wanted, start, status = call
        kept = EMPTY.new_empty(plan.kept)
        ctx.plan, ctx.wanted = plan, wanted
        ctx.numbers = {i: given[i] for i in plan.numbers}
        ctx.saved = [*plan.read, *[i for i in wanted if i not in READ]]
        ctx.save_for_backward(kept, *[given[i] for i in ctx.saved])
        ctx.set_materialize_grads(False)
        return _solve(plan, given, start, status, kept)

    @staticmethod
    def backward(ctx: Any, of_x: Tensor | None, of_rest: Tensor | None) -> Any:
        plan, (kept, *saved) = ctx.plan, ctx.saved_tensors
        known = dict(zip(ctx.saved, saved, strict=True))
        found: Mapping[int, Tensor | None]
        if torch.is_grad_enabled() or not _is_watched_by_nobody() or _is_of_many(of_x) or _is_of_many(of_rest):
            found = _traced(ctx, kept, known, of_x, of_rest)
        else:
            found = _pull_back(plan, kept, known, ctx.wanted, (of_x, of_rest))
        return None, *map(found.get, plan.tensors)


def _pull_back(
    plan: Plan, kept: Tensor, known: dict[int, Tensor], wanted: Sequence[int], cotangents: Sequence[Tensor | None]
) -> dict[int, Tensor]:
    """The gradients of the wanted arguments, by the library but for the sums over a batch."""
    read = known if plan.is_ready else {i: _ready(known[i]) for i in plan.read}
    found = {i: EMPTY.new_empty(*plan.alone[i]) for i in wanted if i in plan.alone}
    factors: list[Any] = [None, None]
    if len(found) < len(wanted):
        factors = [EMPTY.new_empty(plan.batch, 4, k) for k in (plan.stored, plan.sizes.n)]
    seeds = [*map(_ready, cotangents)]
    words = *_places(read), *_words((kept, *seeds)), *_places(found), *_words(factors)
    call = PullBackCall.from_buffer_copy(plan.pull_back)
    plan.words_back.pack_into(call, WORDS, *words)
    run(cpu.load().qplayer_pull_back, call, *plan.extent, (kept, read, seeds, found, factors))
    for i in wanted:
        if plan.shared[i]:
            found[i] = _summed(plan, i, found.get(i), factors).view(known[i].shape)
    return {i: t.to(plan.dtype) for i, t in found.items()} if plan.single else found


def _places(arguments: dict[int, Tensor]) -> list[int]:
    """The addresses of arguments, 0 where there is none."""
    found = [0] * ARGUMENTS
    for i, t in arguments.items():
        found[i] = t.data_ptr()
    return found


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
) -> dict[int, Tensor | None]:
    """The same by the operators, which trace what they do."""
    given = ctx.numbers | ctx.plan.arguments(kept) | known
    cotangents = [of_x, *([] if of_rest is None else Rest(ctx.plan, of_rest).vectors())]
    with torch.enable_grad():
        parts = vars(general.solve(QP(*map(given.get, range(ARGUMENTS))), None, ctx.plan.settings, "cpu")).values()
    pairs = [(t, c.to(t.dtype)) for t, c in zip(parts, cotangents, strict=False) if c is not None and t.requires_grad]
    inputs = {i: known[i] for i in ctx.wanted}
    gradients = torch.autograd.grad(
        [t for t, _ in pairs],
        list(inputs.values()),
        [c for _, c in pairs],
        create_graph=torch.is_grad_enabled(),
        allow_unused=True,
    )
    return dict(zip(inputs, gradients, strict=True))
