"""The pictures of the report: each line labelled where it ends, in its colour; this library's is the thick one."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from .chip import model
from .points import BY_BATCH, BY_N, Results, Sweep, slope
from .rows import Row
from .solvers import NAMES, OURS

COLOUR, SECOND, GREY, DARK, RED = "#c2410c", "#f0a878", "#9ca3af", "#374151", "#b91c1c"
PEERS = (
    "#0072b2",
    "#009e73",
    "#cc79a7",
    "#b58900",
    "#56b4e9",
    "#000000",
)  # for all eyes: Okabe and Ito, but for yellow
DASHES = ("-", (0, (4, 1.5)), (0, (1.2, 1.2)))
MARKERS = {"o": "\u25cf", "s": "\u25a0", "^": "\u25b2"}  # and what stands for each in a text
WIDTH, HEIGHT = 8.0, 4.8
STYLE = {"font.family": "DejaVu Sans", "font.size": 10, "figure.dpi": 150, "axes.edgecolor": GREY}
STYLE |= {"axes.spines.top": False, "axes.spines.right": False}
STYLE |= {"axes.titlesize": 12, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.titlepad": 26}
STYLE |= dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), DARK)
Points = dict[str, list[Row]]  # by solver


def draw(results: Results, folder: Path) -> None:
    """All pictures that the rows allow."""
    with plt.rc_context(STYLE):
        for name, picture in PICTURES.items():
            if figure := picture(results):
                figure.savefig(folder / f"{name}.png", bbox_inches="tight", facecolor="white")
                plt.close(figure)


def throughput(results: Results, by: Sweep, label: str, against: str) -> plt.Figure | None:
    """QPs per second against a size, forward of all solvers, and forward and backward of those that have one."""
    sweeps = [results.sweep(phase, by) for phase in ("forward", "both")]
    if any(OURS not in sweep for sweep in sweeps):
        return None
    figure, both = plt.subplots(1, 2, figsize=(1.6 * WIDTH, 1.2 * HEIGHT), gridspec_kw={"wspace": 0.75})
    for axes, sweep in zip(both, sweeps, strict=True):
        _lines(axes, sweep, by.size, lambda p: 1e3 / p.ms, lambda p: p.ok, lambda name, x, y: NAMES[name])
    _title(both[0], f"QPs per second against {against}", f"forward, every answer checked; {results.machine}", label)
    _title(both[1], "and with the gradients", "forward and backward, every gradient checked", label)
    if any(not p.ok for points in sweeps[1].values() for p in points):
        both[1].text(1, -0.14, "hollow: a gradient is wrong", transform=both[1].transAxes, ha="right", fontsize=8.5)
    return figure


def speedup(results: Results) -> plt.Figure | None:
    """Each peer a row, each case a dot, the median a bar."""
    both, forward = results.speedups("both"), results.speedups("forward")
    alone = {name for name in forward if not results.of("both", solver=name)}
    found = {name: both.get(name, []) + forward[name] * (name in alone) for name in forward}
    rows = {name: ratios for name, x in found.items() if (ratios := [ratio for ratio, right in x if right])}
    if not rows:
        return None
    order = sorted(rows, key=lambda name: median(rows[name]))
    figure, axes = _lanes([NAMES[name] + " (forward)" * (name in alone) for name in order])
    axes.axvline(1, color=GREY, linewidth=1)
    for at, name in enumerate(order):
        middle = median(rows[name])
        axes.scatter(rows[name], [at] * len(rows[name]), s=26, color=SECOND, alpha=0.75, linewidths=0)
        axes.plot([middle, middle], [at - 0.32, at + 0.32], color=COLOUR, linewidth=2.5)
        _beside(axes, at, f"{middle:.3g}x", weight="bold")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}x"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    subtitle = "forward and backward; a dot is a case in which both are right, the bar their median; "
    label = "time of the peer divided by the time of qplayer_gpu"
    _title(axes, "How many times as fast", subtitle + results.machine, label)
    return figure


def gradients(results: Results) -> plt.Figure | None:
    """The error of each gradient against central differences."""
    points = [p for p in results.of("both") if p.gradient_error is not None and p.solved == 1 and p.case != "float32"]
    found = {name: [max(p.gradient_error, 1e-12) for p in points if p.solver == name] for name in NAMES}
    order = sorted((name for name in found if found[name]), key=lambda name: -median(found[name]))
    if not order:
        return None
    figure, axes = _lanes([NAMES[name] for name in order])
    worst = max(max(errors, default=1) for errors in found.values())
    axes.axvspan(1e-3, 10 ** np.ceil(np.log10(worst)), color=RED, alpha=0.07, linewidth=0)
    axes.text(1.3e-3, len(order) - 0.5, "wrong", color=RED, va="top")
    for at, name in enumerate(order):
        axes.scatter(found[name], [at] * len(found[name]), s=28, color=_colour(name), alpha=0.75, linewidths=0)
    subtitle = f"a dot is a case in float64 with right answers; {results.machine}"
    label = "relative error of the worst array's gradient, against central differences"
    _title(axes, "Are the gradients right?", subtitle, label)
    return figure


def growth(results: Results) -> plt.Figure | None:
    """The time of one QP against n, and of a batch against its size, with the powers."""
    sweeps = [results.sweep("forward", by) for by in (BY_N, BY_BATCH)]
    if any(len(sweep.get(OURS, [])) < 3 for sweep in sweeps):
        return None
    figure, both = plt.subplots(1, 2, figsize=(1.6 * WIDTH, 1.2 * HEIGHT), gridspec_kw={"wspace": 0.75})
    for axes, sweep, by in zip(both, sweeps, (BY_N, BY_BATCH), strict=True):
        long = {name: points for name, points in sweep.items() if len(points) > 2}
        _lines(axes, long, by.size, by.cost, lambda p: True, lambda name, x, y: f"{NAMES[name]}  {slope(x, y):.2f}")
    subtitle = "ms per QP, forward; after each name the power, a slope in logarithms"
    _title(both[0], "How the cost grows with n", subtitle, "variables n")
    _title(both[1], "and with the batch", f"ms per batch, forward; {results.machine}", "batch, n = 16")
    return figure


def against_floor(results: Results) -> plt.Figure | None:
    """The forward of this library, case by case, beside the least time of its arithmetic and data."""
    found = sorted(results.floors(), key=lambda line: -line[3])
    if not found:
        return None
    cases, times, floors, ratios = zip(*found, strict=True)
    figure, axes = _lanes([case.replace("_", " ") for case in cases], height=0.3, above=1.3)
    for at, (time, floor, ratio) in enumerate(zip(times, floors, ratios, strict=True)):
        axes.plot([floor, time], [at, at], color=SECOND, linewidth=2, zorder=1)
        _beside(axes, at, f"{ratio:,.0f}x" if ratio >= 100 else f"{ratio:.3g}x")
    for name, ends, colour, tint, side, offset in (
        ("floor", floors, GREY, DARK, "right", 4),
        ("time", times, COLOUR, COLOUR, "left", -4),
    ):
        axes.scatter(ends, range(len(found)), color=colour, s=26, zorder=2)
        where = {"xytext": (offset, 9), "textcoords": "offset points", "ha": side}
        axes.annotate(name, (ends[-1], len(found) - 1), color=tint, **where)
    subtitle = f"of its arithmetic and data (floor.py); {results.machine}"
    _title(axes, "Time against the floor", subtitle, "ms per QP, forward")
    return figure


def modelled(results: Results) -> plt.Figure | None:
    """The time of one QP on GPUs by the model, with the floor there, and on the CPU as it was measured."""
    on_cpu = [row for row in results.sweep("forward", BY_N).get(OURS, []) if row.device == "cpu"]
    sizes = list(model.launched(model.CARDS[90]))
    on_cpu = [row for row in on_cpu if row.n in sizes]
    if not on_cpu:
        return None
    figure, axes = plt.subplots(figsize=(WIDTH, 1.2 * HEIGHT))
    ends = []

    def line(x: list[int], y: list[float], label: str, colour: str, **style: object) -> None:
        axes.plot(x, y, color=colour, **style)
        ends.append((x[-1], y[-1], label, colour))

    for architecture, colour in ((90, COLOUR), (80, PEERS[0])):
        card = model.CARDS[architecture]
        times = [model.time(path, card) for path in model.launched(card).values()]
        axes.fill_between(
            sizes, [t.best for t in times], [t.worst for t in times], color=colour, alpha=0.2, linewidth=0
        )
        line(sizes, [t.worst for t in times], f"{card.name}, model", colour, linewidth=1.4, linestyle=DASHES[1])
        line(sizes, [t.floor for t in times], f"{card.name}, floor", colour, linewidth=1.2, linestyle=DASHES[2])
    known = {"linewidth": 2.8, "marker": "o"}
    line(
        [row.n for row in on_cpu],
        [1e3 * row.ms for row in on_cpu],
        f"{on_cpu[0].cores} CPU cores, measured",
        DARK,
        **known,
    )
    _logarithmic(axes, sizes)
    label_ends(axes, ends)
    subtitle = "\u00b5s per QP, forward, in a large batch; GPUs by a model (docs/kernels.md), at best to at worst"
    _title(axes, "What a GPU should take: a model, not measured", subtitle, f"variables n; CPU: {results.machine}")
    return figure


PICTURES: dict[str, Callable[[Results], plt.Figure | None]] = {
    "throughput_n": partial(throughput, by=BY_N, label="variables n, n / 4 equalities, n inequalities", against="n"),
    "throughput_batch": partial(throughput, by=BY_BATCH, label="batch, n = 16", against="the batch"),
    "speedup": speedup,
    "gradients": gradients,
    "growth": growth,
    "floor": against_floor,
    "modelled": modelled,
}


def _lanes(names: list[str], height: float = 0.42, above: float = 0.6) -> tuple[plt.Figure, Axes]:
    """A horizontal lane for each name, from the lowest, with room above the last; the other axis is logarithmic."""
    figure, axes = plt.subplots(figsize=(WIDTH, height * len(names) + 1.4))
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 1 + above)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xscale("log")
    return figure, axes


def _beside(axes: Axes, at: int, text: str, **known: str) -> None:
    """A figure at the right edge of a lane."""
    axes.text(1.02, at, text, transform=axes.get_yaxis_transform(), va="center", color=COLOUR, **known)


def _lines(axes: Axes, sweep: Points, size: Callable, value: Callable, right: Callable, label: Callable) -> None:
    """A labelled line for each solver, with a dot for each point, hollow where it is not right."""
    ends = []
    for name, points in sweep.items():
        x, y = [size(p) for p in points], [value(p) for p in points]
        (colour, dashes, marker), strong = _style(name), name == OURS
        order = {"zorder": 3 if strong else 2}
        axes.plot(x, y, color=colour, linewidth=2.8 if strong else 1.4, linestyle=dashes, **order)
        faces = [colour if right(p) else "white" for p in points]
        known = {"color": faces, "edgecolors": colour, "linewidths": 1.1, "marker": marker, "zorder": 4}
        axes.scatter(x, y, s=34 if strong else 20, **known)
        ends.append((x[-1], y[-1], f"{MARKERS[marker]} {label(name, x, y)}", colour))
    _logarithmic(axes, sorted({size(p) for points in sweep.values() for p in points}))
    label_ends(axes, ends)


def _colour(name: str) -> str:
    return COLOUR if name == OURS else SECOND if name.startswith(OURS) else GREY


def _style(name: str) -> tuple[str, str | tuple, str]:
    """The colour, the dashes and the marker of a solver's line, the same in all pictures; no two peers share all."""
    if name.startswith(OURS):
        return _colour(name), "-", "o"
    turn, colour = divmod([peer for peer in NAMES if not peer.startswith(OURS)].index(name), len(PEERS))
    return PEERS[colour], DASHES[turn], list(MARKERS)[turn]


