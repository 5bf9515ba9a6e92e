"""Steers 4096 agents through moving pillars, each by a safety filter that is a QP in every step.

An agent with position p and velocity v wants the acceleration w, towards the point opposite on the circle where it
began, and after some seconds back. It takes the closest one that its filter allows, a control barrier function of
second order for each pillar:

    minimise   |a - w|^2   over a in R^2,  |a_i| <= 4
    subject to h'' + 2 k h' + k^2 h >= 0   with h = |p - pillar|^2 - radius^2

Where the pillars leave no such acceleration, the layer gives the closest feasible one. Writes a picture, an animation
and the metrics of each step; ``--compare`` measures the steps per second instead, beside a loop over ProxQP.

    pip install -e '.[examples]'
    python examples/safety.py
    pip install -e '.[dev]' && python examples/safety.py --compare
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.colors import hsv_to_rgb
from PIL import Image
from torch import Tensor, nn

import qplayer_gpu as qp
from harness import Measures, Training, options, write_csv

STEP, GAIN, STRONGEST = 0.04, 3.0, 4.0  # seconds, k of the barriers, acceleration
PILLARS, RADIUS, ORBIT, SPIN = 6, 0.22, 0.75, 0.6  # their number and size, the circle they move on and how fast
RETURN = 125  # steps, after which the agents go back
FRAMES, HUES = 83, 12  # of the animation
Filter = Callable[
    [Tensor, Tensor, Tensor], Tensor
]  # wanted [B, 2], rows C [B, k, 2] and their l [B, k] -> taken [B, 2]


class Agents(nn.Module):
    """Where the agents are; its buffers are the checkpoint."""

    def __init__(self, count: int, steps: int):
        super().__init__()
        around = 2 * math.pi * torch.rand(count, dtype=torch.double)
        start = (1.6 + 0.3 * torch.rand(count, 1, dtype=torch.double)) * torch.stack([around.cos(), around.sin()], -1)
        self.register_buffer("goal", -start)
        self.register_buffer("position", start.clone())
        self.register_buffer("velocity", torch.zeros_like(start))
        self.register_buffer("path", torch.zeros(steps, count, 2))

    def wanted(self, step: int) -> Tensor:
        """The acceleration of a spring to the goal with a limited pull, and friction: [B, 2]."""
        pull = self.goal * (-1) ** (step // RETURN) - self.position
        return 2 * pull / pull.norm(dim=-1, keepdim=True).clamp(min=1) - 1.8 * self.velocity

    def barriers(self, time: float) -> tuple[Tensor, Tensor, Tensor]:
        """C [B, k, 2] and l [B, k] of ``C a >= l``, and h [B, k]; the pillars move with a known velocity."""
        pillar, drift, turn = pillars(time, self.position)
        away = self.position.unsqueeze(1) - pillar
        speed = self.velocity.unsqueeze(1) - drift
        h = away.square().sum(-1) - RADIUS**2
        rate = 2 * (away * speed).sum(-1)
        still = 2 * speed.square().sum(-1) - 2 * (away * turn).sum(-1)  # h'' without the agent's acceleration
        return 2 * away, -(still + 2 * GAIN * rate + GAIN**2 * h), h

    def move(self, acceleration: Tensor) -> None:
        """One step of constant acceleration."""
        self.position += STEP * self.velocity + STEP**2 / 2 * acceleration
        self.velocity += STEP * acceleration


def pillars(time: float, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Positions, velocities and accelerations of the pillars at a time: [k, 2] each."""
    angle = SPIN * time + 2 * math.pi / PILLARS * torch.arange(PILLARS)
    on, along = torch.stack([angle.cos(), angle.sin()], -1).to(like), torch.stack([-angle.sin(), angle.cos()], -1)
    return ORBIT * on, ORBIT * SPIN * along.to(like), -ORBIT * SPIN**2 * on


