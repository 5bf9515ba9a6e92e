"""Whether there is memory for a call, asked before it begins: a process that takes what is not there is killed."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from .errors import OutOfMemoryError
from .kernels.interface import Rows
from .problem import QP, Sizes

WORTH_ASKING = 2**28  # bytes
DOUBLE = 8
MEMINFO, OWN_GROUP, GROUPS = Path("/proc/meminfo"), Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def doubles_of(qp: QP, sizes: Sizes) -> int:
    """How many numbers the copies of the arguments have, and the answer."""
    cast = qp.g.dtype != torch.float64
    H, A, C = (0 if M is None else M.numel() for M in (qp.H, qp.A, qp.C))
    vectors = (1 if sizes.batch is None else sizes.batch) * (sizes.n + sum(sizes.rows))
    return cast * (H + A + C) + 4 * vectors


def check_operations(rows: Rows) -> None:
    """Raises unless there is room for what the batched torch operations hold at once besides: factors, and a state.

    Raises:
        OutOfMemoryError: there is not.
    """
    check(rows.batch * (2 * rows.n**2 + 25 * (rows.n + rows.m)), rows.g.device)


def check(doubles: int, device: torch.device) -> None:
    """Raises unless there is room for so many numbers.

    Raises:
        OutOfMemoryError: there is not.
    """
    needed = DOUBLE * doubles
    if needed < WORTH_ASKING or device.type != "cpu":  # elsewhere PyTorch raises and nobody is killed
        return
    there = available()
    if needed > there:
        raise OutOfMemoryError(
            f"these problems take {needed / 2**30:.1f} GiB at least, and {there / 2**30:.1f} GiB are free: "
            "solve fewer at once, or share what is the same in all"
        )


def available() -> float:
    """Bytes that this process may take before it is killed, as far as the system says; infinite where it does not."""
    return min((_free_of_the_machine(), *map(_free_of_the_group, _groups())))


def _free_of_the_machine() -> float:
    try:
        known = dict(re.findall(r"(\w+): +(\d+) kB", MEMINFO.read_text()))
        return 1024.0 * (int(known["MemAvailable"]) + int(known["SwapFree"]))
    except (OSError, KeyError):
        return float("inf")


def _groups() -> list[Path]:
    """The folders of the control group of this process and of those above it: a container's, a job's, a session's."""
    try:
        (own,) = re.findall(r"^0::/(.*)$", OWN_GROUP.read_text(), re.MULTILINE)
    except (OSError, ValueError):
        return []
    folder = GROUPS / own
    return [g for g in (folder, *folder.parents) if g.is_relative_to(GROUPS)]


def _free_of_the_group(folder: Path) -> float:
    """What is left of the limit of a group; files that are held in memory can be given up."""
    try:
        held = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        used = int((folder / "memory.current").read_text()) - int(held["inactive_file"])
        return float(int((folder / "memory.max").read_text()) - used)
    except (OSError, ValueError, KeyError):  # it has no limit
        return float("inf")
