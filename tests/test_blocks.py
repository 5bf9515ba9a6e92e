"""The kernels of a GPU on blocks of fibers (blocks.h): real block sizes, any order of threads, barriers that matter."""

import re
import shutil
import struct
import subprocess
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import families as f
import hard
import numpy as np
import pytest
import test_cpu
import torch
from test_kernels import OPTIONS, rows_of

from qplayer_gpu import backend as backends
from qplayer_gpu.kernels import cpu
from qplayer_gpu.kernels.cpu import build
from qplayer_gpu.kernels.interface import Seeds

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(bool(backends.why_no_cpu()), reason="no C++ compiler")
ALL_BARRIERS = -1
OPTION_NAMES = ("eps_abs", "eps_rel", "mu_eq", "mu_in", "rho", "max_iter", "equilibrate", "closest_feasible")
VECTORS = ("x", "z", "s", "primal", "dual", "gap", "b_x", "p", "z_unique", "ws", "b_s", "q_z", "b_z")


@dataclass(frozen=True)
class Run:
    """How a program is asked to run a batch."""

    removed: int = ALL_BARRIERS
    order: int = 0  # seed of the order in which the fibers run
    near: bool = True  # whether the factor is in shared memory


def compiled(folder, threads=64, scalar="double", flags=("-O1",), sources=ROOT):
    """A program that solves batches on blocks of so many threads."""
    program = folder / f"blocks_{threads}_{scalar}"
    command = [build._compiler()[0][0], "-std=c++17", "-Wno-unknown-pragmas", *flags]
    define = [f"-DQP_THREADS={threads}", f"-DQP_SCALAR={scalar}"]
    subprocess.run([*command, *define, "-o", program, sources / "tests" / "blocks.cpp"], check=True)
    return program


def question(rows, options, seeds, run, size=8):
    """The bytes that the program reads; `size` is that of a number in the factor."""
    n, m, padded = rows.n, rows.m, -(-rows.n // 4) * 4
    stored = rows.n_eq + rows.n_in
    factor = size * padded * (padded + 2)
    scratch = 8 * (23 * n + 36 * m) + 8 * -(-stored // 2) + 2 * size * padded**2 + (0 if run.near else factor)
    parts = [struct.pack("=5q", run.removed, run.order, scratch, run.near, rows.batch)]
    parts.append(struct.pack("=4i", n, rows.n_eq, rows.n_in, rows.bounded))
    parts.append(struct.pack("=5dq2i", *(getattr(options, name) for name in OPTION_NAMES)))

    def add(t):
        numbers = np.array([]) if t is None else t.double().contiguous().numpy()
        parts.extend((struct.pack("=q", numbers.size), numbers.tobytes()))

    for name in ("H", "g", "A", "C", "lo", "hi", "w"):
        t = getattr(rows, name)
        add(t)
        parts.append(struct.pack("=q", t is not None and t.shape[0] == 1))
    add(rows.hard if rows.hard.any() else None)
    parts.append(struct.pack("=q", 1))
    add(torch.cat([t.flatten() for t in (seeds.x, seeds.z, seeds.s)]))
    return b"".join(parts)


def answer_of(said, rows):
    """The vectors, statuses and steps that the program writes."""
    B, n, m = rows.batch, rows.n, rows.m
    status, steps = np.frombuffer(said[: 16 * B], dtype=np.int64).reshape(2, B)
    numbers = torch.from_numpy(np.frombuffer(said[16 * B :], dtype=np.float64).copy())
    widths = [n, m, m, 1, 1, 1, n, m, m, m, n, m, n]
    parts = numbers.split([B * width for width in widths])
    vectors = {name: part.view(B, width) for name, part, width in zip(VECTORS, parts, widths, strict=True)}
    return {"status": status.tolist(), "steps": steps.tolist(), **vectors}


def solve(program, rows, options=OPTIONS, run=Run(), seeds=None, size=8):
    asked = question(rows, options, seeds or seeds_of(rows), run, size)
    done = subprocess.run([program], input=asked, capture_output=True)
    assert done.returncode == 0, (done.returncode, done.stdout[-200:], done.stderr.decode()[-4000:])
    return answer_of(done.stdout, rows)


def seeds_of(rows):
    torch.manual_seed(1)
    return Seeds(*(torch.randn(rows.batch, k).double() for k in (rows.n, rows.m, rows.m)))


def on_one_thread(rows, options=OPTIONS):
    """What the kernels say on the host."""
    answer = cpu.forward(rows, options)
    adjoint = vars(cpu.adjoint(rows, answer, seeds_of(rows), options))
    vectors = {name: getattr(answer, name).view(rows.batch, -1) for name in VECTORS[:6]}
    adjoint["z_unique"] = adjoint.pop("z")
    return {"status": answer.status.tolist(), "steps": answer.iterations.tolist(), **vectors, **adjoint}
