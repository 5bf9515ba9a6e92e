"""The factor and solve of the kernels, alone, beside those of libraries: batches of K x = r in float64.

    python -m bench.factor [--out FILE]

Each answer is checked before it is timed: the backward error of every system, ``|K x - r| / (|K| |x| + |r|)`` in norms
of Frobenius, is at most 10 n times the rounding error. A time is the median of a few, of a batch that is on the device.
What is not installed, or wants a GPU where there is none, gets a row that says so. **No GPU has run this yet.** On a
CPU there is torch alone: the host's factor is not one of K by itself (kernels/cuda/factor_host.h).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from . import clock, table
from .chip import variants
from .rows import environment

FILE = Path(__file__).parent / "results" / "factor.csv"
BATCHES = {8: 65536, 16: 65536, 32: 16384, 64: 4096, 128: 1024}  # by n
ROUNDS = 9
UNITS = 10  # of n rounding errors that a backward error may be
WARP_THREADS = {8: 32, 16: 32, 32: 64, 64: 128, 128: 256}  # of Warp's tiles, by n

Solve = Callable[[Tensor, Tensor], Tensor]  # [B, n, n], [B, n] -> [B, n]


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    date: str
    commit: str
    machine: str
    torch: str
    toolkit: str
    device: str
    n: int
    batch: int
    solver: str
    version: str
    us: float | None  # microseconds of a system
    error: float | None  # the worst backward error
    verdict: str


def by_torch(K: Tensor, r: Tensor) -> Tensor:
    """Solves the systems by the library that torch chooses."""
    return torch.cholesky_solve(r.unsqueeze(2), torch.linalg.cholesky_ex(K).L).squeeze(2)


def by_cusolver(K: Tensor, r: Tensor) -> Tensor:
    """Solves the systems by cuSOLVER's batched functions, through torch, which otherwise may choose MAGMA."""
    before = torch.backends.cuda.preferred_linalg_library()
    torch.backends.cuda.preferred_linalg_library("cusolver")
    try:
        return by_torch(K, r)
    finally:
        torch.backends.cuda.preferred_linalg_library(before)


def by_kernels(name: str) -> Solve:
    """Makes the solver of this library's kernels in "triton" or "cuda".

    Raises:
        ImportError: what they need is not installed.
        ValueError: they do not take such large matrices.
    """
    linear = import_module(f"qplayer_gpu.kernels.{name}.linear")

    def solve(K: Tensor, r: Tensor) -> Tensor:
        if K.shape[-1] > linear.LARGEST:
            raise ValueError(f"takes n <= {linear.LARGEST}")
        return linear.cholesky_solve(K, r.unsqueeze(1))[0].squeeze(1)

    return solve


@cache
def tile_kernel(n: int) -> Any:
    """The kernel in Warp for n x n matrices."""
    import warp as wp

    @wp.kernel(enable_backward=False, module="unique")
    def solve(K: wp.array3d(dtype=wp.float64), r: wp.array2d(dtype=wp.float64), x: wp.array2d(dtype=wp.float64)):
        i = wp.tid()
        L = wp.tile_cholesky(wp.tile_load(K[i], shape=(n, n)))
        wp.tile_store(x[i], wp.tile_cholesky_solve(L, wp.tile_load(r[i], shape=n)))

    return solve


def by_warp() -> Solve:
    """Makes the solver of the tiles of NVIDIA's Warp: https://nvidia.github.io/warp.

    Raises:
        ImportError: it is not installed.
    """
    import warp as wp

    wp.init()

    def solve(K: Tensor, r: Tensor) -> Tensor:
        batch, n = r.shape
        x, where = torch.empty_like(r), wp.device_from_torch(K.device)
        stream = wp.stream_from_torch(torch.cuda.current_stream()) if K.is_cuda else None
        arrays = [wp.from_torch(t) for t in (K, r, x)]
        known = {"block_dim": WARP_THREADS[n], "device": where, "stream": stream}
        wp.launch_tiled(tile_kernel(n), dim=[batch], inputs=arrays, **known)
        return x

    return solve


