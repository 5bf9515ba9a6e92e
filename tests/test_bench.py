"""The parts of the benchmark in which a mistake would show only as a wrong figure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse
import torch

import qplayer_gpu as qp
from bench import (
    calls,
    collected,
    families,
    floor,
    gradient,
    measure,
    points,
    processes,
    rows,
    run,
    steps,
    table,
    worker,
)
from bench.cases import CASES, SIZES
from bench.certificate import Answer, certify
from bench.solvers.base import Task
from bench.solvers.forms import OneSided
from bench.solvers.qplayer_gpu import Adapter
from qplayer_gpu.kernels import numbers

ARRAYS = [families.mixed, families.box, families.lp, families.control, families.projection]


def tiny(family=families.mixed, batch=3, n=8):
    return family(batch, n)


def solved(problem, feasible=True, gradients=()):
    solver = Adapter(Task(problem, gradients, 1e-9, feasible))
    solver.forward(differentiable=bool(gradients))
    return solver


def test_problems_are_read_as_collections_have_them(tmp_path):
    H, g, rows = np.diag([2.0, 4.0]), np.array([-1.0, 1.0]), np.array([[1.0, 1.0], [1.0, -2.0]])
    l, u = np.array([[1.0, -1e20, 0.0, -1e20]]).T, np.array([[1.0, 3.0, 1e20, 0.25]]).T
    bounded = scipy.sparse.csc_matrix(np.vstack([rows, np.eye(2)]))
    scipy.io.savemat(tmp_path / "HS0.mat", {"P": scipy.sparse.csc_matrix(H), "q": g, "A": bounded, "l": l, "u": u})
    given = {"P": H, "q": g, "G": rows[1], "h": u[1], "A": rows[0], "b": l[0], "lb": np.array([0.0, -np.inf])}
    np.savez(tmp_path / "LIPMWALK0.npz", **given, ub=np.array([np.inf, 0.25]))
    expected = qp.solve_qp(H, g, rows[:1], l[0], C=rows[1:], u=u[1], lb=given["lb"], ub=np.array([np.inf, 0.25])).x
    found = [*collected.found_in([tmp_path])]
    assert [name for _, name, _ in found] == ["HS0", "LIPMWALK0"]
    for _, _, arguments in found:
        np.testing.assert_allclose(qp.solve_qp(**arguments).x, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].n <= 32])
def test_every_case_is_feasible_as_it_says(name):
    case = CASES[name]
    problem = case.problems(replace(SIZES["full"], largest_batch=3))
    solution = solved(problem, case.feasible).solution.check()
    shifted = solution.status == qp.Status.SOLVED_CLOSEST_FEASIBLE
    assert shifted.any() != case.feasible


class TestCertificate:
    def one(self, x, z, s=None):
        """Minimise x^2 / 2 - 2 x with x <= 1, once feasible as it is."""
        one = torch.ones(1, 1, dtype=torch.float64)
        problem = replace(tiny(families.projection, 1, 1), H=one, g=-2 * one, C=one, u=one[0])
        as_rows = [np.array([[v]]) if v is not None else None for v in (x, z, s)]
        return certify(problem, Answer(*as_rows))

    def test_a_right_answer_passes(self):
        assert self.one(1.0, 1.0).solved == 1

    @pytest.mark.parametrize(
        ("x", "z", "residual"),
        [(1.1, 0.9, "primal"), (0.5, 0.0, "dual"), (0.5, 1.5, "gap"), (1.0, float("nan"), "dual")],
    )
    def test_a_wrong_answer_fails_where_it_is_wrong(self, x, z, residual):
        found = self.one(x, z)
        assert found.solved == 0
        assert not getattr(found, residual)[0] <= found.tolerance

    def test_a_shift_that_is_not_the_least_fails(self):
        found = self.one(1.5, 0.5, 0.5)
        assert found.primal[0] == 0
        assert found.dual[0] == 0
        assert found.shift[0] == 0.5
        assert found.solved == 0


class Sided(OneSided):
    answer = None


@pytest.mark.parametrize("family", ARRAYS)
def test_one_sided_rows_hold_the_same_points_and_multipliers(family):
    problem = tiny(family)
    sides = Sided(Task(problem, (), 1e-6))
    native = sides.native
    x = torch.randn(3, problem.n, dtype=torch.float64)
    G, lo, hi = problem.rows()
    Gx = (G @ x.unsqueeze(-1)).squeeze(-1)
    violation = torch.maximum(lo - Gx, Gx - hi)[:, problem.n_eq :].amax(1)
    inner = ((native["G"] @ x.unsqueeze(-1)).squeeze(-1) - native["h"]).amax(1)
    torch.testing.assert_close(inner, violation)
    z = torch.rand(3, native["G"].shape[-2], dtype=torch.float64)
    pull = (native["G"].mT @ z.unsqueeze(-1)).squeeze(-1)
    rows = sides.rows(z)
    torch.testing.assert_close((G[:, problem.n_eq :].mT @ rows.unsqueeze(-1)).squeeze(-1), pull)


class Scaled(Adapter):
    """Takes g / 2, so that its gradient has to be pulled back."""

    def convert(self, leaves):
        return leaves | {"g": leaves["g"] / 2}

    def forward(self, differentiable):
        self.native["g"].grad = torch.ones_like(self.native["g"])


def test_gradients_of_native_arrays_are_pulled_back():
    solver = Scaled(Task(tiny(), ("g",), 1e-6))
    solver.forward(differentiable=True)
    torch.testing.assert_close(solver.gradient("g"), torch.full_like(tiny().g, 0.5))


def test_a_gradient_is_right_or_named():
    problem, names = tiny(), ("g", "C", "u")
    reference, regular = gradient.central_differences(problem, names, feasible=True)
    assert all(regular)
    solver = solved(problem, gradients=names)
    solver.backward(gradient.cotangent(problem))
    found = {name: gradient.along_directions(problem, name, solver.gradient(name)) for name in names}
    right = gradient.relative_errors(found, reference)
    assert rows.judge(1.0, right, torch.float64) == "ok"
    wrong = gradient.relative_errors(found | {"C": [2 * v for v in found["C"]]}, reference)
    assert rows.judge(1.0, wrong, torch.float64) == "gradient of C wrong"
    assert rows.judge(0.5, right | {"u": float("nan")}, torch.float64) == "not all solved, gradient of u wrong"


def test_a_kink_between_the_two_sides_is_left_out_of_the_reference():
    one = torch.ones(1, 1, dtype=torch.float64)
    problem = replace(tiny(families.projection, 1, 1), H=one, C=one, u=one[0])
    problem = replace(
        problem, g=torch.tensor([[-1.0], [-2.0]], dtype=torch.float64)
    )  # x = 1 is weakly active in the first
    derivatives, regular = gradient.central_differences(problem, ("u",), feasible=True)
    assert regular == [False, True]
    weight = gradient.cotangent(problem)[1].item()
    signs = [direction.item() for direction in gradient.directions(problem, "u")]
    assert derivatives["u"] == pytest.approx([weight * sign for sign in signs])


def test_the_floor_counts_what_its_table_says():
    steps, n, stored, active = 3, 6, 5, 2
    each = 0.5 * 6**3 / 3 + 2 * 36 + 2 * 36 + 4 * 5 * 6
    assert floor.operations(n, stored, active, steps, 0.5) == 3 * each + 36 * 2
    assert floor.operations(n, stored, active, steps, 0.5, linear=True) == 3 * (each - 72) + 72
    peak = floor.Peak(gflops=1.0, gbytes=1.0)
    assert floor.milliseconds(2e6, 1e6, peak) == 2.0
    assert floor.milliseconds(1e6, 3e6, peak) == 3.0


def row(**known):
    where = rows.environment("cpu") | {"gflops": 1.0, "gbytes": 1.0}
    sizes = {"n": 8, "n_eq": 2, "n_in": 8, "n_box": 0, "asked": 3, "family": "mixed", "dtype": "float64"}
    return rows.Row(**(where | sizes | {"case": "a", "solver": "b", "phase": "forward", "verdict": "ok"} | known))


def test_rows_replace_those_of_the_same_case_and_solver(tmp_path: Path):
    path = tmp_path / "rows.csv"
    rows.store(path, [row(repeats=1), row(phase="both"), row(solver="c")])
    rows.store(path, [row(repeats=2)])
    assert [(line["solver"], line["phase"], line["repeats"]) for line in table.read(path)] == [
        ("c", "forward", "0"),
        ("b", "forward", "2"),
    ]
    assert table.read(path)[0]["solved"] == ""


def test_the_growth_is_the_power():
    assert points.slope([1, 10, 100], [2.0, 2000.0, 2e6]) == pytest.approx(3)


class InC:
    """A solver that says how long it took."""

    seconds, on_stream, task = 0.125, True, Task(tiny(), (), 1e-6)

    def clear(self):
        pass

    def forward(self, differentiable):
        pass


def test_a_round_is_the_median_of_its_solves_and_a_solver_may_say_its_time():
    bench = worker.Bench("qplayer_gpu", "cpu")
    bench.solver = InC()
    assert bench.time() == {"forward": 0.125}
    times = iter([0.001, 0.002, 0.03])
    bench._solve = lambda _: {"forward": next(times)}
    assert bench.time() == {"forward": 0.002}


def test_a_call_is_measured(monkeypatch):
    monkeypatch.setattr(calls, "SECONDS", 0.01)
    found = calls.one(4)
    assert min(found.cold, found.warm, found.parts, found.both) > 0
    assert found.busy is None
    assert calls.table([found, calls.Call(8, 64, 100.0, busy=150.0)]).endswith("| 8 | 64 | 100 |  |  |  | 150 | 1.50 |")


class Answering:
    """A worker whose solves take given seconds."""

    def __init__(self, seconds):
        self.seconds = seconds

    def ask(self, do):
        return {"forward": self.seconds}


def test_a_slow_solver_leaves_the_rounds(monkeypatch):
    workers = {"slow": Answering(10.0), "fast": Answering(0.01)}
    bar = type("Bar", (), {"update": lambda self: None})()
    found = measure.Run("full", "cpu", floor.Peak(1, 1), workers, bar)._rounds(["slow", "fast"])
    assert len(found["slow"]["forward"]) == measure.LEAST_ROUNDS
    assert len(found["fast"]["forward"]) == SIZES["full"].rounds


@pytest.mark.slow
def test_a_process_that_dies_or_is_late_is_a_row_and_is_begun_anew():
    there = processes.Worker("qplayer_gpu", "cpu", patience=0.0)
    assert there.ask("time") == {"failure": "no answer in 0 s"}
    there.patience = 60.0
    assert there.ask("time")["failure"].startswith("AttributeError")  # nothing was checked before
    there.process.kill()
    there.process.join()
    assert there.ask("time") == {"failure": "process ended with code -9"}
    there.close()


@pytest.mark.slow
def test_a_tiny_run_from_end_to_end(tmp_path: Path):
    path = tmp_path / "rows.csv"
    solvers = ["qplayer_gpu", "cupiqp"]
    assert run.main(["--tiny", "--cases", "mixed_n4", "--solvers", *solvers, "--out", str(path)]) == 0
    lines = table.read(path)
    assert {line["phase"] for line in lines if line["solver"] == "qplayer_gpu"} == {"forward", "backward", "both"}
    assert [line["verdict"] for line in lines if line["solver"] == "cupiqp"] == ["not installed: cupiqp"]


def test_the_steps_of_the_reference_are_counted():
    args, share = families.mixed(4, 8).arrays(), numbers.COMPACT_SHARE
    row = steps.measure([args])
    assert row["steps"] == qp.solve_qp(**args, backend="torch").info.iterations.double().mean()
    assert 1 <= row["factors"] < row["steps"]  # the last steps keep the factor
    assert row["cost"] == pytest.approx(row["factors"] + steps.KEPT * (row["steps"] - row["factors"]))
    assert row["unsolved"] == 0
    assert share == numbers.COMPACT_SHARE