class Layer:
    """The filter of all agents as one batch of this library; its last answer is kept."""

    def __init__(self, backend: str):
        self.settings, self.backend = qp.Settings(eps_abs=1e-6), backend

    def __call__(self, wanted: Tensor, C: Tensor, l: Tensor) -> Tensor:
        bound = torch.full_like(wanted[0], STRONGEST)
        H = torch.eye(2).to(wanted)
        self.solution = qp.solve_qp(
            H, -wanted, C=C, l=l, lb=-bound, ub=bound, settings=self.settings, backend=self.backend
        )
        return self.solution.x


def proxqp(wanted: Tensor, C: Tensor, l: Tensor) -> Tensor:
    """The filter as a Python loop over ProxQP."""
    import proxsuite  # not needed otherwise

    H, high = torch.eye(2).double().numpy(), torch.full((2,), STRONGEST).double().numpy()
    taken = []
    for g, rows, lower in zip((-wanted).numpy(), C.numpy(), l.numpy(), strict=True):
        problem = proxsuite.proxqp.dense.QP(2, 0, len(rows), True)
        problem.settings.eps_abs = 1e-6
        problem.init(H, g, None, None, rows, lower, None, -high, high)
        problem.solve()
        taken.append(torch.from_numpy(problem.results.x.copy()))
    return torch.stack(taken)


def simulate(args: argparse.Namespace, layer: Layer) -> Agents:
    """The metrics are those of all agents in a step; an epoch is a tenth of the steps."""
    agents = Agents(args.agents, args.steps).to(args.device)
    share = args.steps // args.epochs
    training = Training(args, args.out, steps=share, agents=agents)
    for epoch in training.epochs():
        for step in range((epoch - 1) * share, epoch * share):
            C, l, h = agents.barriers(step * STEP)
            agents.path[step] = agents.position
            taken = layer(agents.wanted(step), C, l)
            measures = judge(layer.solution, agents, h)
            agents.move(taken)
            training.step(measures)
        training.test(measures)
    return agents


def judge(solution: qp.Solution, agents: Agents, h: Tensor) -> Measures:
    """What a step came to."""
    return {
        "speed": agents.velocity.norm(dim=-1).mean().item(),
        "filtered": ((solution.z != 0).any(-1)).double().mean().item(),
        "inside a pillar": (h < 0).any(-1).double().mean().item(),
        "infeasible": (solution.status == qp.Status.SOLVED_CLOSEST_FEASIBLE).double().mean().item(),
        "unsolved": (solution.status > qp.Status.SOLVED_CLOSEST_FEASIBLE).double().mean().item(),
        "newton steps": solution.info.iterations.double().mean().item(),
    }


def arena(axis: plt.Axes, time: float) -> None:
    """The pillars on an empty square."""
    for x, y in pillars(time, torch.zeros(1))[0].tolist():
        axis.add_patch(plt.Circle((x, y), RADIUS, color="0.25", zorder=3))
    axis.set(xlim=(-1.98, 1.98), ylim=(-1.98, 1.98), aspect="equal")
    axis.axis("off")


def unfiltered(args: argparse.Namespace) -> Agents:
    """The same agents, each of which does what it wants."""
    torch.manual_seed(args.seed)
    agents = Agents(args.agents, args.steps)
    for step in range(args.steps):
        agents.path[step] = agents.position
        agents.move(agents.wanted(step).clamp(-STRONGEST, STRONGEST))
    return agents


