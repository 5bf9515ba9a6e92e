"""Condensed control problems: the states are those of a simulation, the inputs those of the full QP."""

import sys
from argparse import Namespace

import pytest
import torch

import mpc
import qplayer_gpu as qp
from qplayer_gpu.control import condense

N, N_X, N_U, COUNT = 5, 3, 2, 4
EXACT = qp.Settings(eps_abs=1e-11)


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def square(*shape):
    M = normal(*shape, shape[-1])
    return M @ M.mT + torch.eye(shape[-1], dtype=torch.float64)


def system(*lead):
    """A system whose arrays have these dimensions in front, and whose limits are active."""
    return {
        "A": 0.5 * normal(*lead, N_X, N_X),
        "B": normal(*lead, N_X, N_U),
        "Q": square(*lead, N_X),
        "R": square(*lead, N_U),
        "c": normal(*lead, N_X),
        "q": normal(*lead, N_X),
        "r": 12 * normal(*lead, N_U),
        "E": normal(*lead, 2, N_X),
        "x_min": -0.7 - torch.rand(*lead, 2).double(),
        "x_max": 0.7 + torch.rand(*lead, 2).double(),
        "u_min": -0.4 - torch.rand(*lead, N_U).double(),
        "u_max": 0.4 + torch.rand(*lead, N_U).double(),
    }


def at(problem, k):
    """The arrays of one step, [COUNT, ...] each."""
    dimensions = {name: 2 if name in "ABQRE" else 1 for name in problem}
    steps = {name: t if t.dim() > dimensions[name] else t.unsqueeze(0) for name, t in problem.items()}
    whole = {name: t.expand(COUNT, N, *t.shape[-dimensions[name] :]) for name, t in steps.items()}
    return {name: t[:, k] for name, t in whole.items()}


def times(M, v):
    return (M @ v.unsqueeze(-1)).squeeze(-1)


def simulated(problem, x0, inputs):
    states = [x0.expand(COUNT, -1)]
    for k in range(N):
        now = at(problem, k)
        states.append(times(now["A"], states[-1]) + times(now["B"], inputs[:, k]) + now["c"])
    return torch.stack(states[1:], 1)


def in_full(problem, x0):
    """The QP in states and inputs, with the system as its equalities: what is condensed, without condensing."""
    n = N * (N_X + N_U)
    H, g, A, b = (torch.zeros(COUNT, *shape).double() for shape in ((n, n), (n,), (N * N_X, n), (N * N_X,)))
    C, lb, ub = torch.zeros(COUNT, 2 * N, n).double(), *(sign * torch.full((COUNT, n), torch.inf) for sign in (-1, 1))
    lb, ub = lb.double(), ub.double()
    for k in range(N):
        now = at(problem, k)
        x, u = slice(k * N_X, (k + 1) * N_X), slice(N * N_X + k * N_U, N * N_X + (k + 1) * N_U)
        H[:, x, x], H[:, u, u], g[:, x], g[:, u] = now["Q"], now["R"], now["q"], now["r"]
        A[:, x, x], A[:, x, u], b[:, x] = torch.eye(N_X).double(), -now["B"], now["c"]
        if k:
            A[:, x, (k - 1) * N_X : k * N_X] = -now["A"]
        else:
            b[:, x] += times(now["A"], x0.expand(COUNT, -1))
        C[:, 2 * k : 2 * k + 2, x] = now["E"]
        lb[:, u], ub[:, u] = now["u_min"], now["u_max"]
    l, u = (torch.stack([at(problem, k)[side] for k in range(N)], 1).flatten(1) for side in ("x_min", "x_max"))
    return {"H": H, "g": g, "A": A, "b": b, "C": C, "l": l, "u": u, "lb": lb, "ub": ub}


LEADS = {"constant": (), "over time": (N,), "over the batch": (COUNT, 1), "over both": (COUNT, N)}
# how far the first states are from rest, and the weights of the limits; the system always holds
CASES = {"feasible": (0.2, {}), "soft": (4.0, {}), "inputs hard": (4.0, {"w_box": torch.inf})}


@pytest.mark.parametrize("lead", LEADS.values(), ids=LEADS)
@pytest.mark.parametrize("case", CASES)
def test_the_inputs_are_those_of_the_full_problem(case, lead):
    scale, weights = CASES[case]
    problem, x0 = system(*lead), scale * normal(COUNT, N_X)
    problem["c"] *= scale
    plan = condense(**problem, x0=x0, horizon=N)
    sol = qp.solve_qp(**plan.arguments, **weights).check()
    full = qp.solve_qp(**in_full(problem, x0), **weights, w_eq=torch.inf).check()
    assert sol.names() == full.names()
    assert ("SOLVED_CLOSEST_FEASIBLE" in sol.names()) == (case != "feasible")
    assert (sol.z_box != 0).any()
    assert case != "inputs hard" or not sol.s_box.any()
    states, inputs = full.x.split([N * N_X, N * N_U], -1)
    # residuals of 1e-9, of costs that are at least the square of the inputs, and of shifts up to 10
    torch.testing.assert_close(sol.x, inputs, rtol=0, atol=1e-6)
    torch.testing.assert_close(plan.states(sol.x).flatten(1), states, rtol=0, atol=1e-6)
    torch.testing.assert_close(simulated(problem, x0, plan.inputs(sol.x)), plan.states(sol.x), rtol=0, atol=1e-12)


def test_what_is_shared_stays_shared():
    plan = condense(**system(N), x0=normal(COUNT, N_X), horizon=N)
    shapes = {name: tuple(t.shape) for name, t in plan.arguments.items()}
    n, rows = N * N_U, 2 * N
    both = {"l": (COUNT, rows), "u": (COUNT, rows), "lb": (n,), "ub": (n,)}
    assert shapes == {"H": (n, n), "g": (COUNT, n), "C": (rows, n), **both}
    assert plan.response.shape == (N, N_X, n)