SOLVERS: dict[str, tuple[str, Callable[[], Solve]]] = {  # the package, and what makes the solver
    "torch": ("torch", lambda: by_torch),
    "cusolver": ("torch", lambda: by_cusolver),
    "qplayer_gpu_cuda": ("qplayer_gpu", lambda: by_kernels("cuda")),
    "qplayer_gpu_triton": ("qplayer_gpu", lambda: by_kernels("triton")),
    "warp": ("warp-lang", by_warp),
}
ON_CPU = ("torch",)


def systems(n: int, batch: int, device: str) -> tuple[Tensor, Tensor]:
    """Positive definite matrices of moderate condition, and right-hand sides."""
    torch.manual_seed(n)
    M = torch.randn(batch, n, n, dtype=torch.float64, device=device)
    K = M @ M.mT / n + 0.1 * torch.eye(n, dtype=torch.float64, device=device)
    return K, torch.randn(batch, n, dtype=torch.float64, device=device)


def backward_error(K: Tensor, r: Tensor, x: Tensor) -> float:
    """The largest backward error of a batch; NaN where one of them is."""
    residual = (K @ x.unsqueeze(2)).squeeze(2) - r
    return (residual.norm(dim=1) / (K.flatten(1).norm(dim=1) * x.norm(dim=1) + r.norm(dim=1))).max().item()


def measured(solver: str, K: Tensor, r: Tensor) -> dict[str, Any]:
    """The time, the error and the verdict of a solver."""
    batch, n = r.shape
    try:
        solve = SOLVERS[solver][1]()
        error = backward_error(K, r, solve(K, r))
    except ImportError as missing:
        return {"verdict": f"not installed: {missing.name}"}
    except Exception as failed:  # of whichever library: it is what the row says, and the others go on
        return {"verdict": f"failed: {failed!s:.80}".splitlines()[0]}
    if not error <= UNITS * n * torch.finfo(torch.float64).eps:
        return {"error": error, "verdict": "wrong"}
    seconds = [clock.seconds(lambda: solve(K, r), K.device.type, on_stream=True) for _ in range(ROUNDS)]
    return {"us": 1e6 * median(seconds) / batch, "error": error, "verdict": "ok"}


def rows(device: str) -> list[Row]:
    """A row for each solver and size on a device; it says why where there is no time."""
    is_there = device == "cpu" or torch.cuda.is_available()
    where = environment(device) if is_there else {**environment("cpu"), "machine": "", "device": device}
    known = {name: where[name] for name in ("date", "commit", "machine", "torch", "toolkit", "device")}
    found = []
    for n, batch in BATCHES.items():
        given = systems(n, batch, device) if is_there else None
        for solver in ON_CPU if device == "cpu" else SOLVERS:
            lines = {"n": n, "batch": batch, "solver": solver, "version": installed(SOLVERS[solver][0])}
            nothing = {"us": None, "error": None, "verdict": "not measured: no CUDA device"}
            found.append(Row(**known, **lines, **(nothing | (measured(solver, *given) if given else {}))))
            print(*(f"{v:.3g}" if isinstance(v, float) else v for v in vars(found[-1]).values()), sep=",", flush=True)
    return found


def installed(package: str) -> str:
    """The version of a package, empty where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def shown(path: Path = FILE) -> str:
    """The table for the pages: microseconds for each system, and the verdicts, which say why some are missing."""
    lines: dict[tuple[str, str], list[Row]] = {}
    for row in table.parsed(path, Row):
        lines.setdefault((row.machine or row.device, row.solver), []).append(row)
    cells = [
        [*key, *("" if row.us is None else f"{row.us:.3g}" for row in found), "; ".join({r.verdict: 0 for r in found})]
        for key, found in lines.items()
    ]
    return table.markdown(["device", "solver", *(f"n = {n}" for n in BATCHES), "answers"], cells)


def main() -> int:
    """Measures and writes the table; returns 1 where an answer is wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.factor", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=FILE)
    torch.set_num_threads(1)
    out = parser.parse_args().out
    found = [row for device in ("cpu", "cuda") for row in rows(device)]
    variants.write(out, found)
    print(shown(out))
    return int(any(row.verdict == "wrong" or row.verdict.startswith("failed") for row in found))


if __name__ == "__main__":
    sys.exit(main())
