"""Arrays whose entries are affine in the entries of others, as CVXPY's maps from parameters to data are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Affine:
    """``matrix @ [all sources, 1]`` as an array of a shape; entries that no source reaches are made once."""

    def __init__(self, matrix: Any, shape: tuple[int, ...], sizes: Sequence[int]):
        """The sparse matrix of SciPy has a row for each entry and a column for each entry of the sources, then one."""
        self.shape = shape
        *columns, one = np.cumsum([0, *sizes])
        coo = matrix.tocoo()
        coo.sum_duplicates()
        varying = (coo.col < one) & (coo.data != 0)
        entry, column, coefficient = coo.row[varying], coo.col[varying], coo.data[varying]
        constant = np.zeros(matrix.shape[0])
        constant[coo.row[coo.col == one]] = coo.data[coo.col == one]
        source = np.searchsorted(columns, column, side="right") - 1
        self.sources = np.unique(source).tolist()
        first = dict(zip(self.sources, np.cumsum([0, *(sizes[k] for k in self.sources)]), strict=False))
        moved = column + np.array([first[k] - columns[k] for k in source.tolist()], dtype=np.int64)
        self.all_once = not constant.any() and np.array_equal(entry, np.arange(len(constant)))
        host = [torch.from_numpy(a) for a in (constant, entry.astype(np.int64), coefficient, moved)]
        self.held = {torch.device("cpu"): host}

    def __call__(self, sources: Sequence[Tensor]) -> Tensor:
        """The array, [(B,) *shape], of vectors [(B,) size]; without B where none is batched that it depends on."""
        device = sources[0].device
        if device not in self.held:
            self.held[device] = [t.to(device) for t in self.held[torch.device("cpu")]]
        constant, entry, coefficient, column = self.held[device]
        if not self.sources:
            return constant.view(self.shape)
        array = coefficient * joined([sources[k] for k in self.sources]).index_select(-1, column)
        if not self.all_once:
            array = constant.expand((*array.shape[:-1], len(constant))).index_add(-1, entry, array)
        return array.view((*array.shape[:-1], *self.shape))


def joined(vectors: list[Tensor]) -> Tensor:
    """Vectors [(B,) size] side by side, with B where any has it."""
    if len(vectors) == 1:
        return vectors[0]
    batch = next((v.shape[:-1] for v in vectors if v.dim() == 2), torch.Size())
    return torch.cat([v.expand(*batch, -1) for v in vectors], -1)
