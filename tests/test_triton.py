"""The Triton kernels give the reference's answers and gradients: interpreted on the CPU, compiled where a GPU is."""

import importlib
import itertools
import math
from collections import Counter
from types import SimpleNamespace

import families as f
import hard
import pytest
import torch
from helpers import as_rows, leaves_of
from interpreted import patch_once

import qplayer_gpu as qp
from bench.floor import watched
from qplayer_gpu import backend
from qplayer_gpu.kernels import reference
from qplayer_gpu.kernels.interface import Vectors

kernels = pytest.importorskip("qplayer_gpu.kernels.triton")
launch = pytest.importorskip("qplayer_gpu.kernels.triton.launch")

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
if not GPU:
    patch_once()

# numpy, in the interpreter, warns of the zero divisors and the overflows that the kernels look out for
pytestmark = [pytest.mark.filterwarnings("ignore::RuntimeWarning"), pytest.mark.usefixtures("nan_memory")]


def moved(args):
    return {k: v.to(DEVICE) if isinstance(v, torch.Tensor) else v for k, v in args.items()}


def degenerate():
    """A vertex of an LP where three rows meet, one of them twice, and a row of zeros."""
    C = torch.tensor([[1.0, 0], [0, 1], [1, 1], [1, 1], [0, 0]]).double()
    g = torch.tensor([[-1.0, -1], [-1, 0]]).double()
    return {"H": None, "g": g, "C": C, "u": torch.tensor([1.0, 1, 2, 2, 0]).double(), "lb": torch.zeros(2).double()}


def semidefinite():
    """H of rank 1, equalities one of which is the other's double, two-sided rows."""
    args = f.feasible(1, 4, two_sided=True)
    args["H"] = args["H"][:, :, :1] @ args["H"][:, :1]
    args["H"] = args["H"] @ args["H"].mT
    return args | {"A": torch.cat([args["A"], 2 * args["A"]], 1), "b": torch.cat([args["b"], 2 * args["b"]], 1)}


def shared_rows(args):
    """All but g are those of the first problem."""
    return f.shared(args, *(k for k in args if k != "g" and args[k] is not None and args[k].shape[0] == len(args["g"])))


CASES = {
    "feasible": lambda: f.feasible(1, 4, two_sided=True, bounds=True),
    "feasible-1": lambda: f.feasible(2, 1),
    "no-rows": lambda: {k: v for k, v in f.feasible(2, 3).items() if k in "Hg"},
    "lp": lambda: f.lp(1, 3),
    "degenerate-lp": degenerate,
    "semidefinite": semidefinite,
    "overdetermined": lambda: f.overdetermined(1, 2),
    "positive-lp": lambda: f.positive_equalities(1, 4, 3),
    "excluding": lambda: f.excluding_halfspaces(1, 3, extra=2),
    "shared-feasible": lambda: shared_rows(f.feasible(2, 3, two_sided=True)),
    "shared-A": lambda: f.shared(f.overdetermined(1, 2) | {"g": torch.ones(2, 2).double()}, "A", "b", "H", "C", "u"),
}


def options_of(settings):
    return settings.options(torch.float64, DEVICE)


def assert_same(ours, theirs):
    assert ours.status.tolist() == theirs.status.tolist()
    bounded = ours.status != qp.Status.INFEASIBLE  # a ray is so long that the dual residual is its rounding error
    for name in ("x", "z", "s", "primal", "dual", "gap"):
        values = (getattr(answer, name)[bounded if name == "dual" else slice(None)] for answer in (ours, theirs))
        torch.testing.assert_close(*values, rtol=1e-8, atol=1e-8, equal_nan=True)


# too large for the interpreter to be quick; larger ones are for a GPU
SLOW = {
    "feasible-10": lambda: f.feasible(2, 10, two_sided=True, bounds=True),
    "lp-7": lambda: f.lp(2, 7),
    "overdetermined-6": lambda: f.overdetermined(2, 6),
    "positive-qp": lambda: f.positive_equalities(3, 6, 4, H=True),
    "shared-overdetermined": lambda: f.shared(f.overdetermined(2, 3), "A", "b", "H"),
}
LARGE = {
    "feasible-33": lambda: f.feasible(64, 33, two_sided=True, bounds=True),
    "feasible-64": lambda: f.feasible(64, 64, two_sided=True),
    "lp-33": lambda: f.lp(64, 33),
    "overdetermined-32": lambda: f.overdetermined(64, 32),
    "sudoku-lp": lambda: f.sudoku_lp(50),
}
ALL = CASES | SLOW | LARGE
MARKS = dict.fromkeys(SLOW, pytest.mark.slow) | dict.fromkeys(LARGE, pytest.mark.gpu)


