"""The call signatures of qpth and of proxsuite's QPLayer, for programs that change but their import.

    from qplayer_gpu.compat import QpthQPFunction as QPFunction  # not from qpth.qp
    from qplayer_gpu.compat import ProxsuiteQPFunction as QPFunction  # not from proxsuite.torch.qplayer

Order, shapes and signs of inputs and outputs are theirs; docs/migrating.md says what differs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .layer import solve_qp
from .settings import Settings
from .solution import Solution

ACCURACY = 1e-9  # the best that is asked of a solve


class QpthQPFunction:
    """``QPFunction`` of qpth 0.0.18: minimise ``1/2 z'Qz + p'z`` subject to ``G z <= h``, ``A z = b``.

    Called with the signature of qpth. ``eps`` is the absolute tolerance, though not below 1e-9; the options that steer
    the interior-point method of qpth (``verbose``, ``notImprovedLim``, ``maxIter``, ``solver``) are taken and not used.
    """

    def __init__(
        self, eps: float = 1e-12, verbose: int = 0, notImprovedLim: int = 3, maxIter: int = 20, solver: object = None,
        check_Q_spd: bool = True
    ):  # fmt: skip
        self.settings = Settings(eps_abs=max(eps, ACCURACY))
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
            RuntimeError: Q is not positive definite, unless ``check_Q_spd=False``.
        """
        if self.check_Q_spd and torch.linalg.cholesky_ex(Q).info.any():
            raise RuntimeError("Q is not SPD.")
        solution = _solve(self.settings, Q, p, A, b, G, None, h)
        return solution.x


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
        self.settings = Settings(eps_abs=max(eps, ACCURACY))
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
        """
        p, A, b, G, l, u = (t.to(Q.dtype) for t in (p, A, b, G, l, u))
        solution = _solve(self.settings, Q, p, A, b, G, l, u)
        answer = (solution.x, solution.y, solution.z)
        return answer if self.structural_feasibility else (*answer, solution.s_eq, solution.s_in)


def _solve(
    settings: Settings, Q: Tensor, p: Tensor, A: Tensor, b: Tensor, G: Tensor, l: Tensor | None, u: Tensor
) -> Solution:
    """The answers, with a batch dimension; constraints without entries are none."""
    p = p if p.dim() == 2 else p.unsqueeze(0)
    A, b = (None, None) if A.numel() == 0 else (A, b)  # type: ignore[assignment]
    rows = {} if G.numel() == 0 else {"C": G, "l": l, "u": u}
    return solve_qp(Q, p, A, b, **rows, settings=settings)  # type: ignore[arg-type]
