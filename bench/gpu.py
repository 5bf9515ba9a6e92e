"""Triton's kernels beside the batched torch operations, on one GPU: see gpu.sh. Not run on a GPU yet."""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

import qplayer_gpu

SIZES = {8: 8192, 16: 4096, 32: 2048, 64: 1024}  # n: problems in a batch
SMALL = {4: 3, 9: 3, 20: 2}  # for compute-sanitizer, which is slow
SETS, REPEATS = 3, 11  # input sets in turn, so that none stays in cache
BACKENDS = ("torch", "triton")
COLUMNS = ("card", "torch", "triton", "commit", "n", "batch", "backend", "forward_ms", "both_ms", "solved", "error")

Arguments = dict[str, Tensor]


def main() -> int:
    """1 where an answer of Triton's kernels is not the reference's."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--environment", action="store_true", help="only say what runs here")
    parser.add_argument("--small", action="store_true", help="only compare answers, of a few small problems")
    parser.add_argument("--out", type=Path, default=Path("gpu.csv"))
    args = parser.parse_args()
    known = environment()
    print(known, flush=True)
    if args.environment:
        return 0
    if args.small:
        return int(any(error(problems(n, batch, 0)) > 1e-6 for n, batch in SMALL.items()))
    lines = [known | line for n, batch in SIZES.items() for line in measured(n, batch)]
    with args.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    return int(any(line["error"] > 1e-6 for line in lines))


def environment() -> dict[str, object]:
    """The card, the versions and the commit."""
    import triton

    commit = subprocess.run(["git", "describe", "--always", "--dirty=+"], capture_output=True, text=True).stdout.strip()
    card = torch.cuda.get_device_name()
    return {"card": card, "torch": torch.__version__, "triton": triton.__version__, "commit": commit}


def problems(n: int, batch: int, seed: int) -> Arguments:
    """Problems with n / 4 equalities and n inequalities; two rows of every eighth exclude each other."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    M, A, C, x = normal(batch, n, n), normal(batch, n // 4, n), normal(batch, n, n), normal(batch, n, 1)
    u = (C @ x).squeeze(-1) + torch.rand(batch, n, generator=generator, dtype=torch.float64)
    C[::8, 1], u[::8, 1] = -C[::8, 0], -u[::8, 0] - 1
    H = M @ M.mT / n + 1e-2 * torch.eye(n, dtype=torch.float64)
    args = {"H": H, "g": normal(batch, n), "A": A, "b": (A @ x).squeeze(-1), "C": C, "u": u}
    return {k: v.cuda() for k, v in args.items()}


def solved(args: Arguments, backend: str) -> tuple[qplayer_gpu.Solution, Tensor]:
    """The answer, and the gradient with respect to C."""
    leaves = args | {"C": args["C"].clone().requires_grad_()}
    sol = qplayer_gpu.solve_qp(**leaves, backend=backend)
    sol.x.square().sum().backward()
    return sol, leaves["C"].grad


def error(args: Arguments) -> float:
    """The largest difference between the backends' answers and gradients, relative; infinite where a status differs."""
    (ours, gradient), (theirs, expected) = (solved(args, backend) for backend in reversed(BACKENDS))
    if (ours.status != theirs.status).any():
        return float("inf")
    pairs = ((ours.x, theirs.x), (ours.s_in, theirs.s_in), (gradient, expected))
    return max(((a - b).abs().max() / (1 + b.abs().max())).item() for a, b in pairs)


def measured(n: int, batch: int) -> list[dict[str, object]]:
    """One line for each backend; they take turns."""
    sets = [problems(n, batch, seed) for seed in range(SETS)]
    worst = max(error(args) for args in sets)  # warms up, and compiles
    times: dict[tuple[str, bool], list[float]] = {(backend, both): [] for backend in BACKENDS for both in (False, True)}
    for repeat in range(REPEATS):
        args = sets[repeat % SETS]
        for (backend, both), taken in times.items():
            taken.append(milliseconds(lambda b=backend, w=both, a=args: solved(a, b) if w else forward(a, b)))
    share = (forward(sets[0], "triton").status <= qplayer_gpu.Status.SOLVED_CLOSEST_FEASIBLE).double().mean().item()
    lines = []
    for backend in BACKENDS:
        forward_ms, both_ms = (median(times[backend, both]) for both in (False, True))
        line = {"n": n, "batch": batch, "backend": backend, "forward_ms": forward_ms, "both_ms": both_ms}
        lines.append(line | {"solved": share, "error": worst})
        print(lines[-1], flush=True)
    return lines


def forward(args: Arguments, backend: str) -> qplayer_gpu.Solution:
    """The answer alone."""
    return qplayer_gpu.solve_qp(**args, backend=backend)


def milliseconds(work: Callable[[], object]) -> float:
    """By CUDA events, on the current stream."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end)


if __name__ == "__main__":
    sys.exit(main())
