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

GRADIENT_TOLERANCES = {torch.float64: 1e-3, torch.float32: 1e-2}  # relative
DIGITS = 4
UNMEASURED = ("results", "*.md", "report.py", "pictures.py")  # files that change no row
MEASURED = ("qplayer_gpu", "kernels", "bench", *(f":!bench/{name}" for name in UNMEASURED))
Line = dict[str, str]  # a row as it is in the file


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a results file; None is an empty field."""

    date: str
    commit: str  # "+" where the library or the benchmark differs from it
    machine: str
    cores: int
    gflops: float  # what floor.probe saw
    gbytes: float
    load: float  # of the machine in the minute before
    python: str
    torch: str
    device: str
    case: str
    family: str
    n: int
    n_eq: int
    n_in: int
    n_box: int
    dtype: str
    asked: int  # the batch of the case
    batch: int | None = None  # as much of it as was solved in time
    solver: str
    version: str | None = None
    accuracy: float | None = None  # that the solver was asked for
    phase: str
    ms_per_qp_p50: float | None = None
    ms_per_qp_p20: float | None = None
    ms_per_qp_p80: float | None = None
    repeats: int = 0
    first_s: float | None = None  # the first solve of the head: compilation, and whatever else happens once
    memory_mb: float | None = None  # peak above what was in use
    solved: float | None = None  # share of the batch within the certificate's tolerance
    primal: float | None = None  # the worst residuals
    dual: float | None = None
    gap: float | None = None
    shift: float | None = None
    gradient_error: float | None = None  # relative, of the worst array
    iterations: float | None = None  # mean
    floor_ms_per_qp: float | None = None  # of this library's forward
    verdict: str


def environment(device: str) -> dict[str, str | int | float]:
    """Where, when and on what code: to be asked before the processes start, as they read the code then."""
    return {
        "device": device,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": torch.cuda.get_device_name() if device == "cuda" else _processor(),
        "cores": os.cpu_count() or 1,
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def times_per_qp(seconds: list[float], batch: int) -> dict[str, float]:
    """Median and spread in milliseconds."""
    p20, p50, p80 = np.percentile(seconds, [20, 50, 80]) * 1e3 / batch
    return {"ms_per_qp_p50": p50, "ms_per_qp_p20": p20, "ms_per_qp_p80": p80}


def wrong_arrays(gradient_errors: dict[str, float], dtype: torch.dtype) -> list[str]:
    """Those whose gradients are further off than the tolerance; NaN is."""
    return [name for name, error in gradient_errors.items() if not error <= GRADIENT_TOLERANCES[dtype]]


def judge(solved: float, gradient_errors: dict[str, float], dtype: torch.dtype) -> str:
    """Whether a time counts: "ok", or what is wrong with the answer."""
    wrong = wrong_arrays(gradient_errors, dtype)
    parts = ["not all solved"] * (solved < 1) + [f"gradient of {' '.join(wrong)} wrong"] * bool(wrong)
    return ", ".join(parts) or "ok"


def read(path: Path) -> list[Line]:
    """The lines of a results file, none where it is not there."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def store(path: Path, rows: list[Row]) -> None:
    """Puts the rows into the file, in place of older ones of the same machine, case, solver and phase."""
    new = [{name: str(_short(value)) for name, value in vars(row).items()} for row in rows]
    replaced = {(line["machine"], line["device"], line["case"], line["solver"]) for line in new}
    kept = [x for x in read(path) if (x["machine"], x["device"], x["case"], x["solver"]) not in replaced]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept + new)


def _short(value: object) -> object:
    if value is None:
        return ""
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
