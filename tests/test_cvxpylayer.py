"""The call of cvxpylayers, against CVXPY's own answers and against differences of answers."""

import copy
import pickle
import re
import sys

import cvxpy as cp
import models
import numpy as np
import pytest
import scipy.sparse as sp
import torch

from qplayer_gpu import ProblemError, Status
from qplayer_gpu.compat import CvxpyLayer
from qplayer_gpu.compat.affine import Affine
from qplayer_gpu.compat.program import Program, Rows

pytestmark = pytest.mark.filterwarnings("ignore:Reading from a sparse CVXPY:RuntimeWarning")  # raised inside CVXPY

ACCURATE = {"tol_gap_abs": 1e-11, "tol_gap_rel": 1e-11, "tol_feas": 1e-11}  # what CVXPY's Clarabel is asked for
TOLERANCE = 1e-6  # by which an x of these problems may still be wrong, as errors of residuals are multiplied
STEP, SLOPE_TOLERANCE = 1e-6, 1e-3  # of central differences of answers that are good to 1e-9; few kinks are so near


def one(tensors, parameters, i):
    """The parameters of the i-th problem of a batch."""
    return [t if t.dim() == len(p.shape) else t[i] for t, p in zip(tensors, parameters, strict=True)]


def by_cvxpy(problem, parameters, tensors):
    for p, t in zip(parameters, tensors, strict=True):
        p.value = t.numpy()
    problem.solve(cp.CLARABEL, **ACCURATE)


@pytest.mark.parametrize("model", models.MODELS, ids=lambda model: model.__name__)
def test_answers_are_those_of_cvxpy(model):
    problem, parameters, variables, tensors = model()
    layer = CvxpyLayer(problem, parameters, variables)
    batched = layer(*tensors)
    assert (layer.status == Status.SOLVED).all()
    for i in (0, len(batched[0]) - 1):
        single = one(tensors, parameters, i)
        by_cvxpy(problem, parameters, single)
        for x, alone, v in zip(batched, layer(*single), variables, strict=True):
            expected = v.value.toarray() if hasattr(v.value, "toarray") else v.value
            torch.testing.assert_close(x[i], torch.as_tensor(expected, dtype=x.dtype), rtol=TOLERANCE, atol=TOLERANCE)
            torch.testing.assert_close(alone, x[i], rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("model", models.MODELS, ids=lambda model: model.__name__)
def test_gradients_are_slopes(model):
    """Of shared parameters as well; along a direction within what the attributes of the parameter allow."""
    problem, parameters, variables, tensors = model()
    layer = CvxpyLayer(problem, parameters, variables)
    leaves = [t.clone().requires_grad_() for t in tensors]
    x = layer(*leaves)
    weights = [torch.randn_like(part) for part in x]

    def value(moved):
        return sum((w * part).sum() for w, part in zip(weights, layer(*moved), strict=True)).item()

    sum((w * part).sum() for w, part in zip(weights, x, strict=True)).backward()
    for k, (p, leaf) in enumerate(zip(parameters, leaves, strict=True)):
        d = torch.randn_like(leaf)
        d = torch.diag_embed(d.diagonal(dim1=-2, dim2=-1)) if p.attributes["diag"] else d
        d = d + d.mT if p.is_symmetric() and len(p.shape) == 2 else d
        d = d / d.norm()
        ahead, behind = (value([*tensors[:k], tensors[k] + h * d, *tensors[k + 1 :]]) for h in (STEP, -STEP))
        slope, found = (ahead - behind) / (2 * STEP), (leaf.grad * d).sum().item()
        assert abs(slope - found) <= SLOPE_TOLERANCE * max(1.0, abs(slope)), p


def test_second_derivatives():
    x, b = cp.Variable(3), cp.Parameter(3)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(cp.multiply(b, x) - 1) + cp.sum_squares(x)), [cp.sum(x) == 1])
    layer = CvxpyLayer(problem, [b], [x])
    assert torch.autograd.gradgradcheck(lambda b: layer(b)[0], models.rand(3).requires_grad_())


def test_one_graph_of_torch_compile():
    problem, parameters, variables, tensors = models.springs()
    layer = CvxpyLayer(problem, parameters, variables)
    (found,) = torch.compile(layer, backend="eager", fullgraph=True)(*tensors)
    torch.testing.assert_close(found, layer(*tensors)[0], rtol=TOLERANCE, atol=TOLERANCE)


