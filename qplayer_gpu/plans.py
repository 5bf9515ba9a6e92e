"""What of a call on a CPU depends on shapes and settings alone: checked once, and kept."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import prod
from struct import Struct
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import backend
from .kernels import cpu
from .kernels.call import OptionsStruct, Sizes
from .kernels.cpu.arguments import ABSENT, ARGUMENTS, ARRAY, MEASURES, NUMBER, Arguments, PullBackCall, SolveCall
from .kernels.cpu.running import seconds
from .kernels.interface import Rows
from .memory import doubles_of
from .problem import MATRICES, QP, WEIGHTS, sizes_of
from .settings import Settings
from .solution import Info

EMPTY, CODES = torch.empty(1, dtype=torch.float64), torch.empty(1, dtype=torch.int64)
READ = (0, 1, 2, 4)  # H, g, A and C, which a backward reads where they lie; of the others it has what is kept
VECTORS = ("y", "z", "z_box", "s_eq", "s_in", "s_box")  # of an answer, behind x


class Plan:
    """Of a QP in tensors of one dtype, dense and on the CPU, for the backend of this name.

    Raises:
        QPError: it is none, as in :func:`.solve_qp`.
    """

    def __init__(self, qp: QP, settings: Settings, name: str):
        self.settings, self.name = settings, name
        self.sizes = sizes = sizes_of(qp)
        n, n_eq, n_in = sizes.n, sizes.n_eq, sizes.n_in
        self.batch, self.stored, self.m = 1 if sizes.batch is None else sizes.batch, n_eq + n_in, sum(sizes.rows)
        self.extent = self.batch, seconds(n, self.stored)
        self.doubles = doubles_of(qp, sizes)
        self.dtype, self.single = qp.g.dtype, qp.g.dtype == torch.float32
        self.options = settings.options(qp.g.dtype, qp.g.device)
        self.is_special = self.options.mixed or self.options.method == "admm"
        tensors = [t for t in qp if isinstance(t, Tensor)]
        self.is_ready = self.dtype == torch.float64 and all(t.is_contiguous() for t in tensors)
        given = {i: value.shape for i, value in enumerate(qp) if isinstance(value, Tensor)}
        self.tensors = [*given]
        self.numbers = [i for i, value in enumerate(qp) if value is not None and i not in given]
        self.read = [i for i in READ if i in given]
        self.shared = [self._is_shared(name, value) for name, value in qp._asdict().items()]
        alone = {i: self._shape_alone(i, shape) for i, shape in given.items()}
        self.alone = {i: shape for i, shape in alone.items() if shape is not None}
        H, A, C = (EMPTY.expand(1, k, n) for k in (n, n_eq, n_in))
        side = EMPTY.expand(1, self.m)
        self.rows = Rows(H, EMPTY.expand(1, n), A, C, side, side, w=None, hard=None, batch=self.batch)
        self.lead = () if sizes.batch is None else (self.batch,)
        self.shapes = [(*self.lead, k) for k in (n, n_eq, n_in, n, n_eq, n_in, n)]
        counts = [prod(shape) for shape in self.shapes[1:]]
        self.counts = [*counts, MEASURES * self.batch]
        self.measured = (MEASURES, *self.lead), (self.batch, 1)[: 1 + len(self.lead)], sum(counts)
        self.rest = (*(self.lead if self.batch == 1 else ()), sum(self.counts))
        call, back = SolveCall(), PullBackCall()
        self._describe(call.given, qp, settings)
        back.given = call.given
        self.solve, self.pull_back = bytes(call), bytes(back)
        kinds = "".join("q" if value is None or isinstance(value, Tensor) else "d" for value in qp)
        self.words = Struct(f"{kinds}6q")
        self.words_back = Struct(f"{ARGUMENTS + 1 + 2 + ARGUMENTS + 2}q")

    def _is_shared(self, name: str, value: Any) -> bool:
        """Whether the batch shares a tensor, of which there is one for several problems."""
        if not isinstance(value, Tensor) or self.batch == 1:
            return False
        return value.dim() == 1 + (name in MATRICES) or value.shape[0] == 1

    def _shape_alone(self, i: int, shape: Sequence[int]) -> tuple[int, ...] | None:
        """Of the gradients in argument i of each problem alone; None for a matrix that the batch shares."""
        if not self.shared[i]:
            return tuple(shape)
        return None if QP._fields[i] in MATRICES else (self.batch, shape[-1])

    def _describe(self, given: Arguments, qp: QP, settings: Settings) -> None:
        sizes, weights = self.sizes, [getattr(qp, name) for name in WEIGHTS]
        given.rows.batch = self.batch
        given.rows.sizes = Sizes(sizes.n, sizes.n_eq, sizes.n_in, sizes.n_box > 0)
        given.rows.options = OptionsStruct(*[getattr(self.options, name) for name, *_ in OptionsStruct._fields_])
        for form, value, shared in zip(given.forms, qp, self.shared, strict=True):
            if isinstance(value, Tensor):
                form.kind = ARRAY
                form.stride = 0 if shared or self.batch == 1 else value.numel() // max(self.batch, 1)
            else:
                form.kind = ABSENT if value is None else NUMBER
        given.weighted = any(isinstance(w, Tensor) or (w is not None and w != 1) for w in weights)
        given.may_be_hard = any(isinstance(w, Tensor) or w == torch.inf for w in weights)
        given.on_failure = settings.gradient_on_failure
        self.strides = [form.stride for form in given.forms]
        self.weighted, self.may_be_hard = bool(given.weighted), bool(given.may_be_hard)

    @cached_property
    def is_for_cpu(self) -> bool:
        """Whether the library solves it.

        Raises:
            BackendError: it was asked for, and cannot.
        """
        name = backend.fastest(self.rows) if self.name == "auto" else self.name
        return name == "cpu" and not self.is_special and backend.select(name, self.rows, False) is cpu

    @cached_property
    def kept(self) -> int:
        """How many numbers the backward needs of a solve."""
        return cpu.load().qplayer_kept(SolveCall.from_buffer_copy(self.solve))

    def arguments(self, kept: Tensor) -> dict[int, Tensor]:
        """Tensors that stand for those of the arguments of which there is a copy."""
        m, B = self.m, self.batch
        of_sides, of_weights = (B if any(strides) else 1 for strides in (self.strides[3:9], self.strides[9:]))
        counts = [*[m * of_sides] * 3, m * of_weights * self.weighted, m * of_weights * self.may_be_hard]
        lo, hi, crossing, w, hard = kept[: sum(counts)].split_with_sizes(counts)
        if self.may_be_hard:
            w = torch.where(hard != 0, torch.inf, w)
        (b, l, lb), (_, u, ub) = (v.view(-1, m).split(self.sizes.rows, -1) for v in (lo + crossing, hi - crossing))
        w_eq, w_in, w_box = (w if self.weighted else lo).view(-1, m).split(self.sizes.rows, -1)
        found = {3: b, 5: l, 6: u, 7: lb, 8: ub, 9: w_eq, 10: w_in, 11: w_box}
        return {i: self._as_given(t) for i, t in found.items() if i in self.tensors}

    def _as_given(self, t: Tensor) -> Tensor:
        """In the dtype of the arguments, and without a batch where these have none."""
        return (t.squeeze(0) if self.sizes.batch is None else t).to(self.dtype)


class Rest(NamedTuple):
    """The parts of an answer behind x, in double precision, one after the other, then what is measured of it."""

    plan: Plan
    numbers: Tensor

    def read(self, name: str) -> dict[str, Any]:
        """The part of a :class:`.Solution` of this name, in the memory of this, and what comes with it; empty: none."""
        if name == "info":
            return {name: self._info()}
        if name not in VECTORS:
            return {}
        if not self.numbers.requires_grad:
            return dict(zip(VECTORS, self.vectors(), strict=True))
        with torch.inference_mode(False), torch.enable_grad():  # whatever the mode in which one reads first
            return dict(zip(VECTORS, self.vectors(), strict=True))

    def vectors(self) -> list[Tensor]:
        """Differentiable; one that is changed in place leaves the others as they are."""
        apart = self.numbers.unsafe_split_with_sizes(self.plan.counts, -1)
        return [
            self._rounded(t if t.dim() == len(shape) else t.view(shape))
            for t, shape in zip(apart, self.plan.shapes[1:], strict=False)
        ]

    def _info(self) -> Info[Tensor]:
        steps, *residuals = self.numbers.data.as_strided(*self.plan.measured).unbind()
        counts = steps.view(torch.int64).clone()  # torch.save takes no memory of two dtypes
        return Info(counts, *map(self._rounded, residuals))

    def _rounded(self, t: Tensor) -> Tensor:
        return t.float() if self.plan.single else t
