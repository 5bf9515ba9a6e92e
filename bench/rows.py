"""The rows of the results: one for each solver and case, appended to a file that is committed."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from . import table

ROOT = Path(__file__).parents[1]
GRADIENT_TOLERANCES = {torch.float64: 1e-3, torch.float32: 1e-2}  # relative
UNMEASURED = ("results", "*.md", "report.py", "pictures.py")  # files that change no row
MEASURED = ("qplayer_gpu", "kernels", "bench", *(f":!bench/{name}" for name in UNMEASURED))


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
    toolkit: str = ""  # of a GPU: its driver, and what compiles for it
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

    @property
    def ms(self) -> float | None:
        return self.ms_per_qp_p50

    @property
    def ok(self) -> bool:
        return self.verdict == "ok"


def environment(device: str) -> dict[str, str | int | float]:
    """Where, when and on what code: to be asked before the processes start, as they read the code then."""
    return {
        "device": device,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": torch.cuda.get_device_name() if device == "cuda" else _processor(),
        "cores": os.cpu_count() or 1,
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "toolkit": _toolkit() if device == "cuda" else "",
    }


def wrong_arrays(gradient_errors: dict[str, float], dtype: torch.dtype) -> list[str]:
    """Those whose gradients are further off than the tolerance; NaN is."""
    return [name for name, error in gradient_errors.items() if not error <= GRADIENT_TOLERANCES[dtype]]


def judge(solved: float, gradient_errors: dict[str, float], dtype: torch.dtype) -> str:
    """Whether a time counts: "ok", or what is wrong with the answer."""
    wrong = wrong_arrays(gradient_errors, dtype)
    parts = ["not all solved"] * (solved < 1) + [f"gradient of {' '.join(wrong)} wrong"] * bool(wrong)
    return ", ".join(parts) or "ok"


def store(path: Path, rows: list[Row]) -> None:
    """Puts the rows into the file, in place of older ones of the same machine, case, solver and phase."""
    replaced = {(row.machine, row.device, row.case, row.solver) for row in rows}
    kept = [x for x in table.read(path) if (x["machine"], x["device"], x["case"], x["solver"]) not in replaced]
    table.write(path, (field.name for field in fields(Row)), kept + list(map(vars, rows)))


def _commit() -> str:
    """The commit, with a "+" where what is measured differs from it; gpu.sh knows it where the checkout came alone."""
    if known := os.environ.get("BENCH_COMMIT"):
        return known
    commit = _said("git", "rev-parse", "--short", "HEAD")
    differs = _said("git", "status", "--porcelain", "--", *MEASURED)
    return (commit or "unknown") + "+" * bool(differs or not commit)


def _toolkit() -> str:
    found = {"driver": _said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").partition("\n")[0]}
    found |= {"CUDA": torch.version.cuda}
    for package in ("triton", "cupy-cuda12x", "cupy-cuda13x"):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return ", ".join(f"{name} {known}" for name, known in found.items())


def _said(*command: str) -> str:
    """What a program says; nothing where it is not there, or fails."""
    with suppress(OSError):
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    return ""


@cache
def _processor() -> str:
    """The name of the processor; platform.processor() is empty or "x86_64" on Linux."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()
