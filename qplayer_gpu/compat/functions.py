"""The functions of qpth and of proxsuite's QPLayer."""

from __future__ import annotations

from enum import Enum
from math import isfinite, nan
from numbers import Real

import torch
from torch import Tensor

from ..errors import ProblemTypeError, SettingsError
from ..layer import solve_qp
from ..problem import QP, sizes_of
from ..settings import Settings
from ..solution import Solution

ACCURACY = 1e-9  # the best that is asked of a solve
PROXSUITE = {"H": "Q", "g": "p", "A": "A", "b": "b", "C": "G", "l": "l", "u": "u"}  # our arguments in their words
QPTH = {"H": "Q", "g": "p", "A": "A", "b": "b", "C": "G", "u": "h"}


class QPSolvers(Enum):
    """The solvers that qpth can be told to use; its members are taken by :class:`QpthQPFunction` and not used."""

    PDIPM_BATCHED = 1
    CVXPY = 2


class QpthQPFunction:
    """``QPFunction`` of qpth 0.0.18: minimise ``1/2 z'Qz + p'z`` subject to ``G z <= h``, ``A z = b``.

    Called with the signature of qpth. ``eps`` is the absolute tolerance, though not below 1e-9; the options that steer
    the interior-point method of qpth (``verbose``, ``notImprovedLim``, ``maxIter``, ``solver``) are taken and not used.
    """

    def __init__(
        self, eps: float = 1e-12, verbose: int = 0, notImprovedLim: int = 3, maxIter: int = 20,
        solver: object = QPSolvers.PDIPM_BATCHED, check_Q_spd: bool = True
    ):  # fmt: skip
        self.settings = settings_of(eps)
        self.check_Q_spd = check_Q_spd

    def __call__(
        self,
        Q: Tensor,  # [(B,) n, n]
        p: Tensor,  # [(B,) n]
        G: Tensor,  # [(B,) n_in, n], or empty
        h: Tensor,  # [(B,) n_in], or empty
        A: Tensor,  # [(B,) n_eq, n], or empty
        b: Tensor,  # [(B,) n_eq], or empty
    ) -> Tensor:
        """The solutions z: [B, n], with B = 1 where nothing is batched.

        Raises:
            ProblemError: shapes, dtypes or devices do not fit.
            RuntimeError: Q is not positive definite, unless ``check_Q_spd=False``.
        """
        qp = _checked({"H": Q, "g": p, "A": A, "b": b, "C": G, "u": h}, QPTH)
        if self.check_Q_spd and torch.linalg.cholesky_ex(Q).info.any():
            raise RuntimeError("Q is not SPD.")
        return _solve(qp, self.settings).x


class ProxsuiteQPFunction:
    """``QPFunction`` of proxsuite 0.8.0: minimise ``1/2 z'Qz + p'z`` subject to ``A z = b``, ``l <= G z <= u``.

    Called with the signature of proxsuite, of which ``eps`` is the absolute tolerance and ``structural_feasibility``
    decides what is returned; the others steer its solvers, are taken and are not used.
    """

    def __init__(
        self,
        eps: float = 1e-9,
        maxIter: int = 1000,
        eps_backward: float = 1e-4,
        rho_backward: float = 1e-6,
        mu_backward: float = 1e-6,
        omp_parallel: bool = False,
        structural_feasibility: bool = True,
    ):
        self.settings = settings_of(eps)
        self.structural_feasibility = structural_feasibility

    def __call__(
        self,
        Q: Tensor,  # [(B,) n, n]
        p: Tensor,  # [(B,) n]
        A: Tensor,  # [(B,) n_eq, n], or empty
        b: Tensor,  # [(B,) n_eq], or empty
        G: Tensor,  # [(B,) n_in, n]
        l: Tensor,  # [(B,) n_in], -1e20 for none
        u: Tensor,  # [(B,) n_in], 1e20 for none
    ) -> tuple[Tensor, ...]:
        """``z, lams, nus``, and ``s_e, s_i`` where ``structural_feasibility=False``, in the dtype of Q.

        The solutions [B, n], the multipliers of equalities [B, n_eq] and inequalities [B, n_in], and their shifts:
        ``A z = b + s_e``, ``l + s_i <= G z <= u + s_i``; B = 1 where nothing is batched.

        Raises:
            ProblemError: shapes or devices do not fit.
        """
        given = {"H": Q, "g": p, "A": A, "b": b, "C": G, "l": l, "u": u}
        solution = _solve(_checked(given, PROXSUITE, cast=True), self.settings)
        answer = (solution.x, solution.y, solution.z)
        return answer if self.structural_feasibility else (*answer, solution.s_eq, solution.s_in)


def settings_of(eps: float) -> Settings:
    """What asks for this absolute tolerance."""
    try:
        value = float(eps) if isinstance(eps, Real) else nan
    except OverflowError:
        value = nan
    if not isfinite(value):
        raise SettingsError(f"eps must be a finite number, not {eps!r}")
    return Settings(eps_abs=max(value, ACCURACY))


def _checked(given: dict[str, Tensor], names: dict[str, str], cast: bool = False) -> QP:
    """The problems, of constraints without entries none; ``cast`` takes all in the dtype of H.

    Raises:
        ProblemError: shapes, dtypes or devices do not fit; the message has these names for the arguments.
    """
    for field, t in given.items():
        if not isinstance(t, Tensor):
            raise ProblemTypeError(f"{names[field]} must be a torch.Tensor, not {type(t).__name__}")
    none = {field for rows in ("Ab", "Clu") if given[rows[0]].numel() == 0 for field in rows}
    kept = {field: t.to(given["H"].dtype) if cast else t for field, t in given.items() if field not in none}
    qp = QP(**(dict.fromkeys(QP._fields) | kept))  # type: ignore[arg-type]
    sizes_of(qp, [names.get(field, "") for field in QP._fields])
    return qp


def _solve(qp: QP, settings: Settings) -> Solution:
    """The answers, with a batch dimension."""
    g = qp.g if qp.g.dim() == 2 else qp.g.unsqueeze(0)
    return solve_qp(**qp._replace(g=g)._asdict(), settings=settings)
