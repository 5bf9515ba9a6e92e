"""What a CUDA graph cannot capture is not there: no number asked of the device, no copy between it and the host."""

from contextlib import contextmanager
from typing import get_type_hints

import pytest
import torch
from helpers import as_rows, problem
from interpreted import patch_once
from torch.utils._python_dispatch import TorchDispatchMode

import qplayer_gpu as qp
from qplayer_gpu import operators
from qplayer_gpu.kernels.interface import Options, Vectors
from qplayer_gpu.problem import rows_of, sizes_of

tl = pytest.importorskip("triton.language")
kernels = pytest.importorskip("qplayer_gpu.kernels.triton")
launch = pytest.importorskip("qplayer_gpu.kernels.triton.launch")

GPU = torch.cuda.is_available()
if not GPU:
    patch_once()

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # of numpy, in the interpreter
    pytest.mark.usefixtures("nan_memory"),
]


class Copies(TorchDispatchMode):
    """Lists the copies from one device to another."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        before = {t.device for t in args if isinstance(t, torch.Tensor)}
        if isinstance(out, torch.Tensor) and before - {out.device}:
            self.found.append(f"{function}: {before} -> {out.device}")
        return out


class Kernel:
    """Launches nothing."""

    def __getitem__(self, grid):
        return lambda *arguments, **options: None


@pytest.fixture
def device(monkeypatch):
    """In the place of a CUDA device, one whose tensors have no numbers: torch raises where one is asked for."""
    monkeypatch.setattr(launch, "forward_kernel", Kernel())
    monkeypatch.setattr(launch, "adjoint_kernel", Kernel())
    return torch.device("meta")


@pytest.mark.parametrize("start", [False, True], ids=["cold", "warm"])
def test_nothing_is_asked_of_the_device(device, start):
    def empty(*shape, device=device):
        return torch.empty(*shape, dtype=torch.float64, device=device)

    B, n, n_eq, n_in = 3, 4, 2, 5
    shapes = {
        "H": (B, n, n),
        "g": (n,),
        "A": (n_eq, n),
        "b": (B, n_eq),
        "C": (B, n_in, n),
        "l": (n_in,),
        "u": (B, n_in),
    }
    shapes |= {"lb": (n,), "ub": (B, n), "w_in": (B, n_in)}
    options = qp.Settings().options(torch.float64, device, "triton")
    sizes = sizes_of(problem({k: empty(*shape, device="cpu") for k, shape in shapes.items()}))
    with Copies() as copies:
        rows, _ = rows_of(problem({k: empty(*shape) for k, shape in shapes.items()}), sizes)
        before = Vectors(empty(B, n), empty(B, rows.m), empty(B, rows.m)) if start else None
        answer = kernels.forward(rows, options, before)
        kernels.adjoint(rows, answer.point, Vectors(*map(torch.empty_like, answer.point)), options)
    assert not copies.found


@pytest.mark.usefixtures("device")
def test_the_launch_is_on_the_device_of_the_tensors(monkeypatch):
    """Not on the current one: tests/test_gpu.py has the twin of this for two devices."""
    entered, launched = [], []

    @contextmanager
    def device_of(t):
        entered.append(t)
        yield
        entered.pop()

    class Noted(Kernel):
        def __getitem__(self, grid):
            launched.append([t is rows.g for t in entered])
            return super().__getitem__(grid)

    monkeypatch.setattr(torch.cuda, "device_of", device_of)
    for kernel in ("forward_kernel", "adjoint_kernel"):
        monkeypatch.setattr(launch, kernel, Noted())
    rows = as_rows({"g": torch.zeros(2, 3, dtype=torch.float64)})
    options = qp.Settings().options(torch.float64, rows.g.device)
    answer = kernels.forward(rows, options)
    kernels.adjoint(rows, answer.point, answer.point, options)
    assert launched == [[True], [True]]


BODIES = {"solve": operators._compute_solve, "adjoint": operators._compute_adjoint}


class NoQuestions(TorchDispatchMode):
    """Refuses what makes the host wait for a number or a shape that the device knows, in our operators too."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name
        if name.startswith("qplayer_gpu::"):
            with self:
                return BODIES[name.removeprefix("qplayer_gpu::")](*args)
        asks = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(function.tags)
        if asks or name == "aten::index_put_":
            raise AssertionError(f"{name} asks the device")
        return function(*args, **(kwargs or {}))


def solve_and_differentiate(backend):
    """Problems with two parallel rows that exclude each other in the second one: the status, and gradients."""
    C, u = [[1.0, 1], [-1, -1]], [[1.0, 1], [-1, -2]]
    args = {"H": torch.eye(2), "g": torch.randn(2, 2), "C": torch.tensor(C), "u": torch.tensor(u), "lb": -torch.ones(2)}
    leaves = {k: v.double().to("cuda" if GPU else "cpu").requires_grad_() for k, v in args.items()}
    with NoQuestions():
        sol = qp.solve_qp(**leaves, w_box=float("inf"), backend=backend)
        loss = sol.x.square().sum() + sol.s_in.sum() + sol.z.sum()
        return sol.status, torch.autograd.grad(loss, list(leaves.values()))


def test_nothing_is_asked_on_the_way_from_a_user_and_back():
    status, gradients = solve_and_differentiate("triton")
    assert status.tolist() == [qp.Status.SOLVED, qp.Status.SOLVED_CLOSEST_FEASIBLE]
    assert all(g.isfinite().all() for g in gradients)


def test_the_reference_does_ask():
    with pytest.raises(AssertionError, match="asks the device"):
        solve_and_differentiate("torch")


def test_a_tolerance_recompiles_nothing():
    """A number of the settings is an argument of the kernels, in double precision; no variant is made for it."""
    floats = {name for name, kind in get_type_hints(Options).items() if kind is float}
    assert floats.isdisjoint(launch.Config._fields)
    for kernel in (launch.forward_kernel, launch.adjoint_kernel):
        taken = floats & set(kernel.arg_names)
        assert taken
        assert all(kernel.fn.__annotations__[name] is tl.float64 for name in taken)
