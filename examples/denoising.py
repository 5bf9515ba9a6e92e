"""Learns the operator of a denoising QP, against total variation.

The signals are those of OptNet (Amos, Kolter, ICML 2017): 100 samples in one to nine pieces, each of a height between
10 and 100, with Gaussian noise of standard deviation 10. A noisy signal y is denoised by

    x = argmin 1/2 ||y - x||^2 + ||D x||_1

which is total variation where D is lambda times the difference of neighbours. The layer solves its dual, a QP that has
a bound for each row of D and no other constraint:

    x = y - D'v,   v = argmin 1/2 v'DD'v - v'Dy   subject to   -1 <= v <= 1

Total variation has the lambda of a grid that is best on the signals to learn from. Learned (--operator) are

    kernel   four numbers, the same along the signal, from random ones
    matrix   each entry of D, 99 x 100, from total variation

Writes curves.png, signals.png (of the operator that is learned last) and results.csv into runs/denoising, and
metrics.csv into a folder there for each operator; takes about two minutes on a core of a CPU.

    pip install -e '.[examples]'
    python examples/denoising.py
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot as plt
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, TensorDataset

import qplayer_gpu as qp
from harness import Record, Training, options, write_csv

MOST_PIECES, LOWEST, HIGHEST, NOISE = 9, 10, 100, 10
GRID = torch.linspace(10, 40, 16).tolist()  # of lambda
WIDTH = 4  # of the kernel
LEARNED = {"matrix": 0.02, "kernel": 3.0}  # and their highest learning rates


def make_signals(count: int, length: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noisy signals, and what they were: [count, length], [count, length]."""
    generator = torch.Generator().manual_seed(seed)
    pieces = torch.randint(1, MOST_PIECES + 1, (count, 1), generator=generator)
    rank = torch.rand(count, length - 1, generator=generator).argsort(-1).argsort(-1)
    piece = (rank < pieces - 1).cumsum(-1)  # at random places, so often as there is one more piece, the next begins
    heights = LOWEST + (HIGHEST - LOWEST) * torch.rand(count, MOST_PIECES, generator=generator, dtype=torch.double)
    signals = heights.gather(1, nn.functional.pad(piece, (1, 0)))
    return signals + NOISE * torch.randn(signals.shape, generator=generator, dtype=torch.double), signals


class Denoiser(nn.Module):
    """The layer, for an operator D = sum over k of weights[k] basis[k], or D = weights without a basis."""

    def __init__(self, weights: Tensor, basis: Tensor | None, backend: str):
        super().__init__()
        self.weights = nn.Parameter(weights)
        self.register_buffer("basis", basis)
        self.layer = qp.QPLayer(qp.Settings(eps_abs=1e-6), backend)

    @property
    def operator(self) -> Tensor:
        """D: [rows, n]."""
        return self.weights if self.basis is None else torch.tensordot(self.weights, self.basis, 1)

    def forward(self, noisy: Tensor) -> Tensor:
        """[B, n] -> [B, n]."""
        D = self.operator
        one = torch.ones_like(D[:, 0])
        v = self.layer(D @ D.mT, -noisy @ D.mT, lb=-one, ub=one).check().x
        return noisy - v @ D


def difference(length: int) -> Tensor:
    """The difference of neighbours: [length - 1, length]."""
    return torch.eye(length, dtype=torch.double).diff(dim=0)