def test_a_map_over_examples():
    problem, parameters, variables, tensors = models.least_squares()
    layer = CvxpyLayer(problem, parameters, variables)
    (x,) = torch.func.vmap(layer, in_dims=(None, 0))(*tensors)
    torch.testing.assert_close(x, layer(*tensors)[0], rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("sense", [cp.Minimize, cp.Maximize])
def test_dual_variables(sense):
    x, b = cp.Variable((2, 3)), cp.Parameter((2, 3))
    cost = cp.sum_squares(x - b) + 0.1 * cp.norm1(x)
    rows = [cp.sum(x, axis=1) == 1, x <= 0.4, cp.norm1(x[:, 0]) <= 0.5, x[:, 1:] >= b[:, 1:] - 1, cp.abs(x[0]) <= 0.6]
    problem = cp.Problem(sense(cost if sense is cp.Minimize else -cost), rows)
    duals = [row.dual_variables[0] for row in rows]
    tensors = [models.rand(2, 3)]
    found = CvxpyLayer(problem, [b], [x, *duals])(*tensors)
    by_cvxpy(problem, [b], tensors)
    assert sum(np.abs(row.dual_value).max() > 0.01 for row in rows) >= 3
    for part, v in zip(found, [x, *duals], strict=True):
        assert part.shape == v.shape
        torch.testing.assert_close(part, torch.as_tensor(v.value, dtype=part.dtype), rtol=TOLERANCE, atol=TOLERANCE)


def test_an_infeasible_problem_moves_what_the_user_wrote():
    """|x| <= 1 against x = 3: half each, (x - 3)^2 + (|x| - 1)^2; that x >= 0 by its attribute stays."""
    x, target = cp.Variable(2, nonneg=True), cp.Parameter(2)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x)), [cp.norm1(x[:1]) <= 1, x == target])
    layer = CvxpyLayer(problem, [target], [x])
    given = torch.tensor([[3.0, -1.0], [0.5, 2.0]]).double().requires_grad_()
    (found,) = layer(given)
    torch.testing.assert_close(found, torch.tensor([[2.0, 0.0], [0.5, 2.0]]).double(), rtol=TOLERANCE, atol=TOLERANCE)
    assert layer.status.tolist() == [Status.SOLVED_CLOSEST_FEASIBLE, Status.SOLVED]
    found[:, 0].sum().backward()
    torch.testing.assert_close(given.grad, torch.tensor([[0.5, 0.0], [1.0, 0.0]]).double(), rtol=1e-4, atol=1e-4)


def test_shapes_and_dtypes():
    x, b = cp.Variable((2, 3)), cp.Parameter((2, 3))
    layer = CvxpyLayer(cp.Problem(cp.Minimize(cp.sum_squares(x - b))), [b], [x])
    for shape in ((2, 3), (1, 2, 3), (5, 2, 3), (0, 2, 3)):
        given = torch.rand(shape)
        (found,) = layer(given)
        torch.testing.assert_close(found, given)
        assert layer.status.shape == shape[:-2]


def test_a_parameter_of_the_objective_alone_sets_the_batch():
    x, b = cp.Variable(2), cp.Parameter()
    layer = CvxpyLayer(cp.Problem(cp.Minimize(cp.sum_squares(x - 1) + b)), [b], [x])
    assert torch.equal(layer(torch.zeros(3))[0], torch.ones(3, 2))


def test_solver_args(monkeypatch):
    asked = []
    solve = sys.modules["qplayer_gpu.compat.cvxpylayer"].solve_qp
    monkeypatch.setattr(
        "qplayer_gpu.compat.cvxpylayer.solve_qp",
        lambda *a, **k: asked.append((k["settings"].eps_abs, k["backend"])) or solve(*a, **k),
    )
    x, b = cp.Variable(2), cp.Parameter(2)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - b)))
    layer = CvxpyLayer(problem, [b], [x], solver="MOREAU", solver_args={"eps": 1e-4})
    given = torch.ones(2)
    layer(given)
    layer(given, solver_args={"eps": 1e-12, "acceleration_lookback": 0, "backend": "torch"}, warm_start=True)
    assert asked == [(1e-4, "auto"), (1e-9, "torch")]


def test_copies():
    problem, parameters, variables, tensors = models.springs()
    layer = CvxpyLayer(problem, parameters, variables)
    (expected,) = layer(*tensors)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(*tensors)[0], expected)


def test_the_problem_is_left_alone():
    problem, parameters, variables, tensors = models.springs()
    first, second = (CvxpyLayer(problem, parameters, variables)(*tensors)[0] for _ in range(2))
    assert torch.equal(first, second)
    assert problem.status is None
    assert all(leaf.value is None for leaf in (*parameters, *problem.variables()))


