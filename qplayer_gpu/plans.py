"""What of a call on a CPU depends on shapes and settings alone: checked once, and kept."""

from __future__ import annotations

from functools import cached_property
from struct import Struct
from typing import Any

import torch
from torch import Tensor

from .kernels import cpu
from .kernels.call import OptionsStruct, Sizes
from .kernels.cpu.arguments import ABSENT, ARGUMENTS, ARRAY, NUMBER, PARTS, Arguments, PullBackCall, SolveCall
from .kernels.interface import Rows
from .memory import doubles_of
from .problem import MATRICES, QP, WEIGHTS, sizes_of
from .settings import Settings

EMPTY = torch.empty(1, dtype=torch.float64)


class Plan:
    """Of a QP in tensors of one dtype, dense and on the CPU.

    Raises:
        QPError: it is none, as in :func:`.solve_qp`.
    """

    def __init__(self, qp: QP, settings: Settings):
        self.sizes = sizes = sizes_of(qp)
        n, n_eq, n_in = sizes.n, sizes.n_eq, sizes.n_in
        self.batch, self.stored, self.m = 1 if sizes.batch is None else sizes.batch, n_eq + n_in, sum(sizes.rows)
        self.extent = self.batch, n, self.stored
        self.doubles = doubles_of(qp, sizes)
        self.dtype, self.single = qp.g.dtype, qp.g.dtype == torch.float32
        self.options = settings.options(qp.g.dtype, qp.g.device)
        tensors = [t for t in qp if isinstance(t, Tensor)]
        self.is_ready = self.dtype == torch.float64 and all(t.is_contiguous() for t in tensors)
        self.tensors = [i for i, value in enumerate(qp) if isinstance(value, Tensor)]
        self.shared = [self._is_shared(name, value) for name, value in qp._asdict().items()]
        H, A, C = (EMPTY.expand(1, k, n) for k in (n, n_eq, n_in))
        side = EMPTY.expand(1, self.m)
        self.rows = Rows(H, EMPTY.expand(1, n), A, C, side, side, w=None, hard=None, batch=self.batch)
        lead = () if sizes.batch is None else (self.batch,)
        vectors = [EMPTY.expand(*lead, k) for k in (n, n_eq, n_in, n, n_eq, n_in, n)]
        self.shapes = [t.shape for t in vectors]
        number = EMPTY.reshape(()).expand(lead)
        self.answer = [*vectors, *[EMPTY.long().reshape(()).expand(lead)] * 2, *[number] * 3]
        call, back = SolveCall(), PullBackCall()
        self._describe(call.given, qp, settings)
        back.given = call.given
        self.solve, self.pull_back = bytes(call), bytes(back)
        kinds = "".join("q" if value is None or isinstance(value, Tensor) else "d" for value in qp)
        self.words = Struct(f"{kinds}{1 + PARTS + len(self.answer)}q")
        self.words_back = Struct(f"{ARGUMENTS + 1 + PARTS + ARGUMENTS + 2}q")

    def _is_shared(self, name: str, value: Any) -> bool:
        """Whether the batch shares a tensor, of which there is one for several problems."""
        if not isinstance(value, Tensor) or self.batch == 1:
            return False
        return value.dim() == 1 + (name in MATRICES) or value.shape[0] == 1

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
