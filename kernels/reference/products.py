"""Products with H and with the rows G = [A; C; I], none of which is stacked, expanded or scaled.

A vector of each problem is ``[B, .]``; k of them are ``[B, k, .]`` and cost one pass over the matrices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from torch import Tensor

from ..interface import Rows

T = TypeVar("T", bound="Batched")


def take(t: Tensor, index: Tensor) -> Tensor:
    """The problems ``index`` of a batched array; a shared one stays as it is."""
    return t if t.shape[0] == 1 else t[index]


@dataclass
class Batched:
    """A record of tensors with a leading batch dimension, or of such records."""

    def take(self: T, index: Tensor) -> T:
        """The record of the problems ``index``."""
        parts = {f.name: part for f in fields(self) if (part := getattr(self, f.name)) is not None}
        return replace(
            self, **{k: v.take(index) if isinstance(v, Batched) else take(v, index) for k, v in parts.items()}
        )


def product(X: Tensor, M: Tensor) -> Tensor:
    """``x M`` for [B, (k,) a] and [B|1, a, b], as one matrix product where M is shared."""
    if M.shape[0] == 1:
        return X @ M[0]
    return X @ M if X.dim() == 3 else (X.unsqueeze(1) @ M).squeeze(1)


@dataclass
class Matrices:
    """The matrices of a batch of problems, in the units of the data."""

    n: int
    H: Tensor | None  # [B|1, n, n]
    blocks: list[Tensor]  # [B|1, k, n], the stored rows in their order: A and C as one where both have one batch size
    bounded: bool
    single: Matrices | None = None  # in float32, where factors are in mixed precision

    @classmethod
    def of(cls, rows: Rows, mixed: bool) -> Matrices:
        """The matrices of the rows, and a copy in single precision where the factors are to be."""
        blocks = [G for G in (rows.A, rows.C) if G.shape[1]]
        if len(blocks) == 2 and blocks[0].shape[0] == blocks[1].shape[0]:
            blocks = [torch.cat(blocks, 1)]  # one product for two
        double = cls(rows.n, rows.H, blocks, rows.bounded)
        return replace(double, single=double.map(Tensor.float)) if mixed else double

    def map(self, f: Callable[[Tensor], Tensor]) -> Matrices:
        """The same with f applied to each matrix."""
        H = None if self.H is None else f(self.H)
        single = None if self.single is None else self.single.map(f)
        return Matrices(self.n, H, [f(G) for G in self.blocks], self.bounded, single)

    def take(self, index: Tensor) -> Matrices:
        """The matrices of the problems ``index``."""
        return self.map(lambda M: take(M, index))

    def without_cost(self) -> Matrices:
        """The same with H = 0."""
        return replace(self, H=None, single=None if self.single is None else replace(self.single, H=None))

    def split(self, Z: Tensor) -> list[Tensor]:
        """[..., m] -> the part of each block, and the part of the identity rows (empty where there are none)."""
        return list(Z.split([*(G.shape[1] for G in self.blocks), self.n if self.bounded else 0], -1))

    def hessian(self, X: Tensor) -> Tensor:
        """``H x``: [B, (k,) n] -> [B, (k,) n]."""
        return torch.zeros_like(X) if self.H is None else product(X, self.H)

    def rows(self, X: Tensor) -> Tensor:
        """``G x``: [B, (k,) n] -> [B, (k,) m]."""
        parts = [product(X, G.mT) for G in self.blocks]
        return torch.cat([*parts, X if self.bounded else X[..., :0]], -1)

    def columns(self, Z: Tensor) -> Tensor:
        """``G'z``: [B, (k,) m] -> [B, (k,) n]."""
        *parts, total = self.split(Z)
        if not self.bounded:
            total = Z.new_zeros(*Z.shape[:-1], self.n)
        for G, z in zip(self.blocks, parts, strict=True):
            total = total + product(z, G)
        return total

    def gram(self, w: Tensor, diagonal: Tensor, sigma: Tensor | None) -> Tensor:
        """``sigma H + diag(diagonal) + G' diag(w) G``: [B, m], [B, n], [B] (None for 1) -> [B, n, n]."""
        *parts, bound = self.split(w)
        if self.H is None:
            K = w.new_zeros(w.shape[0], self.n, self.n)
        else:
            K = (self.H if sigma is None else sigma[:, None, None] * self.H).expand(w.shape[0], -1, -1)
        for G, weight in zip(self.blocks, parts, strict=True):
            K = torch.baddbmm(K, G.mT.expand(w.shape[0], -1, -1), G * weight.unsqueeze(-1))
        if not self.blocks:
            K = K.clone()
        K.diagonal(dim1=1, dim2=2).add_(diagonal + bound if self.bounded else diagonal)
        return K


def dot(a: Tensor, b: Tensor) -> Tensor:
    """[B, k], [B, k] -> [B]."""
    return torch.linalg.vecdot(a, b)


def total(v: Tensor) -> Tensor:
    """``sum |v_i|`` of each problem: [B, k] -> [B]."""
    return v.abs().sum(-1)


def largest(v: Tensor) -> Tensor:
    """``max |v_i|`` of each problem, 0 for no entries: [B, k] -> [B]."""
    return v.abs().amax(-1) if v.shape[-1] else v.new_zeros(v.shape[0])