x, a, b = cp.Variable(2, name="x"), cp.Parameter(2, name="a"), cp.Parameter(2, name="b")
n = cp.Variable(2, integer=True)
z = cp.Variable(2, complex=True)
WRONG = {
    "second-order": (cp.norm(x - a), [x >= 0], [a], [x], "must be a QP: it takes second-order cones"),
    "exponential": (cp.sum(cp.exp(x)) + a @ x, [], [a], [x], "must be a QP: it takes exponential cones"),
    "quadratic row": (a @ x, [cp.sum_squares(x) <= 1], [a], [x], "must be a QP: it takes second-order cones"),
    "semidefinite": (a @ x, [cp.diag(x) >> 0], [a], [x], "must be a QP: it takes semidefinite cones"),
    "integer": (a @ n, [n >= 0], [a], [n], "must be a QP: it has integer variables"),
    "complex": (cp.sum_squares(cp.real(z) - a), [], [a], [z], "must be real"),
    "not convex": (-cp.sum_squares(x - a), [], [a], [x], "must be convex by the rules of CVXPY"),
    "not DPP": (cp.sum_squares(x - cp.multiply(a, b)), [], [a, b], [x], "must be DPP"),
    "missing": (cp.sum_squares(x - a) + b @ x, [], [a], [x], "parameters must exactly match"),
    "superfluous": (cp.sum_squares(x - a), [], [a, b], [x], "parameters must exactly match"),
    "twice": (cp.sum_squares(x - a), [], [a, a], [x], "parameters must exactly match"),
    "of another": (cp.sum_squares(x - a), [], [a], [x, n], "must be a subset of problem.variables"),
    "without parameters": (cp.sum_squares(x), [], [], [x], "parameters is empty"),
    "constant": (cp.sum(a), [], [a], [], "has no variables"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_qp_is_refused_with_the_reason(case):
    cost, rows, parameters, variables, message = WRONG[case]
    with pytest.raises(ProblemError, match=message):
        CvxpyLayer(cp.Problem(cp.Minimize(cost), rows), parameters, variables)


def test_a_geometric_program_is_refused():
    with pytest.raises(ProblemError, match="gp must be False"):
        CvxpyLayer(cp.Problem(cp.Minimize(cp.sum_squares(x - a))), [a], [x], gp=True)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ([torch.ones(2)], "for each CVXPY parameter: 2, not 1"),
        ([torch.ones(2), None], "parameter b must be a torch.Tensor of floating point numbers, not NoneType"),
        ([torch.ones(2), torch.ones(2, dtype=torch.int)], "floating point numbers, not torch.int32"),
        ([torch.ones(2), torch.ones(3)], "parameter b must have shape (2,) or (B, ...) in front, not (3,)"),
        ([torch.ones(2), torch.ones(1, 3, 2)], "not (1, 3, 2)"),
        ([torch.ones(2), torch.tensor(1.0)], "not ()"),
        ([torch.ones(3, 2), torch.ones(4, 2)], "parameter b has a batch of 4, those before it one of 3"),
        ([torch.ones(2), torch.ones(2, device="meta")], "parameter b is on meta, the first on cpu"),
    ],
)
def test_wrong_calls_speak_of_the_parameters(tensors, message):
    layer = CvxpyLayer(cp.Problem(cp.Minimize(cp.sum_squares(x - a) + b @ x)), [a, b], [x])
    with pytest.raises(ProblemError, match=re.escape(message)):
        layer(*tensors)


def test_without_cvxpy(monkeypatch):
    monkeypatch.delitem(sys.modules, "qplayer_gpu.compat.canonical", raising=False)
    monkeypatch.setitem(sys.modules, "cvxpy", None)
    with pytest.raises(ImportError, match="CvxpyLayer needs CVXPY: pip install"):
        CvxpyLayer(cp.Problem(cp.Minimize(cp.sum_squares(x - a))), [a], [x])


def test_definitions_are_eliminated():
    """The residual of a regression is no variable of the QP, and its rows are none."""
    problem, parameters, variables, tensors = models.least_squares()
    layer = CvxpyLayer(problem, parameters, variables)
    vectors = [t.flatten(t.dim() - len(p.shape)) for t, p in zip(tensors, parameters, strict=True)]
    given = layer.program.arguments(vectors)
    assert given["H"].shape == (20, 20)
    assert {"A", "C"}.isdisjoint(given)
    expected = tensors[0].mT @ tensors[0] + torch.eye(20).double()
    np.testing.assert_allclose(given["H"], 2 * expected, atol=1e-12)


def test_elimination():
    """What is left of v = [x, e] is the QP of ``v = T x + t``, up to the halves of H."""
    n, k, m, sizes = 3, 2, 4, [5]

    def affine(*shape, symmetric=False):
        M = models.numbers(*shape, 6)
        M = M + M.swapaxes(0, 1) if symmetric else M
        return Affine(sp.csr_array(M.reshape(-1, 6)), shape, sizes)

    program = Program(
        affine(n, n, symmetric=True), affine(n), affine(k, n), affine(k),
        affine(k, k, symmetric=True), affine(k, n), affine(k),
        equal=None, below=Rows(affine(m, n), affine(m, k), affine(m), None), lb=None, ub=None,
    )  # fmt: skip
    p = [models.rand(2, 5)]
    P, q, D, d, P_e, P_ex, q_e = (part(p) for part in program[:7])
    T, t = torch.cat([torch.eye(n).double().expand(2, n, n), D], 1), torch.cat([torch.zeros(2, n).double(), d], 1)
    whole = torch.cat([torch.cat([P, P_ex.mT], 2), torch.cat([P_ex, P_e], 2)], 1)
    found = program.arguments(p)
    torch.testing.assert_close((found["H"] + found["H"].mT) / 2, T.mT @ whole @ T)
    expected = T.mT @ (torch.cat([q, q_e], 1).unsqueeze(-1) + whole @ t.unsqueeze(-1))
    torch.testing.assert_close(found["g"], expected.squeeze(-1))
    K, E, side = (part(p) for part in program.below[:3])
    rows = torch.cat([K, E], 2)
    torch.testing.assert_close(found["C"], rows @ T)
    torch.testing.assert_close(found["u"], -(rows @ t.unsqueeze(-1)).squeeze(-1) - side)
