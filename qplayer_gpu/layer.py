"""The differentiable solve: the function and the module around the operator."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from . import arrays
from .errors import ProblemTypeError, SettingsError
from .operators import solve
from .problem import Parameters, Sizes
from .settings import Settings
from .solution import Info, Solution
from .solve import parts, start_from

DEFAULTS = Settings()


def solve_qp(
    H: Tensor | None,  # [(B,) n, n]
    g: Tensor,  # [(B,) n]
    A: Tensor | None = None,  # [(B,) n_eq, n]
    b: Tensor | None = None,  # [(B,) n_eq]
    C: Tensor | None = None,  # [(B,) n_in, n]
    l: Tensor | None = None,  # [(B,) n_in]
    u: Tensor | None = None,  # [(B,) n_in]
    lb: Tensor | None = None,  # [(B,) n]
    ub: Tensor | None = None,  # [(B,) n]
    *,
    warm_start: Solution | None = None,
    settings: Settings | None = None,
    backend: str = "auto",
) -> Solution:
    """Solves a batch of QPs, each or else the closest feasible one, differentiably in every argument.

    Minimises ``1/2 x'Hx + g'x`` subject to ``A x = b``, ``l <= C x <= u`` and ``lb <= x <= ub``.

    Each argument is batched, or shared by the batch (without the dimension B, or with B = 1); the gradient of a shared
    one is the sum over the batch. All but ``g`` may be None: without H the problem is an LP. Sides may be infinite.
    H is positive semidefinite; only its symmetric part counts. Float32 arguments are solved as the numbers they are, to
    the same tolerances, and the answer is rounded.

    Where no x satisfies the rows, they are shifted by the s of least Euclidean norm for which some x does, and x is the
    optimum there (Chiche, Gilbert 2016; Bambade, Schramm, Taylor, Carpentier, ICLR 2024). A row with l > u stands for
    the equality halfway.

    Gradients pass through x, the multipliers y, z, z_box and the shifts s_eq, s_in, s_box. Where a constraint is active
    with a multiplier of zero, the derivative taken is the one with that constraint inactive. Equal sides share their
    gradient. The multipliers of shifted rows (and of all equalities of an infeasible problem) are not unique: the
    answer has those of least norm with the signs of inequalities (of any sign where those cannot be had to the
    tolerances), and their gradient is that of those of least norm.

    Arrays of another library that speak DLPack (CuPy, NumPy) are taken where they lie, and the answer has arrays of
    that library, without gradients.

    Args:
        warm_start: a previous answer to problems of the same shapes; only its values are used.
        settings: tolerances and limits.
        backend: "auto" for the fastest that is known to run here, or its name: "cpu" (compiled at first use, which
            takes some seconds once; needs a C++ compiler), "torch" (anywhere), "triton" (on a CUDA device; leaves
            problems larger than its tiles to "torch"), or "cuda" (on a CUDA device, through CuPy; compiled at first
            use, which takes some twenty seconds once; leaves more than 256 variables or 512 rows to "torch"). Of the
            last two "auto" takes what ``python -m qplayer_gpu.trial`` has found right on this machine.

    Raises:
        ProblemError: shapes, dtypes or devices do not fit.
        BackendError: the backend asked for cannot run here.
    """
    settings = checked(settings)
    if not isinstance(warm_start, (Solution, type(None))):
        raise ProblemTypeError(f"warm_start must be a Solution, not {type(warm_start).__name__}")
    given = Parameters(H, g, A, b, C, l, u, lb, ub)
    library = arrays.namespace(given)
    if library is not None:
        warm_start = None if warm_start is None else warm_start.map(arrays.tensor)
        tensors = map(arrays.tensor, given)
        solution = solve_qp(*tensors, warm_start=warm_start, settings=settings, backend=backend)
        return solution.map(library.from_dlpack)
    parameters = autocast(given)
    sizes = Sizes.of(parameters)
    start = None if warm_start is None else start_from(warm_start, sizes, parameters.g.device)
    x, z, s, status, iterations, *residuals = solve(parameters, start, settings, backend)
    dtype = parameters.g.dtype
    x, y, z, z_box, s_eq, s_in, s_box = (t.to(dtype) for t in (x, *parts(z, sizes), *parts(s, sizes)))
    info = Info(iterations, *(t.detach().to(dtype) for t in residuals))
    solution = Solution(x, y, z, z_box, s_eq, s_in, s_box, status, info)
    return solution[0] if sizes.batch is None else solution


def checked(settings: Settings | None) -> Settings:
    """The settings, or the defaults where there are none."""
    if not isinstance(settings, (Settings, type(None))):
        raise SettingsError(f"settings must be a qplayer_gpu.Settings, not {type(settings).__name__}")
    return DEFAULTS if settings is None else settings


def autocast(parameters: Parameters) -> Parameters:
    """In a region of torch.autocast, half and bfloat16 tensors as float32, as its operators in float32 take them."""

    def cast(t: Tensor) -> Tensor:
        low = isinstance(t, Tensor) and t.dtype in (torch.float16, torch.bfloat16)
        return t.float() if low and torch.is_autocast_enabled(t.device.type) else t

    return Parameters(*(t if t is None else cast(t) for t in parameters))  # type: ignore[arg-type]


class QPLayer(nn.Module):
    """:func:`solve_qp` as a module that holds the settings and has no parameters of its own."""

    def __init__(self, settings: Settings | None = None, backend: str = "auto"):
        super().__init__()
        self.settings = checked(settings)
        self.backend = backend

    def forward(
        self,
        H: Tensor | None,
        g: Tensor,
        A: Tensor | None = None,
        b: Tensor | None = None,
        C: Tensor | None = None,
        l: Tensor | None = None,
        u: Tensor | None = None,
        lb: Tensor | None = None,
        ub: Tensor | None = None,
        *,
        warm_start: Solution | None = None,
    ) -> Solution:
        """As :func:`solve_qp`."""
        return solve_qp(
            H, g, A, b, C, l, u, lb, ub, warm_start=warm_start, settings=self.settings, backend=self.backend
        )

    def extra_repr(self) -> str:
        return f"{self.settings}, backend={self.backend!r}"
