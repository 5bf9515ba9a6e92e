"""How to solve: tolerances, limits and the first penalties."""

from __future__ import annotations

from dataclasses import dataclass, fields
from numbers import Real
from sys import float_info
from types import NoneType
from typing import Any, Literal

import torch

from .errors import SettingsError
from .kernels.interface import Options


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to solve. Settings are frozen, and checked when they are made.

    A problem is solved when its primal residual and its dual residual, in the units of the data, are at most
    ``eps_abs + eps_rel * scale``, and its complementarity gap is at most
    ``eps_abs + max(eps_abs, eps_rel) * |objective|``. The scale of the primal residual is the largest entry of ``Gx``,
    that of the dual one the largest entry of ``Hx``, ``g`` and ``G'z``.

    Raises:
        SettingsError: A value is out of its range.
    """

    eps_abs: float = 1e-9
    """The absolute tolerance, > 0."""
    eps_rel: float = 0.0
    """The relative tolerance, >= 0."""
    method: Literal["alm", "admm", "auto"] = "alm"
    """How a problem is solved. "alm", an augmented Lagrangian, takes few Newton steps, to high accuracy. "admm" takes
    many cheap iterations, and suits ``eps_abs`` from 1e-2 to 1e-6 (in batched torch operations, by the backends "auto"
    and "torch"). "auto" begins with ADMM where the batch shares H, A and C and the device makes that worth it, which no
    CPU does, and ends with "alm"."""
    max_iter: int = 1000
    """Newton steps at most, over all phases; each is one factorization of an n x n matrix. With the method "admm", its
    iterations at most."""
    mu_eq: float = 1e-3
    """The first penalty of equalities. Their violation weighs 1 / mu_eq in equilibrated units."""
    mu_in: float = 1e-1
    """The first penalty of inequalities and bounds."""
    rho: float = 1e-6
    """The first weight of the proximal term on x."""
    equilibrate: bool = True
    """Whether rows and columns are measured by their size (Ruiz equilibration)."""
    closest_feasible: bool = True
    """Whether the closest feasible problem is solved where a problem is infeasible; otherwise it ends as INFEASIBLE."""
    precision: Literal["float64", "mixed"] | None = None
    """The precision of the forward's factorizations. With "mixed" they are in float32, and all else is in float64. None
    takes "mixed" for float32 tensors on a GPU, and "float64" otherwise; on a CPU it is the faster of the two. Where the
    backend "auto" takes the kernels in Triton, which have no mixed precision, they solve in float64."""
    gradient_on_failure: bool = False
    """Whether a problem that was not solved has the gradient at the iterate that it returns; otherwise its gradient is
    zero."""

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, _plain(getattr(self, field.name)))
        for name in ("eps_abs", "eps_rel", "mu_eq", "mu_in", "rho"):
            value, at_least = getattr(self, name), ">=" if name == "eps_rel" else ">"
            is_finite = isinstance(getattr(self, name), Real) and abs(value) <= float_info.max
            holds = is_finite and (value > 0 or (value == 0 and at_least == ">="))
            self._require(name, holds, f"a finite number {at_least} 0")
            object.__setattr__(self, name, float(value))
        for name in ("equilibrate", "closest_feasible", "gradient_on_failure"):
            self._require(name, isinstance(getattr(self, name), bool), "True or False")
        is_count = isinstance(self.max_iter, int) and 0 <= self.max_iter < 2**63
        self._require("max_iter", is_count, "an integer >= 0 and below 2**63")
        is_name = isinstance(self.precision, (str, NoneType)) and self.precision in (None, "float64", "mixed")
        self._require("precision", is_name, '"float64", "mixed" or None')
        is_method = isinstance(self.method, str) and self.method in ("alm", "admm", "auto")
        self._require("method", is_method, '"alm", "admm" or "auto"')

    def _require(self, name: str, holds: bool, wanted: str) -> None:
        if not holds:
            raise SettingsError(f"{name} must be {wanted}, not {getattr(self, name)!r}")

    def options(self, dtype: torch.dtype, device: torch.device, backend: str = "auto") -> Options:
        """What the kernels need of the settings, for problems given in this dtype on this device."""
        worth_it = dtype == torch.float32 and device.type != "cpu" and backend != "triton"
        mixed = self.precision == "mixed" or (self.precision is None and worth_it)
        given = {name: getattr(self, name) for name in Options._fields if name != "mixed"}
        return Options(mixed=mixed, **given)


def _plain(value: Any) -> Any:
    """A number of NumPy or torch as one of Python, any other value as it is."""
    try:
        return value.item()
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return value


torch.serialization.add_safe_globals([Settings])  # torch.load(weights_only=True) takes them
