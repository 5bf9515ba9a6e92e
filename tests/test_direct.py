"""The short way of eager calls on a CPU, against the way of the operators."""

import pickle
import subprocess
import sys
from copy import copy
from dataclasses import fields, replace
from pathlib import Path

import families as f
import pytest
import torch
from helpers import CASES, HARD_ROWS, leaves_of, one_matrix, parts_of, problem
from torch.autograd import forward_ad
from torch.func import vmap
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

import qplayer_gpu as qp
from qplayer_gpu import direct, general, plans

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.usefixtures("compiler")
SAME = 1e-12  # of a gradient: rounding errors of sums in another order

# The optimum is inside of some sides, on others, and of a few of which nothing depends.
FEASIBLE = f.feasible(4, 6, two_sided=True, bounds=True)
LOOSE = {k: v for k, v in FEASIBLE.items() if k not in ("lb", "ub")}
EXCLUDING = f.excluding_halfspaces(3, 5)
WEIGHTS = {"w_in": torch.tensor([1.0, torch.inf, *[0.5] * 8]).double(), "w_box": 3.0, "lb": -9.0}
PROBLEMS = {name: args for name, (args, *_) in CASES.items()}
PROBLEMS |= {f"{name}-shared": one_matrix(args) for name, args in PROBLEMS.items()}
PROBLEMS |= {f"hard-{name}": args for name, args in HARD_ROWS.items()}
PROBLEMS |= {
    "unbatched": {k: v[0] for k, v in FEASIBLE.items()},
    "one": {k: v[:1] for k, v in FEASIBLE.items()},
    "none": {k: v[:0] if k == "g" else v[0] for k, v in FEASIBLE.items()},
    "numbers": LOOSE | {"lb": -1, "ub": 0.5},
    "shared-without-rows": one_matrix({k: v for k, v in FEASIBLE.items() if k in ("H", "g", "lb", "ub")}),
    "shared-without-anything": one_matrix({k: v for k, v in FEASIBLE.items() if k in ("H", "g")}),
    "absent-sides": LOOSE | {"l": torch.full_like(LOOSE["l"], -1e20)},
    "crossed": LOOSE | {"l": LOOSE["u"] + 0.1},
    "crossed-by-rounding": LOOSE | {"l": LOOSE["u"] * (1 + 1e-16)},
    "weighted": EXCLUDING | WEIGHTS,
    "weighted-batch": EXCLUDING | {"w_in": 0.5 + torch.rand_like(EXCLUDING["u"])},
    "not-finite": LOOSE | {"g": LOOSE["g"] * torch.tensor([[1.0], [torch.nan], [1.0], [1.0]]).double()},
    "no-rows": {"H": FEASIBLE["H"][0], "g": FEASIBLE["g"]},
    "bounds-alone": {"H": FEASIBLE["H"][0], "g": FEASIBLE["g"], "lb": FEASIBLE["lb"], "ub": FEASIBLE["ub"]},
    "float32": {k: v.float() for k, v in FEASIBLE.items()},
    "transposed": LOOSE | {"C": LOOSE["C"].mT.contiguous().mT},
}  # fmt: skip


def by_operators(args, settings=None, warm_start=None):
    return general.solve(problem(args), warm_start, settings or qp.Settings(), "cpu")


@pytest.fixture
def no_operators(monkeypatch):
    monkeypatch.setattr(general, "solve", None)


@pytest.mark.parametrize("case", PROBLEMS)
def test_the_same_bits(case, no_operators, monkeypatch):
    args = {"H": None} | PROBLEMS[case]
    found = qp.solve_qp(**args)
    monkeypatch.undo()
    expected = by_operators(args)
    pytree.tree_map(lambda a, b: torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True), found, expected)


@pytest.mark.usefixtures("nan_memory")
@pytest.mark.parametrize("case", PROBLEMS)
def test_the_same_gradients(case):
    args = {k: v for k, v in PROBLEMS[case].items() if v is not None}
    found = []
    for solve in (lambda leaves: qp.solve_qp(**leaves), by_operators):
        leaves = leaves_of(args)
        parts = [t for t in parts_of(solve({"H": None} | leaves)).values() if isinstance(t, torch.Tensor)][:7]
        torch.manual_seed(1)
        sum((torch.randn_like(t) * t.nan_to_num()).sum() for t in parts).backward()
        found.append({k: t.grad for k, t in leaves.items() if isinstance(t, torch.Tensor)})
    single = case == "float32"
    for name, ours in found[0].items():
        theirs = found[1][name]
        assert ours.dtype == theirs.dtype == args[name].dtype
        assert ours.shape == theirs.shape
        assert (ours - theirs).norm() <= (1e-6 if single else SAME) * (1 + theirs.norm()), name


