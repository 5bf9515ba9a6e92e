"""A batch of QPs as plain arrays."""

from __future__ import annotations

from collections.abc import Callable
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

    def two_sided(self, absent: float = torch.inf) -> dict[str, Tensor]:
        """H, g, A, b, C, l, u, the bounds of x below the rows of C; what is shared stays so.

        ``absent`` stands for a side that is not there, with a minus for a lower one.
        """
        n, n_in, n_box = self.n, self.n_in, self.n_box
        zeros = {"H": (n, n), "g": (n,), "A": (0, n), "b": (0,), "C": (0, n)}
        sides = {"l": (n_in, -absent), "u": (n_in, absent), "lb": (n_box, -absent), "ub": (n_box, absent)}
        missing = {name: self.g.new_zeros(shape) for name, shape in zeros.items()}
        missing |= {name: self.g.new_full((rows,), value) for name, (rows, value) in sides.items()}
        known = missing | self.arrays()
        lb, ub = known.pop("lb"), known.pop("ub")
        known["C"] = below(known["C"], torch.eye(n).to(self.g)[:n_box], dim=2)
        return known | {"l": below(known["l"], lb).clamp(min=-absent), "u": below(known["u"], ub).clamp(max=absent)}

    def rows(self) -> tuple[Tensor, Tensor, Tensor]:
        """All constraints as ``lo <= G x <= hi`` in the order A, C, x: [B|1, m, n], [B|1, m], [B|1, m]."""
        _, _, A, b, C, l, u = self.two_sided().values()
        G, lo, hi = below(A, C, dim=2), below(b, l), below(b, u)
        return G if G.dim() == 3 else G.unsqueeze(0), torch.atleast_2d(lo), torch.atleast_2d(hi)


def below(*parts: Tensor, dim: int = 1) -> Tensor:
    """Arrays of so many dimensions below each other, batched where one of them is."""
    batch = max((len(part) for part in parts if part.dim() > dim), default=0)
    if batch:
        parts = tuple(part.expand(batch, *part.shape[part.dim() - dim :]) for part in parts)
    return torch.cat(parts, -dim)
