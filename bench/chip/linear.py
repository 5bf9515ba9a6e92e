"""The solves of ``qplayer_gpu.kernels.linear`` beside ``torch.linalg.cholesky_ex`` and ``torch.cholesky_solve``.

    python -m bench.chip.linear

appends rows to results/factor.csv: microseconds for one matrix, the batch's time by its size. On a CUDA device the
methods are Triton's kernels. On a CPU the sweep is left out, as a loop over batched operations is not for use there,
and "cholesky_solve" is torch's own two operations with checks around them: those rows say what the checks cost, and
nothing about Triton. Not run on a GPU yet.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qplayer_gpu.kernels import linear

from .. import clock, table
from ..rows import environment, spread

RESULTS = Path(__file__).parents[1] / "results" / "factor.csv"
SIZES = {8: 16384, 16: 8192, 32: 4096, 64: 2048}  # n: matrices in a batch
SETS, REPEATS = 3, 15  # input sets in turn, so that none stays in cache
TOLERANCE = 1e4  # of the answer, in units of rounding: the matrices have a condition of about 100
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def by_torch(K: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """As a program without this library does it."""
    L, info = torch.linalg.cholesky_ex(K)
    return torch.cholesky_solve(r.unsqueeze(-1), L).squeeze(-1), info != 0


METHODS: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "torch": by_torch,
    "cholesky_solve": linear.cholesky_solve,
    "sweep_solve": linear.sweep_solve,
}


def main() -> int:
    """1 where an answer is wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.chip.linear", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few matrices, one repeat")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the file that rows are appended to")
    args = parser.parse_args()
    where, lines = environment(DEVICE), []
    for dtype in (torch.float64, torch.float32):
        for n, batch in SIZES.items():
            lines += measured(n, 16 if args.quick else batch, dtype, 1 if args.quick else REPEATS)
    new = [where | line for line in lines]
    table.write(args.out, new[0], table.read(args.out) + new)
    return int(any(line["verdict"] != "ok" for line in new))


def systems(n: int, batch: int, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Matrices with eigenvalues from 0.1 to about 4, and right-hand sides."""
    known = {"generator": torch.Generator().manual_seed(seed), "dtype": torch.float64}
    M, r = torch.randn(batch, n, n, **known), torch.randn(batch, n, **known)
    K = M @ M.mT / n + 0.1 * torch.eye(n, dtype=torch.float64)
    return K.to(DEVICE, dtype), r.to(DEVICE, dtype)


def wrong(method: str, K: Tensor, r: Tensor) -> tuple[float, bool]:
    """The error next to torch's answer in double precision, by its largest entry, and whether it is too large."""
    x, failed = METHODS[method](K, r)
    exact = torch.linalg.solve(K.double(), r.double())
    error = torch.inf if failed.any() else ((x - exact).abs().max() / exact.abs().max()).item()
    return error, not error <= TOLERANCE * torch.finfo(K.dtype).eps


def measured(n: int, batch: int, dtype: torch.dtype, repeats: int) -> list[dict[str, Any]]:
    """One line for each method; they take turns."""
    sets = [systems(n, batch, dtype, seed) for seed in range(SETS)]
    names = [name for name in METHODS if DEVICE == "cuda" or name != "sweep_solve"]
    worst = {name: max(wrong(name, *system) for system in sets) for name in names}  # and warms up
    times: dict[str, list[float]] = {name: [] for name in names}
    for repeat in range(repeats):
        for name, taken in times.items():
            taken.append(clock.seconds(lambda m=METHODS[name], s=sets[repeat % SETS]: m(*s), DEVICE, on_stream=True))
    lines = []
    for name, (error, bad) in worst.items():
        known = {"n": n, "batch": batch, "dtype": str(dtype), "method": name, "repeats": repeats}
        worth = {"error": error, "verdict": "wrong" if bad else "ok"}
        lines.append(known | spread("us", 1e6 / batch, times[name]) | worth)
        print(lines[-1], flush=True)
    return lines


if __name__ == "__main__":
    sys.exit(main())
