"""The operators under torch.library.opcheck, and torch.compile without breaks."""

import families as f
import pytest
import torch
from test_gradients import CASES, one_matrix
from torch._dynamo.testing import CompileCounterWithBackend
from torch.func import vmap

import qplayer_gpu as qp
from qplayer_gpu import operators
from qplayer_gpu.problem import Parameters, Problem

SETTINGS = qp.Settings().text


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()


def parameters(args, requires_grad=False):
    values = (args.get(name) for name in Parameters._fields)
    return Parameters(*(None if v is None else v.clone().requires_grad_(requires_grad) for v in values))


@pytest.mark.parametrize(("case", "shared"), [("feasible", False), ("lp", True), ("positive-qp", True)])
def test_opcheck_solve(case, shared):
    args = one_matrix(CASES[case][0]) if shared else CASES[case][0]
    sizes = Problem.of(parameters(args), qp.Settings()).rows
    cold, warm = (None,) * 3, [torch.zeros(3, k).double() for k in (sizes.n, sizes.m, sizes.m)]
    start = warm if case == "feasible" else cold
    torch.library.opcheck(operators.solve_operator, (*parameters(args, True), *start, SETTINGS, "torch"))


@pytest.mark.parametrize(("case", "shared"), [("feasible", False), ("lp", True), ("positive-qp", True)])
def test_opcheck_adjoint(case, shared):
    args = one_matrix(CASES[case][0]) if shared else CASES[case][0]
    given = parameters(args)
    rows = Problem.of(given, qp.Settings()).rows
    x, z, s, status, *_ = operators.solve_operator(*given, None, None, None, SETTINGS, "torch")
    H, A, C = (None if M is None else M.clone().requires_grad_() for M in (rows.H, rows.A, rows.C))
    seeds = [torch.randn_like(t).requires_grad_() for t in (x, z, s)]
    at = (x, z, s, status, *seeds)
    arguments = (H, rows.g, A, C, rows.lo, rows.hi, rows.w, rows.hard, *at, SETTINGS, "torch")
    torch.library.opcheck(operators.adjoint_operator, arguments)


def test_settings_travel_as_text():
    settings = qp.Settings(eps_abs=1e-7, max_iter=17, gradient_on_failure=True, w_in=[1.0, float("inf")], w_eq=2.5)
    assert qp.Settings.of(settings.text) == settings


def test_operators_stay_out_of_cuda_graphs():
    for operator in (torch.ops.qplayer_gpu.solve, torch.ops.qplayer_gpu.adjoint):
        assert torch.Tag.cudagraph_unsafe in operator.default.tags


def backward(solution, outputs):
    sum(getattr(solution, k).square().sum() for k in outputs).backward()


def same_as_eager(compiled, args, outputs=("x",), **options):
    """Whether the compiled layer gives the bits of the eager one, forward and backward."""
    runs = []
    for layer in (compiled, qp.QPLayer()):
        leaves = {k: None if v is None else v.clone().requires_grad_() for k, v in args.items()}
        solution = layer(**leaves, **options)
        backward(solution, outputs)
        runs.append([solution, {k: v.grad for k, v in leaves.items() if v is not None}])
    torch.utils._pytree.tree_map(lambda a, b: torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12), *runs)


def compiler(**options):
    counter = CompileCounterWithBackend("aot_eager")
    return torch.compile(qp.QPLayer(), backend=counter, fullgraph=True, **options), counter


SHARED = [(case, False) for case in CASES] + [("feasible", True), ("positive-lp", True)]


@pytest.mark.parametrize(("case", "shared"), SHARED)
def test_compiled_without_breaks(case, shared):
    args, _, outputs = CASES[case]
    compiled, counter = compiler()
    same_as_eager(compiled, one_matrix(args) if shared else args, outputs)
    assert counter.frame_count == 1


@pytest.mark.parametrize("dynamic", [None, True], ids=["automatic", "dynamic"])
def test_no_recompilation_for_a_new_batch_size(dynamic):
    compiled, counter = compiler(dynamic=dynamic)
    for B in (3, 5, 8, 2, 11):
        same_as_eager(compiled, f.feasible(B, 6, two_sided=True, bounds=True))
    assert counter.frame_count == (1 if dynamic else 2)


def test_no_recompilation_for_a_new_batch_size_where_matrices_are_shared():
    compiled, counter = compiler()
    for B in (3, 5, 8, 2, 11):
        same_as_eager(compiled, one_matrix(f.positive_equalities(B, 6, 4, H=True)))
    assert counter.frame_count == 2


def test_compiled_float32_and_unbatched():
    args = {k: v.float() for k, v in CASES["feasible"][0].items()}
    same_as_eager(compiler()[0], args)
    same_as_eager(compiler()[0], {k: v[0] for k, v in CASES["feasible"][0].items()})


def test_compiled_with_a_warm_start_and_settings():
    args = CASES["feasible"][0]
    start = qp.solve_qp(**args)
    same_as_eager(compiler()[0], args, warm_start=start)
    layer = qp.QPLayer(qp.Settings(max_iter=2))
    for call in (layer, lambda **args: qp.solve_qp(**args, settings=qp.Settings(max_iter=2))):
        solution = torch.compile(call, backend="aot_eager", fullgraph=True)(**args)
        assert (solution.status == qp.Status.MAX_ITERATIONS).all()


def test_compiled_code_sees_new_settings():
    args = CASES["feasible"][0]
    compiled, counter = compiler()
    assert (compiled(**args).status == qp.Status.SOLVED).all()
    compiled.settings = qp.Settings(max_iter=2)
    assert (compiled(**args).status == qp.Status.MAX_ITERATIONS).all()
    assert counter.frame_count == 2


def test_compiled_errors_are_those_of_eager_mode():
    args = CASES["feasible"][0]
    with pytest.raises(Exception, match="batch of 4, the arguments before it one of 3"):
        compiler()[0](**{**args, "u": torch.zeros(4, 6).double()})


def test_compiled_among_other_operators():
    network = torch.nn.Linear(4, 6).double()
    bound = torch.ones(6).double()

    def model(features, layer):
        x = layer(None, network(features).tanh(), lb=-bound, ub=bound, C=bound.unsqueeze(0), u=bound[:1]).x
        return x.square().sum()

    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    features = torch.randn(7, 4).double()
    runs = []
    for run in (model, compiled):
        network.zero_grad()
        run(features, qp.QPLayer()).backward()
        runs.append(network.weight.grad.clone())
    torch.testing.assert_close(*runs, rtol=1e-12, atol=1e-12)


def test_vmap_inside_torch_compile():
    """grad inside torch.compile is out of reach: PyTorch's custom operators do not go through it (2.13)."""
    args = {k: v[0] for k, v in CASES["feasible"][0].items()}
    g = torch.randn(4, 6).double()
    mapped = vmap(lambda g: qp.solve_qp(**{**args, "g": g}))
    torch.testing.assert_close(torch.compile(mapped, backend="aot_eager", fullgraph=True)(g).x, mapped(g).x)


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_inductor(dynamic):
    compiled = torch.compile(qp.QPLayer(), fullgraph=True, dynamic=dynamic)
    for case in ("feasible", "positive-qp"):
        args, _, outputs = CASES[case]
        same_as_eager(compiled, args, outputs)
