"""Learns a receding-horizon controller of a cart-pole from an expert, with limits that contradict each other at first.

The controller plans 15 forces, the condensed QP of a linear model of the system over a horizon,

    minimise   sum x_k'Q x_k + R f_k^2   over f,  x_(k+1) = M x_k + N f_k
    subject to |position_k| <= p,  |angle_k| <= a,  |f_k| <= F

and applies the first. Learned are the weights Q, the masses and the length behind M and N, and the limits p, a and F:
ten numbers, from pairs of a state and the expert's force. The limits start so tight that no demonstrated state has a plan.

The layer of the closest feasible problem is trained beside an ordinary QP layer (``closest_feasible=False``), for which
a problem without a plan has no gradient. Both are then tested in closed loop on the nonlinear system.

    pip install -e '.[examples]'
    python examples/control.py
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from matplotlib import pyplot as plt
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, TensorDataset

import qplayer_gpu as qp
from harness import Record, Training, options, write_csv

HORIZON = 15
STEP = 0.06  # seconds
GRAVITY = 9.81
DEMONSTRATED, DRIVEN = 12, 80  # steps of a demonstration, and of a test drive
STRONGEST = 12.0  # force of the motor
RANGE = torch.tensor([1.0, 0.25, 1.0, 1.0], dtype=torch.double)  # of the first states
UNIT = torch.tensor([1.0, 0.2, 2.0, 2.0], dtype=torch.double)  # of a state in the cost: position, angle, their speeds
BODY, FIRST_BODY = (1.0, 0.3, 0.6), (1.5, 0.2, 0.9)  # masses of cart and pole, half the length of the pole
LIMITS = {"position": 0.8, "angle": 0.12, "force": 8.0}
COST, FIRST_COST = (10.0, 1.0, 0.1, 0.1), (1.0, 1.0, 1.0, 1.0)
LAYERS = {"closest feasible": True, "ordinary": False}


def cart_pole(state: Tensor, force: Tensor) -> Tensor:
    """The state [B, 4] (position, angle, speeds) after a step under a force [B]: four steps of Runge and Kutta."""
    cart, pole, length = BODY

    def derivative(state: Tensor) -> Tensor:
        _, angle, speed, turn = state.unbind(-1)
        sine, cosine = angle.sin(), angle.cos()
        push = (force + pole * length * turn.square() * sine) / (cart + pole)
        spin = (GRAVITY * sine - cosine * push) / (length * (4 / 3 - pole * cosine.square() / (cart + pole)))
        return torch.stack([speed, turn, push - pole * length * spin * cosine / (cart + pole), spin], -1)

    k1 = derivative(state)
    k2 = derivative(state + STEP / 2 * k1)
    k3 = derivative(state + STEP / 2 * k2)
    return state + STEP / 6 * (k1 + 2 * k2 + 2 * k3 + derivative(state + STEP * k3))


def linear_model(cart: Tensor, pole: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """The system near the upright pole, over one step: M [4, 4], N [4]."""
    mass = cart + pole
    inertia = length * (4 / 3 - pole / mass)
    share = pole * length / mass / inertia
    flow = torch.zeros(5, 5, dtype=cart.dtype, device=cart.device)
    flow[0, 2] = flow[1, 3] = 1
    flow[2, 1], flow[2, 4] = -GRAVITY * share, 1 / mass + share / mass
    flow[3, 1], flow[3, 4] = GRAVITY / inertia, -1 / (mass * inertia)
    stepped = torch.matrix_exp(STEP * flow)
    return stepped[:4, :4], stepped[:4, 4]


class Controller(nn.Module):
    """The condensed QP with its ten parameters, kept as logarithms: they are positive."""

    def __init__(self, body: Sequence[float], limits: Sequence[float], cost: Sequence[float], layer: qp.QPLayer):
        super().__init__()
        self.body, self.limits, self.cost = (
            nn.Parameter(torch.tensor(values, dtype=torch.double).log()) for values in (body, limits, cost)
        )
        self.layer = layer
        self.register_buffer("unit", UNIT, persistent=False)

    def forward(self, states: Tensor) -> qp.Solution:
        """The plans, in units of the motor's strength, for the states [B, 4]."""
        position, angle, strength = self.limits.exp()
        drift, forced = self.predict(states)
        weighted = self.cost.exp()[:, None] * forced
        H = torch.einsum("kin,kim->nm", weighted, forced) + torch.eye(HORIZON).to(forced)
        g = torch.einsum("kin,bki->bn", weighted, drift)
        limit = torch.stack([position, angle]) / self.unit[:2]
        l, u = ((side - drift[..., :2]).flatten(1) for side in (-limit, limit))
        ub = (strength / STRONGEST).expand(HORIZON)
        return self.layer(H, g, C=forced[:, :2].flatten(0, 1), l=l, u=u, lb=-ub, ub=ub)

    def predict(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """The states ahead without a force [B, k, 4], and what each force of the plan adds to them [k, 4, k]."""
        M, N = linear_model(*self.body.exp())
        powers = [torch.eye(4).to(M)]
        for _ in range(HORIZON):
            powers.append(M @ powers[-1])
        drift = torch.einsum("kij,bj->bki", torch.stack(powers[1:]), states)
        impulse = STRONGEST * torch.stack(powers[:-1]) @ N  # [k, 4]
        columns = [nn.functional.pad(impulse[: HORIZON - k], (0, 0, k, 0)) for k in range(HORIZON)]
        return drift / self.unit, torch.stack(columns, -1) / self.unit[:, None]

    def force(self, states: Tensor) -> Tensor:
        """What the motor does with the plans: [B, 4] -> [B]."""
        return STRONGEST * self(states).x[:, 0].clamp(-1, 1)


@torch.no_grad()
def drive(controller: Controller, states: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """States [steps, B, 4] and forces [steps, B] of a closed loop with the nonlinear system."""
    visited, forces = [], []
    for _ in range(steps):
        visited.append(states)
        forces.append(controller.force(states))
        states = cart_pole(states, forces[-1])
    return torch.stack(visited), torch.stack(forces)


@torch.no_grad()
def first_states(expert: Controller, count: int) -> Tensor:
    """Random states, off the middle and leaning, for which the expert has a plan: [count, 4]."""
    states = (2 * torch.rand(16 * count, 4, dtype=torch.double) - 1) * RANGE
    states = states[(states[:, 0].abs() > 0.3) & (states[:, 1].abs() > 0.02)].to(expert.unit.device)
    return states[expert(states).status == qp.Status.SOLVED][:count]


def judge(controller: Controller, states: Tensor, forces: Tensor, penalty: float) -> dict[str, Tensor]:
    """The loss, and what else there is to know of a batch of demonstrations."""
    sol = controller(states)
    error = (sol.x[:, 0] - forces / STRONGEST).square().mean()
    shift = torch.cat([sol.s_in, sol.s_box], -1).norm(dim=-1).mean()
    infeasible = (sol.status != qp.Status.SOLVED).double().mean()
    return {"loss": error + penalty * shift, "error": error, "shift": shift, "infeasible": infeasible}


def train(
    controller: Controller, loader: DataLoader, held_back: Sequence[Tensor], name: str, args: Any
) -> list[Record]:
    """Trains one controller; the metrics also hold its limits."""
    optimizer = torch.optim.Adam(controller.parameters(), args.lr)
    schedule = CosineAnnealingLR(optimizer, args.epochs * len(loader))
    parts = {"model": controller, "optimizer": optimizer, "schedule": schedule}
    training = Training(args, args.out / name.split()[0], steps=len(loader), **parts)

    def measures(batch: Sequence[Tensor]) -> dict[str, Any]:
        return judge(controller, *batch, args.penalty) | dict(zip(LIMITS, controller.limits.exp(), strict=True))

    for _ in training.epochs():
        for batch in loader:
            measured = measures(batch)
            optimizer.zero_grad()
            measured["loss"].backward()
            optimizer.step()
            schedule.step()
            training.step(measured)
        with torch.no_grad():
            training.test(measures(held_back))
    return training.log


def closed_loop(states: Tensor, forces: Tensor) -> Record:
    """What a test drive came to: the expert's cost, and how far cart and pole went."""
    weights = torch.tensor(COST).to(states)
    cost = ((states / UNIT.to(states)).square() * weights).sum(-1).mean() + (forces / STRONGEST).square().mean()
    fallen = (states[-1, :, 1].abs() > 0.5).double().mean()
    furthest = states[..., 0].abs().amax()
    return {"cost": cost.item(), "fallen": fallen.item(), "furthest position": furthest.item()}


def plot(logs: Mapping[str, list[Record]], drives: Mapping[str, Tensor], path: Path) -> None:
    """Error, share without a plan and limits while training; angles and positions of the test drives."""
    figure = plt.figure(figsize=(10, 6))
    learning, driving = figure.subfigures(1, 2, width_ratios=(1, 1.1))
    axes = learning.subplots(3, sharex=True)
    for i, (name, log) in enumerate(logs.items()):
        rows = [row for row in log if row["split"] == "train"]
        steps = [row["step"] for row in rows]
        axes[0].semilogy(steps, [row["error"] for row in rows], color=f"C{i}", lw=1, label=f"{name} QP layer")
        axes[1].plot(steps, [row["infeasible"] for row in rows], color=f"C{i}", lw=1)
        for limit, style in zip(LIMITS, ("-", "--", ":"), strict=True):
            axes[2].plot(steps, [row[limit] / LIMITS[limit] for row in rows], style, color=f"C{i}")
    for limit, style in zip(LIMITS, ("-", "--", ":"), strict=True):
        axes[2].plot([], [], style, color="0.3", label=limit)
    axes[0].set_ylabel("imitation error")
    axes[0].legend(loc="center right", bbox_to_anchor=(1, 0.75))
    axes[1].set(ylabel="states without a plan", ylim=(-0.05, 1.05))
    axes[2].set(ylabel="limit / the expert's", xlabel="step", ylim=(0, 1.15))
    axes[2].legend(loc="center right")
    panels = driving.subplots(len(drives), 2, sharex=True, sharey="col")
    for (name, states), color, row in zip(drives.items(), ("0.3", "C0", "C1"), panels, strict=True):
        time = STEP * torch.arange(len(states))
        for axis, part, limit in zip(row, (0, 1), ("position", "angle"), strict=True):
            axis.plot(time, states[:, :25, part].cpu(), color=color, lw=0.6, alpha=0.7)
            for side in (-1, 1):
                axis.axhline(side * LIMITS[limit], color="k", lw=0.8, ls=":")
            axis.set_title(f"{name}: {limit}", fontsize="medium")
    panels[0, 0].set_ylim(-1.5, 1.5)
    panels[0, 1].set_ylim(-0.4, 0.4)
    for axis in panels[-1]:
        axis.set_xlabel("seconds")
    figure.savefig(path)
    plt.close(figure)


def parse_arguments() -> argparse.Namespace:
    """The options, all with a default."""
    parser = options(__doc__, "control", epochs=20)
    parser.add_argument("--drives", type=int, default=400, help="of the expert, to learn from; a quarter more to test")
    parser.add_argument("--batch", type=int, default=100, help="demonstrations per step")
    parser.add_argument("--lr", type=float, default=0.02, help="first learning rate of Adam")
    parser.add_argument("--penalty", type=float, default=0.1, help="weight of the shift in the loss")
    parser.add_argument("--guess", type=float, default=0.1, help="first limits, as a share of the expert's")
    return parser.parse_args()


def main() -> None:
    """Has the expert drive, trains both layers on that, and drives with them."""
    args = parse_arguments()
    torch.manual_seed(args.seed)
    tolerance = qp.Settings(eps_abs=1e-7)
    expert = Controller(BODY, [*LIMITS.values()], COST, qp.QPLayer(tolerance, args.backend)).to(args.device)
    starts = first_states(expert, args.drives * 5 // 4)
    demonstrations = [t.detach() for t in drive(expert, starts, DEMONSTRATED)]
    learn, held_back = zip(*((t[:, : args.drives], t[:, args.drives :]) for t in demonstrations), strict=True)
    loader = DataLoader(TensorDataset(*(t.flatten(0, 1) for t in learn)), args.batch, shuffle=True)
    controllers, logs = {"expert": expert}, {}
    for name, closest in LAYERS.items():
        torch.manual_seed(args.seed)
        layer = qp.QPLayer(replace(tolerance, closest_feasible=closest), args.backend)
        guess = [args.guess * limit for limit in LIMITS.values()]
        controllers[name] = Controller(FIRST_BODY, guess, FIRST_COST, layer).to(args.device)
        logs[name] = train(controllers[name], loader, [t.flatten(0, 1) for t in held_back], name, args)
    drives = {name: drive(controller, starts[args.drives :], DRIVEN) for name, controller in controllers.items()}
    results = [{"controller": name, **closed_loop(*driven)} for name, driven in drives.items()]
    write_csv(results, args.out / "closed_loop.csv")
    plot(logs, {name: states for name, (states, _) in drives.items()}, args.out / "control.png")


if __name__ == "__main__":
    main()