def shifts(length: int) -> Tensor:
    """For each number of the kernel the operator that it weighs; beyond the ends of a signal there is nothing."""
    places = range(1 - WIDTH // 2, WIDTH // 2 + 1)
    return torch.stack([torch.diag(torch.ones(length - abs(k)).double(), k)[:-1] for k in places])


@torch.no_grad()
def error(model: Denoiser, data: Sequence[Tensor]) -> float:
    """The mean squared error of the denoised signals."""
    noisy, signals = data
    return mse_loss(model(noisy), signals).item()


def train(
    model: Denoiser, lr: float, data: Sequence[Tensor], held_back: Sequence[Tensor], args: argparse.Namespace, name: str
) -> list[Record]:
    """Trains with Adam; after each epoch tests on all signals that were held back."""
    loader = DataLoader(TensorDataset(*data), args.batch, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters())
    schedule = OneCycleLR(optimizer, lr, args.epochs * len(loader), pct_start=0.2, cycle_momentum=False)
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    training = Training(args, args.out / name, steps=len(loader), **parts)
    for _ in training.epochs():
        for noisy, signals in loader:
            loss = mse_loss(model(noisy), signals)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            training.step({"mse": loss})
        training.test({"mse": error(model, held_back)})
    return training.log


@torch.no_grad()
def draw(total_variation: Denoiser, learned: Denoiser, held_back: Sequence[Tensor], path: Path) -> None:
    """A signal before and after, and what the learned operator looks like in its middle, beside total variation."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), width_ratios=[3, 2])
    noisy, signal = (t[:1].cpu() for t in held_back)
    left.plot(noisy[0], ".", color="0.6", label="noisy")
    left.plot(signal[0], "k", lw=1.5, label="true")
    left.plot(learned(held_back[0][:1]).cpu()[0], color="C1", lw=2, label="denoised by the learned operator")
    left.set_title("A signal that was not learned from")
    left.set_ylim(top=140)
    left.legend(loc="upper center")
    places = np.arange(1 - WIDTH // 2, WIDTH // 2 + 1)
    for model, name, color, aside in (
        (total_variation, "total variation", "0.5", -0.2),
        (learned, "learned", "C1", 0.2),
    ):
        D = model.operator.detach().cpu().numpy()
        middle = len(D) // 2
        row = D[middle, middle + places]
        right.bar(places + aside, row * np.sign(row[WIDTH // 2]), 0.4, color=color, label=name)
    right.axhline(0, color="k", lw=0.8)
    right.set(xticks=places, xlabel="offset from the sample")
    right.set_title("It learned the difference of neighbours")
    right.legend(loc="upper left")
    figure.savefig(path)
    plt.close(figure)


def draw_errors(logs: Mapping[str, list[Record]], fixed: Mapping[str, float], path: Path) -> None:
    """The error on the test signals over the steps, beside those of what does not learn."""
    figure, axis = plt.subplots(figsize=(8, 4))
    for name, log in logs.items():
        tests = [row for row in log if row["split"] == "test"]
        axis.plot(
            [row["step"] for row in tests], [row["mse"] for row in tests], "o-", lw=2, ms=4, label=f"learned: {name}"
        )
    for (name, mse), style in zip(fixed.items(), ("--", ":"), strict=True):
        axis.axhline(mse, color="k", ls=style, lw=1.2, label=f"{name}: {mse:.3g}")
    axis.set(xlabel="step", ylabel="mean squared error on test signals", ylim=(0, None))
    axis.set_title("Learned operators reach the best total variation")
    axis.legend(loc="center right", bbox_to_anchor=(1, 0.6))
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    """Finds the best total variation, trains each operator that is asked for, and draws what they do."""
    parser = options(__doc__, "denoising", epochs=12)
    parser.add_argument("--operator", nargs="+", choices=LEARNED, default=list(LEARNED), metavar="OPERATOR")
    parser.add_argument("--train", type=int, default=9000, help="signals to learn from")
    parser.add_argument("--test", type=int, default=1000, help="signals to test on")
    parser.add_argument("--batch", type=int, default=150, help="signals per step")
    parser.add_argument("--length", type=int, default=100, help="of a signal")
    args = parser.parse_args()
    pairs = (t.to(args.device) for t in make_signals(args.train + args.test, args.length, args.seed))
    data, held_back = zip(*(t.split([args.train, args.test]) for t in pairs), strict=True)

    D = difference(args.length)
    fixed = [Denoiser(weight * D, None, args.backend).to(args.device) for weight in GRID]
    best = min(range(len(GRID)), key=lambda i: error(fixed[i], data))
    results = {
        "not denoised": mse_loss(*held_back).item(),
        f"total variation, λ = {GRID[best]:g}": error(fixed[best], held_back),
    }

    logs, starts = {}, {"kernel": "random numbers", "matrix": "total variation"}
    for name in args.operator:
        torch.manual_seed(args.seed)
        start, basis = (
            (torch.randn(WIDTH).double(), shifts(args.length)) if name == "kernel" else (GRID[best] * D, None)
        )
        learned = Denoiser(start, basis, args.backend).to(args.device)
        logs[name] = train(learned, LEARNED[name], data, held_back, args, name)
        results[f"{name}, from {starts[name]}"] = logs[name][-1]["mse"]
        if name == "kernel":
            print("kernel:", ", ".join(f"{weight:.2f}" for weight in learned.weights))
    for name, mse in results.items():
        print(f"{name}: mse {mse:.4g}")
    write_csv([{"operator": name, "mse": mse} for name, mse in results.items()], args.out / "results.csv")
    draw_errors(logs, dict(list(results.items())[:2]), args.out / "curves.png")
    draw(fixed[best], learned, held_back, args.out / "signals.png")


if __name__ == "__main__":
    main()