def _logarithmic(axes: Axes, sizes: list[int]) -> None:
    """Both axes; the sizes that were measured are the ticks, as far as they do not crowd."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    spread = [sizes[0]]
    for size in sizes[1:]:
        if size >= spread[-1] * (sizes[-1] / sizes[0]) ** 0.18:
            spread.append(size)
    axes.set_xticks(spread, [f"{size:,}" for size in spread])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}" if v >= 1 else f"{v:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y", color="#eef0f2", linewidth=0.8)
    axes.set_axisbelow(True)


def label_ends(axes: Axes, ends: list[tuple[int, float, str, str]]) -> None:
    """The names at the right edge, apart from each other; a dotted line leads to where a line ends early."""
    low, high = np.log(axes.get_ylim())
    order = sorted(ends, key=lambda end: end[1])
    places = _apart([(np.log(y) - low) / (high - low) for _, y, _, _ in order])
    right, last = axes.get_xlim()[1], max(x for x, *_ in ends)
    lead = {"arrowstyle": "-", "color": "#c4c9d0", "linewidth": 0.8, "relpos": (0, 0.5), "shrinkA": 0, "shrinkB": 3}
    for (x, y, name, colour), place in zip(order, places, strict=True):
        at = (right * (right / axes.get_xlim()[0]) ** 0.02, np.exp(low + place * (high - low)))
        line = lead | {"linestyle": "-" if x == last else ":"}
        known = {"va": "center", "annotation_clip": False, "arrowprops": line, "zorder": 1}
        weight = "bold" if colour == COLOUR else "normal"
        axes.annotate(name, (x, y), at, color=colour, weight=weight, **known)


def _apart(places: list[float], least: float = 0.054) -> list[float]:
    """Heights between 0 and 1, in their order, moved as little as keeps them the least distance from each other."""
    places = list(places)
    for _ in range(500):
        places[0], places[-1] = max(places[0], 0.02), min(places[-1], 0.98)
        for i in range(len(places) - 1):
            overlap = max(0.0, least - (places[i + 1] - places[i]))
            places[i] -= overlap / 2
            places[i + 1] += overlap / 2
    return places


def _title(axes: Axes, title: str, subtitle: str, label: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(label)
    above = {"xycoords": "axes fraction", "textcoords": "offset points"}
    axes.annotate(subtitle, (0, 1), (0, 8), fontsize=8.5, color=DARK, **above)
