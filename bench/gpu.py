"""The backends for GPUs beside the batched torch operations: see gpu.sh. Not run on a GPU yet.

Without a CUDA device it runs where TRITON_INTERPRET=1 has Triton interpreted, to try the script: with --quick.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from torch import Tensor

import qplayer_gpu
from qplayer_gpu import backend as backends
from qplayer_gpu.kernels import linear

ROOT = Path(__file__).parents[1]
SIZES = {8: 8192, 16: 4096, 32: 2048, 64: 1024}  # n: problems in a batch
QUICK = {2: 3}  # to try the script
SMALL = {5: 3, 20: 2, 40: 2}  # for compute-sanitizer, which is slow: tiles of 8, 32 and 64
TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-3}  # of answers and gradients, relative
SETS, REPEATS = 3, 11  # input sets in turn, so that none stays in cache
REFERENCE = "torch"

Arguments = dict[str, Tensor]
Line = dict[str, object]


def main() -> int:
    """1 where an answer is not the reference's."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--environment", action="store_true", help="only say what runs here")
    what.add_argument(
        "--check", action="store_true", help="only compare answers, a few at each size: also compiles all"
    )
    what.add_argument("--small", action="store_true", help="only compare answers of a few small problems")
    what.add_argument("--quick", action="store_true", help="tiny problems, one repeat")
    parser.add_argument("--out", type=Path, default=Path("gpu.csv"))
    args = parser.parse_args()
    known = environment()
    print(known, f"on {device()}, backends {others()}", flush=True)
    if args.environment:
        return 0
    if args.small or args.check:
        sizes = SMALL if args.small else dict.fromkeys(SIZES, 8)
        return int(not (solves_agree(sizes) and all([agree(n, batch) for n, batch in sizes.items()])))
    right = True
    for dtype in TOLERANCES:
        for n, batch in (QUICK if args.quick else SIZES).items():
            lines = measured(n, batch, dtype, 1 if args.quick else REPEATS)
            append(args.out, [known | line for line in lines])  # what comes later may not come in time
            right &= all(line["error"] <= TOLERANCES[dtype] for line in lines)
    return int(not right)


def device() -> torch.device:
    """Where to run."""
    if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
        raise SystemExit(f"no CUDA device that PyTorch {torch.__version__} can use")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def environment() -> Line:
    """The card, its driver, the versions and the commit."""
    on_gpu = torch.cuda.is_available()
    driver = said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader") if on_gpu else ""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": said("git", "describe", "--always", "--dirty=+") or "unknown",
        "card": torch.cuda.get_device_name() if on_gpu else f"none ({platform.machine()}, {os.cpu_count()} cores)",
        "driver": driver.partition("\n")[0],
        "cuda": torch.version.cuda or "",
        "torch": torch.__version__,
        "triton": installed("triton"),
        "cupy": installed("cupy-cuda13x") or installed("cupy-cuda12x"),
    }


def said(*command: str) -> str:
    """What a program says; nothing where it is not there, or fails."""
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()


def installed(package: str) -> str:
    """The version of a package, or nothing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def others() -> list[str]:
    """The backends that run here, but for the reference and those for a CPU."""
    return [name for name in backends.LAZY if not backends.obstacle(name, device())]


def problems(n: int, batch: int, seed: int, dtype: torch.dtype) -> Arguments:
    """Problems with n / 4 equalities and n + 1 inequalities, which exclude each other in every eighth problem."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    M, A, C, x = normal(batch, n, n), normal(batch, n // 4, n), normal(batch, n + 1, n), normal(batch, n, 1)
    u = (C @ x).squeeze(-1) + torch.rand(batch, n + 1, generator=generator, dtype=torch.float64)
    C[::8, n], u[::8] = -C[::8, :n].sum(1), -0.2 - u[::8].abs()  # they surround the origin and look away from it
    H = M @ M.mT / n + 1e-2 * torch.eye(n, dtype=torch.float64)
    args = {"H": H, "g": normal(batch, n), "A": A, "b": (A @ x).squeeze(-1), "C": C, "u": u}
    return {k: v.to(device(), dtype) for k, v in args.items()}


