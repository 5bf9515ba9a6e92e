"""A solve and its gradients ask the device nothing, so that a CUDA graph can hold them."""

import pytest
import torch
from interpreted import patch_once
from torch.utils._python_dispatch import TorchDispatchMode

import qplayer_gpu as qp
from qplayer_gpu import operators
from qplayer_gpu.kernels.interface import Options

tl = pytest.importorskip("triton.language")
launch = pytest.importorskip("qplayer_gpu.kernels.triton.launch")

GPU = torch.cuda.is_available()
if not GPU:
    patch_once()

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # of numpy, in the interpreter
    pytest.mark.usefixtures("nan_memory"),
]

BODIES = {"solve": operators.solve_operator._init_fn, "adjoint": operators.adjoint_operator._init_fn}


class NoQuestions(TorchDispatchMode):
    """Refuses what makes the host wait for a number or a shape that the device knows, in our operators too."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name
        if name.startswith("qplayer_gpu::"):
            with self:
                return BODIES[name.removeprefix("qplayer_gpu::")](*args)
        asks = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(func.tags)
        if asks or name == "aten::index_put_":
            raise AssertionError(f"{name} asks the device")
        return func(*args, **(kwargs or {}))


def problems(B):
    """With hard bounds, and two parallel rows that exclude each other in every second problem."""
    g = torch.randn(B, 2).double()
    C = torch.tensor([[1.0, 1], [-1, -1]]).double()
    u = torch.tensor([[1.0, 1], [-1, -2]]).double().repeat(B // 2, 1)
    return {"H": torch.eye(2).double(), "g": g, "C": C, "u": u, "lb": -torch.ones(2).double()}


def solve(leaves, backend, settings):
    """The answer, and the gradients of a loss on all that has one."""
    sol = qp.solve_qp(**leaves, backend=backend, settings=settings)
    loss = sol.x.square().sum() + sol.s_in.sum() + sol.z.sum()
    return sol.x, sol.z, sol.s_in, sol.status, *torch.autograd.grad(loss, list(leaves.values()))


def leaves(B):
    return {k: v.to("cuda" if GPU else "cpu").requires_grad_() for k, v in problems(B).items()}


HARD = {precision: qp.Settings(precision=precision, w_box=float("inf")) for precision in ("float64", "mixed")}


@pytest.mark.parametrize("precision", ["float64", pytest.param("mixed", marks=pytest.mark.slow)])
def test_nothing_is_asked(precision):
    with NoQuestions():
        *_, status, dH, dg, dC, du, dlb = solve(leaves(2), "triton", HARD[precision])
    assert status.tolist() == [qp.Status.SOLVED, qp.Status.SOLVED_CLOSEST_FEASIBLE]
    assert all(g.isfinite().all() for g in (dH, dg, dC, du, dlb))


def test_what_asks_is_refused():
    with pytest.raises(AssertionError, match="asks the device"), NoQuestions():
        solve(leaves(2), "torch", qp.Settings())


@pytest.mark.gpu
@pytest.mark.parametrize("precision", HARD)
def test_a_graph_replays_with_other_numbers(precision):
    inputs, stream = leaves(64), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        solve(inputs, "triton", HARD[precision])  # compiles
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = solve(inputs, "triton", HARD[precision])
    with torch.no_grad():
        for name, value in leaves(64).items():
            inputs[name].copy_(value)
    graph.replay()
    for ours, eager in zip(captured, solve(inputs, "triton", HARD[precision]), strict=True):
        torch.testing.assert_close(ours, eager, rtol=0, atol=0)


def test_a_tolerance_recompiles_nothing():
    """A number of the settings is an argument of the kernels, in double precision; no variant is made for it."""
    floats = {name for name, kind in Options.__annotations__.items() if kind == "float"}
    assert floats.isdisjoint(launch.Config._fields)
    for kernel in (launch.forward_kernel, launch.adjoint_kernel):
        taken = floats & set(kernel.arg_names)
        assert taken
        assert all(kernel.fn.__annotations__[name] is tl.float64 for name in taken)
