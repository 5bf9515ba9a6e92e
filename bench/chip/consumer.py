"""What the methods take on cards whose doubles run at a 64th of the rate of floats, by a model: none has run them yet.

consumer.csv, written by ``PYTHONPATH=.:tests python -m gpu.consumer``, has what the kernels execute there, and
results/methods.csv the steps and iterations that they take. As in model.py each instruction keeps its unit busy for
some cycles, and a part takes as long as its busiest unit does. Waits are not in it, nor launches, nor the inverses of
ADMM, nor the bytes that a measurement moves, which take about as long as its doubles at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qplayer_gpu.kernels import numbers

from .. import table
from . import model

FILE = Path(__file__).with_name("consumer.csv")
METHODS = Path(__file__).parents[1] / "results" / "methods.csv"
SLOW = {"double": 64, "division": 9 * 64}  # a 64th of floats: two doubles a clock of a multiprocessor
CARDS = (
    model.Card("RTX 3090", 86, 82, 1.70, 936, 100 << 10, SLOW),
    model.Card("RTX 4090", 89, 128, 2.52, 1008, 100 << 10, SLOW),
    model.Card("RTX 5090", 120, 170, 2.41, 1792, 100 << 10, SLOW),
)
WAYS = {  # a column: the method as methods.csv has it, and the precision
    '`"alm"`, float64': ("alm", "float64"),
    '`"alm"`, mixed': ("alm", "float32"),
    '`"admm"`, float64': ("admm", "float64"),
    '`"admm"`, float32': ("admm in float32", "float32"),
}
EPS = "0.0001"


@dataclass(frozen=True)
class Part:
    """What a problem executes of something, in instructions of warps: a row of consumer.csv."""

    matrices: str  # "shared" or "own"; "any" for a step
    n: int
    precision: str  # that of the factors, or of the iterations
    what: str  # "step" of Newton, or "iteration" or "measurement" of ADMM
    instructions: float
    double: float  # the same, among them
    division: float
    accesses: float  # of warps, to shared, local and global memory

    def nanoseconds(self, card: model.Card) -> float:
        """Of one problem, where all of the card is busy."""
        in_float = self.precision == "float32" and self.what == "iteration"
        cycles = max(model.occupied(self, card, model.ACCESS / (1 + in_float)).values())
        return cycles / card.gigahertz / card.multiprocessors


def cost(card: model.Card, n: int, matrices: str, method: str, precision: str) -> float:
    """Nanoseconds of a QP to EPS."""
    parts = {
        part.what: part.nanoseconds(card)
        for part in table.parsed(FILE, Part)
        if (part.n, part.precision) == (n, precision) and part.matrices in (matrices, "any")
    }
    each = parts["step"] if method == "alm" else parts["iteration"] + parts["measurement"] / numbers.ADMM_CHECK
    wanted = (f"{matrices} matrices", str(n), method, EPS)
    lines = (
        line for line in table.read(METHODS) if wanted == tuple(line[k] for k in ("problems", "n", "method", "eps"))
    )
    return float(next(lines)["iterations"]) * each


def shown() -> str:
    """Microseconds of a QP: a line for each card, n and kind of matrices."""
    sizes = sorted({part.n for part in table.parsed(FILE, Part)})
    lines = [
        [card.name, n, matrices, *(f"{float(f'{cost(card, n, matrices, *way) / 1e3:.2g}'):g}" for way in WAYS.values())]
        for card in CARDS
        for n in sizes
        for matrices in ("shared", "own")
    ]
    return table.markdown(["card", "n", "matrices", *WAYS], lines)


if __name__ == "__main__":
    print(shown())
