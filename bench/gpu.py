"""The backends for GPUs beside the batched torch operations: see gpu.sh. Not run on a GPU yet.

Without an option it times them by ``bench.run``, in the cases that ``--check`` compiles. Without a CUDA device it runs
where TRITON_INTERPRET=1 has Triton interpreted, to try the script: with --quick.
"""

import argparse
import os
import sys
from pathlib import Path

import torch

from qplayer_gpu import Settings, backend, trial

from . import families, run
from .chip import linear as solves
from .rows import environment

SIZES = (8, 16, 32, 64)
SMALL = (5, 20, 40)  # for compute-sanitizer, which is slow: tiles of 8, 32 and 64
CASES = [*(f"mixed_n{n}" for n in SIZES), "batch_4096", "float32", "half_infeasible"]
TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-3}  # of answers and gradients, relative


def main() -> int:
    """1 where an answer is wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--environment", action="store_true", help="only say what runs here")
    what.add_argument("--check", action="store_true", help="only compare answers, which compiles all that is timed")
    what.add_argument("--small", action="store_true", help="only compare answers of a few small problems")
    what.add_argument("--quick", action="store_true", help="a tiny case")
    parser.add_argument("--out", type=Path, default=Path("gpu.csv"))
    args = parser.parse_args()
    print(environment(device().type), f"backends {others()}", flush=True)
    if args.environment:
        return 0
    if args.small or args.check:
        sizes, batch = (SMALL, 3) if args.small else (SIZES, 8)
        return int(not all([agree(n, batch) for n in sizes]))
    solvers = [f"qplayer_gpu_{name}" for name in ("torch", *others())]
    known = ["--device", device().type, "--solvers", *solvers, "--out", str(args.out)]
    return run.main([*known, *(["--tiny", "--cases", "mixed_n4"] if args.quick else ["--cases", *CASES])])


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
        for name in solves.METHODS:
            error, wrong = solves.wrong(name, *solves.systems(n, batch, dtype))
            print(f"{name}, n = {n}, {dtype}: error {error:.1e}", flush=True)
            right &= not wrong
        arrays = families.half_infeasible(batch, n).map(lambda t, dtype=dtype: t.to(device(), dtype)).arrays()
        for name in others():
            error = trial.difference(arrays, name, Settings())
            print(f"{name}, n = {n}, {dtype}: error {error:.1e}", flush=True)
            right &= error <= tolerance
    return right


if __name__ == "__main__":
    sys.exit(main())
