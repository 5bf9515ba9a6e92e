"""The figures of the examples' pages, from the metrics that their scripts wrote into docs/."""

from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev

from .table import markdown, read

DOCS = Path(__file__).parents[1] / "docs"
SUDOKU_BATCH = 150
Lines = list[dict[str, str]]


def last(file: str, column: str, form: str = ".3g") -> str:
    """A measure at the end of a training, in a format of Python."""
    return format(float(read(DOCS / file)[-1][column]), form)


def mean(file: str, column: str, form: str = ".3g") -> str:
    """The mean of a measure over all steps."""
    return format(fmean(_column(read(DOCS / file), column, "train")), form)


def most(file: str, column: str, form: str = ".3g") -> str:
    """The largest value of a measure in any step."""
    return format(max(_column(read(DOCS / file), column, "train")), form)


def sudoku() -> str:
    """How the four layers learned the rules, a row for each seed."""
    rows = []
    for layer in ("optnet", "optnet-learn-A", "qplayer", "qplayer-learn-A"):
        for seed in range(3):
            file = f"sudoku/{layer}-{seed}.csv"
            lines = read(DOCS / file)
            wrong, steps = _column(lines, "wrong", "test"), _column(lines, "wrong", "train")
            infeasible = _since(_column(lines, "infeasible", "train"))
            rows.append(
                [f"{layer}, [seed {seed}]({file})", f"step {infeasible}" if infeasible else "never"]
                + [f"{share:.1%}" for share in wrong[2:6]]
                + [_since(wrong) + 1, f"{_since(steps)} of {len(steps)}", last(file, "loss", ".1e")]
            )
    after = [f"wrong after epoch {epoch}" for epoch in (3, 4, 5, 6)]
    head = ["layer", "infeasible until", *after, "none wrong from epoch", "last step with an error", "test loss"]
    return markdown(head, rows)


def unsolved_puzzles() -> str:
    """How many puzzles ended without a solution in the training in which most did."""
    trainings = [_column(read(file), "failed", "train") for file in (DOCS / "sudoku").glob("*-[012].csv")]
    return f"{max(sum(shares) for shares in trainings) * SUDOKU_BATCH:.0f}"


def drives() -> str:
    """What the test drives of the controllers cost."""
    runs = {
        "0": "seed 0",
        "1": "seed 1",
        "2": "seed 2",
        "quarter": "first limits a quarter of the expert's (`--guess 0.25`)",
        "half": "a half (`--guess 0.5`)",
    }
    rows = []
    for name, run in runs.items():
        lines = read(DOCS / f"control/drives-{name}.csv")
        rows.append([f"[{run}](control/drives-{name}.csv)", *(f"{float(line['cost']):.3f}" for line in lines)])
    return markdown(["run", "expert", "closest feasible", "ordinary"], rows)


def denoising() -> str:
    """The error of each operator on the test signals."""
    lines = read(DOCS / "denoising/results.csv")
    return markdown(
        ["operator", "mean squared error on the test signals"],
        [[line["operator"], f"{float(line['mse']):.2f}"] for line in lines],
    )


def digits() -> str:
    """Wrong digits with and without a QP layer, over the seeds."""
    lines = read(DOCS / "digits/results.csv")
    rows = []
    for name in ("linear", "optnet", "optnet - linear"):
        shares = [float(line[name]) for line in lines]
        spread = stdev(shares)
        rows.append([f"`{name}`", f"{fmean(shares):.2%}", f"{spread:.2%}", f"{spread / len(shares) ** 0.5:.2%}"])
    return markdown(["", "wrong test digits", "standard deviation over the seeds", "of the mean"], rows)


def portfolio() -> str:
    """The regret of each model and training, over two groups of worlds."""
    groups = [read(DOCS / f"portfolio/seeds-{seeds}.csv") for seeds in ("0-3", "4-7")]
    rows = []
    for name in dict.fromkeys(line["model"] for line in groups[0]):
        found = [_final(lines, name) for lines in groups]
        cells = [cell for x in found for cell in (f"{fmean(x):.3f}", f"{min(x):.3f} to {max(x):.3f}")]
        rows.append([*name.split(", "), *cells])
    head = [f"{what}, seeds {seeds}" for seeds in ("0 to 3", "4 to 7") for what in ("mean", "range")]
    return markdown(["model", "trained on", *head], rows)


def condensing() -> str:
    """Times of model predictive control in full and condensed."""
    lines = read(DOCS / "mpc/speed.csv")
    columns = ("full ms", "condensed ms", "times as fast")
    rows = [[line["chains"], line["call"], *(_round(float(line[name])) for name in columns)] for line in lines]
    return markdown(["chains", "call", "full, ms", "condensed, ms", "times as fast"], rows)


def _round(value: float) -> str:
    """To two digits, without an exponent."""
    return f"{value:.2g}" if value < 100 else f"{value:.0f}"


def speed() -> str:
    """Steps per second of the safety filters."""
    names = {"layer": "this library", "proxqp": "a loop over ProxQP"}
    lines = read(DOCS / "safety/speed.csv")
    return markdown(
        ["solver", "steps of 4096 agents per second"],
        [[names[line["solver"]], f"{float(line['steps per second']):.3g}"] for line in lines],
    )


def _final(lines: Lines, model: str) -> list[float]:
    """The regret of each seed after its last epoch."""
    by_seed = {line["seed"]: float(line["regret"]) for line in lines if line["model"] == model}
    return list(by_seed.values())


def _column(lines: Lines, name: str, split: str) -> list[float]:
    return [float(line[name.replace("_", " ")]) for line in lines if line["split"] == split]


def _since(values: list[float]) -> int:
    """After how many of the values all are zero."""
    return max((i + 1 for i, value in enumerate(values) if value), default=0)


FIGURES: dict[str, Callable[..., str]] = {
    f.__name__: f
    for f in (last, mean, most, sudoku, unsolved_puzzles, drives, denoising, digits, portfolio, condensing, speed)
}
