"""Triton's kernels as they are compiled for a GPU, run on the emulator (gpu/): right, without races or deadlocks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from gpu.cases import CASES

pytest.importorskip("triton")

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.usefixtures("compiler")
FORWARD, BACKWARD, RANDOM = range(3)  # orders of threads


class Worker:
    """A process that compiles, as this one has Triton interpret."""

    def __init__(self):
        paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
        environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"PYTHONPATH": paths}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, "-m", "gpu.worker"], env=environment, **pipes)

    def ask(self, case, n, batch, order=FORWARD, removed=()):
        question = {"case": case, "n": n, "batch": batch, "order": order, "removed": removed}
        print(json.dumps(question), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def worker():
    found = Worker()
    yield found
    found.process.stdin.close()
    found.process.stdout.close()
    assert found.process.wait() == 0


def assert_clean(said):
    assert said["findings"] == []
    assert said["wrong"] == []


@pytest.mark.parametrize(
    ("case", "n", "batch", "order"),
    [("qp", 5, 3, RANDOM), ("hard", 5, 2, BACKWARD), ("qp", 17, 2, BACKWARD), ("qp", 40, 2, RANDOM)],
)
def test_compiled_kernels_are_right(worker, case, n, batch, order):
    assert_clean(worker.ask(case, n, batch, order))


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 5, 8, 9, 17, 33, 40, 64])
@pytest.mark.parametrize("case", CASES)
def test_each_variant_is_right(worker, case, n):
    for batch, order in ((1, FORWARD), (3, RANDOM)):
        assert_clean(worker.ask(case, n, batch, order))
