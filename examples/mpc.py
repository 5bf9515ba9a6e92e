"""Model predictive control of many chains of masses at once, by condensed QPs.

Each chain has four masses between springs and dampers, and a motor at each end. A controller plans 20 steps ahead with
the states eliminated, so that 40 inputs are what is left of 200 variables,

    minimise   sum x_k'Q x_k + u_k'R u_k   over u,  x_(k+1) = A x_k + B u_k
    subject to |position_k| <= 1,  |u_k| <= 1

and applies the first. Gusts push the chains beyond their walls, where no plan keeps to all limits: the motors' limits
are hard, and those of the positions give way, an outer mass's a hundred times less than an inner one's. Draws all
positions; ``--compare`` measures the condensed QP beside the full one instead.

    pip install -e '.[examples]'
    python examples/mpc.py
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from matplotlib import pyplot as plt
from torch import Tensor

import qplayer_gpu as qp
from harness import Record, write_csv
from qplayer_gpu.control import Condensed, condense

MASSES, HORIZON, STEP = 4, 20, 0.2
LIMIT, STRONGEST = 1.0, 1.0  # of a position and of a motor
IN_A_ROW = 5  # calls of one form that are measured before the other's turn
SETTINGS = qp.Settings(eps_abs=1e-7)


def chain() -> dict[str, Tensor]:
    """A [8, 8] and B [8, 2] of a step, with the positions before the speeds, Q, R, and E that takes the positions."""
    one = torch.eye(MASSES, dtype=torch.double)
    springs = one.roll(1, 0).tril() + one.roll(-1, 0).triu() - 2 * one
    flow = torch.zeros(2 * MASSES + 2, 2 * MASSES + 2, dtype=torch.double)
    flow[:MASSES, MASSES : 2 * MASSES] = one
    flow[MASSES : 2 * MASSES, :MASSES], flow[MASSES : 2 * MASSES, MASSES : 2 * MASSES] = springs, 0.1 * springs
    flow[MASSES, -2] = flow[2 * MASSES - 1, -1] = 1
    stepped = torch.matrix_exp(STEP * flow)[: 2 * MASSES]
    A, B = stepped[:, : 2 * MASSES], stepped[:, 2 * MASSES :]
    Q, R = torch.eye(2 * MASSES, dtype=torch.double), 0.1 * torch.eye(2, dtype=torch.double)
    return {"A": A, "B": B, "Q": Q, "R": R, "E": torch.eye(MASSES, 2 * MASSES, dtype=torch.double)}


def plan(system: Mapping[str, Tensor], x0: Tensor) -> Condensed:
    """The condensed QPs for the states [B, 8]."""
    limits = {"x_min": -LIMIT, "x_max": LIMIT, "u_min": -STRONGEST, "u_max": STRONGEST}
    return condense(**system, x0=x0, horizon=HORIZON, **limits)


def full(system: Mapping[str, Tensor], x0: Tensor) -> dict[str, Any]:
    """The same QPs with the states as variables, before the inputs, and the system as equalities: 200 variables."""
    A, B, Q, R = (system[name] for name in "ABQR")
    one, n_x = torch.eye(HORIZON).to(A), len(A)
    after = torch.kron(torch.ones(HORIZON - 1).to(A).diag(-1), A)
    b = torch.zeros(len(x0), HORIZON * n_x).to(A)
    b[:, :n_x] = x0 @ A.mT
    position = torch.cat([torch.full((MASSES,), LIMIT), torch.full((n_x - MASSES,), math.inf)]).to(A)
    ub = torch.cat([position.repeat(HORIZON), torch.full((HORIZON * B.shape[1],), STRONGEST).to(A)])
    return {
        "H": torch.block_diag(torch.kron(one, Q), torch.kron(one, R)),
        "g": torch.zeros_like(ub).expand(len(x0), -1),
        "A": torch.cat([torch.eye(len(after)).to(A) - after, -torch.kron(one, B)], 1),
        "b": b,
        "lb": -ub,
        "ub": ub,
    }


@torch.no_grad()
def drive(system: Mapping[str, Tensor], args: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """The positions [steps, B, 4] and the status of each QP [steps, B]."""
    state = 0.2 * torch.randn(args.chains, 2 * MASSES, dtype=torch.double)
    weights = torch.tensor([100.0, 1.0, 1.0, 100.0], dtype=torch.double).repeat(HORIZON)
    last, positions, status = None, [], []
    for _ in range(args.steps):
        ahead = plan(system, state)
        limits = {"w_in": weights, "w_box": math.inf}  # a position that must give way, an input that never does
        last = qp.solve_qp(**ahead.arguments, **limits, warm_start=last, settings=SETTINGS, backend=args.backend)
        positions.append(state[:, :MASSES])
        inputs = ahead.inputs(last.x)[:, 0].clamp(-STRONGEST, STRONGEST)
        status.append(last.status)
        gust = 0.6 * torch.randn(args.chains, MASSES, dtype=torch.double) * (torch.rand(args.chains, 1) < 0.02)
        state = state @ system["A"].mT + inputs @ system["B"].mT
        state = state + torch.cat([torch.zeros_like(gust), gust], 1)
    return torch.stack(positions), torch.stack(status)


def draw(positions: Tensor, status: Tensor, path: Path) -> None:
    """The positions of each mass, and how many chains had no plan that keeps to all limits."""
    figure, axes = plt.subplots(MASSES + 1, sharex=True, figsize=(7, 5))
    seconds = STEP * torch.arange(len(positions))
    for k, axis in enumerate(axes[:-1]):
        axis.plot(seconds, positions[:, :20, k], color="C0", lw=0.4)
        axis.hlines([-LIMIT, LIMIT], 0, seconds[-1], "0.2", lw=1)
        axis.set_ylabel(f"mass {k + 1}")
    axes[-1].step(seconds, (status != qp.Status.SOLVED).sum(-1))
    axes[-1].set(ylabel="without a plan", xlabel="seconds")
    figure.savefig(path)
    plt.close(figure)


def measure(system: Mapping[str, Tensor], chains: int, args: argparse.Namespace) -> list[Record]:
    """The least time of a call for so many chains in both forms, the condensing included: a record for each call."""
    x0 = 0.25 * torch.randn(chains, 2 * MASSES, dtype=torch.double)

    def condensed() -> Tensor:
        ahead = plan(system, x0)
        return ahead.inputs(qp.solve_qp(**ahead.arguments, settings=SETTINGS, backend=args.backend).check().x)

    def whole() -> Tensor:
        x = qp.solve_qp(**full(system, x0), settings=SETTINGS, backend=args.backend).check().x
        return x[:, HORIZON * 2 * MASSES :].unflatten(1, (HORIZON, -1))

    def trained(solve: Callable[[], Tensor]) -> None:
        solve()[:, 0].square().sum().backward()

    error = (condensed() - whole()).abs().max().item()
    rows = []
    for what, run in (("forward", lambda solve: solve()), ("forward and backward", trained)):
        for t in (x0, *system.values()):
            t.requires_grad_(run is trained)
        seconds: dict[str, list[float]] = {"full": [], "condensed": []}
        for _ in range(args.repeat):
            for form, solve in (("full", whole), ("condensed", condensed)):
                for _ in range(IN_A_ROW):
                    start = time.perf_counter()
                    run(solve)
                    seconds[form].append(time.perf_counter() - start)
        best = {f"{form} ms": 1e3 * min(times) for form, times in seconds.items()}
        ratio = best["full ms"] / best["condensed ms"]
        rows.append({"chains": chains, "call": what, **best, "times as fast": ratio, "largest difference": error})
    return rows


def compare(system: Mapping[str, Tensor], args: argparse.Namespace) -> None:
    """Measures a single chain and all of them, prints and writes speed.csv."""
    rows = []
    for chains in (1, args.chains):
        for row in measure(system, chains, args):
            rows.append(row | {"cores": os.cpu_count(), "load": os.getloadavg()[0]})
            print(rows[-1])
    write_csv(rows, args.out / "speed.csv")


def parse_arguments() -> argparse.Namespace:
    """The options, all with a default."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--chains", type=int, default=256)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the first states and of the gusts")
    parser.add_argument("--backend", default="auto", help="of the layer: auto, cpu, torch, triton or cuda")
    parser.add_argument("--out", type=Path, default=Path("runs", "mpc"), help="folder of what is written")
    parser.add_argument("--compare", action="store_true", help="only measure the condensed QP beside the full one")
    parser.add_argument("--repeat", type=int, default=6, help="of each measurement, whose least counts")
    return parser.parse_args()


def main() -> None:
    """Drives and draws, or measures."""
    args = parse_arguments()
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    system = chain()
    if args.compare:
        compare(system, args)
        return
    positions, status = drive(system, args)
    draw(positions, status, args.out / "mpc.png")
    counts = {s.name: int((status == s).sum()) for s in qp.Status if (status == s).any()}
    beyond = (positions.abs().amax(-1) > LIMIT).double().mean()
    print(f"{status.numel()} QPs: {counts}; {beyond:.1%} of the chains beyond a wall at a time")


if __name__ == "__main__":
    main()
