import os

import pytest
import torch
from hypothesis import settings

from qplayer_gpu import backend as backends

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


@pytest.fixture(params=list(backends.BACKENDS))
def backend(request, monkeypatch):
    """The name of each backend that runs here, in turn; "auto" stands for it."""
    if request.param == "cpu" and (why := backends.why_no_cpu()):
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)
    monkeypatch.setattr(backends, "fastest", lambda rows: request.param)
    return request.param
