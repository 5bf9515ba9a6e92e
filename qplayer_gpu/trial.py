"""Whether the kernels for GPUs give right answers on this machine, at all sizes: the thorough form of checked.py.

    python -m qplayer_gpu.trial

solves random problems of growing size by each backend of ``backend.ON_CUDA``, feasible and not, with and without H,
forward and backward, and compares with the batched torch operations on the same device. Each backend has a process of
its own, so that one that hangs or crashes takes no other along. The largest size at which all was right is kept in the
cache of this user, for this GPU, these versions and this code, and "auto" takes a backend to this size only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .backend import ON_CUDA, obstacle, record
from .kernels.cache import replaced
from .layer import solve_qp
from .settings import Settings

SIZES = (3, 8, 16, 32, 64, 100, 256)
BATCH = 32
TOLERANCE = 1e-6  # of x and s next to the largest of them, and of each gradient next to its length
SECONDS = 900  # that a backend may take, most of them to compile


def problems(n: int, linear: bool, device: torch.device) -> dict[str, Tensor]:
    """QPs with equalities, two-sided rows and bounds; in every other one two rows exclude each other."""
    generator = torch.Generator().manual_seed(n)
    here: dict[str, Any] = {"dtype": torch.float64, "device": "cpu"}  # whatever the user's default is

    def normal(*shape: int) -> Tensor:
        return torch.randn(BATCH, *shape, generator=generator, **here)

    M, A, C, x = normal(n, n), normal(n // 4 + 1, n), normal(n // 4 + 2, n), 0.5 * torch.tanh(normal(n))
    b, Cx = (A @ x.unsqueeze(-1)).squeeze(-1), (C @ x.unsqueeze(-1)).squeeze(-1)
    u, l = Cx + 0.3, Cx - 0.3
    C[::2, 1] = C[::2, 0]
    u[::2, 1], l[::2, 1] = l[::2, 0] - 0.5, l[::2, 0] - 1.0
    ones = torch.ones(n, **here)
    found = {"g": normal(n), "A": A, "b": b, "C": C, "l": l, "u": u, "lb": -ones, "ub": ones}
    if not linear:
        found["H"] = M @ M.mT / n + 0.1 * torch.eye(n, **here)
    return {name: t.to(device) for name, t in found.items()}


class Solved(NamedTuple):
    """What is compared of a backend's answers."""

    status: Tensor
    answers: list[Tensor]  # x and the shifts
    gradients: list[Tensor]  # of a loss that looks at both


def solved(arrays: dict[str, Tensor], backend: str, settings: Settings) -> Solved:
    """By a backend, forward and backward, where the arrays are."""
    leaves = {k: t.clone().requires_grad_() for k, t in arrays.items()}
    arguments: dict[str, Any] = {"H": None} | leaves
    sol = solve_qp(**arguments, settings=settings, backend=backend)
    shifts = torch.cat([sol.s_eq, sol.s_in, sol.s_box], -1)
    weights = torch.linspace(-1.0, 2.0, sol.x.numel(), dtype=torch.float64, device=sol.x.device).view_as(sol.x)
    ((weights * sol.x).sum() + shifts.square().sum()).backward()
    return Solved(sol.status, [sol.x.detach(), shifts.detach()], [t.grad for t in leaves.values()])  # type: ignore[misc]


def apart(ours: Solved, theirs: Solved) -> float:
    """How far answers and gradients differ; infinite where a status does."""
    if not torch.equal(ours.status, theirs.status):
        return torch.inf
    pairs = zip(ours.answers, theirs.answers, strict=True)
    errors = [(a - t).abs().max() / t.abs().max().clamp(min=1.0) for a, t in pairs]
    errors += [(a - t).norm() / t.norm().clamp(min=1.0) for a, t in zip(ours.gradients, theirs.gradients, strict=True)]
    return torch.stack(errors).nan_to_num(torch.inf).max().item()


def difference(arrays: dict[str, Tensor], backend: str, settings: Settings) -> float:
    """How far answers and gradients are from those of the torch operations; infinite where a status differs."""
    return apart(solved(arrays, backend, settings), solved(arrays, "torch", settings))


def try_sizes(backend: str, largest: int, mixed: bool, device: torch.device) -> None:
    """Prints each size at which the backend is right, in the order of sizes.

    Raises:
        RuntimeError: at one it is not.
    """
    for n in (n for n in SIZES if n <= largest):
        for precision in ("float64", "mixed") if mixed else ("float64",):
            for linear in (False, True):
                error = difference(problems(n, linear, device), backend, Settings(precision=precision))
                if not error <= TOLERANCE:
                    raise RuntimeError(f"n = {n}, {precision}, {'LP' if linear else 'QP'}: wrong by {error:.1e}")
        print(n, flush=True)


def in_its_own_process(backend: str) -> tuple[int, str]:
    """The largest n at which the backend was right, and how its trial ended."""
    command = [sys.executable, "-m", "qplayer_gpu.trial", "--backend", backend]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
        output, why = done.stdout, done.stderr.decode(errors="replace").strip()[-500:] if done.returncode else ""
    except subprocess.TimeoutExpired as late:
        output, why = late.stdout or b"", f"no answer in {SECONDS} s"
    return max(map(int, output.split()), default=0), why


def main() -> int:
    """Tries all backends, or in this process one: 1 where something was wrong."""
    parser = argparse.ArgumentParser(prog="python -m qplayer_gpu.trial", description=__doc__.split("\n")[0])
    parser.add_argument("--backend", choices=[choice.backend for choice in ON_CUDA], help="this one, keeping nothing")
    only = parser.parse_args().backend
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    if only:
        try_sizes(*next((c.backend, c.n, c.mixed) for c in ON_CUDA if c.backend == only), device)
        return 0
    if device.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        print("not tried: no CUDA device")
        return 0
    found, wrong = dict.fromkeys((choice.backend for choice in ON_CUDA), 0), False
    for backend in found:
        why = obstacle(backend, device)
        if not why:
            found[backend], why = in_its_own_process(backend)
            wrong |= bool(why)
        print(f"{backend}: right to n = {found[backend]}" + (f"; {why}" if why else ""), flush=True)
        if device.type == "cuda":
            replaced(record(device, "trial"), ".json", lambda path: path.write_text(json.dumps(found)))
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
