"""Seeded families of QPs, in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial

import torch
from torch import Tensor

from .sudoku import puzzles


@dataclass(frozen=True)
class QP:
    """Minimise ``1/2 x'Hx + g'x`` subject to ``A x = b``, ``l <= C x <= u``, ``lb <= x <= ub``.

    As in ``qplayer_gpu.solve_qp`` each array is batched, shared by the batch (no dimension B) or absent; g is batched.
    """

    g: Tensor  # [B, n]
    H: Tensor | None = None  # [(B,) n, n]
    A: Tensor | None = None  # [(B,) n_eq, n]
    b: Tensor | None = None  # [(B,) n_eq]
    C: Tensor | None = None  # [(B,) n_in, n]
    l: Tensor | None = None  # [(B,) n_in]
    u: Tensor | None = None  # [(B,) n_in]
    lb: Tensor | None = None  # [(B,) n]
    ub: Tensor | None = None  # [(B,) n]

    @property
    def batch(self) -> int:
        return self.g.shape[0]

    @property
    def n(self) -> int:
        return self.g.shape[1]

    @property
    def n_eq(self) -> int:
        return 0 if self.A is None else self.A.shape[-2]

    @property
    def n_in(self) -> int:
        return 0 if self.C is None else self.C.shape[-2]

    @property
    def n_box(self) -> int:
        """How many identity rows there are: n where x is bounded, else 0."""
        return 0 if self.lb is None and self.ub is None else self.n

    def arrays(self) -> dict[str, Tensor | None]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def moved(self, direction: dict[str, Tensor], step: float) -> QP:
        """The same QPs, the arrays named in ``direction`` moved along it."""
        return replace(self, **{name: getattr(self, name) + step * d for name, d in direction.items()})

    def rows(self, absent: float = torch.inf) -> tuple[Tensor, Tensor, Tensor]:
        """All constraints as ``lo <= G x <= hi`` in the order A, C, x: [B|1, m, n], [B|1, m], [B|1, m].

        ``absent`` stands for a side that is not there, with a minus for a lower one.
        """
        n = self.n
        counts = (self.n_eq, self.n_in, self.n_box)
        identity = torch.eye(n, dtype=self.g.dtype)[: self.n_box]
        G = _stacked((self.A, self.C, identity), [(count, n) for count in counts], 0.0)
        sides = [(count,) for count in counts]
        lo, hi = _stacked((self.b, self.l, self.lb), sides, -absent), _stacked((self.b, self.u, self.ub), sides, absent)
        return G, lo.clamp(min=-absent), hi.clamp(max=absent)


def _stacked(parts: Sequence[Tensor | None], shapes: Sequence[tuple[int, ...]], fill: float) -> Tensor:
    """The parts of the given shapes below each other, batched if one of them is: [B|1, m, ...]."""
    blocks = []
    for part, shape in zip(parts, shapes, strict=True):
        block = torch.full(shape, fill, dtype=torch.float64) if part is None else part
        blocks.append(block if block.dim() > len(shape) else block.unsqueeze(0))
    batch = max(len(block) for block in blocks)
    return torch.cat([block.expand(batch, *block.shape[1:]) for block in blocks], 1)


def random_feasible(batch: int, n: int) -> QP:
    """Dense QPs with a known feasible point: n / 4 equalities, n inequalities of which half are two-sided."""
    generator = torch.Generator().manual_seed(n)
    normal, uniform = _sampler(torch.randn, generator), _sampler(torch.rand, generator)
    M, A, C, x = normal(batch, n, n), normal(batch, n // 4, n), normal(batch, n, n), normal(batch, n, 1)
    Ax, Cx = (A @ x).squeeze(-1), (C @ x).squeeze(-1)
    l, u = Cx - uniform(batch, n), Cx + uniform(batch, n)
    l[:, ::2] = -torch.inf
    H = M @ M.mT / n + 1e-2 * torch.eye(n, dtype=torch.float64)
    return QP(g=normal(batch, n), H=H, A=A, b=Ax, C=C, l=l, u=u)


def sudoku_lp(batch: int, n: int) -> QP:
    """The LP layer that is to learn the rules of Sudoku (OptNet, QPLayer), before training: no x satisfies its rows.

    The reward is on the givens of each puzzle; 40 equalities ``A x = 1`` with a random A >= 0 stand for the rules.
    """
    generator = torch.Generator().manual_seed(n)
    A = _sampler(torch.rand, generator)(40, n)
    return QP(g=-puzzles(batch, generator), A=A, b=A.new_ones(40), lb=A.new_zeros(n))


def _sampler(draw: Callable[..., Tensor], generator: torch.Generator) -> Callable[..., Tensor]:
    return partial(draw, generator=generator, dtype=torch.float64)
