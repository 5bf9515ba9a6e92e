"""What gpu.sh asks of the backends for GPUs: right answers, then times. Not run on a GPU yet.

    python -m bench.gpu environment            # what runs here
    python -m bench.gpu answers BACKEND N...   # beside those of the torch operations on the CPU
    python -m bench.gpu solves                 # the solves alone, beside torch.linalg
    python -m bench.gpu throughput BACKEND     # times at all sizes

BACKEND is "triton", "cuda", "torch", or "auto", which checks itself at first.
"""

import argparse
import sys
import warnings
from collections.abc import Callable
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

import qplayer_gpu
from qplayer_gpu import Settings, backend, trial
from qplayer_gpu.kernels import linear

from . import clock, families
from .problems import QP
from .rows import environment

SIZES = {"triton": (8, 16, 32, 64), "cuda": (8, 16, 32, 64, 100), "torch": (8, 16, 32, 64, 100)}
TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-3}  # of answers and gradients, relative
DTYPES = {"triton": [torch.float64], "cuda": list(TOLERANCES), "torch": [torch.float64]}  # timed: others are converted
FEW, BATCHES = 8, (1024, 16384)  # problems
ROUNDS, SECONDS = 7, 0.5  # of one time: it ends at whichever comes first, with three rounds at least


def device() -> torch.device:
    """The current CUDA device; without one the program ends with a message."""
    if not torch.cuda.is_available():
        raise SystemExit(f"no CUDA device that PyTorch {torch.__version__} can use")
    return torch.device("cuda")


def describe() -> bool:
    """Prints the versions and the device, and for each backend that it runs here or why not."""
    known = environment(device().type) | {name: backend.obstacle(name, device()) or "runs" for name in backend.LAZY}
    print(*(f"{name}: {value}" for name, value in known.items()), sep="\n")
    return True


def problems(n: int) -> QP:
    """A few problems with n variables, of which every other one is infeasible."""
    return families.half_infeasible(FEW, n)


def answers(name: str, sizes: list[int]) -> bool:
    """Whether the backend gives the answers and gradients that torch gives on the CPU; says how far they are off."""
    warnings.filterwarnings("error", "backend ")  # "auto" says so where it takes another one
    right = True
    for n in sizes:
        for dtype, tolerance in TOLERANCES.items():
            qp = problems(n).map(lambda t, dtype=dtype: t.to(dtype))
            expected = trial.solved(qp.arrays(), "torch", Settings(precision="float64"))
            start = perf_counter()
            found = trial.solved(qp.map(lambda t: t.to(device())).arrays(), name, Settings())
            moved = trial.Solved(found.status.cpu(), *([t.cpu() for t in tensors] for tensors in found[1:]))
            error, seconds = trial.apart(moved, expected), perf_counter() - start
            print(f"{name}, n = {n}, {dtype}: error {error:.1e}, {seconds:.1f} s with compilation", flush=True)
            right &= error <= tolerance
    return right


def solves() -> bool:
    """Whether the solves alone are those of torch in double precision; says how far they are off."""
    right = True
    for n in SIZES["triton"]:
        for dtype, tolerance in TOLERANCES.items():
            qp = problems(n).map(lambda t, dtype=dtype: t.to(device(), dtype))
            exact = torch.linalg.solve(qp.H.double(), qp.g.double())
            for name in ("cholesky_solve", "sweep_solve"):
                x, _ = getattr(linear, name)(qp.H, qp.g)
                error = ((x - exact).abs().max() / exact.abs().max()).item()
                print(f"{name}, n = {n}, {dtype}: error {error:.1e}", flush=True)
                right &= error <= tolerance
    return right


def throughput(name: str) -> bool:
    """Prints the times of batches of feasible problems, as lines of a table, and says whether all were solved."""
    print("backend,dtype,n,batch,phase,ms,us_per_qp,solved,steps,residual", flush=True)
    right = True
    for dtype in DTYPES[name]:
        for n in SIZES[name]:
            qp = families.mixed(BATCHES[0], n)
            for batch in BATCHES:
                many = qp.map(lambda t, of=batch // BATCHES[0], dtype=dtype: repeated(t.to(device(), dtype), of))
                right &= timed(f"{name},{str(dtype).removeprefix('torch.')},{n},{batch}", many, name)
    return right


def repeated(t: Tensor, times: int) -> Tensor:
    """A batch that has each problem so many times: [B, ...] -> [times B, ...]."""
    return t.repeat(times, *[1] * (t.dim() - 1))


def timed(head: str, qp: QP, name: str) -> bool:
    """Prints the median times of one batch without and with a backward, and says whether all problems were solved."""
    leaves = {key: t.requires_grad_() for key, t in qp.arrays().items()}

    def both() -> None:
        torch.autograd.grad(qplayer_gpu.solve_qp(**leaves, backend=name).x.sum(), list(leaves.values()))

    with torch.no_grad():
        forward, found = median(lambda: qplayer_gpu.solve_qp(**leaves, backend=name))
    steps = found.info.iterations.double().mean().item()
    solved = (found.status == qplayer_gpu.Status.SOLVED).double().mean().item()
    residual = torch.maximum(found.info.primal_residual, found.info.dual_residual).max().item()
    for phase, seconds in (("forward", forward), ("both", median(both)[0])):
        each = 1e6 * seconds / qp.batch
        print(f"{head},{phase},{1e3 * seconds:.4g},{each:.4g},{solved},{steps:.4g},{residual:.1e}", flush=True)
    return solved == 1


def median(work: Callable[[], object]) -> tuple[float, object]:
    """The median time of some work in seconds, and what its first call, which warms up, returned."""
    result, taken = work(), []
    while len(taken) < 3 or (len(taken) < ROUNDS and sum(taken) < SECONDS):
        taken.append(clock.seconds(work, device().type, on_stream=True))
    return float(np.median(taken)), result


def main() -> int:
    """Runs the part that the command line names; returns 1 where an answer is wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=(__doc__ or "").split("\n")[0])
    parts = parser.add_subparsers(dest="part", required=True)
    parts.add_parser("environment")
    asked = parts.add_parser("answers")
    asked.add_argument("backend", choices=("auto", *SIZES))
    asked.add_argument("sizes", type=int, nargs="+", metavar="N")
    parts.add_parser("solves")
    parts.add_parser("throughput").add_argument("backend", choices=SIZES)
    args = parser.parse_args()
    work: dict[str, Callable[[], bool]] = {
        "environment": describe,
        "answers": lambda: answers(args.backend, args.sizes),
        "solves": solves,
        "throughput": lambda: throughput(args.backend),
    }
    return int(not work[args.part]())


if __name__ == "__main__":
    sys.exit(main())
