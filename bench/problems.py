"""A batch of QPs as plain arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

VECTORS = ("g", "b", "l", "u", "lb", "ub")


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

    def arrays(self) -> dict[str, Tensor]:
        """Those that are there, by name."""
        present = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: array for name, array in present if array is not None}

    def shares(self, name: str) -> bool:
        """Whether one array stands for all problems."""
        return getattr(self, name).dim() == (1 if name in VECTORS else 2)

    def head(self, count: int) -> QP:
        """The first problems, copied."""
        return replace(self, **{k: v if self.shares(k) else v[:count].clone() for k, v in self.arrays().items()})

    def map(self, f: Callable[[Tensor], Tensor]) -> QP:
        """The same with f applied to each array."""
        return replace(self, **{name: f(array) for name, array in self.arrays().items()})

    def moved(self, direction: dict[str, Tensor], step: float) -> QP:
        """The same QPs, the arrays named in ``direction`` moved along it."""
        return replace(self, **{name: getattr(self, name) + step * d for name, d in direction.items()})

    def rows(self, absent: float = torch.inf) -> tuple[Tensor, Tensor, Tensor]:
        """All constraints as ``lo <= G x <= hi`` in the order A, C, x: [B|1, m, n], [B|1, m], [B|1, m].

        ``absent`` stands for a side that is not there, with a minus for a lower one.
        """
        n = self.n
        counts = (self.n_eq, self.n_in, self.n_box)
        identity = torch.eye(n, dtype=self.g.dtype, device=self.g.device)[: self.n_box]
        G = _stacked((self.A, self.C, identity), [(count, n) for count in counts], 0.0, self.g)
        sides = [(count,) for count in counts]
        lo = _stacked((self.b, self.l, self.lb), sides, -absent, self.g)
        hi = _stacked((self.b, self.u, self.ub), sides, absent, self.g)
        return G, lo.clamp(min=-absent), hi.clamp(max=absent)


def _stacked(parts: Sequence[Tensor | None], shapes: Sequence[tuple[int, ...]], fill: float, like: Tensor) -> Tensor:
    """The parts of the given shapes below each other, batched if one of them is: [B|1, m, ...]."""
    dtype, device = like.dtype, like.device
    blocks = []
    for part, shape in zip(parts, shapes, strict=True):
        block = torch.full(shape, fill, dtype=dtype, device=device) if part is None else part
        blocks.append(block if block.dim() > len(shape) else block.unsqueeze(0))
    batch = max(len(block) for block in blocks)
    return torch.cat([block.expand(batch, *block.shape[1:]) for block in blocks], 1)
