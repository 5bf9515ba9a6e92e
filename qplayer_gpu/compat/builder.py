"""From what CVXPY makes of a problem to a program in fewer variables, and back to the variables of the problem."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from .affine import Affine
from .program import Program, Rows

Indices = NDArray[np.intp]


class Entries:
    """A matrix whose entries are affine in the parameters: which entry takes which parameter's, times what."""

    def __init__(self, stacked: Any, height: int):
        """CVXPY has a row for each entry, column by column of the matrix, and as last column the constant."""
        coo = sp.csr_array(stacked).tocoo()
        coo.sum_duplicates()
        kept = coo.data != 0
        self.value, self.of = coo.data[kept], coo.col[kept]
        self.j, self.i = np.divmod(coo.row[kept], height)
        self.shape, self.width = (height, stacked.shape[0] // height), stacked.shape[1]

    def block(self, rows: Indices, columns: Indices, scale: NDArray[np.float64] | float = 1.0) -> Any:
        """These rows, times their scales, and columns: sparse, a row for each entry, row by row of the block."""
        at = [np.full(length, -1) for length in self.shape]
        for place, chosen in zip(at, (rows, columns), strict=True):
            place[chosen] = np.arange(len(chosen))
        i, j = at[0][self.i], at[1][self.j]
        kept = (i >= 0) & (j >= 0)
        value = self.value[kept] * np.broadcast_to(scale, rows.shape)[i[kept]]
        places = i[kept] * len(columns) + j[kept], self.of[kept]
        return sp.csr_array((value, places), shape=(len(rows) * len(columns), self.width))

    def is_unit(self) -> NDArray[np.bool_]:
        """Which entries are all there is in their place, and always 1 or -1."""
        place = self.j * self.shape[0] + self.i
        single = np.bincount(place)[place] == 1
        return single & (self.of == self.width - 1) & (np.abs(self.value) == 1)


class Builder:
    """The parametrized program that CVXPY's reductions end with: rows ``A v + side``, first ``= 0``, then ``>= 0``."""

    def __init__(self, found: Any, reductions: Sequence[Any], problem: Any, parameters: Sequence[Any]):
        self.found, self.reductions, self.problem = found, reductions, problem
        self.sizes = [p.size for p in parameters]
        n, m = found.x.size, found.constr_size
        self.n, self.n_eq = n, found.cone_dims.zero
        labels = self._labels(parameters)
        self.A = Entries(found.A @ labels, m) if m else Entries(sp.csr_array((n + 1, labels.shape[1])), 1)
        self.q, self.P = Entries(sp.csr_array(found.q) @ labels, n + 1), Entries(found.P @ labels, n)
        self.bounds = [self._bound(side, labels) for side in ("lower", "upper")]
        self.values, self.duals = self._values(), self._duals()
        self.defining, self.defined, self.sign = self._definitions()
        self.x = np.setdiff1d(np.arange(n), self.defined)
        self.equal, self.below = np.setdiff1d(np.arange(self.n_eq), self.defining), np.arange(self.n_eq, m)

    def program(self) -> Program:
        """With the variables and rows that are left."""
        x, e, first = self.x, self.defined, np.zeros(1, dtype=np.intp)
        side = np.array([self.n])
        return Program(
            P=self._affine(self.P.block(x, x), len(x), len(x)),
            q=Affine(self.q.block(x, first), (len(x),), self.sizes),
            D=self._affine(self.A.block(self.defining, x, -self.sign), len(e), len(x)),
            d=Affine(self.A.block(self.defining, side, -self.sign), (len(e),), self.sizes),
            P_e=self._affine(self.P.block(e, e), len(e), len(e)),
            P_ex=self._affine(self.P.block(e, x), len(e), len(x)),
            q_e=self._affine(self.q.block(e, first), len(e)),
            equal=self._rows(self.equal, 1.0),
            below=self._rows(self.below, -1.0),
            lb=self._kept(self.bounds[0]),
            ub=self._kept(self.bounds[1]),
        )

    def variable(self, v: Any) -> Affine:
        """A variable of the problem or of its duals as a map of (x, y, z)."""
        places = self.values[v.id] if v.id in self.values else self.duals[v.id] + self.n
        kept = np.concatenate([self.x, self.n + self.equal, self.n + self.below])
        column = np.full(self.n + self.found.constr_size, len(kept))
        column[kept] = np.arange(len(kept))
        entry = np.flatnonzero(places >= 0)
        where = entry, column[places[entry]]
        one = sp.csr_array((np.ones(len(entry)), where), shape=(v.size, len(kept) + 1))
        return Affine(one, v.shape, (len(self.x), len(self.equal), len(self.below)))

    def _labels(self, parameters: Sequence[Any]) -> Any:
        """What CVXPY's columns take: a column for each entry of the parameters, row by row, and one for the constant.

        Of symmetric ones CVXPY takes a triangle, and the mean of the two is given.
        """
        begin, width = 0, 1 + self.found.total_param_size
        rows, columns, values = [width - 1], [sum(self.sizes)], [1.0]
        for p in parameters:
            places = begin + np.arange(p.size, dtype=float).reshape(p.shape)
            begin += p.size
            for given in (places, places.T if p.is_symmetric() else places):
                reduced = reduce(lambda found, r: r.param_forward(found), self.reductions, {p.id: given})
                for name, taken in reduced.items():
                    flat = np.ravel(taken, order="F").astype(int)
                    rows += (self.found.param_id_to_col[name] + np.arange(len(flat))).tolist()
                    columns += flat.tolist()
                    values += [0.5] * len(flat)
        return sp.csr_array((values, (rows, columns)), shape=(width, 1 + sum(self.sizes)))

    def _bound(self, side: str, labels: Any) -> Any:
        """Of all variables, as a sparse map of the parameters, or None."""
        tensor = getattr(self.found, f"{side[0]}b_tensor")
        if tensor is not None:
            return sp.csr_array(tensor @ labels)
        constant = getattr(self.found, f"{side}_bounds")
        if constant is None:
            return None
        where = np.arange(self.n), np.full(self.n, labels.shape[1] - 1)
        return sp.csr_array((constant, where), shape=(self.n, labels.shape[1]))

    def _values(self) -> dict[int, Indices]:
        """Where in v the entries of the problem's variables are, row by row; -1 for those that are always zero."""
        parts = self.found.split_solution(np.arange(1.0, self.n + 1))
        for r in reversed(self.reductions):
            parts = r.var_forward(parts)
        found = {}
        for v in self.problem.variables():
            part = parts.get(v.id, np.zeros(v.shape))
            dense = part.toarray() if sp.issparse(part) else np.asarray(part)
            found[v.id] = np.ravel(dense).astype(np.intp) - 1
        return found

    def _duals(self) -> dict[int, Indices]:
        """Which rows are those of the problem's constraints, row by row, by the names of their dual variables."""
        ends = np.cumsum([c.size for c in self.found.constraints])
        rows = {c.id: np.arange(end - c.size, end) for c, end in zip(self.found.constraints, ends, strict=True)}
        found = {}
        for c in self.problem.constraints:
            name = reduce(lambda name, r: r.cons_id_map.get(name, name), self.reductions, c.id)
            (dual,) = c.dual_variables
            places = rows.get(name, np.full(dual.size, -1 - self.n))
            found[dual.id] = np.ravel(places.reshape(dual.shape, order="F"))
        return found

    def _own(self, parts: dict[int, Indices], length: int) -> NDArray[np.bool_]:
        """Which of so many are the problem's, and not of CVXPY's making."""
        own = np.zeros(length, dtype=bool)
        for places in parts.values():
            own[places[places >= 0]] = True
        return own

    def _definitions(self) -> tuple[Indices, Indices, NDArray[np.float64]]:
        """Rows of CVXPY's, one variable of CVXPY's in each that is nowhere in the others, and its coefficient."""
        A, free = self.A, ~self._own(self.values, self.n)
        for bound in self.bounds:
            if bound is not None:
                free &= ~np.isfinite(bound.sum(1))
        mine = ~self._own(self.duals, self.found.constr_size)
        here = (A.i < self.n_eq) & (A.j < self.n)
        here[here] &= mine[A.i[here]]
        units = A.is_unit()
        rows, defined, signs = [], [], []
        taken, used = np.zeros(self.n, dtype=bool), np.zeros(self.n, dtype=bool)
        order = np.flatnonzero(here)[np.argsort(A.i[here], kind="stable")]
        for entries in np.split(order, np.flatnonzero(np.diff(A.i[order])) + 1):
            columns = A.j[entries]
            if taken[columns].any():
                continue
            fit = entries[units[entries] & free[columns] & ~used[columns]]
            if len(fit):
                rows.append(A.i[fit[0]])
                defined.append(A.j[fit[0]])
                signs.append(A.value[fit[0]])
                used[columns] = taken[A.j[fit[0]]] = True
        return np.array(rows, dtype=np.intp), np.array(defined, dtype=np.intp), np.array(signs)

    def _rows(self, rows: Indices, sign: float) -> Rows | None:
        if not len(rows):
            return None
        own = self._own(self.duals, self.found.constr_size)[rows]
        K = Affine(self.A.block(rows, self.x, sign), (len(rows), len(self.x)), self.sizes)
        E = self._affine(self.A.block(rows, self.defined, sign), len(rows), len(self.defined))
        side = Affine(self.A.block(rows, np.array([self.n]), sign), (len(rows),), self.sizes)
        w = None if own.all() else torch.from_numpy(np.where(own, 1.0, np.inf))
        return Rows(K, E, side, w)

    def _kept(self, bound: Any) -> Affine | None:
        return None if bound is None else Affine(bound[self.x], (len(self.x),), self.sizes)

    def _affine(self, matrix: Any, *shape: int) -> Affine | None:
        """None where it is zero whatever the parameters."""
        return Affine(matrix, shape, self.sizes) if matrix.nnz else None
