"""How to solve: tolerances, limits and the first penalties."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Literal

import torch

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
    precision: Literal["float64", "mixed"] | None = None
    """Of the forward's factorizations: "mixed" has them in float32, and all else in float64. None takes "mixed" for
    float32 tensors on a GPU; on a CPU float64 is the faster of the two."""
    gradient_on_failure: bool = False
    """Whether a problem that was not solved passes on the gradient at the iterate that it returns; otherwise it
    is zero."""

    def __post_init__(self) -> None:
        for name in ("eps_abs", "eps_rel", "mu_eq", "mu_in", "rho"):
            object.__setattr__(self, name, self._number(name))
        for name in ("equilibrate", "closest_feasible", "gradient_on_failure"):
            object.__setattr__(self, name, bool(getattr(self, name)))
        for name in ("eps_abs", "mu_eq", "mu_in", "rho"):
            self._require(name, isfinite(getattr(self, name)) and getattr(self, name) > 0, "a finite number > 0")
        self._require("eps_rel", isfinite(self.eps_rel) and self.eps_rel >= 0, "a finite number >= 0")
        self._require("precision", self.precision in (None, "float64", "mixed"), '"float64", "mixed" or None')
        self._require("max_iter", isinstance(self.max_iter, int) and 0 <= self.max_iter < 2**63, "an integer >= 0")

    def _number(self, name: str) -> float:
        """A setting as a float, also one of NumPy or torch."""
        try:
            return float(getattr(self, name))
        except (TypeError, ValueError):
            raise SettingsError(f"{name} must be a number, not {getattr(self, name)!r}") from None

    def _require(self, name: str, holds: bool, wanted: str) -> None:
        if not holds:
            raise SettingsError(f"{name} must be {wanted}, not {getattr(self, name)!r}")

    def options(self, dtype: torch.dtype, device: torch.device, backend: str = "auto") -> Options:
        """What the kernels need of the settings, for problems given in this dtype on this device."""
        worth_it = dtype == torch.float32 and device.type != "cpu" and backend != "triton"
        mixed = self.precision == "mixed" or (self.precision is None and worth_it)
        return Options(*[getattr(self, name) for name in Options._fields if name != "mixed"], mixed)  # type: ignore[call-arg]