@pytest.mark.parametrize("wanted", ["g", "H", "A b", "C", "l", "l u", "lb", "g C ub"])
@pytest.mark.parametrize("shape", ["batched", "shared", "unbatched", "crossed"])
def test_second_derivatives_in_some_of_the_arguments(wanted, shape):
    args = {"batched": FEASIBLE, "shared": one_matrix(FEASIBLE), "unbatched": PROBLEMS["unbatched"]}
    args = (args | {"crossed": FEASIBLE | {"l": FEASIBLE["u"] + 0.1}})[shape]
    found = []
    for solve in (lambda args: qp.solve_qp(**args), by_operators):
        leaves = args | leaves_of({k: args[k] for k in wanted.split()})
        inputs = [leaves[k] for k in wanted.split()]
        sol = solve(leaves)
        loss = sol.x.sin().sum() + sol.z.square().sum() + sol.s_in.square().sum()
        first = torch.autograd.grad(loss, inputs, create_graph=True)
        found.append(torch.autograd.grad(sum(t.square().sum() for t in first), inputs))
    for ours, theirs in zip(*found, strict=True):
        assert (ours - theirs).norm() <= 1e-8 * (1 + theirs.norm())


def test_second_derivatives_with_weights():
    args, found = PROBLEMS["weighted-batch"], []
    for solve in (lambda args: qp.solve_qp(**args), by_operators):
        leaves = args | {"g": args["g"].clone().requires_grad_()}
        (first,) = torch.autograd.grad(
            solve(leaves).s_in.square().sum() + solve(leaves).x.sin().sum(), leaves["g"], create_graph=True
        )
        found.append(torch.autograd.grad(first.square().sum(), leaves["g"])[0])
    torch.testing.assert_close(*found, rtol=1e-8, atol=1e-8)


def test_arguments_that_are_negated_lazily():
    negated = {name: torch._neg_view(-FEASIBLE[name]) for name in ("g", "C", "lb")}
    torch.testing.assert_close(qp.solve_qp(**FEASIBLE | negated).x, qp.solve_qp(**FEASIBLE).x, rtol=0, atol=0)


def test_a_cotangent_that_is_negated_lazily():
    g = FEASIBLE["g"].clone().requires_grad_()
    x, seed = qp.solve_qp(**FEASIBLE | {"g": g}).x, torch.randn_like(g)
    (expected,) = torch.autograd.grad(x, g, seed, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(x, g, torch._neg_view(-seed))[0], expected, rtol=0, atol=0)


def test_a_jacobian_of_all_cotangents_at_once():
    rest = {k: v for k, v in FEASIBLE.items() if k != "g"}

    def call(g):
        return qp.solve_qp(g=g, **rest).x

    one_by_one, at_once = (torch.autograd.functional.jacobian(call, FEASIBLE["g"], vectorize=v) for v in (False, True))
    torch.testing.assert_close(one_by_one, at_once, rtol=SAME, atol=SAME)


@pytest.mark.parametrize("case", ["feasible", "positive-qp", "unbatched", "float32", "excluding"])
def test_a_warm_start_is_read_the_same_way(case, no_operators, monkeypatch):
    args = PROBLEMS[case]
    near = args | {"g": args["g"] * 1.001}
    start = qp.solve_qp(**args)
    if start.x.dim() == 2:
        start.x[0, 0] = torch.nan  # this problem starts cold
    found = qp.solve_qp(**near, warm_start=start)
    monkeypatch.undo()
    expected = by_operators(near, warm_start=start)
    pytree.tree_map(lambda a, b: torch.testing.assert_close(a, b, rtol=0, atol=0), found, expected)
    assert (found.info.iterations <= start.info.iterations).reshape(-1)[1:].all()


def test_a_warm_start_as_the_library_gave_it():
    start, near = qp.solve_qp(**FEASIBLE), FEASIBLE | {"g": FEASIBLE["g"] * 1.001}
    start.z[0, 0] = torch.nan  # this problem starts cold
    apart = start.detach()
    assert start.rest is not None
    assert apart.rest is None
    whole, of_parts = (qp.solve_qp(**near, warm_start=given) for given in (start, apart))
    pytree.tree_map(lambda a, b: torch.testing.assert_close(a, b, rtol=0, atol=0), whole, of_parts)
    assert (whole.info.iterations < start.info.iterations)[1:].all()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_what_is_first_read_without_gradients_has_them(mode):
    leaves = leaves_of(FEASIBLE)
    sol = qp.solve_qp(**leaves)
    with mode():
        assert sol.z.shape == FEASIBLE["u"].shape
    assert sol.z.requires_grad
    assert not sol.info.gap.requires_grad
    torch.testing.assert_close(
        *(torch.autograd.grad(z.square().sum(), leaves["C"])[0] for z in (sol.z, qp.solve_qp(**leaves).z))
    )


