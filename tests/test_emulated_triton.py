"""Triton's kernels as they are compiled for a GPU, run on the emulator (gpu/): right, without races or deadlocks."""

import ast
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from gpu.cases import ADMM, CASES
from gpu.emulated import BACKWARD, FORWARD, RANDOM

pytest.importorskip("triton")

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.usefixtures("compiler")


def environment():
    """Of a process that does not interpret."""
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    return {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"PYTHONPATH": paths}


class Worker:
    """A process that compiles, as this one has Triton interpret."""

    def __init__(self):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, "-m", "gpu.worker"], env=environment(), **pipes)

    def ask(self, case, n, batch, order=FORWARD, removed=(), fused=False):
        question = {"case": case, "n": n, "batch": batch, "order": order, "removed": removed, "fused": fused}
        print(json.dumps(question), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def end(self):
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait()


HALF_A_MINUTE = ("admm, no bounds, in float32", 33)


@pytest.fixture(scope="module")
def worker():
    found = Worker()
    yield found
    assert found.end() == 0


def assert_clean(said):
    assert said["findings"] == []
    assert said["wrong"] == []


@pytest.mark.parametrize(
    ("case", "n", "batch", "order"),
    [("qp", 5, 3, RANDOM), ("hard", 5, 2, BACKWARD), ("qp", 20, 2, BACKWARD), ("qp", 40, 2, RANDOM)],
)
def test_compiled_kernels_are_right(worker, case, n, batch, order):
    assert_clean(worker.ask(case, n, batch, order))


ITERATIONS = [
    pytest.param(case, *size, marks=[pytest.mark.slow] * ((case, size[0]) == HALF_A_MINUTE))
    for case in ADMM
    for size in ((9, 17, BACKWARD), (33, 2, RANDOM))
]


@pytest.mark.parametrize(("case", "n", "batch", "order"), ITERATIONS)
def test_iterations_of_admm_are_right(worker, case, n, batch, order):
    said = worker.ask(case, n, batch, order)
    assert_clean(said)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("n", [1, 5, 8, 9, 17, 33, 40, 64])
def test_each_variant_is_right(worker, case, n):
    for batch, order in ((1, FORWARD), (3, RANDOM)):
        assert_clean(worker.ask(case, n, batch, order))


def barriers():
    """The lines of the barriers in the kernels' source by the names of their functions, and their numbers there."""
    found = {}
    for path in sorted((ROOT / "kernels" / "triton").glob("*.py")):
        for function in ast.walk(ast.parse(path.read_text())):
            calls = ast.walk(function) if isinstance(function, ast.FunctionDef) else ()
            lines = sorted(
                c.lineno for c in calls if isinstance(c, ast.Call) and "debug_barrier" in ast.unparse(c.func)
            )
            found |= {f"{function.name} {k}": f"{path.name}:{line}" for k, line in enumerate(lines)}
    return found


def large_functions():
    """The functions that are not inlined."""
    trees = (ast.parse(path.read_text()) for path in (ROOT / "kernels" / "triton").glob("*.py"))
    functions = (f for tree in trees for f in tree.body if isinstance(f, ast.FunctionDef))
    return {f.name for f in functions if any("noinline" in ast.unparse(d) for d in f.decorator_list)}


@pytest.mark.parametrize(("n", "deadlock"), [(20, False), (40, True)])
def test_without_the_barriers_at_the_beginning_of_large_functions_there_is_a_race(worker, n, deadlock):
    """As the kernels were: Triton orders a function's first use of shared memory with nothing that its caller did."""
    heads = [place for name, place in barriers().items() if name.endswith(" 0") and name[:-2] in large_functions()]
    assert len(heads) == len(large_functions())
    said = worker.ask("qp", n, 2, removed=heads)
    kinds = Counter(finding.split(":")[0] for finding in said["findings"])
    assert kinds["a write where another thread read with no barrier between"]
    assert bool(kinds["a deadlock"]) == bool(said["wrong"]) == deadlock


def test_without_the_barrier_before_a_store_there_is_a_race(worker):
    said = worker.ask("qp", 20, 2, removed=[barriers()["column_sizes 0"]])
    assert any("measure_scaling at scaling.py" in finding for finding in said["findings"])


@pytest.mark.slow
def test_lanes_differ_where_products_are_fused_into_sums(worker):
    """As the kernels were: two threads write different last bits of one sum to one place."""
    assert_clean(worker.ask("qp", 17, 2))
    said = worker.ask("qp", 17, 2, fused=True)
    assert {finding.split(":")[0] for finding in said["findings"]} == {"two writes with no barrier between"}


# Each of them next to another one: at the beginning of a function that begins with a barrier of its own, or with one in
# what it calls. They are there for the day when the code after them changes.
REDUNDANT = {f"{name} 0" for name in large_functions() - {"write_columns"}}
REDUNDANT |= {"rows_product 0", "rows_product 1", "clear 0"}


@pytest.mark.slow
def test_a_barrier_that_is_missing_is_found(worker):
    cases = [(case, n) for n in (17, 40) for case in ("qp", "hard")] + [("admm, no bounds", 17)]
    missed = {
        name
        for name, place in barriers().items()
        if not any(worker.ask(case, n, 2, RANDOM, [place])["findings"] for case, n in cases)
    }
    assert missed == REDUNDANT


@pytest.mark.slow
def test_what_is_executed_is_counted_by_function():
    command = [sys.executable, "-m", "gpu.counts", "--functions", "8"]
    printed = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stdout
    rows = [line.strip("| ").split(" | ") for line in printed.splitlines()[2:]]
    counts = {(kernels, function): int(count) for kernels, function, count in rows}
    assert counts["triton", "newton_step"] > counts["triton", "measure_scaling"] > 0
    assert counts["cuda", "factorize"] > 0