def solved_by(name, args):
    """The solution, and the gradients of the arguments for random cotangents of all that has one."""
    leaves = leaves_of(args)
    sol = qp.solve_qp(**{"H": None, **leaves}, backend=name)
    torch.manual_seed(1)
    outputs = (sol.x, sol.y, sol.z, sol.z_box, sol.s_eq, sol.s_in, sol.s_box)
    sum((torch.randn(t.shape, dtype=t.dtype).to(DEVICE) * t).sum() for t in outputs).backward()
    return sol, {k: leaf.grad for k, leaf in leaves.items() if leaf is not None}


def assert_as_the_reference(args, x, z, gradient):
    """The tolerances, absolute and relative, are those of x and shifts, of multipliers, and of gradients."""
    (expected, their_gradients), (sol, gradients) = (solved_by(name, args) for name in ("torch", "triton"))
    assert sol.status.tolist() == expected.status.tolist()
    assert (sol.info.iterations - expected.info.iterations).abs().max() <= 2  # rounding may add a step
    for name in ("x", "s_eq", "s_in", "s_box"):
        torch.testing.assert_close(getattr(sol, name), getattr(expected, name), rtol=x, atol=x)
    for name in ("y", "z", "z_box"):
        torch.testing.assert_close(getattr(sol, name), getattr(expected, name), rtol=z, atol=z)
    for name, grad in gradients.items():
        torch.testing.assert_close(grad, their_gradients[name], rtol=gradient, atol=gradient)


@pytest.mark.parametrize("case", [pytest.param(case, marks=MARKS.get(case, ())) for case in ALL])
def test_forward_and_gradients_are_the_reference_s(case):
    assert_as_the_reference(moved(ALL[case]()), 1e-8, 1e-7, 1e-6)


@pytest.mark.parametrize("case", ["lp", pytest.param("overdetermined", marks=pytest.mark.slow)])
def test_float32_is_solved_in_float64(case):
    """Then rounded: what is left is float32's rounding, of multipliers too."""
    args = {k: v if v is None else v.float() for k, v in ALL[case]().items()}
    assert_as_the_reference(moved(args), 1e-5, 1e-5, 1e-4)


@pytest.mark.skipif(GPU, reason="it counts calls in the interpreter")
def test_a_step_factors_only_where_its_system_has_changed(monkeypatch):
    """As often as the weights of the reference's systems change."""
    system, calls = importlib.import_module("qplayer_gpu.kernels.triton.system"), []
    anew = system.factor_anew
    monkeypatch.setattr(system, "factor_anew", lambda *a: (calls.append(1), anew(*a))[1])
    rows, options = as_rows(f.feasible(1, 4, two_sided=True, bounds=True)), options_of(qp.Settings())
    answer = kernels.forward(rows, options, None)
    with watched() as systems:
        assert reference.forward(rows, options).iterations == answer.iterations == len(systems)
    changes = sum(not torch.equal(now, before) for before, now in itertools.pairwise(systems))
    assert len(calls) == 1 + changes < len(systems)


