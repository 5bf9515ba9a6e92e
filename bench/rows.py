"""The rows of the results: one for each solver and case, appended to a file that is committed."""

from __future__ import annotations

import csv
import os
import platform
import subprocess
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from functools import cache
from pathlib import Path

import numpy as np
import torch

GRADIENT_TOLERANCE = 1e-4  # relative
DIGITS = 4
MEASURED = ("qplayer_gpu", "kernels", "bench", ":!bench/results")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a results file; None is an empty field."""

    date: str
    commit: str  # "+" where the library or the benchmark differs from it
    machine: str
    cores: int
    load: float  # of the machine in the minute before
    python: str
    torch: str
    case: str
    n: int
    n_eq: int
    n_in: int
    n_box: int
    batch: int
    dtype: str = "float64"
    device: str = "cpu"
    solver: str
    version: str | None = None
    phase: str
    ms_per_qp_p50: float | None = None
    ms_per_qp_p20: float | None = None
    ms_per_qp_p80: float | None = None
    repeats: int = 0
    solved: float | None = None  # share of the batch within the certificate's tolerance
    primal: float | None = None  # the worst residuals
    dual: float | None = None
    gap: float | None = None
    shift: float | None = None
    gradient_error: float | None = None  # relative
    iterations: float | None = None  # mean
    verdict: str


def environment() -> dict[str, str | int | float]:
    """Where, when and on what code: to be asked before the processes start, as they read the code then."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": _processor(),
        "cores": os.cpu_count() or 1,
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def times_per_qp(seconds: list[float], batch: int) -> dict[str, float]:
    """Median and spread in milliseconds."""
    p20, p50, p80 = np.percentile(seconds, [20, 50, 80]) * 1e3 / batch
    return {"ms_per_qp_p50": p50, "ms_per_qp_p20": p20, "ms_per_qp_p80": p80}


def judge(solved: float, gradient_error: float | None) -> str:
    """Whether a time counts: "ok", or what is wrong with the answer."""
    wrong = []
    if solved < 1:
        wrong.append("not all solved")
    if gradient_error is not None and not gradient_error <= GRADIENT_TOLERANCE:
        wrong.append("gradient wrong")
    return ", ".join(wrong) or "ok"


def append(path: Path, rows: list[Row]) -> None:
    """Adds the rows, below a header if the file is new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows({name: _short(value) for name, value in vars(row).items()} for row in rows)


def _short(value: object) -> object:
    return f"{value:.{DIGITS}g}" if isinstance(value, float) else value


def _commit() -> str:
    """The commit, with a "+" where what is measured differs from it."""
    root = Path(__file__).parents[1]

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--", *MEASURED) else "")


@cache
def _processor() -> str:
    """The name of the processor; platform.processor() is empty or "x86_64" on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
