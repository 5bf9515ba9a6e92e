"""The figures of README and docs, from committed rows: ``python -m bench.figures`` puts them into their places.

A place is what stands between ``<!-- figure: NAME WORDS -->`` and ``<!-- end -->``; NAME is a function below, and WORDS
are its arguments. tests/test_pages.py fails where a place has something else than the rows say.
"""

import re
from collections.abc import Callable
from math import isnan
from pathlib import Path
from statistics import median

from . import calls, collected, factor, kinds, learned, models, ported, thread
from .chip import consumer, model
from .points import load
from .solvers import NAMES, OURS
from .table import markdown, read

ROOT = Path(__file__).parents[1]
ROWS, CHIP = ROOT / "bench" / "results", ROOT / "bench" / "chip"
PLACE = re.compile(r"(<!-- figure: ([^>]+?) -->)(.*?)(<!-- end -->)", re.DOTALL)
PAGES = [ROOT / "README.md", ROOT / "bench" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHOWN = ("daqp", "piqp", "proxqp", "qplayer", "cvxpylayers", "qpth")  # peers in the README


def speedups() -> str:
    """How many times as fast as each peer: the median over the cases in which both are right."""
    results = load(ROWS / "cpu.csv")
    phases = {"forward": results.speedups("forward"), "forward and backward": results.speedups("both")}
    peers = [name for name in SHOWN if name in phases["forward"]]

    def cell(ratios: list[tuple[float, bool]]) -> str:
        right = [ratio for ratio, ok in ratios if ok]
        return f"{median(right):.2g}" if right else "-"

    rows = [[phase, *(cell(found.get(name, [])) for name in peers)] for phase, found in phases.items()]
    return markdown(["times as fast as", *(NAMES[name] for name in peers)], rows)


def infeasible_gradients() -> str:
    """The error of each layer's gradient where problems are infeasible."""
    results = load(ROWS / "cpu.csv")
    cases = {"contradictory": "half-spaces that exclude each other", "sudoku_lp": "Sudoku LP before training"}
    errors = {case: {row.solver: row.gradient_error for row in results.of("both", case)} for case in cases}
    layers = (OURS, "qplayer", "cvxpylayers", "qpth", "qpax")
    rows = [[cases[case], *(_error(found.get(name)) for name in layers)] for case, found in errors.items()]
    return markdown(["relative error of the gradient", *(NAMES[name] for name in layers)], rows)


def _error(value: float | None) -> str:
    if value is None:
        return "not taken"
    return "NaN" if isnan(value) else f"{value:.0e}" if value < 1e-3 else f"{value:.2g}"


def calls_table() -> str:
    """What a call costs from Python, in microseconds."""
    return calls.table(calls.kept())


def on_one_thread() -> str:
    """This library beside DAQP, in microseconds of a QP."""
    return thread.table()


def kinds_table() -> str:
    """How many problems of each kind every solver gets right."""
    return kinds.table(kinds.read())


def collected_problems() -> str:
    """How many problems of published collections every solver gets right."""
    return collected.table()


def precision() -> str:
    """The least tolerance that each precision reaches."""
    lines = read(ROWS / "precision.csv")
    return markdown(list(lines[0]), [list(line.values()) for line in lines])


def precision_of_admm() -> str:
    """What ADMM takes and reaches in each precision, and what it leaves of gradients."""
    lines = read(ROWS / "precision_admm.csv")
    return markdown(list(lines[0]), [list(line.values()) for line in lines])


def soak() -> str:
    """How the random problems of each family ended."""
    lines = read(ROWS / "soak.csv")
    columns = {"wrong": "wrong", "unsolved": "unsolved", "steps": "mean steps", "most": "most steps"}
    columns |= {name: name for name in ("primal", "dual", "gap", "shift")}
    rows = [[f"`{line['family']}`", *(line[name] for name in columns)] for line in lines]
    return markdown(["family", *columns.values()], rows)


def soak_total(what: str, method: str = "") -> str:
    """How many families there are, or problems in all, or of these with a wrong status, or unsolved."""
    lines = read(ROWS / f"soak{method and f'_{method}'}.csv")
    return f"{len(lines) if what == 'families' else sum(int(line[what]) for line in lines):,}"


def soak_unsolved(method: str) -> str:
    """The families that another method does not solve altogether."""
    lines = [line for line in read(ROWS / f"soak_{method}.csv") if int(line["unsolved"])]
    rows = [[f"`{x['family']}`", f"{100 * int(x['unsolved']) / int(x['problems']):.2g}", x["steps"]] for x in lines]
    return markdown(["family", "unsolved, %", "mean iterations"], rows)


STARTS = {
    "feasible": "feasible, one-sided rows",
    "two-sided": "feasible, two-sided rows and bounds",
    "lp": "LPs",
    "excluding": "half-spaces that exclude each other",
    "overdetermined": "more equalities than unknowns",
    "opposite": "opposed half-spaces",
    "positive": "LPs with positive equalities and a negative side",
}
MODES = {"cold": "cold", "last": "the last plan as it was", "moved": "the last plan moved on by a step"}


def warm_starts(part: str) -> str:
    """Newton steps from a start: in training, in receding-horizon control, or of random problems."""
    lines = read(ROWS / "warm_start.csv")
    found = {(line["case"], line["start"]): f"{float(line['steps']):.1f}" for line in lines}
    if part == "training":
        epochs = [case for case, start in found if case.startswith("epoch") and start == "cold"]
        rows = [[start, *(found[epoch, start] for epoch in epochs)] for start in ("cold", "warm")]
        return markdown(["Sudoku LP", *epochs], rows)
    if part == "control":
        rows = [[shown, found["near", start], found["far", start]] for start, shown in MODES.items()]
        return markdown(["receding horizon, 40 steps ahead", "started near", "started far, more bounds active"], rows)
    columns = [start for case, start in found if case == "lp"]
    rows = [[shown, *(found[kind, start] for start in columns)] for kind, shown in STARTS.items()]
    return markdown(["problems", *columns], rows)


def features() -> str:
    """What of PyTorch works with which layer."""
    lines = read(ROWS / "features.csv")
    return markdown(list(lines[0]), [[cell.partition(" (")[0] for cell in line.values()] for line in lines])


def ported_scripts() -> str:
    """Scripts of other libraries with this library and with theirs."""
    return ported.table(read(ported.FILE))


def cvxpy_models() -> str:
    """Models in CVXPY with this library and with cvxpylayers."""
    return models.table(read(models.FILE))


def spills() -> str:
    """Bytes of stack of the Triton kernels that spill, by version."""
    lines = read(CHIP / "triton.csv")
    versions = sorted(
        {line["triton"] for line in lines}, key=lambda version: [int(part) for part in version.split(".")]
    )
    keys = ("kernel", "precision", "n", "m", "architecture")
    stacks = {tuple(line[key] for key in keys): {} for line in lines}
    for line in lines:
        stacks[tuple(line[key] for key in keys)][line["triton"]] = line["stack"]
    rows = [
        [*variant, *(stack.get(version, "") for version in versions)]
        for variant, stack in stacks.items()
        if any(size != "0" for size in stack.values())
    ]
    return markdown(["kernel", "precision", "n", "m", "sm", *versions], rows)


def issued(version: str = "3.7.1", architecture: str = "90") -> str:
    """Instructions of a Newton step of the Triton kernel."""
    rows = [
        [line["n"], line["m"], line["warps"], line["registers"]]
        + [f"{line[name]} ({line[f'kept_{name}']})" for name in ("instructions", "double")]
        for line in read(CHIP / "triton.csv")
        if (line["triton"], line["architecture"], line["kernel"]) == (version, architecture, "forward")
    ]
    return markdown(["n", "m", "warps", "registers", "instructions", "double"], rows)


def solves(method: str, version: str = "3.7.1", architecture: str = "90") -> str:
    """Instructions of a warp in a factor and solve of the Triton kernels in double precision, by n."""
    wanted = (version, architecture, f"{method}_solve", "float64")
    keys = ("triton", "architecture", "kernel", "precision")
    lines = [line for line in read(CHIP / "triton.csv") if tuple(line[key] for key in keys) == wanted]
    *most, last = (line["instructions"] for line in sorted(lines, key=lambda line: int(line["n"])))
    return f"{', '.join(most)} and {last}"


def executed() -> str:
    """What the kernels execute in a Newton step on the emulator."""
    lines = read(CHIP / "executed.csv")
    return markdown(list(lines[0]), [list(line.values()) for line in lines])


def assumed() -> str:
    """The latencies of the model, in cycles."""
    return markdown(list(model.LATENCY), [list(model.LATENCY.values())])


def modelled(architecture: str) -> str:
    """The time of a QP on a card as the kernels are launched, in microseconds."""
    card = model.CARDS[int(architecture)]
    near = {**model.LATENCY, "global": model.LATENCY["local"]}
    rows = []
    for path in model.launched(card).values():
        t, nearer = model.time(path, card), model.time(path, card, near)
        ratios = f"{t.best / t.floor:.3g} to {t.worst / t.floor:.3g}"
        times = [f"{v:.3g}" for v in (t.best, t.worst, nearer.best, t.floor)]
        rows.append([path.n, path.threads, t.resident, f"{path.steps:.1f}", *times, ratios])
    head = ["n", "threads", "problems at once", "steps", "at best", "at worst", "by caches, at best", "floor"]
    return markdown([*head, "times the floor"], rows)


def tflops(architecture: str) -> str:
    """What a card computes at most in double precision, but for its tensor cores, in 10^12 operations a second."""
    return f"{model.CARDS[int(architecture)].tflops:.1f}"


def within(architecture: str, most: str) -> str:
    """The sizes at which a QP takes at most so many times its floor, at best and at worst."""
    card = model.CARDS[int(architecture)]
    ratios = {"at best": {}, "at worst": {}}
    for path in model.launched(card).values():
        t = model.time(path, card)
        ratios["at best"][path.n], ratios["at worst"][path.n] = t.best / t.floor, t.worst / t.floor
    said = {how: [str(n) for n, ratio in found.items() if ratio <= float(most)] for how, found in ratios.items()}
    return ", and ".join(f"{how} for n = {' and '.join(sizes) or 'none'}" for how, sizes in said.items())


def launches() -> str:
    """The time at worst by threads of a problem; the least is bold, and that of the kernels as they are is marked."""
    threads = sorted({path.threads for card in model.CARDS.values() for path in model.paths(card)})
    rows = []
    for card in model.CARDS.values():
        for n, least in model.launch_table(card).items():
            some = {path.threads: path for path in model.paths(card) if path.n == n}
            cells = {of: f"{model.time(path, card).worst:.3g}" for of, path in some.items()}
            cells[least.threads] = f"**{cells[least.threads]}**"
            cells[model.launched(card)[n].threads] += " x"
            rows.append([card.name, n, *(cells.get(of, "") for of in threads)])
    return markdown(["card", "n", *(f"{of} threads" for of in threads)], rows)


def chain() -> str:
    """What the time of a problem alone on an H100 consists of, in percent."""
    rows = []
    for path in model.launched(model.CARDS[90]).values():
        parts = {unit: getattr(path, f"on_{unit}") * latency for unit, latency in model.LATENCY.items()}
        cells = [f"{100 * part / path.cycles:.0f}" for part in (*parts.values(), path.cycles - sum(parts.values()))]
        rows.append([path.n, f"{path.cycles / path.steps:,.0f}", *cells])
    return markdown(["n", "cycles of a step", *model.LATENCY, "issue"], rows)


def factors() -> str:
    """The factor beside those of libraries."""
    return factor.shown()


def iterations_of_admm() -> str:
    """What an iteration of ADMM and a measurement execute on the emulator."""
    lines = read(CHIP / "iterations.csv")
    return markdown(list(lines[0]), [list(line.values()) for line in lines])


def consumer_cards() -> str:
    """The time of a QP on cards whose doubles are slow, by a model."""
    return consumer.shown()


def beside_osqp(what: str) -> str:
    """How many comparisons there are with OSQP's iterations, or by how many percent ours differ at most."""
    lines = read(ROWS / "splitting.csv")
    if what == "cases":
        return str(len(lines))
    ours = "ours" if what == "same" else "own_rule"
    return f"{100 * max(abs(float(line[ours]) / float(line['osqp']) - 1) for line in lines):.0f}"


FAMILIES = {
    "mixed 128": "equalities, inequalities and bounds, n = 128",
    "one_sided 32": "one-sided rows, n = 32",
    "box 40": "box constraints, n = 40",
    "projection 64": "projections, n = 64",
    "control 60": "receding-horizon control, n = 60",
    "lp": "LPs",
    "netlib-like": "netlib-like LPs",
    "sudoku_lp 64": "the Sudoku LP at its random start",
    "overdetermined": "more equalities than unknowns",
    "missed-lp": "LPs whose rows miss each other by about the tolerance",
    "large-data": "sides and `g` of 1e9",
    "quantile": "quantile regression",
}


def steps() -> str:
    """What the reference takes on some families."""
    found = {line["family"]: line for line in read(ROWS / "steps.csv")}
    columns = ("steps", "factors", "cost")
    rows = [
        [f"{what} (`{name}`)", *(f"{float(found[name][k]):.1f}" for k in columns)] for name, what in FAMILIES.items()
    ]
    return markdown(["family", "Newton steps", "new factors", "cost"], rows)


def new_factors(*family: str) -> str:
    """The share of the reference's steps on a family that make a new factor, in percent."""
    found = next(line for line in read(ROWS / "steps.csv") if line["family"] == " ".join(family))
    return f"{100 * float(found['factors']) / float(found['steps']):.0f}"


def families_of_steps() -> str:
    """How many families there are in all."""
    return str(len(read(ROWS / "steps.csv")))


FIGURES: dict[str, Callable[..., str]] = learned.FIGURES | {
    f.__name__: f
    for f in (
        speedups,
        infeasible_gradients,
        calls_table,
        on_one_thread,
        kinds_table,
        collected_problems,
        precision,
        soak,
        soak_total,
        soak_unsolved,
        precision_of_admm,
        steps,
        new_factors,
        families_of_steps,
        warm_starts,
        features,
        ported_scripts,
        cvxpy_models,
        spills,
        issued,
        solves,
        executed,
        assumed,
        modelled,
        tflops,
        within,
        launches,
        chain,
        factors,
        iterations_of_admm,
        consumer_cards,
        beside_osqp,
    )
}


def fill(text: str) -> str:
    """The page with what the rows say in each place; a table stands on lines of its own."""

    def put(place: re.Match[str]) -> str:
        name, *words = place[2].split()
        found = FIGURES[name](*words)
        return place[1] + (f"\n{found}\n" if found.startswith("|") else found) + place[4]

    return PLACE.sub(put, text)


def main() -> None:
    """Rewrites the pages that differ, and says which."""
    for page in PAGES:
        text = page.read_text()
        if (filled := fill(text)) != text:
            page.write_text(filled)
            print(page.relative_to(ROOT))


if __name__ == "__main__":
    main()
