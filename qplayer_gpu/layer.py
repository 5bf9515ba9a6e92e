"""The differentiable solve: the function and the module around the operator."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from . import arrays, direct, general
from . import backend as backends
from .arrays import Array
from .errors import ProblemTypeError, SettingsError
from .problem import QP, Number
from .settings import Settings
from .solution import Solution

DEFAULTS = Settings()


def solve_qp(
    H: Array | None,  # [(B,) n, n]
    g: Array,  # [(B,) n]
    A: Array | None = None,  # [(B,) n_eq, n]
    b: Array | Number | None = None,  # [(B,) n_eq]
    *,
    C: Array | None = None,  # [(B,) n_in, n]
    l: Array | Number | None = None,  # [(B,) n_in]
    u: Array | Number | None = None,  # [(B,) n_in]
    lb: Array | Number | None = None,  # [(B,) n]
    ub: Array | Number | None = None,  # [(B,) n]
    w_eq: Array | Number | None = None,  # [(B,) n_eq]
    w_in: Array | Number | None = None,  # [(B,) n_in]
    w_box: Array | Number | None = None,  # [(B,) n]
    warm_start: Solution[Array] | None = None,
    settings: Settings | None = None,
    backend: str = "auto",
) -> Solution[Array]:
    """Solves a batch of QPs, or the closest feasible ones, and is differentiable in every argument.

    Minimises ``1/2 x'Hx + g'x`` subject to ``A x = b``, ``l <= C x <= u`` and ``lb <= x <= ub``.

    Each argument is batched, or shared by the batch (without the dimension B, or with B = 1); the gradient of a shared
    argument is the sum over the batch. Float32 arguments are solved as the exact numbers they are, to the same
    tolerances, and the answer is rounded.

    Where no x satisfies the constraints, they are shifted by the s of least ``sum w_i s_i^2`` for which some x does,
    and x is the optimum of the shifted problem (Chiche, Gilbert 2016; Bambade, Schramm, Taylor, Carpentier, ICLR 2024).
    Where rows of infinite weight exclude each other, the problem is INFEASIBLE. A row with l > u stands for the
    equality halfway. If l - u is more than the tolerance, the problem is infeasible, and the shift of the row has
    (l - u) / 2 added, by which both sides give way.

    Gradients pass from x, from the multipliers y, z, z_box and from the shifts s_eq, s_in, s_box to all arguments. A
    constraint that is active with a multiplier of zero counts as inactive. Equal sides share their gradient. The
    multipliers of shifted rows, and of all equalities of an infeasible problem, are not unique: the answer has those of
    least norm with the signs of inequalities (of any sign, if those would miss the tolerances), and the gradient is
    theirs.

    Arrays of another library that speaks DLPack (CuPy, NumPy, JAX) are used without a copy; the answer then has arrays
    of that library, without gradients. For JAX, :func:`qplayer_gpu.jax.solve_qp` has them.

    Args:
        H: The matrix of the cost, [(B,) n, n]. It must be positive semidefinite; only its symmetric part counts. None
            is a linear program.
        g: The linear term of the cost, [(B,) n].
        A: The matrix of the equalities, [(B,) n_eq, n], or None.
        b: The right-hand sides of the equalities, [(B,) n_eq]. This and the following may each be one number for all.
        C: The matrix of the inequalities, [(B,) n_in, n], or None.
        l: The lower sides of the inequalities, [(B,) n_in]. None, -inf and values of -1e20 or less are no side.
        u: The upper sides of the inequalities, [(B,) n_in]. None, inf and values of 1e20 or more are no side.
        lb: The lower bounds on x, [(B,) n], as l.
        ub: The upper bounds on x, [(B,) n], as u.
        w_eq: The weights of the shifts of the equalities, [(B,) n_eq]. They are > 0, and 1 if None; a row of infinite
            weight never shifts, and the gradient of that weight is zero.
        w_in: The weights of the shifts of the inequalities, [(B,) n_in].
        w_box: The weights of the shifts of the bounds, [(B,) n].
        warm_start: A previous answer to problems of the same shapes. Only its values are used, not its gradients.
        settings: The tolerances and limits; None has the defaults.
        backend: The kernels to use. "auto" takes the fastest that are known to run where the tensors are. "cpu" needs a
            C++ compiler and is compiled at first use, which takes some seconds once. "torch" runs anywhere. "triton"
            runs on a CUDA device, in float64, up to 64 variables and 256 rows. "cuda" runs on a CUDA device through
            CuPy, up to 256 variables and 512 rows, and is compiled at first use, which takes about twenty seconds once.
            Where "auto" takes one of the last two, it checks itself at its first launch.

    Raises:
        ProblemError: Shapes, dtypes or devices do not fit.
        BackendError: The backend that was asked for cannot run here, or cannot take such problems.
        OutOfMemoryError: There is less memory than the problems need.
    """
    settings = checked(settings)
    if not isinstance(warm_start, (Solution, type(None))):
        raise ProblemTypeError(f"warm_start must be a Solution, not {type(warm_start).__name__}")
    backends.check(backend)
    qp = QP(H, g, A, b, C, l, u, lb, ub, w_eq, w_in, w_box)  # type: ignore[arg-type]  # of tensors, or made so below
    start: Any = warm_start
    found: Any = None if torch.compiler.is_compiling() else direct.solve(qp, start, settings, backend)
    if found is not None:
        return found
    library = arrays.namespace(qp._asdict() | ({} if start is None else {"warm_start": start.x}))
    if library is None:
        return general.solve(qp, start, settings, backend)  # type: ignore[return-value]
    start = None if start is None else start.map(partial(arrays.tensor, "warm_start"))
    taken = QP(*map(arrays.tensor, QP._fields, qp))
    found = solve_qp(**taken._asdict(), warm_start=start, settings=settings, backend=backend)
    return found.map(library.from_dlpack)


def checked(settings: Settings | None) -> Settings:
    """The settings, or the defaults where there are none."""
    if not isinstance(settings, (Settings, type(None))):
        raise SettingsError(f"settings must be a qplayer_gpu.Settings, not {type(settings).__name__}")
    return DEFAULTS if settings is None else settings


class QPLayer(nn.Module):
    """:func:`solve_qp` as a module. It holds the settings and has no parameters; what is learned is passed to it."""

    def __init__(self, settings: Settings | None = None, backend: str = "auto"):
        super().__init__()
        self.settings = checked(settings)
        backends.check(backend)
        self.backend = backend

    def forward(
        self,
        H: Tensor | None,
        g: Tensor,
        A: Tensor | None = None,
        b: Tensor | Number | None = None,
        *,
        warm_start: Solution | None = None,
        **rows: Tensor | Number | None,
    ) -> Solution:
        """Calls :func:`solve_qp` with the settings and the backend of the layer.

        Args:
            H: The matrix of the cost, [(B,) n, n], or None.
            g: The linear term of the cost, [(B,) n].
            A: The matrix of the equalities, [(B,) n_eq, n], or None.
            b: The right-hand sides of the equalities, [(B,) n_eq].
            warm_start: A previous answer to problems of the same shapes.
            rows: The arguments of :func:`solve_qp` from C to w_box, by their names.
        """
        return solve_qp(H, g, A, b, warm_start=warm_start, settings=self.settings, backend=self.backend, **rows)  # type: ignore[arg-type]

    if TYPE_CHECKING:
        __call__ = forward  # of a Module it takes and returns anything

    def extra_repr(self) -> str:
        return f"{self.settings}, backend={self.backend!r}"
