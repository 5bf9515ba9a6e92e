import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from qplayer_gpu import backend as backends
from qplayer_gpu import direct

torch.set_num_threads(1)  # the problems are small, and threads that wait for each other slow a busy machine down

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported: it decides when a kernel is defined

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def nan_memory():
    """Fills memory that torch does not initialize with NaN, on the CPU."""
    torch.use_deterministic_algorithms(not torch.cuda.is_available())
    yield
    torch.use_deterministic_algorithms(False)


class OnGPU:
    """Kernels of a GPU for tensors on the CPU: takes them there, and the answer back."""

    def __init__(self, name):
        self.name = name

    def __getattr__(self, function):
        kernels = importlib.import_module(f"qplayer_gpu.kernels.{self.name}")

        def call(*arguments):
            return moved(getattr(kernels, function)(*(moved(a, "cuda") for a in arguments)), "cpu")

        return call


def moved(record, device):
    """A record with its tensors on another device."""
    if not isinstance(record, tuple):
        return record
    return type(record)(*(t.to(device) if isinstance(t, torch.Tensor) else t for t in record))


GPU = [pytest.param(name, marks=pytest.mark.gpu) for name in backends.LAZY]


@pytest.fixture
def compiler():
    """For tests of the C++ kernels: without a compiler they are left out, and in CI fail."""
    if why := backends.why_no_cpu():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)


@pytest.fixture(params=[*backends.BACKENDS, *GPU])
def backend(request, monkeypatch):
    """The name of each backend that runs here, in turn; "auto" stands for it."""
    if request.param == "cpu":
        request.getfixturevalue("compiler")
    if request.param in backends.LAZY:
        monkeypatch.setitem(backends.BACKENDS, request.param, OnGPU(request.param))
        monkeypatch.setattr(backends, "obstacle", lambda *_: "")
    monkeypatch.setattr(backends, "fastest", lambda rows: request.param)
    monkeypatch.setattr(direct, "_plans", {})  # which know who solves
    return request.param


@pytest.fixture
def start(monkeypatch):
    """Starts a script in two processes, as torchrun does, which end with the test."""
    started, root = [], Path(__file__).parents[1]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(root))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")

    def start(*options, restarts=0, script=root / "examples" / "distributed.py"):
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        command = [*torchrun, "--max-restarts", str(restarts), str(script), *options]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        return started[-1]

    yield start
    for process in started:
        process.terminate()
