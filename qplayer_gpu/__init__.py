"""Thousands of small dense QPs solved and differentiated in parallel in PyTorch, feasible or not."""

from .certificate import Certificate, certificate
from .errors import BackendError, OutOfMemoryError, ProblemError, QPError, SettingsError, SolveError
from .kernels.interface import Status
from .layer import QPLayer, solve_qp
from .settings import Settings
from .solution import Info, Solution
from .warm import WarmStart

__version__ = "0.1.0"

__all__ = [
    "BackendError",
    "Certificate",
    "Info",
    "OutOfMemoryError",
    "ProblemError",
    "QPError",
    "QPLayer",
    "Settings",
    "SettingsError",
    "Solution",
    "SolveError",
    "Status",
    "WarmStart",
    "__version__",
    "certificate",
    "solve_qp",
]
