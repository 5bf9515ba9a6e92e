r"""A sweep over the parameters of a controller, its points shared out among processes that may come, go and die.

    export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
    torchrun --nproc-per-node 2 --max-restarts 3 examples/sweep.py
    torchrun --nnodes 1:4 --nproc-per-node 8 --max-restarts 3 --rdzv-backend c10d --rdzv-endpoint HOST:29500 \
        examples/sweep.py --out SHARED/FOLDER     # on one to four machines, each of which may join later

Each point of the grid is a controller of ``mpc.py`` with its own cost of the inputs and its own limit of the motors,
which drives a batch of chains. The points need nothing of each other: a process takes its share of those that have no
file yet, and writes one for each. torch elastic starts all anew when a process dies or a machine joins; what is done is
done, and the rest is shared out again. A point is one batch of QPs in every step: processes are for the points, and
the batch is for the problems of one.
"""

from __future__ import annotations

import argparse
import json
import math
from itertools import product
from pathlib import Path

import torch
import torch.distributed as dist

import mpc
import qplayer_gpu as qp
from harness import LEADS, Record, write_csv
from qplayer_gpu.control import condense

GRID = {"input cost": [0.01, 0.03, 0.1, 0.3, 1.0], "strongest": [0.25, 0.5, 1.0, 2.0]}


@torch.no_grad()
def evaluate(point: Record, args: argparse.Namespace) -> Record:
    """The mean cost of driving chains to rest with the controller of a point."""
    torch.manual_seed(args.seed)
    system = mpc.chain()
    state = 0.3 * torch.randn(args.chains, 2 * mpc.MASSES, dtype=torch.double)
    R, limit, cost, last = point["input cost"] * torch.eye(2).double(), point["strongest"], 0.0, None
    for _ in range(args.steps):
        ahead = condense(
            **system | {"R": R}, x0=state, horizon=args.horizon, x_min=-1.0, x_max=1.0, u_min=-limit, u_max=limit
        )
        last = qp.solve_qp(**ahead.arguments, w_box=math.inf, warm_start=last, settings=mpc.SETTINGS)
        inputs = ahead.inputs(last.x)[:, 0].clamp(-limit, limit)
        state = state @ system["A"].mT + inputs @ system["B"].mT
        cost += state.square().sum(-1).mean().item()
    return point | {"cost": cost, "solved": last.solved.double().mean().item()}


def left(folder: Path) -> dict[Path, Record]:
    """The points that have no file yet, by the name of their file; the same in all processes."""
    points = {}
    for values in product(*GRID.values()):
        path = folder / ("-".join(f"{value:g}" for value in values) + ".json")
        if not path.exists():
            points[path] = dict(zip(GRID, values, strict=True))
    found = [points]
    dist.broadcast_object_list(found)  # as files appear while others look
    return found[0]


def main() -> None:
    """Evaluates the share of this process; the first one puts all of them together."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--chains", type=int, default=64)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--horizon", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the first states")
    parser.add_argument("--out", type=Path, default=Path("runs", "sweep"), help="folder that all processes see")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    dist.init_process_group("gloo")
    share = list(left(args.out).items())[dist.get_rank() :: dist.get_world_size()]
    for path, point in share:
        new = path.with_suffix(f".{dist.get_rank()}")
        new.write_text(json.dumps(evaluate(point, args)))
        new.replace(path)  # at once: whenever the process is killed, there is a whole one or none
    dist.barrier()
    if LEADS:
        rows = [json.loads(path.read_text()) for path in args.out.glob("*.json")]
        write_csv(sorted(rows, key=lambda row: [row[name] for name in GRID]), args.out / "sweep.csv")
        best = min(rows, key=lambda row: row["cost"])
        print(f"{len(rows)} points, the best of them {best}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
