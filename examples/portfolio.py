"""Learns to predict returns for a portfolio, through the QP that chooses it, against the least squared error.

In each period there are 20 assets in 4 sectors, for each of them 4 features, and a known covariance S of the returns.
A model predicts the returns m of the period, the same function for each asset; the portfolio is then

    w = argmin 1/2 risk w'S w - m'w   subject to   1'w = 1,  0.15 <= C w <= 0.4,  0 <= w <= 0.15

where a row of C sums up a sector. A period's utility is r'w - 1/2 risk w'S w with the returns r that came. Each model
(linear, and a network with a hidden layer) is trained in two ways:

    mse          on the squared error of m, without a look at the QP (predict, then optimise)
    end-to-end   on the utility, with the gradient through the QP

The world is made up: the effect of the first feature on the returns is positive for calm assets and negative for
volatile ones. Volatility is a feature, but a linear model cannot let it change the effect of another.

The measure is the regret on periods that were held back: the utility under the expected returns, short of that of a
portfolio chosen by one who knows them. Each seed is a world of its own. Writes results.csv (each test) and
portfolio.png into runs/portfolio; takes about a minute on a core of a CPU.

    pip install -e '.[examples]'
    python examples/portfolio.py
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

import torch
from matplotlib import pyplot as plt
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, TensorDataset

import qplayer_gpu as qp
from harness import Record, Training, options, write_csv

ASSETS, SECTORS, FEATURES = 20, 4, 4
RISK = 0.1  # aversion, for returns in percent; 10 for returns as fractions
LEAST_IN_SECTOR, MOST_IN_SECTOR, MOST_IN_ASSET = 0.15, 0.4, 0.15
VOLATILITY = 4.0  # in percent, that of the median asset without its share in the factors
EFFECT = 1.0  # in percent, of a feature of size 1
COLORS = ["tab:cyan", "tab:blue", "tab:orange", "tab:red"]


class Periods(NamedTuple):
    """What is known and what happens in each of T periods; returns in percent."""

    features: Tensor  # [T, n, features], the last of them the volatility
    covariance: Tensor  # [T, n, n]
    expected: Tensor  # [T, n]: the mean of the returns, which nobody knows
    returns: Tensor  # [T, n]


def first_effect(volatility: Tensor) -> Tensor:
    """What a unit of the first feature adds to the expected return, of the volatility as a feature."""
    return -EFFECT * torch.tanh(1.5 * volatility)


def make_periods(count: int, seed: int) -> Periods:
    """Independent periods of one market, with factors for all assets and for each sector."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.double)

    features = normal(count, ASSETS, FEATURES)
    features[..., -1] = 0.8 * normal(ASSETS) + 0.6 * features[..., -1]
    volatility = VOLATILITY * (0.8 * features[..., -1]).exp()
    loadings = torch.cat([1 + 0.3 * normal(ASSETS, 1), sectors().mT], 1)
    size = torch.tensor([3.0] + [2.0] * SECTORS).double() * (0.3 * normal(count, 1, 1 + SECTORS)).exp()
    exposure = loadings * size
    covariance = exposure @ exposure.mT + torch.diag_embed(volatility.square())
    expected = 0.5 + features[..., 0] * first_effect(features[..., -1]) + 0.5 * EFFECT * features[..., 1]
    shocks = (exposure @ normal(count, 1 + SECTORS, 1)).squeeze(-1) + volatility * normal(count, ASSETS)
    return Periods(features, covariance, expected, expected + shocks)


