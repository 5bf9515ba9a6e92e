"""What the examples share: options, training that is saved and goes on, metrics and pictures."""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.nn  # before there is a process group, which its functions would keep alive with its threads
from matplotlib import pyplot as plt
from torch import Tensor
from tqdm import tqdm

Measures = dict[str, float]
Record = dict[str, Any]  # measures, and what they are of: a line of metrics.csv

LEADS = os.environ.get("RANK", "0") == "0"  # among the processes of torchrun: the one that writes and prints

plt.rcParams.update(
    {
        "axes.grid": True,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "figure.constrained_layout.use": True,
        "grid.alpha": 0.3,
        "legend.frameon": False,
        "savefig.dpi": 150,
    }
)


def options(doc: str, name: str, epochs: int) -> argparse.ArgumentParser:
    """A parser with the options of every example; doc is that of its module, whose first paragraph is shown."""
    parser = argparse.ArgumentParser(
        description=doc.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--seed", type=int, default=0, help="of all that is random")
    parser.add_argument("--device", default="cpu", help="of the tensors")
    parser.add_argument("--backend", default="auto", help="of the layer: auto, cpu, torch, triton or cuda")
    parser.add_argument("--out", type=Path, default=Path("runs", name), help="folder of what is written")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint there, if there is one")
    return parser


class Training:
    """Epochs of training, saved after each; resumed, they end with the bits of a training without interruption.

        training = Training(args, args.out, steps=len(loader), model=model, optimizer=optimizer, schedule=schedule)
        for epoch in training.epochs():
            for batch in loader:
                ...
                training.step({"loss": loss})
            training.test({"loss": test_loss})

    The parts are all that has a ``state_dict``. Draw random numbers on the CPU only: the state of its generator is
    saved too. The folder gets ``checkpoint.pt``, and ``metrics.csv`` with the log: a row for each step and each test.
    """

    def __init__(self, args: argparse.Namespace, folder: Path, *, steps: int, **parts: Any):
        """``steps`` are those of an epoch.

        Raises:
            SystemExit: the checkpoint to resume is that of a training with other options.
        """
        self.folder, self.parts = folder, parts
        self.last, self.steps = args.epochs, args.epochs * steps
        self.options = {k: str(v) for k, v in vars(args).items() if k not in ("device", "backend", "out", "resume")}
        self.epoch, self.done, self.log = 0, 0, list[Record]()
        self.start = time.perf_counter()
        folder.mkdir(parents=True, exist_ok=True)
        if args.resume and self.checkpoint.exists():
            self._load(args.device)

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def epochs(self) -> Iterator[int]:
        """The numbers of the epochs that are left, from 1; saves after each."""
        with tqdm(total=self.steps, initial=self.done, unit="step", disable=not LEADS) as self.bar:
            while self.epoch < self.last:
                self.epoch += 1
                yield self.epoch
                if LEADS:
                    self._save()

    def step(self, measures: Mapping[str, float | Tensor]) -> None:
        """Takes down the measures of a step; the bar shows the first two."""
        self.done += 1
        self.bar.update()
        shown = list(self._record("train", measures).items())[:2]
        self.bar.set_postfix({k: f"{v:.4g}" for k, v in shown}, refresh=False)

    def test(self, measures: Mapping[str, float | Tensor]) -> None:
        """Takes down the measures of a test, and prints them."""
        numbers = self._record("test", measures)
        if LEADS:
            self.bar.write(f"epoch {self.epoch:3}  " + "  ".join(f"{k} {v:.4g}" for k, v in numbers.items()))

    def _record(self, split: str, measures: Mapping[str, float | Tensor]) -> Measures:
        numbers = {k: v.item() if isinstance(v, Tensor) else v for k, v in measures.items()}
        if dist.is_initialized():
            numbers = average(numbers)
        seconds = time.perf_counter() - self.start
        self.log.append({"split": split, "epoch": self.epoch, "step": self.done, "seconds": seconds, **numbers})
        return numbers

    def _save(self) -> None:
        state = {name: part.state_dict() for name, part in self.parts.items()}
        own = {"epoch": self.epoch, "log": self.log, "rng": torch.get_rng_state(), "options": self.options}
        new = self.checkpoint.with_suffix(".new")
        torch.save({**state, "training": own}, new)
        new.replace(self.checkpoint)  # at once: whenever the process is killed, there is a whole one
        write_csv(self.log, self.folder / "metrics.csv")

    def _load(self, device: str) -> None:
        state = torch.load(self.checkpoint, map_location=device)
        own = state["training"]
        if own["options"] != self.options:
            raise SystemExit(f"{self.checkpoint} was made with other options: {own['options']}")
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        torch.set_rng_state(own["rng"].cpu())
        self.epoch, self.log = own["epoch"], own["log"]
        self.done = self.log[-1]["step"]
        self.start -= self.log[-1]["seconds"]


def average(measures: Measures) -> Measures:
    """The mean over the processes of torchrun."""
    every: list[Measures] = [{}] * dist.get_world_size()
    dist.all_gather_object(every, measures)
    return {k: fmean(other[k] for other in every) for k in measures}


def write_csv(rows: list[Record], path: Path) -> None:
    """A table of records, with a column for each key of any."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, dict.fromkeys(key for row in rows for key in row))
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)


def curves(logs: Mapping[str, list[Record]], panels: Mapping[str, str], path: Path, log_scale: str = "") -> None:
    """Measures over the steps, a panel (measure: its label) below the other; of several logs, only the tests."""
    alone = len(logs) == 1
    lines = {"train": "-", "test": "o"} if alone else {"test": "o-"}
    figure, axes = plt.subplots(len(panels), sharex=True, squeeze=False, figsize=(7, 2.3 * len(panels)))
    for axis, (measure, label) in zip(axes[:, 0], panels.items(), strict=True):
        for name, log in logs.items():
            for split, style in lines.items():
                rows = [row for row in log if row["split"] == split]
                points = [row["step"] for row in rows], [row[measure] for row in rows]
                axis.plot(*points, style, lw=1, ms=4, label=split if alone else name)
        axis.set(ylabel=label, yscale="log" if measure == log_scale else "linear")
    axes[0, 0].legend()
    axes[-1, 0].set_xlabel("step")
    figure.savefig(path)
    plt.close(figure)