def test_problems_of_every_kind_in_one_batch():
    """Feasible, infeasible, unbounded, NaN: each its status, and the rows of a NaN are NaN."""
    base = f.feasible(4, 2)
    C = torch.tensor([[1.0, 1], [-1, -1], [0, 1]]).double().repeat(4, 1, 1)
    args = {"H": base["H"], "g": base["g"], "C": C, "u": torch.ones(4, 3).double()}
    args["u"][1, :2] = -1.0
    args["H"][2] = 0.0
    args["g"][2] = torch.tensor([-1.0, 1.0])  # along which no row stops
    args["C"][3, 0, 0] = math.nan
    rows, options = as_rows(moved(args)), options_of(qp.Settings())
    answer = kernels.forward(rows, options, None)
    wanted = (qp.Status.SOLVED, qp.Status.SOLVED_CLOSEST_FEASIBLE, qp.Status.UNBOUNDED, qp.Status.NONFINITE_INPUT)
    assert answer.status.tolist() == list(wanted)
    assert_same(answer, reference.forward(rows, options))
    leaves = leaves_of(moved(args))
    qp.solve_qp(**leaves, backend="triton").x.square().sum().backward()
    assert all(leaf.grad.isfinite().all() and (leaf.grad[2:] == 0).all() for leaf in leaves.values())


def test_warm_start():
    args = moved(f.feasible(1, 3, two_sided=True))
    first = qp.solve_qp(**args, backend="triton")
    again = qp.solve_qp(**args, backend="triton", warm_start=first)
    assert (again.info.iterations == 0).all()
    torch.testing.assert_close(again.x, first.x, rtol=0, atol=0)
    rows, options = as_rows(moved(f.overdetermined(1, 3))), options_of(qp.Settings())
    cold = reference.forward(rows, options)
    start = cold.point  # begins in phase SHIFT
    assert_same(kernels.forward(rows, options, start), reference.forward(rows, options, start))


@pytest.fixture
def decided(monkeypatch):
    """What the reference decides of trials and of starts: how many it begins, undoes and drops."""
    counts = Counter()
    newton, outer = (importlib.import_module(f"qplayer_gpu.kernels.reference.{name}") for name in ("newton", "outer"))
    judge, begin = newton._judge_trial, outer._begin_from_start

    def judging(st, wrong, failed):
        tried = st.trial
        judge(st, wrong, failed)
        counts["tried"] += int(tried.sum())
        counts["undone"] += int((tried & ~st.trial & (failed | (wrong > 0))).sum())

    def beginning(st, residual, where):
        settled = st.settled
        begin(st, residual, where)
        counts["dropped"] += int((settled & ~st.settled).sum())

    monkeypatch.setattr(newton, "_judge_trial", judging)
    monkeypatch.setattr(outer, "_begin_from_start", beginning)
    return counts


def moved_costs(args, far):
    return args | {"g": args["g"] * (1 + far * torch.randn_like(args["g"]))}


@pytest.mark.parametrize(
    ("make", "far", "seen"),
    [
        (lambda: f.feasible(2, 4, two_sided=True, bounds=True), 0.0, {"tried", "undone"}),
        (lambda: f.feasible(2, 4, seed=2, two_sided=True, bounds=True), 0.02, {"tried"}),
        (lambda: f.feasible(2, 4, seed=2, two_sided=True, bounds=True), 6.0, {"tried", "dropped"}),
        (lambda: f.lp(2, 4), 0.02, {"tried"}),
        (lambda: f.excluding_halfspaces(3, 4, seed=1), 0.2, {"tried"}),
        (lambda: hard.demand(2, 3) | {"w_box": math.inf}, 0.02, {"tried"}),
    ],
    ids=["cold", "near", "far", "lp", "shifted", "hard"],
)
def test_trials_and_starts_are_judged_as_in_the_reference(decided, make, far, seen):
    """In as many steps; each case has the decisions that it is there for, the last two a start in phase SHIFT."""
    args, options = make(), options_of(qp.Settings())
    start = reference.forward(as_rows(moved(args)), options).point if far else None
    rows = as_rows(moved(moved_costs(args, far)))
    decided.clear()
    expected = reference.forward(rows, options, start)
    answer = kernels.forward(rows, options, start)
    assert {what for what, count in decided.items() if count} >= seen
    assert answer.iterations.tolist() == expected.iterations.tolist()
    assert_same(answer, expected)