def sectors() -> Tensor:
    """C: [sectors, n]."""
    return torch.eye(SECTORS, dtype=torch.double).repeat_interleave(ASSETS // SECTORS, 1)


class Chooser(nn.Module):
    """The QP from predicted returns to a portfolio."""

    def __init__(self, backend: str):
        super().__init__()
        self.register_buffer("C", sectors())
        self.layer = qp.QPLayer(qp.Settings(eps_abs=1e-6), backend)

    def forward(self, predicted: Tensor, covariance: Tensor) -> Tensor:
        """[B, n], [B, n, n] -> [B, n]."""
        one = self.C.new_ones(1, ASSETS)
        sides = {"l": LEAST_IN_SECTOR, "u": MOST_IN_SECTOR, "lb": 0.0, "ub": MOST_IN_ASSET}
        return self.layer(RISK * covariance, -predicted, one, 1.0, C=self.C, **sides).check().x


def utility(weights: Tensor, returns: Tensor, covariance: Tensor) -> Tensor:
    """[B, n], [B, n], [B, n, n] -> [B], in percent."""
    variance = torch.einsum("bi,bij,bj->b", weights, covariance, weights)
    return (weights * returns).sum(-1) - RISK / 2 * variance


def predictor(model: str) -> nn.Module:
    """The features of an asset to its return."""
    if model == "linear":
        return nn.Linear(FEATURES, 1).double()
    return nn.Sequential(nn.Linear(FEATURES, 16), nn.Tanh(), nn.Linear(16, 1)).double()


def train_step(
    model: nn.Module, aim: str, chooser: Chooser, periods: Periods, optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """One step of the optimizer on what the training aims at; its loss."""
    predicted = model(periods.features).squeeze(-1)
    if aim == "mse":
        loss = mse_loss(predicted, periods.returns)
    else:
        weights = chooser(predicted, periods.covariance)
        loss = -utility(weights, periods.returns, periods.covariance).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return {"loss": loss}


@torch.no_grad()
def judge(model: nn.Module, chooser: Chooser, periods: Periods, best: Tensor) -> dict[str, Tensor]:
    """What the predictions are worth, to the portfolio and as predictions; best is the utility of who knows."""
    predicted = model(periods.features).squeeze(-1)
    weights = chooser(predicted, periods.covariance)
    regret = best - utility(weights, periods.expected, periods.covariance)
    realised = utility(weights, periods.returns, periods.covariance)
    return {
        "regret": regret.mean(),
        "error": mse_loss(predicted, periods.expected),
        "realised utility": realised.mean(),
    }


def train(kind: str, aim: str, seed: int, args: argparse.Namespace) -> tuple[nn.Module, list[Record]]:
    """Trains a model with Adam; after each epoch tests it."""
    chooser = Chooser(args.backend).to(args.device)
    world = [t.to(args.device) for t in make_periods(args.train + args.test, seed)]
    data, held_back = (Periods(*part) for part in zip(*(t.split([args.train, args.test]) for t in world), strict=True))
    best = utility(chooser(held_back.expected, held_back.covariance), held_back.expected, held_back.covariance)
    torch.manual_seed(seed)
    model = predictor(kind).to(args.device)
    loader = DataLoader(TensorDataset(*data), args.batch, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters())
    schedule = OneCycleLR(optimizer, args.lr, args.epochs * len(loader), cycle_momentum=False)
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    training = Training(args, args.out / f"{kind}-{aim}-{seed}", steps=len(loader), **parts)
    for _ in training.epochs():
        for batch in loader:
            training.step(train_step(model, aim, chooser, Periods(*batch), optimizer))
            schedule.step()
        training.test(judge(model, chooser, held_back, best))
    return model, training.log


@torch.no_grad()
def learned_effect(model: nn.Module, volatility: Tensor) -> Tensor:
    """What the model says of the first feature: the change of the return for a unit of it, [k] -> [k]."""
    features = volatility.new_zeros(2, len(volatility), FEATURES)
    features[..., -1] = volatility
    features[:, :, 0] = volatility.new_tensor([[-0.5], [0.5]])
    low, high = model(features).squeeze(-1)
    return high - low


def draw(runs: Mapping[str, list[tuple[nn.Module, list[Record]]]], path: Path) -> None:
    """The regret after each epoch (mean and range over the seeds), and the effect of the first feature (mean)."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), width_ratios=[3, 2])
    volatility = torch.linspace(-2.5, 2.5, 101, dtype=torch.double)
    right.plot(volatility, first_effect(volatility), "k:", lw=2)
    right.annotate("true", (2.5, -EFFECT), (0, -6), textcoords="offset points", ha="right", va="top")
    for (name, trained), color in zip(runs.items(), COLORS, strict=True):
        regret = torch.tensor([[row["regret"] for row in log if row["split"] == "test"] for _, log in trained])
        epochs = range(1, regret.shape[1] + 1)
        left.plot(epochs, regret.mean(0), color=color)
        left.fill_between(epochs, regret.amin(0), regret.amax(0), color=color, alpha=0.15, lw=0)
        offset = {"xytext": (6, 6 if "mse" in name else -6), "textcoords": "offset points"}  # they end close together
        left.annotate(name, (epochs[-1], regret[:, -1].mean()), color=color, va="center", **offset)
        device = next(trained[0][0].parameters()).device
        effects = [learned_effect(model, volatility.to(device)).cpu() for model, _ in trained]
        right.plot(volatility, torch.stack(effects).mean(0), color=color)
    left.set(xlabel="epoch", ylabel="regret, % a period", yscale="log", xlim=(1, epochs[-1]))
    left.xaxis.get_major_locator().set_params(integer=True)
    right.set(xlabel="volatility of the asset (standardised)", ylabel="effect of the first feature, %")
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    """Trains each model in each way from each seed, and says how they compare."""
    parser = options(__doc__, "portfolio", epochs=20)
    parser.add_argument("--runs", type=int, default=4, help="seeds, at least 2, from --seed on")
    parser.add_argument("--train", type=int, default=4000, help="periods to learn from")
    parser.add_argument("--test", type=int, default=1000, help="periods to test on")
    parser.add_argument("--batch", type=int, default=500, help="periods, so QPs, per step")
    parser.add_argument("--lr", type=float, default=3e-2, help="highest learning rate of Adam")
    args = parser.parse_args()
    seeds = range(args.seed, args.seed + args.runs)
    ways = [(kind, aim) for kind in ("linear", "network") for aim in ("mse", "end-to-end")]
    runs = {f"{kind}, {aim}": [train(kind, aim, seed, args) for seed in seeds] for kind, aim in ways}
    results: list[Record] = []
    for name, trained in runs.items():
        regret = [log[-1]["regret"] for _, log in trained]
        print(f"{name}: regret {fmean(regret):.4f}, standard deviation {stdev(regret):.4f}")
        for seed, (_, log) in zip(seeds, trained, strict=True):
            results += [{"model": name, "seed": seed, **row} for row in log if row["split"] == "test"]
    write_csv(results, args.out / "results.csv")
    draw(runs, args.out / "portfolio.png")


if __name__ == "__main__":
    main()
