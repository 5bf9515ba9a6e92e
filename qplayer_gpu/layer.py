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
    """Solves a batch of QPs, each or else the closest feasible one, differentiably in every argument.

    Minimises ``1/2 x'Hx + g'x`` subject to ``A x = b``, ``l <= C x <= u`` and ``lb <= x <= ub``.

    Each argument is batched, or shared by the batch (without the dimension B, or with B = 1); the gradient of a shared
    one is the sum over the batch. All but ``g`` may be None: without H the problem is an LP. A vector may be a number,
    that of all its entries. Sides may be infinite; those of magnitude 1e20 and beyond count as infinite. H is positive
    semidefinite; only its symmetric part counts. Float32 arguments are solved as the numbers they are, to the same
    tolerances, and the answer is rounded.

    Where no x satisfies the rows, they are shifted by the s of least ``sum w_i s_i^2`` for which some x does, and x is
    the optimum there (Chiche, Gilbert 2016; Bambade, Schramm, Taylor, Carpentier, ICLR 2024). The weights
    ``w_eq, w_in, w_box`` of the shifts are > 0, and 1 where they are not given. A row of infinite weight is never
    shifted; where such rows exclude each other, the problem is INFEASIBLE. A row with l > u stands for the equality
    halfway. Where l - u is beyond the tolerance, the problem is infeasible, and the shift of the row has (l - u) / 2
    added, by which both sides give way.

    Gradients pass through x, the multipliers y, z, z_box and the shifts s_eq, s_in, s_box, to all arguments, also to
    the weights (zero for those that are infinite). Where a constraint is active with a multiplier of zero, the
    derivative taken is the one with that constraint inactive. Equal sides share their gradient. The multipliers of
    shifted rows (and of all equalities of an infeasible problem) are not unique: the answer has those of least norm
    with the signs of inequalities (of any sign where those cannot be had to the tolerances), whose gradient this is.

    Arrays of another library that speak DLPack (CuPy, NumPy, JAX) are taken where they lie, and the answer has arrays
    of that library, without gradients; for JAX, :func:`qplayer_gpu.jax.solve_qp` has them.

    Args:
        warm_start: a previous answer to problems of the same shapes; only its values are used.
        settings: tolerances and limits.
        backend: "auto" for the fastest that is known to run here, or its name: "cpu" (compiled at first use, which
            takes some seconds once; needs a C++ compiler), "torch" (anywhere), "triton" (on a CUDA device; to 64
            variables and 256 rows, in float64), or "cuda" (on a CUDA device, through CuPy; compiled at first use,
            which takes some twenty seconds once; to 256 variables and 512 rows). Where "auto" takes one of the
            last two, it checks itself at its first launch.

    Raises:
        ProblemError: shapes, dtypes or devices do not fit.
        BackendError: the backend asked for cannot run here, or cannot take such problems.
        OutOfMemoryError: there is less memory than they take.
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
    """:func:`solve_qp` as a module that holds the settings and has no parameters of its own."""

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
        """As :func:`solve_qp`: ``rows`` are its arguments from C to w_box."""
        given = {"warm_start": warm_start, "settings": self.settings, "backend": self.backend}
        return solve_qp(H, g, A, b, **rows, **given)  # type: ignore[arg-type]

    if TYPE_CHECKING:
        __call__ = forward  # of a Module it takes and returns anything

    def extra_repr(self) -> str:
        return f"{self.settings}, backend={self.backend!r}"
