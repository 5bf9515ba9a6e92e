"""How to solve: tolerances, limits and the first penalties."""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import inf, isfinite
from typing import Literal

import torch
from torch import Tensor

from .errors import SettingsError
from .kernels.interface import Options


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Frozen, and checked when made.

    A problem is solved when its primal residual, its dual residual and its complementarity gap, in the units of the
    data, are at most ``eps_abs + eps_rel * scale``; the scale is the largest entry of ``Gx`` for the primal residual,
    of ``Hx``, ``g`` and ``G'z`` for the dual one. The gap may be ``eps_abs + max(eps_abs, eps_rel) * |objective|``.

    Raises:
        SettingsError: a value is out of its range.
    """

    eps_abs: float = 1e-9
    """Absolute tolerance, > 0."""
    eps_rel: float = 0.0
    """Relative tolerance, >= 0."""
    max_iter: int = 1000
    """Newton steps at most, over all phases; each is one factorization of an n x n matrix."""
    mu_eq: float = 1e-3
    """First penalty of equalities, whose violation weighs 1 / mu_eq in equilibrated units."""
    mu_in: float = 1e-1
    """First penalty of inequalities and bounds."""
    rho: float = 1e-6
    """First weight of the proximal term on x."""
    equilibrate: bool = True
    """Whether to measure rows and columns by their size (Ruiz equilibration)."""
    closest_feasible: bool = True
    """Whether an infeasible problem is solved as the closest feasible one; otherwise it ends as INFEASIBLE."""
    w_eq: float | Sequence[float] | Tensor = 1.0
    """Weight w > 0 of each equality's shift, one for all or one each: an infeasible problem minimises sum w_i s_i^2.
    A row with an infinite weight is never shifted; where such rows exclude each other, the problem is INFEASIBLE."""
    w_in: float | Sequence[float] | Tensor = 1.0
    """The same of the inequalities."""
    w_box: float | Sequence[float] | Tensor = 1.0
    """The same of the bounds on x."""
    precision: Literal["float64", "mixed"] | None = None
    """Of the forward's factorizations: "mixed" has them in float32, and all else in float64. None takes "mixed" for
    float32 tensors on a GPU; on a CPU float64 is the faster of the two."""
    gradient_on_failure: bool = False
    """Whether a problem that was not solved passes on the gradient at the iterate that it returns; otherwise it
    is zero."""

    text: str = field(init=False, repr=False, compare=False)
    """All of the above, one a line, as an operator of PyTorch can take it; made by means that torch.compile traces."""

    def __post_init__(self) -> None:
        for name in ("eps_abs", "eps_rel", "mu_eq", "mu_in", "rho"):
            object.__setattr__(self, name, float(getattr(self, name)))  # also of NumPy's numbers
        for name in ("equilibrate", "closest_feasible", "gradient_on_failure"):
            object.__setattr__(self, name, bool(getattr(self, name)))
        for name in ("eps_abs", "mu_eq", "mu_in", "rho"):
            self._require(name, isfinite(getattr(self, name)) and getattr(self, name) > 0, "a finite number > 0")
        self._require("eps_rel", isfinite(self.eps_rel) and self.eps_rel >= 0, "a finite number >= 0")
        self._require("precision", self.precision in (None, "float64", "mixed"), '"float64", "mixed" or None')
        self._require("max_iter", isinstance(self.max_iter, int) and self.max_iter >= 0, "an integer >= 0")
        for name in ("w_eq", "w_in", "w_box"):
            given = getattr(self, name)
            value = given.tolist() if isinstance(given, Tensor) else given
            weights = (value,) if isinstance(value, (int, float)) else tuple(value)
            weights = tuple([float(w) for w in weights])
            self._require(name, all([w > 0 for w in weights]), "a number > 0, or one for each row")
            object.__setattr__(self, name, weights[0] if isinstance(value, (int, float)) else weights)
        lines = [f"{name} {value!r}".replace("inf", "1e999") for name, value in vars(self).items()]  # a literal of inf
        object.__setattr__(self, "text", "\n".join(lines))

    @property
    def has_hard(self) -> bool:
        """Whether there are rows that must not shift."""
        weights = (getattr(self, name) for name in ("w_eq", "w_in", "w_box"))
        return any(inf in w if isinstance(w, tuple) else w == inf for w in weights)

    @classmethod
    @lru_cache
    def of(cls, text: str) -> Settings:
        """The settings of a text."""
        lines = (line.split(" ", 1) for line in text.splitlines())
        return cls(**{name: literal_eval(value) for name, value in lines})

    def weights(self, n_eq: int, n_in: int, n_box: int, device: torch.device) -> Tensor:
        """The weights of the shifts of all rows: [1, n_eq + n_in + n_box].

        Raises:
            SettingsError: the number of weights is not that of the rows.
        """
        parts = []
        for name, count in (("w_eq", n_eq), ("w_in", n_in), ("w_box", n_box)):
            weights = getattr(self, name)
            if isinstance(weights, tuple):
                if len(weights) != count:
                    raise SettingsError(f"{name} has {len(weights)} weights for {count} rows")
                parts.append(torch.tensor(weights, dtype=torch.float64, device=device))
            else:  # made where it is wanted: a copy to a device would wait
                parts.append(torch.full((count,), weights, dtype=torch.float64, device=device))
        return torch.cat(parts).unsqueeze(0)

    def _require(self, name: str, holds: bool, wanted: str) -> None:
        if not holds:
            raise SettingsError(f"{name} must be {wanted}, not {getattr(self, name)!r}")

    def options(self, dtype: torch.dtype, device: torch.device | None = None) -> Options:
        """What the kernels need of the settings, for problems given in this dtype on this device (None: a CPU)."""
        on_cpu = device is None or device.type == "cpu"
        mixed = self.precision == "mixed" or (self.precision is None and dtype == torch.float32 and not on_cpu)
        shared = (name for name in Options.__dataclass_fields__ if name != "mixed")
        return Options(mixed=mixed, **{name: getattr(self, name) for name in shared})