def draw(filtered: Agents, wanted: Agents, folder: Path) -> None:
    """Four moments side by side with the last steps of each path, and an animation beside agents without a filter."""
    path, goal = filtered.path.cpu(), filtered.goal.cpu()
    hue = (torch.atan2(goal[:, 1], goal[:, 0]) / (2 * math.pi) % 1 * HUES).floor() / HUES
    colors = hsv_to_rgb(torch.stack([hue, 0.8 + 0 * hue, 0.85 + 0 * hue], -1).numpy())
    figure, axes = plt.subplots(1, 4, figsize=(12, 3.2))
    for axis, moment in zip(axes, (0, 25, 45, 70), strict=True):
        step = min(moment, len(path) - 1)
        arena(axis, step * STEP)
        axis.plot(*path[max(0, step - 12) : step + 1, ::4].unbind(-1), color="0.6", lw=0.2)
        axis.scatter(*path[step].unbind(-1), s=1, c=colors, lw=0, zorder=2.5)
        axis.set_title(f"{step * STEP:.1f} s", fontsize="medium")
    figure.savefig(folder / "safety.png")
    plt.close(figure)

    panels = {"what the agents want": wanted.path, f"what their filters let them do: {len(goal)} QPs a step": path}
    figure, axes = plt.subplots(1, 2, figsize=(8, 4.2), dpi=120, layout="none")
    figure.subplots_adjust(0, 0, 1, 0.94, wspace=0)
    frames = []
    for i in range(FRAMES):
        step = i * min(2 * RETURN, len(path)) // FRAMES
        for axis, (title, positions) in zip(axes, panels.items(), strict=True):
            axis.clear()
            arena(axis, step * STEP)
            axis.scatter(*positions[step].unbind(-1), s=1.6, c=colors, lw=0, zorder=4, antialiased=False)
            axis.set_title(title, fontsize="large", pad=2)
        figure.canvas.draw()
        frames.append(Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB"))
    plt.close(figure)
    palette = frames[FRAMES // 5].quantize(48)  # one for all, so that what does not move costs nothing
    first, *others = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    first.save(folder / "safety.gif", save_all=True, append_images=others, duration=50, loop=0, optimize=True)


def measure(args: argparse.Namespace) -> None:
    """Prints the steps per second of all agents with one solver, the barriers and the movement included."""
    solve: Filter = proxqp if args.solver == "proxqp" else Layer(args.backend)
    agents = Agents(args.agents, 0).to(args.device)
    start = 0.0
    for step in range(args.steps + 1):
        if step == 1:  # the first one compiles and allocates
            start = time.perf_counter()
        C, l, _ = agents.barriers(step * STEP)
        agents.move(solve(agents.wanted(step), C, l))
    x = agents.position.sum().item()  # waits for the device
    print(f"{args.steps / (time.perf_counter() - start):.6g} {x:.6f}")


def compare(args: argparse.Namespace) -> None:
    """Measures both solvers over the same steps, in a process each, and writes speed.csv."""
    rows = []
    for solver in ("layer", "proxqp"):
        given = ["--solver", solver, "--device", args.device if solver == "layer" else "cpu", "--backend", args.backend]
        sizes = ["--agents", args.agents, "--steps", args.steps, "--seed", args.seed]
        command = [sys.executable, __file__, *given, *map(str, sizes)]
        speed, check = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        load = os.getloadavg()[0]
        rows.append({"solver": solver, "agents": args.agents, "steps": args.steps, "steps per second": float(speed)})
        rows[-1] |= {"sum of positions": check, "device": args.device, "cores": os.cpu_count(), "load": load}
        print(rows[-1])
    args.out.mkdir(parents=True, exist_ok=True)
    write_csv(rows, args.out / "speed.csv")


def parse_arguments() -> argparse.Namespace:
    """The options, all with a default."""
    parser = options(__doc__, "safety", epochs=10)
    parser.add_argument("--agents", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=500, help="in all epochs together")
    parser.add_argument("--compare", action="store_true", help="only measure the speed, beside ProxQP's")
    parser.add_argument("--solver", choices=("layer", "proxqp"), help="only measure the speed of this one")
    return parser.parse_args()


@torch.no_grad()
def main() -> None:
    """Simulates and draws, or measures."""
    args = parse_arguments()
    torch.manual_seed(args.seed)
    if args.compare:
        compare(args)
    elif args.solver:
        measure(args)
    else:
        draw(simulate(args, Layer(args.backend)), unfiltered(args), args.out)


if __name__ == "__main__":
    main()