def test_limits_may_be_numbers_or_absent():
    problem = {k: v for k, v in system().items() if k in ("A", "B", "Q", "R")}
    x0 = normal(N_X)
    free = condense(**problem, x0=x0, horizon=N)
    assert free.arguments.keys() == {"H", "g"}
    some = condense(**problem, x0=x0, horizon=N, u_max=0.1, x_min=-2.0)
    same = condense(
        **problem, x0=x0, horizon=N, u_max=torch.full((N_U,), 0.1).double(), x_min=torch.full((N_X,), -2.0).double()
    )
    assert some.arguments.keys() == {"H", "g", "C", "l", "ub"}
    torch.testing.assert_close(*(qp.solve_qp(**p.arguments).check().x for p in (some, same)), rtol=0, atol=1e-12)
    assert some.inputs(qp.solve_qp(**some.arguments).x).shape == (N, N_U)


def test_without_limits_it_is_the_regulator_of_riccati():
    A, B, Q, R = (system()[name] for name in "ABQR")
    x0, P = normal(N_X), Q
    for _ in range(N - 1):
        gain = torch.linalg.solve(R + B.mT @ P @ B, B.mT @ P @ A)
        P = Q + A.mT @ P @ (A - B @ gain)
    gain = torch.linalg.solve(R + B.mT @ P @ B, B.mT @ P @ A)
    plan = condense(A, B, Q, R, x0, N)
    first = plan.inputs(qp.solve_qp(**plan.arguments, settings=EXACT).x)[0]
    torch.testing.assert_close(first, -gain @ x0, rtol=0, atol=1e-9)


@pytest.mark.parametrize("scale", [0.3, 4.0], ids=["feasible", "infeasible"])
def test_gradients_reach_every_argument(scale):
    problem = system() | {"x0": scale * normal(N_X)}
    leaves = {name: t.requires_grad_() for name, t in problem.items()}

    def inputs(*values):
        plan = condense(**dict(zip(leaves, values, strict=True)), horizon=N)
        return qp.solve_qp(**plan.arguments, settings=EXACT).check().x

    # differences of 1e-6 see the answer's 1e-11 as 1e-5
    assert torch.autograd.gradcheck(inputs, tuple(leaves.values()), eps=1e-6, atol=2e-5, rtol=1e-4)


WRONG = {
    "no steps": ({"horizon": 0}, "horizon must be an integer of at least 1, not 0"),
    "half a step": ({"horizon": 2.5}, "not 2.5"),
    "other steps": ({"B": normal(N - 1, N_X, N_U)}, r"or \(N, n_x, n_u\) .* not \(4, 3, 2\); n_x = 3, N = 5$"),
    "other states": (
        {"A": normal(N, N_X + 1, N_X + 1)},
        r"A must have shape \(n_x, n_x\) or .* not \(5, 4, 4\); n_x = 3",
    ),
    "other inputs": ({"R": normal(N_U + 1, N_U + 1)}, "R must have shape .* n_u = 2"),
    "more bounds than inputs": ({"u_max": normal(N_U + 2)}, r"u_max must have shape \(n_u\) .* not \(4,\); .*n_u = 2"),
    "more limits than rows": ({"x_min": normal(3)}, r"x_min must have shape \(n_e\) .* n_e = 2"),
    "a limit for each state only": ({"E": None}, "x_min .* n_e = 3"),
    "another batch": ({"Q": normal(3, N, N_X, N_X), "x0": normal(2, N_X)}, "Q must have shape .* B = 2"),
    "two batches": ({"B": normal(3, 1, N_X, N_U), "R": normal(2, 1, N_U, N_U)}, "R must have shape .* B = 3"),
    "a matrix for a vector": ({"x_max": normal(2, 2, 2, 2)}, r"x_max must have shape \(n_e\) or \(N, n_e\)"),
    "a matrix of states": ({"x0": normal(2, 2, N_X)}, r"x0 must have shape \(n_x,\) or \(B, n_x\), not \(2, 2, 3\)"),
    "a list": ({"x0": [0.0] * N_X}, "x0 must be a torch.Tensor, not list"),
    "a number for a matrix": ({"R": 0.1}, "R must be a torch.Tensor, not float"),
    "nothing for a matrix": ({"Q": None}, "Q must be a torch.Tensor, not NoneType"),
    "another dtype": ({"x0": torch.zeros(N_X)}, "A must be torch.float32 on cpu, like x0, not torch.float64"),
    "nothing to limit": ({"x_min": None, "x_max": None}, "E is given without x_min and x_max"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_calls_say_what_to_do(case):
    change, message = WRONG[case]
    with pytest.raises(qp.ProblemError, match=message):
        condense(**{**system(), "x0": normal(N_X), "horizon": N, **change})


def test_the_example_plans_the_same_in_full(tmp_path, monkeypatch):
    """The QPs are asked for 1e-7; the cost of an input is a tenth of its square, and the gap weighs in it."""
    forward, _ = mpc.measure(mpc.chain(), 3, Namespace(repeat=1, backend="auto"))
    assert forward["largest difference"] <= 1e-3
    monkeypatch.setattr(sys, "argv", ["mpc", "--chains", "9", "--steps", "3", "--out", str(tmp_path)])
    mpc.main()
    assert (tmp_path / "mpc.png").exists()


def test_limits_of_inputs_are_not_said_to_exclude_each_other():
    """Many of the rows give way beside them."""
    plan = mpc.plan(mpc.chain(), 0.5 * normal(256, 8))
    sol = qp.solve_qp(**plan.arguments, w_box=torch.inf, settings=mpc.SETTINGS)
    assert sol.solved.all()
