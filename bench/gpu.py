"""The answers of the backends for GPUs beside those of the batched torch operations. Not run on a GPU yet.

Without a CUDA device it runs where TRITON_INTERPRET=1 has Triton interpreted, to try the script: with --small.
"""

import argparse
import os
import sys

import torch

from qplayer_gpu import Settings, backend, trial
from qplayer_gpu.kernels import linear

from . import families
from .rows import environment

SIZES = (8, 16, 32, 64)  # of what gpu.sh times later, as this compiles it
SMALL = (5, 20, 40)  # for compute-sanitizer, which is slow: tiles of 8, 32 and 64
TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-3}  # of answers and gradients, relative


def main() -> int:
    """1 where an answer is wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--environment", action="store_true", help="only say what runs here")
    parser.add_argument("--small", action="store_true", help="only a few small problems")
    args = parser.parse_args()
    print(environment(device().type), f"backends {others()}", flush=True)
    if args.environment:
        return 0
    sizes, batch = (SMALL, 3) if args.small else (SIZES, 8)
    return int(not all([agree(n, batch) for n in sizes]))


def device() -> torch.device:
    """Where to run."""
    if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
        raise SystemExit(f"no CUDA device that PyTorch {torch.__version__} can use")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def others() -> list[str]:
    """The backends that run here, but for the reference and those for a CPU."""
    return [name for name in backend.LAZY if not backend.obstacle(name, device())]


def agree(n: int, batch: int) -> bool:
    """Whether each backend and solve gives torch's answers in both precisions; says how far they are off."""
    right = True
    for dtype, tolerance in TOLERANCES.items():
        qp = families.half_infeasible(batch, n).map(lambda t, dtype=dtype: t.to(device(), dtype))
        exact = torch.linalg.solve(qp.H.double(), qp.g.double())
        answers = {name: getattr(linear, name)(qp.H, qp.g)[0] for name in ("cholesky_solve", "sweep_solve")}
        errors = {name: ((x - exact).abs().max() / exact.abs().max()).item() for name, x in answers.items()}
        errors |= {name: trial.difference(qp.arrays(), name, Settings()) for name in others()}
        for name, error in errors.items():
            print(f"{name}, n = {n}, {dtype}: error {error:.1e}", flush=True)
            right &= error <= tolerance
    return right


if __name__ == "__main__":
    sys.exit(main())
