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

Writes curves.png and signals.png into runs/denoising, and metrics.csv into a folder there for each operator; takes about
two minutes on a core of a CPU.

    pip install -e '.[examples]'
    python examples/denoising.py
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib import pyplot as plt
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, TensorDataset

import qplayer_gpu as qp
from harness import Record, Training, curves, options

MOST_PIECES, LOWEST, HIGHEST, NOISE = 9, 10, 100, 10
GRID = torch.linspace(10, 40, 16).tolist()  # of lambda
WIDTH = 4  # of the kernel
LEARNED = {"kernel": 3.0, "matrix": 0.02}  # and their highest learning rates


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
def draw(models: Mapping[str, Denoiser], held_back: Sequence[Tensor], path: Path) -> None:
    """Three signals, denoised by each model, and the middle row of each D."""
    figure, axes = plt.subplots(2, 2, figsize=(10, 6))
    *panels, last = axes.flat
    for axis, noisy, signal in zip(panels, *(t[:3].cpu() for t in held_back), strict=True):
        axis.plot(noisy, ".", color="0.7", ms=3, label="noisy")
        axis.plot(signal, "k", lw=1, label="true")
    for name, model in models.items():
        for axis, denoised in zip(panels, model(held_back[0][:3]).cpu(), strict=True):
            axis.plot(denoised, lw=1, label=name)
        D = model.operator.cpu()
        last.plot(D[len(D) // 2], "o-", ms=3, lw=1, label=name)
    last.set(xlabel="middle row of D", xlim=(len(D) // 2 - 7, len(D) // 2 + 8))
    axes[0, 0].legend()
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
    models, mse = {"total variation": fixed[best]}, error(fixed[best], held_back)
    print(f"total variation: lambda {GRID[best]:g}, mse {mse:.4g}")

    logs = {}
    for name in args.operator:
        torch.manual_seed(args.seed)
        start, basis = (
            (torch.randn(WIDTH).double(), shifts(args.length)) if name == "kernel" else (GRID[best] * D, None)
        )
        models[name] = Denoiser(start, basis, args.backend).to(args.device)
        logs[name] = train(models[name], LEARNED[name], data, held_back, args, name)
    if "kernel" in models:
        print("kernel:", ", ".join(f"{weight:.2f}" for weight in models["kernel"].weights))
    logs["total variation"] = [{**row, "mse": mse} for row in logs[name]]
    curves(logs, {"mse": "mean squared error"}, args.out / "curves.png", log_scale="mse")
    draw(models, held_back, args.out / "signals.png")


if __name__ == "__main__":
    main()