@pytest.mark.parametrize(
    ("settings", "weights", "status"),
    [
        (qp.Settings(max_iter=2), {}, qp.Status.MAX_ITERATIONS),
        (qp.Settings(closest_feasible=False), {}, qp.Status.INFEASIBLE),
        pytest.param(qp.Settings(), {"w_eq": math.inf}, qp.Status.INFEASIBLE, marks=pytest.mark.slow),
        (
            qp.Settings(eps_rel=1e-7, equilibrate=False),
            {"w_eq": torch.tensor([1.0, 2, 3, 4]).double()},
            qp.Status.SOLVED_CLOSEST_FEASIBLE,
        ),
        (qp.Settings(), {"w_in": math.inf}, qp.Status.SOLVED_CLOSEST_FEASIBLE),
    ],
    ids=["max_iter", "infeasible", "hard", "weighted", "hard-inequalities"],
)
def test_settings_and_weights(settings, weights, status):
    args = f.overdetermined(2, 3) | weights
    args["u"] += 3
    if status == qp.Status.INFEASIBLE:  # the hard ones take a hundred steps to be given up
        args = {k: v if k in weights else v[:1] for k, v in args.items()}
    rows, options = as_rows(moved(args)), options_of(settings)
    answer = kernels.forward(rows, options, None)
    assert (answer.status == status).all()
    assert_same(answer, reference.forward(rows, options))


@pytest.mark.slow  # the interpreter takes most of a minute
def test_hard_rows_outweigh_soft_ones_of_very_different_sizes():
    """Walls that must give way beside hard limits, which press on the shift and are equalities afterwards."""
    args = {k: v[1:5:3] if k in "glu" else v for k, v in hard.walled(8, 4, seed=2).items()}
    rows, options = as_rows(moved(args)), options_of(qp.Settings(eps_abs=1e-7))
    answer, expected = kernels.forward(rows, options, None), reference.forward(rows, options)
    assert (answer.status == qp.Status.SOLVED_CLOSEST_FEASIBLE).all()
    assert (answer.iterations - expected.iterations).abs().max() <= 2  # rounding may add a step
    assert_same(answer, expected)


def test_each_problem_may_have_its_own_weights_and_hard_rows():
    """Rows that exclude each other, one of them hard in one problem; 0 and NaN are no weights."""
    C = torch.tensor([[1.0, 1], [-1, -1], [1, 0]]).double()
    sides = {"C": C, "u": torch.tensor([-1.0, -2, 0]).double(), "l": torch.tensor([-math.inf, -math.inf, -1]).double()}
    w = torch.tensor([[1.0, 3, 2], [1, math.inf, 2], [2, 0, 1], [2, 1, math.nan]]).double()
    args = moved({"H": torch.eye(2).double(), "g": torch.ones(2).double(), "w_in": w} | sides)
    rows, options = as_rows(args), options_of(qp.Settings())
    answer, expected = kernels.forward(rows, options, None), reference.forward(rows, options)
    solved, unusable = qp.Status.SOLVED_CLOSEST_FEASIBLE, qp.Status.NONFINITE_INPUT
    assert answer.status.tolist() == [solved, solved, unusable, unusable]
    assert_same(answer, expected)
    at = Vectors(*(t.nan_to_num() for t in expected.point))
    grad = Vectors(*(torch.randn_like(t) * (expected.status == solved).unsqueeze(-1) for t in at))
    adjoints = (implementation.adjoint(rows, at, grad, options) for implementation in (kernels, reference))
    for ours, theirs in zip(*adjoints, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)


@pytest.mark.slow
def test_hard_rows_have_their_gradient():
    """Demand beyond what a hard box holds."""
    C = 0.1 + torch.rand(2, 2, 3).double()
    args = {"H": torch.eye(3).double(), "g": torch.randn(2, 3).double(), "C": C, "l": C.sum(-1) + 0.5}
    args |= {"lb": torch.zeros(3).double(), "ub": torch.ones(3).double()}
    gradients = []
    for name in ("torch", "triton"):
        leaves = leaves_of(moved(args))
        sol = qp.solve_qp(**leaves, w_box=math.inf, backend=name).check()
        (sol.x.sum() + sol.s_in.square().sum()).backward()
        gradients.append(leaves)
    for k in args:
        torch.testing.assert_close(gradients[1][k].grad, gradients[0][k].grad, rtol=1e-6, atol=1e-6)


