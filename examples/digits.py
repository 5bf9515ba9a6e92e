"""Classifies scikit-learn's handwritten digits by a network with a QP as its last layer, and by the same without.

The images have 8 x 8 pixels. Both networks are linear (64 to 32), ReLU, linear (32 to 10), and then

    optnet   x = argmin 1/2 x'H x - a'x   subject to   C x <= u
    linear   x = W a + w

of which the softmax is taken: a are the 10 numbers of the layer before. H = LL' + I / 100, C, 40 x 10, and u are
learned. This is the comparison of OptNet (Amos, Kolter, ICML 2017) on MNIST, on a smaller set. The u that is learned
need not leave any x; the layer then solves the closest feasible problem.

Each network is trained from several seeds, which also choose the images to test on. Prints mean and spread, and writes
results.csv and curves.png into runs/digits; takes three to four minutes on a core of a CPU.

    pip install -e '.[examples]'
    python examples/digits.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

import torch
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, TensorDataset

import qplayer_gpu as qp
from harness import Record, Training, options, write_csv

HIDDEN, CLASSES, ROWS = 32, 10, 40
TESTED = 500  # images of 1797


class OptNet(nn.Module):
    """A QP in 10 variables with learned H, C and u, whose linear term is its input."""

    def __init__(self, backend: str):
        super().__init__()
        self.L = nn.Parameter(torch.eye(CLASSES))
        self.C = nn.Parameter(torch.rand(ROWS, CLASSES) * 2 - 1)
        self.u = nn.Parameter(torch.ones(ROWS))
        self.layer = qp.QPLayer(qp.Settings(eps_abs=1e-6), backend)

    def forward(self, a: Tensor) -> Tensor:
        """[B, 10] -> [B, 10]."""
        L = self.L.tril()
        H = L @ L.mT + 0.01 * torch.eye(CLASSES).to(L)
        return self.layer(H, -a, C=self.C, l=torch.full_like(self.u, -torch.inf), u=self.u).check().x


def network(last: str, backend: str) -> nn.Module:
    """64 pixels to the logits of 10 digits."""
    layers = {"optnet": lambda: OptNet(backend), "linear": lambda: nn.Linear(CLASSES, CLASSES)}
    return nn.Sequential(nn.Linear(64, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES), layers[last]()).double()


def make_split(seed: int, device: str) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Images and digits to learn from, and to test on."""
    digits = load_digits()
    order = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(seed))
    images = torch.tensor(digits.data)[order].to(device) / 16
    targets = torch.tensor(digits.target)[order].to(device)
    return (images[TESTED:], targets[TESTED:]), (images[:TESTED], targets[:TESTED])


def judge(logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """The loss, and the share of wrong digits."""
    return {"loss": cross_entropy(logits, targets), "wrong": (logits.argmax(-1) != targets).double().mean()}


def train(last: str, seed: int, args: argparse.Namespace) -> list[Record]:
    """Trains a network with Adam; after each epoch tests it."""
    data, held_back = make_split(seed, args.device)
    torch.manual_seed(seed)
    model = network(last, args.backend).to(args.device)
    loader = DataLoader(TensorDataset(*data), args.batch, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters())
    schedule = OneCycleLR(optimizer, args.lr, args.epochs * len(loader), cycle_momentum=False)
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    training = Training(args, args.out / f"{last}-{seed}", steps=len(loader), **parts)
    for _ in training.epochs():
        for images, targets in loader:
            measures = judge(model(images), targets)
            optimizer.zero_grad()
            measures["loss"].backward()
            optimizer.step()
            schedule.step()
            training.step(measures)
        with torch.no_grad():
            training.test(judge(model(held_back[0]), held_back[1]))
    return training.log


def draw(logs: dict[str, list[list[Record]]], path: Path) -> None:
    """The share of wrong test digits after each epoch: the mean over the seeds, and their range."""
    figure, axis = plt.subplots(figsize=(7, 4))
    for last, runs in logs.items():
        tests = torch.tensor([[row["wrong"] for row in log if row["split"] == "test"] for log in runs])
        epochs = range(1, tests.shape[1] + 1)
        axis.plot(epochs, tests.mean(0), label=last)
        axis.fill_between(epochs, tests.amin(0), tests.amax(0), alpha=0.2)
    axis.set(xlabel="epoch", ylabel="wrong test digits", yscale="log")
    axis.legend()
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    """Trains each network from each seed, and says how they compare."""
    parser = options(__doc__, "digits", epochs=30)
    parser.add_argument("--runs", type=int, default=10, help="seeds, from --seed on")
    parser.add_argument("--batch", type=int, default=64, help="images per step")
    parser.add_argument("--lr", type=float, default=1e-2, help="highest learning rate of Adam")
    args = parser.parse_args()
    seeds = range(args.seed, args.seed + args.runs)
    logs = {last: [train(last, seed, args) for seed in seeds] for last in ("linear", "optnet")}
    wrong = {last: [log[-1]["wrong"] for log in runs] for last, runs in logs.items()}
    wrong["optnet - linear"] = [q - p for p, q in zip(*wrong.values(), strict=True)]
    for name, shares in wrong.items():
        mean, spread = fmean(shares), stdev(shares)
        print(f"{name}: {mean:.2%} wrong, deviation {spread:.2%}, of the mean {spread / len(seeds) ** 0.5:.2%}")
    rows = zip(seeds, *wrong.values(), strict=True)
    write_csv([dict(zip(["seed", *wrong], row, strict=True)) for row in rows], args.out / "results.csv")
    draw(logs, args.out / "curves.png")


if __name__ == "__main__":
    main()