def forward(args: Arguments, backend: str, settings: qplayer_gpu.Settings | None = None) -> qplayer_gpu.Solution:
    """The answer alone."""
    return qplayer_gpu.solve_qp(**args, backend=backend, settings=settings)


def both(
    args: Arguments, backend: str, settings: qplayer_gpu.Settings | None = None
) -> tuple[qplayer_gpu.Solution, Tensor]:
    """The answer, and the gradient with respect to C."""
    leaves = args | {"C": args["C"].clone().requires_grad_()}
    sol = forward(leaves, backend, settings)
    sol.x.square().sum().backward()
    return sol, leaves["C"].grad


def error(args: Arguments, backend: str) -> float:
    """How far the problems are from the reference's answer and gradient in float64, at most; relative.

    Infinite where a status differs.
    """
    ours, gradient = both(args, backend)
    theirs, expected = both(args, REFERENCE, qplayer_gpu.Settings(precision="float64"))
    if (ours.status != theirs.status).any():
        return float("inf")
    pairs = ((ours.x, theirs.x), (ours.s_in, theirs.s_in), (gradient, expected))
    apart = [(a - b).flatten(1).abs().amax(1) / (1 + b.flatten(1).abs().amax(1)) for a, b in pairs]
    return torch.stack(apart).amax().item()


def agree(n: int, batch: int) -> bool:
    """Whether every backend gives the reference's answers, in both precisions; says what differs."""
    right = True
    for name in others():
        for dtype, tolerance in TOLERANCES.items():
            found = error(problems(n, batch, 0, dtype), name)
            print(f"{name}, n = {n}, {dtype}: error {found:.1e}", flush=True)
            right &= found <= tolerance
    return right


def solves_agree(sizes: Iterable[int]) -> bool:
    """Whether the solves that are callable alone find the ones of ``K x = K 1``."""
    right = True
    for n in sizes:
        K = problems(n, 4, 0, torch.float64)["H"]
        for solve in (linear.cholesky_solve, linear.sweep_solve):
            x, failed = solve(K, K.sum(-1))
            right &= not failed.any() and (x - 1).abs().max().item() <= 1e-9
    print(f"solves alone: {'right' if right else 'WRONG'}", flush=True)
    return right


def measured(n: int, batch: int, dtype: torch.dtype, repeats: int) -> list[Line]:
    """One line for each backend; they take turns."""
    sets = [problems(n, batch, seed, dtype) for seed in range(SETS)]
    errors = {name: max(error(args, name) for args in sets) for name in others()} | {REFERENCE: 0.0}  # and warms up
    times: dict[tuple[str, Callable], list[float]] = {(name, work): [] for name in errors for work in (forward, both)}
    for repeat in range(repeats):
        args = sets[repeat % SETS]
        for (name, work), taken in times.items():
            taken.append(milliseconds(lambda w=work, a=args, b=name: w(a, b)))
    lines = []
    for name, worst in errors.items():
        share = (forward(sets[0], name).status <= qplayer_gpu.Status.SOLVED_CLOSEST_FEASIBLE).double().mean().item()
        line = {"n": n, "batch": batch, "dtype": str(dtype), "backend": name, "solved": share, "error": worst}
        line |= {f"{work.__name__}_ms": median(times[name, work]) for work in (forward, both)}
        print(line, flush=True)
        lines.append(line)
    return lines


def milliseconds(work: Callable[[], object]) -> float:
    """By CUDA events on the current stream; by the clock where there is no CUDA device."""
    if not torch.cuda.is_available():
        start = perf_counter()
        work()
        return (perf_counter() - start) * 1e3
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end)


def append(path: Path, lines: list[Line]) -> None:
    """Adds lines to a file, below a header if it is new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, lines[0], lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in line.items()} for line in lines)


if __name__ == "__main__":
    sys.exit(main())