def test_curvature_is_judged_as_in_the_reference():
    """Convex with a large cost, flat, a little indefinite, indefinite, without a factor at first."""
    H = torch.eye(2).double().repeat(5, 1, 1)
    H[1, 1, 1], H[2, 1, 1], H[3, 1, 1], H[4, 0, 0] = 1e-9, -1e-7, -1e-3, -1e-7
    args = {"H": H, "g": torch.tensor([[-1e10, 1], [1, 1], [1, 1], [1, 1], [0, 0]]).double()}
    args |= {"lb": -4 * torch.ones(2).double(), "ub": torch.tensor([1e12, 4]).double()}
    rows, options = as_rows(moved(args)), options_of(qp.Settings())
    answer, expected = kernels.forward(rows, options, None), reference.forward(rows, options)
    assert answer.status.tolist() == expected.status.tolist()
    assert len({*answer.status.tolist()}) > 1
    torch.testing.assert_close(answer.x, expected.x, rtol=1e-8, atol=1e-8)


@pytest.mark.slow
def test_steps_next_to_nearly_parallel_rows_are_refined():
    """The rows weigh so much that an inverse alone leaves too large a dual residual."""
    args = {"H": 2 * torch.eye(2).double(), "g": torch.tensor([-2.0, -4]).double()}
    args |= {"A": torch.tensor([[1, 1 + 1e-6], [1, 1]]).double(), "b": torch.tensor([2.0, 2]).double()}
    sol = qp.solve_qp(**moved(args), backend="triton").check()
    torch.testing.assert_close(sol.x.cpu(), torch.tensor([2.0, 0]).double(), rtol=0, atol=1e-3)


def test_it_says_what_it_cannot_take():
    def bounded(n):
        return as_rows({"g": torch.ones(n), "lb": torch.zeros(n)})

    assert kernels.obstacle(bounded(launch.LARGEST_N), False) == ""
    assert "64 variables and 256 rows at most (bounds are rows), not 65 and 65" in kernels.obstacle(bounded(65), False)
    many = as_rows({"g": torch.ones(1), "C": torch.ones(257, 1), "u": torch.ones(257)})
    assert "not 1 and 257" in kernels.obstacle(many, False)
    assert "take precision='float64'" in kernels.obstacle(bounded(2), True)


def test_the_option_of_nvidia_s_assembler_is_not_given_to_amd_s(monkeypatch):
    rows = as_rows({"g": torch.ones(3)})
    assert ("maxnreg" in launch.variant_of(rows)[1]) == (torch.version.hip is None)
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert launch.variant_of(rows)[1].keys() == {"num_warps", "enable_fp_fusion"}


def test_scratch_does_not_grow_with_the_batch(monkeypatch):
    """Beyond what a device runs at once, by two: here 132 multiprocessors with two programs each."""
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(multi_processor_count=132))
    shapes = []
    for batch in (100, 10_000, 1_000_000):
        g = SimpleNamespace(is_cuda=True, device="meta", new_empty=lambda *shape: torch.empty(*shape, device="meta"))
        cfg = launch.variant_of(as_rows({"g": torch.ones(64)}))[0]
        scratch, taken, parts = launch.scratch_of(SimpleNamespace(g=g, batch=batch), cfg)
        assert scratch.shape[0] == taken.shape[0] == parts
        shapes.append(scratch.shape)
    assert shapes[0][0] == 100
    assert shapes[1] == shapes[2] == (2 * 132 * 2, launch.scratch_size(cfg.N, cfg.M))


def test_the_backend_says_what_it_wants(monkeypatch):
    rows, cuda = as_rows({"g": torch.ones(2)}), torch.device("cuda")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(qp.BackendError, match=r"there is no CUDA device; set TRITON_INTERPRET=1"):
        backend.select("triton", rows, False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert backend.obstacle("triton", cuda) == ""
    with pytest.raises(qp.BackendError, match=r"the tensors are on cpu; move them"):
        backend.select("triton", rows, False)
    monkeypatch.setattr(backend, "_why_no_package", backend._why_no_package.__wrapped__)
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda _: None)
    assert "install triton" in backend.obstacle("triton", cuda)


def test_it_is_not_taken_unasked():
    """Not before it has been seen to work on a GPU."""
    rows = as_rows({"g": torch.ones(2)})
    assert backend.select("auto", rows, False) is not kernels
