"""The solvers: classes that import their packages only when they are made."""

from importlib import import_module

from .base import Adapter

OURS = "qplayer_gpu"
SOLVERS = {  # what the report calls each, its module and its class
    OURS: ("qplayer_gpu", "qplayer_gpu", "Adapter"),
    "qplayer_gpu_torch": ("qplayer_gpu, torch", "qplayer_gpu", "Torch"),
    "qplayer_gpu_triton": ("qplayer_gpu, Triton", "qplayer_gpu", "Triton"),
    "qplayer_gpu_cuda": ("qplayer_gpu, CUDA", "qplayer_gpu", "Cuda"),
    "proxqp": ("ProxQP", "proxsuite", "ProxQP"),
    "qplayer": ("QPLayer", "proxsuite", "QPLayer"),
    "piqp": ("PIQP", "piqp", "PIQP"),
    "daqp": ("DAQP", "singles", "DAQP"),
    "osqp": ("OSQP", "singles", "OSQP"),
    "quadprog": ("quadprog", "singles", "Quadprog"),
    "elastiqp": ("ElastiQP", "layers", "ElastiQP"),
    "moreau": ("Moreau IPM", "moreau", "Adapter"),
    "moreau_active_set": ("Moreau active set", "moreau", "ActiveSet"),
    "cvxpylayers": ("cvxpylayers", "layers", "CvxpyLayers"),
    "dqp": ("dQP", "layers", "DQP"),
    "qpth": ("qpth", "layers", "Qpth"),
    "qpax": ("qpax", "jax", "Qpax"),
    "jaxopt": ("jaxopt", "jax", "JaxOpt"),
    "cupiqp": ("cuPIQP", "piqp", "CuPIQP"),
}
NAMES = {name: known[0] for name, known in SOLVERS.items()}


def adapter(name: str) -> type[Adapter]:
    """The adapter of a solver by its name."""
    _, module, kind = SOLVERS[name]
    return getattr(import_module(f".{module}", __name__), kind)
