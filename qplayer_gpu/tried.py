"""What the trial of the kernels for GPUs (trial.py) has found on this machine."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from . import kernels
from .kernels.cpu.build import cache_folder


@cache
def passed(device: torch.device) -> dict[str, int] | None:
    """The largest n at which each backend was right on this device, 0 where it never was; None before the trial."""
    if not torch.cuda.is_available():
        return None
    path = record(device)
    return json.loads(path.read_text()) if path.exists() else None


def record(device: torch.device) -> Path:
    """The file for this GPU, these versions and this code."""
    known = [torch.cuda.get_device_name(device), torch.__version__]
    for package in ("triton", "cupy-cuda13x", "cupy-cuda12x"):
        try:
            known.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    digest = hashlib.sha256("\n".join(known).encode())
    folder = Path(kernels.__file__).parent
    for source in sorted(p for p in folder.rglob("*") if p.suffix in (".py", ".h", ".cu")):
        digest.update(source.read_bytes())
    return cache_folder() / f"trial_{digest.hexdigest()[:24]}.json"
