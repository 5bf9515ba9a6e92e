"""The CUDA kernels as NVRTC compiles them, run on the emulator (gpu/): right, without races or deadlocks."""

import importlib

import pytest
from gpu.cases import CASES, complaints, differences

on_cupy = pytest.importorskip("gpu.on_cupy")

pytestmark = [pytest.mark.usefixtures("compiler"), pytest.mark.usefixtures("nan_memory")]
FORWARD, BACKWARD, RANDOM = range(3)  # orders of threads
PRECISIONS = ("float64", "mixed")


@pytest.fixture
def emulation(monkeypatch):
    return on_cupy.emulate(monkeypatch)


def assert_clean(emulation, case, n, batch, order, precision="float64"):
    emulation.order = order
    kernels = importlib.import_module("qplayer_gpu.kernels.cuda")
    found = differences(kernels, case, n, batch, precision)
    assert [str(finding) for finding in emulation.findings] == []
    assert complaints(found, precision) == []


@pytest.mark.parametrize(
    ("case", "n", "batch", "order"),
    [
        ("qp", 5, 6, RANDOM),
        ("hard", 8, 3, BACKWARD),
        ("lp", 5, 9, FORWARD),
        ("qp", 40, 3, RANDOM),
        ("warm", 40, 1, BACKWARD),
    ],
)
def test_compiled_kernels_are_right(emulation, case, n, batch, order):
    assert_clean(emulation, case, n, batch, order)


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("n", [1, 5, 8, 9, 17, 33, 40, 64, 100])
@pytest.mark.parametrize("case", CASES)
def test_each_variant_is_right(emulation, case, n, precision):
    for batch, order in ((1, FORWARD), (9, RANDOM)):
        assert_clean(emulation, case, n, batch, order, precision)