def test_parts_of_an_answer_change_alone():
    leaves = leaves_of(FEASIBLE)
    sol = qp.solve_qp(**leaves)
    loss = sol.y.square().sum() + sol.x.square().sum()  # keeps y
    expected = torch.autograd.grad(loss, leaves["g"], retain_graph=True)[0]
    sol.z.zero_()
    sol.status.zero_()
    assert torch.equal(torch.autograd.grad(loss, leaves["g"])[0], expected)


def test_the_status_is_at_hand_and_the_parts_are_made_when_one_is_read():
    sol = qp.solve_qp(**FEASIBLE)
    made = {*vars(sol)}
    assert sol.status.untyped_storage().nbytes() == 8 * len(sol.x)
    assert {*vars(sol)} == made == {"x", "status", "rest"}
    z = sol.z
    assert {*vars(sol)} == made | {*plans.VECTORS}
    assert sol.z is z


def test_an_answer_that_nobody_has_read_can_be_copied():
    sol = [qp.solve_qp(**FEASIBLE) for _ in range(4)]
    names = [field.name for field in fields(qp.Solution)]
    for same in (copy(sol[1]), pickle.loads(pickle.dumps(sol[2])), replace(sol[3])):
        assert [*vars(same)] == names
        assert torch.equal(same.z, sol[0].z)
    assert list(parts_of(sol[0])) == names
    assert not hasattr(sol[0], "multipliers")


@pytest.mark.parametrize("on_failure", [False, True])
def test_the_gradient_of_what_was_not_solved(on_failure):
    settings, found = qp.Settings(max_iter=3, gradient_on_failure=on_failure), []
    for solve in (lambda args: qp.solve_qp(**args, settings=settings), lambda args: by_operators(args, settings)):
        leaves = leaves_of(FEASIBLE)
        solve(leaves).x.square().sum().backward()
        found.append(leaves["g"].grad)
    torch.testing.assert_close(*found, rtol=SAME, atol=SAME)
    assert bool(found[0].any(-1).all()) == on_failure


class Nothing(TorchDispatchMode):
    """Looks at what is done, and does it."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return function(*args, **kwargs or {})


def dual(args):
    with forward_ad.dual_level():
        return qp.solve_qp(**args)


def looked_at(args):
    with Nothing():
        return qp.solve_qp(**args)


OTHERS = {
    "vmap": lambda args: vmap(lambda g: qp.solve_qp(**args | {"g": g}))(args["g"].unsqueeze(0)),
    "forward mode": dual,
    "a mode": looked_at,
    "expanded": lambda args: qp.solve_qp(**args | {"H": args["H"][0].expand(len(args["H"]), -1, -1)}),
    "mixed": lambda args: qp.solve_qp(**args, settings=qp.Settings(precision="mixed")),
    "torch": lambda args: qp.solve_qp(**args, backend="torch"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_goes_by_the_operators(case, monkeypatch):
    calls, solve = [], general.solve
    monkeypatch.setattr(general, "solve", lambda *arguments: calls.append(1) or solve(*arguments))
    OTHERS[case](FEASIBLE)
    assert calls == [1]


def test_plans_are_few_and_hold_no_memory(monkeypatch):
    monkeypatch.setattr(direct, "MOST", 3)
    direct._plans.clear()
    for batch in (1000, 2000, 3000, 4000):
        qp.solve_qp(**f.feasible(batch, 3))
    assert len(direct._plans) == 1
    (plan,) = direct._plans.values()
    assert isinstance(plan, plans.Plan)
    assert sum(t.untyped_storage().nbytes() for t in plan.rows[:6]) < 200


IMPORTS = """
import sys, torch, qplayer_gpu as qp
g = torch.ones(3, requires_grad=True)
qp.solve_qp(torch.eye(3), g, lb=0.0).x.sum().backward()
with torch.no_grad():
    qp.solve_qp(torch.eye(3), g, lb=0.0)
print([name for name in ("torch._dynamo", "sympy") if name in sys.modules])
"""


def test_nothing_is_imported_that_only_a_compiler_wants():
    done = subprocess.run([sys.executable, "-c", IMPORTS], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
