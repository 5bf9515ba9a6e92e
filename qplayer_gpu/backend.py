"""Which kernels run."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import warnings
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple, cast

import torch

from . import kernels as implementations
from .checked import Checked, verdicts
from .errors import BackendError
from .kernels import cpu, reference
from .kernels.cache import found
from .kernels.interface import Kernels, Rows
from .memory import check_operations

BACKENDS: dict[str, Kernels] = {"torch": reference, "cpu": cast(Kernels, cpu)}
LAZY = ("triton", "cuda")  # imported when asked for
CPU_LARGEST = 768  # variables; beyond, not measured, a factorization by many threads may be worth more


class Choice(NamedTuple):
    """A backend for the tensors of a CUDA device, and up to what size it is taken there."""

    backend: str
    n: int  # variables
    m: int  # rows, bounds included
    mixed: bool  # whether also in mixed precision


# The first that runs here and holds a problem is taken by "auto", and checks itself when a variant is first launched
# (checked.py); "torch" where none does. The order is that of what a Newton step executes, and of how many problems are
# on a processor at once (docs/counts.md): no GPU has run them yet.
ON_CUDA = (Choice("cuda", 256, 512, mixed=True), Choice("triton", 64, 256, mixed=False))


def check(name: object) -> None:
    """Raises unless this is the name of a backend, or "auto".

    Raises:
        BackendError: it is not.
    """
    if not isinstance(name, str) or not (name == "auto" or name in BACKENDS or name in LAZY):
        known = ", ".join(map(repr, ("auto", *BACKENDS, *LAZY)))
        raise BackendError(f"backend {name!r} is not available; this version has {known}")


def select(name: str, rows: Rows, mixed: bool) -> Kernels:
    """The kernels of a backend for these rows: "auto" takes the fastest that runs here, any other name that or none.

    Where "auto" takes kernels that have no mixed precision, they solve in float64.

    Raises:
        BackendError: that backend cannot run here, or is not for such problems.
        OutOfMemoryError: there is less memory than it takes for them.
    """
    is_chosen = name == "auto"
    if is_chosen:
        name = fastest(rows)
    if why := obstacle(name, rows.g.device):
        raise BackendError(f"backend {name!r} cannot run here: {why}; use 'torch' or 'auto' instead")
    kernels = BACKENDS[name] if name in BACKENDS else importlib.import_module(f".kernels.{name}", __package__)
    if why := kernels.obstacle(rows, mixed and not is_chosen):
        raise BackendError(f"backend {name!r} cannot take these problems: {why}; use 'torch' or 'auto' instead")
    if name == "torch":
        check_operations(rows)
    device = rows.g.device
    return Checked(name, kernels, device, record(device, "checked")) if is_chosen and name in LAZY else kernels


def fastest(rows: Rows) -> str:
    """The name of the fastest backend for these rows that is not known to be wrong here.

    Where that is "torch" for want of what others need, and not for the sizes, a warning says so once.
    """
    device = rows.g.device
    if device.type == "cpu":
        if rows.n > CPU_LARGEST:
            return "torch"
        if why := why_no_cpu():
            _fall_back(why)
        return "torch" if why else "cpu"
    if device.type != "cuda":
        _fall_back(f"there are no kernels for {device.type} devices")
        return "torch"
    tried, checks = passed(device) or {}, verdicts(record(device, "checked"))
    left = checks.wrong | checks.unable
    missing = []
    for choice in ON_CUDA:
        largest = min(choice.n, tried.get(choice.backend, choice.n))
        if rows.n > largest or rows.m > choice.m or choice.backend in left:
            continue
        why = obstacle(choice.backend, device)
        if not why:
            return choice.backend
        missing.append(why)
    if missing:
        _fall_back(" or ".join(missing))
    return "torch"


@cache
def _fall_back(why: str) -> None:
    warnings.warn(f"backend 'auto' takes the batched torch operations, which are slow: {why}", stacklevel=3)


def obstacle(name: str, device: torch.device) -> str:
    """What keeps a backend from running on tensors on this device, as advice; empty where nothing does."""
    if name == "cpu":
        return why_no_cpu() if device.type == "cpu" else f"the tensors are on {device}; move them with .cpu()"
    if name == "triton":
        otherwise = "; set TRITON_INTERPRET=1 before the first import to have it interpreted, slowly"
        interpreted = os.environ.get("TRITON_INTERPRET") == "1"
        return _why_no_package("triton", "triton>=3.6") or ("" if interpreted else _why_no_device(device, otherwise))
    if name == "cuda":
        toolkit = (torch.version.cuda or "13").partition(".")[0]
        return _why_no_package("cupy", f"cupy-cuda{toolkit}x>=13") or _why_no_device(device)
    return ""


@cache
def _why_no_package(name: str, requirement: str) -> str:
    advice = f"install {name} (pip install '{requirement}')"
    if importlib.util.find_spec(name) is None:
        return advice
    try:
        importlib.import_module(name)
    except Exception as error:  # whatever is wrong with it, for instance a library that it does not find
        return f"{name} is there and cannot be imported ({error}); {advice}"
    return ""


def _why_no_device(device: torch.device, otherwise: str = "") -> str:
    if not torch.cuda.is_available():
        return f"there is no CUDA device{otherwise}"
    return "" if device.type == "cuda" else f"the tensors are on {device}; move them to a CUDA device with .cuda()"


@cache
def why_no_cpu() -> str:
    """What keeps the C++ kernels from being compiled here; empty where nothing does."""
    try:
        cpu.load()
    except (cpu.BuildError, OSError) as error:
        return str(error)
    return ""


@cache
def passed(device: torch.device) -> dict[str, int] | None:
    """The largest n at which each backend was right in the trial (trial.py) on this device; None before it."""
    if not torch.cuda.is_available():
        return None
    path = found(record(device, "trial"), ".json")
    return None if path is None else json.loads(path.read_text())


@cache
def record(device: torch.device, kind: str) -> str:
    """How the name of the file begins of what was found on this GPU, with these versions and this code."""
    known = [torch.cuda.get_device_name(device), torch.__version__]
    for package in ("triton", "cupy-cuda13x", "cupy-cuda12x"):
        try:
            known.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    digest = hashlib.sha256("\n".join(known).encode())
    folder = Path(implementations.__file__).parent
    for source in sorted(p for p in folder.rglob("*") if p.suffix in (".py", ".h", ".cu")):
        digest.update(source.read_bytes())
    return f"{kind}_{digest.hexdigest()[:24]}"
