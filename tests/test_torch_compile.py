"""The operators under torch.library.opcheck, and torch.compile without breaks."""

import math

import families as f
import pytest
import torch
from helpers import CASES, OPTIONS, as_rows, one_matrix
from torch._dynamo.testing import CompileCounterWithBackend
from torch.func import vmap

import qplayer_gpu as qp
from qplayer_gpu import operators


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()


def tensors(rows, requires_grad=False):
    return [
        t.clone().requires_grad_(requires_grad and t.is_floating_point()) if isinstance(t, torch.Tensor) else t
        for t in rows
    ]


WEIGHTED = {"w_eq": 2.0, "w_in": torch.tensor([1.0, math.inf, 1.0, 2.0, 1.0, 3.0]).double()}
OPCHECK = {
    "feasible": CASES["feasible"][0],
    "weighted": CASES["feasible"][0] | WEIGHTED,
    "lp": one_matrix(CASES["lp"][0]),
    "positive-qp": one_matrix(CASES["positive-qp"][0]),
}


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # of opcheck itself, in PyTorch 2.14
@pytest.mark.parametrize("case", OPCHECK)
def test_opcheck_solve(case):
    rows = as_rows(OPCHECK[case])
    warm = [torch.zeros(3, k).double() for k in (rows.n, rows.m, rows.m)]
    start = warm if case == "feasible" else (None,) * 3
    torch.library.opcheck(operators.solve_operator, (*tensors(rows, True), *start, *OPTIONS, False, "torch"))


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # of opcheck itself, in PyTorch 2.14
@pytest.mark.parametrize("case", OPCHECK)
def test_opcheck_adjoint(case):
    rows = as_rows(OPCHECK[case])
    point = operators.solve(rows, None, OPTIONS, False, "torch").point
    grad = [torch.randn_like(t).requires_grad_() for t in point]
    torch.library.opcheck(operators.adjoint_operator, (*tensors(rows, True), *point, *grad, *OPTIONS, "torch"))


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
    counts = []
    for B in (3, 5, 8, 2, 11):
        same_as_eager(compiled, f.feasible(B, 6, two_sided=True, bounds=True))
        counts.append(counter.frame_count)
    assert counts[-1] == counts[0] + (0 if dynamic else 1)


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
    with pytest.raises(Exception, match="u has a batch of 4, H one of 3"):
        compiler()[0](**{**args, "u": torch.zeros(4, 6).double()})


def test_compiled_for_numbers_that_change():
    H, g = torch.eye(3).double(), torch.randn(4, 3).double()

    def solve(g, lb, w_box):
        return qp.solve_qp(H, g, lb=lb, ub=0.5, C=torch.ones(1, 3).double(), l=2.0, w_box=w_box).x

    compiled = torch.compile(solve, fullgraph=True, dynamic=True, backend="eager")
    for lb, w_box in ((-1.0, 3.0), (-0.5, 2.0), (-0.25, math.inf), (-math.inf, 0.5)):
        assert torch.equal(compiled(g, lb, w_box), solve(g, lb, w_box))


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


class Rules(torch.nn.Module):
    """A module with a layer, and a parameter that it learns."""

    def __init__(self):
        super().__init__()
        self.layer, self.A = qp.QPLayer(), torch.nn.Parameter(torch.ones(1, 4).double())

    def forward(self, g):
        solution = self.layer(torch.eye(4).double(), g, self.A, torch.ones(1).double(), lb=torch.zeros(4).double())
        return solution.x, solution.status


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning:torch", "ignore::FutureWarning:copyreg")  # raised inside torch
def test_exported_ahead_of_time(tmp_path):
    """Compiled by AOTInductor, and run for another batch size where qplayer_gpu has been imported."""
    module, g = Rules(), torch.randn(7, 4).double()
    with torch.no_grad():
        exported = torch.export.export(module, (g[:5],), dynamic_shapes=({0: torch.export.Dim("B", min=2)},))
        package = torch._inductor.aoti_compile_and_package(exported, package_path=str(tmp_path / "rules.pt2"))
        found, expected = torch._inductor.aoti_load_package(package)(g), module(g)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_the_mask_of_what_was_solved_in_a_compiled_loss():
    def loss(g):
        sol = qp.solve_qp(None, g, lb=0.0)
        return torch.where(sol.solved.unsqueeze(-1), sol.x, 1.0).sum()

    g = torch.tensor([[1.0, 2.0], [1.0, -1.0]]).double()  # the second falls without end
    found = torch.compile(loss, backend="aot_eager", fullgraph=True)(g)
    assert found == loss(g) == pytest.approx(2.0, abs=1e-8)
