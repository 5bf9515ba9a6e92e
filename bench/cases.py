"""What is measured: a family of QPs, a size, a type of number, and which gradients are asked for."""

from dataclasses import dataclass

import torch

from . import families
from .problems import QP


@dataclass(frozen=True)
class Size:
    """How much of each case is measured."""

    largest_n: int
    largest_batch: int
    rounds: int
    seconds: float  # that one solve may take: slower solvers are given a part of the batch
    head: int = 32  # problems on which the accuracy to ask for is found, and gradients are compared
    patience: float = 120.0  # seconds for one answer of a worker


SIZES = {
    "full": Size(largest_n=1024, largest_batch=1 << 20, rounds=7, seconds=0.4),
    "quick": Size(largest_n=64, largest_batch=128, rounds=3, seconds=0.1, head=4),
    "tiny": Size(largest_n=8, largest_batch=2, rounds=1, seconds=60.0, patience=600.0),
}


@dataclass(frozen=True)
class Case:
    """One line of work for every solver."""

    family: str  # in families.py
    n: int
    batch: int
    feasible: bool = True
    gradients: tuple[str, ...] | None = None  # of these arrays; None: of all
    dtype: torch.dtype = torch.float64
    longer: float = 1.0  # times as long as in other cases a solve may take
    quick: bool = False  # whether it is among the few of a quick run

    def problems(self, size: Size) -> QP:
        """The QPs, as many as the size allows."""
        family: families.Family = getattr(families, self.family)
        qp = family(min(self.batch, size.largest_batch), self.n)
        return qp.map(lambda array: array.to(self.dtype))

    def wanted(self, qp: QP) -> tuple[str, ...]:
        """The arrays whose gradients are asked for."""
        return tuple(qp.arrays()) if self.gradients is None else self.gradients


SMOOTH = ("H", "g", "A", "b", "l", "u")  # two half-spaces with C moved no longer exclude each other: x would jump

CASES = {
    **{f"mixed_n{n}": Case("mixed", n, batch=1024, quick=n == 16) for n in (4, 8, 16, 32, 64)},
    "mixed_n128": Case("mixed", n=128, batch=256),
    **{f"mixed_n{n}": Case("mixed", n, batch, gradients=()) for n, batch in ((256, 16), (512, 4))},
    **{f"one_n{n}": Case("mixed", n, batch=1) for n in (4, 8, 32)},
    **{f"batch_{batch}": Case("mixed", n=16, batch=batch) for batch in (1, 16, 256, 4096)},
    "batch_65536": Case("mixed", n=16, batch=65536, longer=4.0),
    "layer": Case("layer", n=20, batch=1024),
    "one_sided": Case("one_sided", n=32, batch=512),
    "two_sided": Case("two_sided", n=32, batch=512),
    "equalities": Case("equalities", n=32, batch=512),
    "box": Case("box", n=32, batch=512),
    "shared": Case("shared", n=32, batch=1024),
    "float32": Case("mixed", n=32, batch=1024, dtype=torch.float32),
    "lp": Case("lp", n=32, batch=512),
    "projection": Case("projection", n=16, batch=1024, gradients=("g", "C", "u")),
    "control": Case("control", n=30, batch=1024),
    "contradictory": Case("contradictory", n=32, batch=512, feasible=False, gradients=SMOOTH),
    "half_infeasible": Case("half_infeasible", n=32, batch=512, feasible=False, gradients=SMOOTH),
    "sudoku_lp": Case("sudoku_lp", n=64, batch=150, feasible=False, gradients=("A", "b"), quick=True),
}


def names(size: str) -> list[str]:
    """The cases of a run of this size."""
    limit = SIZES[size].largest_n
    return [name for name, case in CASES.items() if case.n <= limit and (case.quick or size != "quick")]
