"""backend="cuda" without a GPU: a CuPy that is not one takes the launches and has the library of the CPU run them."""

import ctypes
import importlib
import sys
import warnings
from contextlib import contextmanager, nullcontext
from types import ModuleType, SimpleNamespace

import families as f
import pytest
import torch
from helpers import as_rows, leaves_of, parts_of

import qplayer_gpu as qp
from qplayer_gpu import backend as backends
from qplayer_gpu.kernels import cpu
from qplayer_gpu.kernels.call import BackwardCall, ForwardCall
from qplayer_gpu.kernels.cpu.library import Threads, load_mixed
from qplayer_gpu.kernels.interface import Vectors

pytestmark = pytest.mark.usefixtures("compiler")

STREAM, SHARED_LIMIT, PROCESSORS, BLOCKS_EACH = 1234, 100_000, 3, 2
SHARED_OF_ALL, RESERVED, STATIC = 164_000, 1024, 600  # bytes: of a multiprocessor, of each block, of the kernels
CALLS = {"qplayer_forward": ForwardCall, "qplayer_backward": BackwardCall}


class Kernel:
    def __init__(self, name, options):
        self.name, self.options = name, options
        self.shared_size_bytes = STATIC
        self.max_dynamic_shared_size_bytes = 49152
        self.kernel = SimpleNamespace(ptr=id(self))


class FakeCupy(ModuleType):
    """What launch.py uses of CuPy; each launch is kept and then run by the library of the CPU."""

    def __init__(self, launch_of):
        super().__init__("cupy")
        self.kernels, self.launches, self.modules, self.events = {}, [], 0, []
        self.launch_of = launch_of
        attributes = {"MaxSharedMemoryPerBlockOptin": SHARED_LIMIT, "MultiProcessorCount": PROCESSORS}
        attributes |= {"MaxSharedMemoryPerMultiprocessor": SHARED_OF_ALL, "ReservedSharedMemoryPerBlock": RESERVED}
        self.attributes = attributes | {"ComputeCapabilityMajor": 8, "ComputeCapabilityMinor": 0}
        driver = SimpleNamespace(launchKernel=self.launch, occupancyMaxActiveBlocksPerMultiprocessor=self.occupancy)
        self.cuda = SimpleNamespace(driver=driver, Device=lambda index: SimpleNamespace(attributes=self.attributes))

    def RawModule(self, code, options):
        self.modules += 1
        assert "qplayer_forward" in code

        def get_function(name):
            kernel = Kernel(name, options)
            self.kernels[kernel.kernel.ptr] = kernel
            return kernel

        return SimpleNamespace(get_function=get_function, compile=lambda: self.events.append("compiled"))

    def occupancy(self, function, threads, shared):
        return BLOCKS_EACH

    def launch(self, function, gx, gy, gz, bx, by, bz, shared, stream, parameters, extra):
        kernel = self.kernels[function]
        assert shared <= kernel.max_dynamic_shared_size_bytes
        call_at, how_at = (ctypes.c_void_p * 2).from_address(parameters)
        call, how = CALLS[kernel.name].from_address(call_at), self.launch_of().from_address(how_at)
        assert ctypes.c_int64.from_address(how.next).value == 0
        at_once = bx * gx // int(kernel.options[1].removeprefix("-DQP_THREADS="))
        ctypes.memset(how.scratch, 0xFF, at_once * how.scratch_stride)  # there is so much
        single = "-DQP_SINGLE" in kernel.options
        run = load_mixed().qplayer_forward_mixed if single else getattr(cpu.load(), kernel.name)
        assert run(ctypes.byref(call), Threads(1, None)) == 0
        record = {"name": kernel.name, "options": kernel.options, "grid": (gx, gy, gz), "block": (bx, by, bz)}
        record |= {"shared": shared, "stream": stream, "near": how.factor_is_near, "stride": how.scratch_stride}
        record |= {"shared_stride": how.shared_stride}
        record |= {"max_iter": call.rows.options.max_iter, "again": getattr(call, "again", None)}
        self.launches.append(SimpleNamespace(**record))


@pytest.fixture
def cuda(monkeypatch):
    """The backend with a CuPy that is not one; its launches are in ``cuda.cupy.launches``."""
    for name in [name for name in sys.modules if name.startswith("qplayer_gpu.kernels.cuda")]:
        monkeypatch.delitem(sys.modules, name)
    cupy = FakeCupy(lambda: importlib.import_module("qplayer_gpu.kernels.cuda.launch").Launch)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(torch.cuda, "device", lambda index: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda index: SimpleNamespace(cuda_stream=STREAM))
    monkeypatch.setattr(backends, "obstacle", lambda *_: "")
    yield SimpleNamespace(cupy=cupy, launch=importlib.import_module("qplayer_gpu.kernels.cuda.launch"))
    for name in [name for name in sys.modules if name.startswith("qplayer_gpu.kernels.cuda")]:
        del sys.modules[name]


def solved(args, **options):
    leaves = leaves_of(args)
    sol = qp.solve_qp(**{"H": None, **leaves}, **options)
    (sol.x.sum() + sol.s_in.square().sum()).backward()
    return sol, {k: leaf.grad for k, leaf in leaves.items() if isinstance(leaf, torch.Tensor)}


CASES = {
    "feasible": (f.feasible(7, 5, two_sided=True, bounds=True), {}),
    "lp": (f.lp(3, 4), {}),
    "no-rows": ({"H": torch.eye(3).double(), "g": torch.ones(2, 3).double()}, {}),
    "shared": (f.shared(f.overdetermined(3, 4), "H", "A", "C", "u"), {}),
    "hard": (f.overdetermined(3, 4), {"w_in": float("inf")}),
}


@pytest.mark.parametrize("precision", ["float64", "mixed"])
@pytest.mark.parametrize("case", CASES)
def test_the_kernels_get_what_those_of_the_cpu_get(cuda, case, precision):
    args, weights = CASES[case]
    args, settings = args | weights, qp.Settings(precision=precision)
    ours, gradients = solved(args, settings=settings, backend="cuda")
    theirs, expected = solved(args, settings=settings, backend="cpu")
    for a, b in zip(parts_of(ours).values(), parts_of(theirs).values(), strict=True):
        assert a is ours.info or torch.equal(a, b)
    for k in expected:  # sums in another order
        torch.testing.assert_close(gradients[k], expected[k], rtol=1e-12, atol=1e-13)
    names = [launch.name for launch in cuda.cupy.launches]
    assert names == ["qplayer_forward"] * (2 if precision == "mixed" else 1) + ["qplayer_backward"]
    assert all(launch.stream == STREAM for launch in cuda.cupy.launches)


def test_a_warm_start(cuda):
    args = f.feasible(3, 4)
    cold = qp.solve_qp(**args, backend="cuda")
    warm = qp.solve_qp(**args, backend="cuda", warm_start=cold)
    assert (warm.info.iterations < cold.info.iterations).all()


def test_mixed_precision_goes_on_in_double(cuda):
    args = f.feasible(2, 4)
    qp.solve_qp(**args, settings=qp.Settings(precision="mixed", max_iter=1000), backend="cuda")
    first, second = cuda.cupy.launches
    assert (first.max_iter, first.again, second.max_iter, second.again) == (200, 0, 800, 1)
    assert "-DQP_SINGLE" in first.options
    assert "-DQP_SINGLE" not in second.options
    qp.solve_qp(**args, settings=qp.Settings(precision="mixed", max_iter=50), backend="cuda")
    assert [launch.max_iter for launch in cuda.cupy.launches[2:]] == [50]


def test_one_process_compiles_a_variant_at_a_time(cuda, monkeypatch):
    @contextmanager
    def locked(stem):
        cuda.cupy.events.append(stem.removeprefix(f"nvrtc_{source.digest()}_"))
        yield
        cuda.cupy.events.append("free")

    monkeypatch.setattr(cuda.launch, "locked", locked)
    source = importlib.import_module("qplayer_gpu.kernels.cuda.source")
    for n in (2, 2, 32):
        qp.solve_qp(torch.eye(n).double(), torch.ones(n).double(), backend="cuda")
    compiled = (event for k in (8, 32) for event in (f"qplayer_forward_{k}_False", "compiled", "free"))
    assert cuda.cupy.events == list(compiled)


@pytest.mark.parametrize("minor", [0, 6], ids=["sm_80", "sm_86"])
@pytest.mark.parametrize(
    ("n", "threads"), [(1, 8), (8, 8), (9, 32), (32, 32), (33, 64), (64, 64), (65, 128), (129, 256), (256, 256)]
)
def test_a_problem_has_threads_by_n(cuda, n, threads, minor):
    cuda.cupy.attributes["ComputeCapabilityMinor"] = minor
    qp.solve_qp(torch.eye(n).double(), torch.ones(2, n).double(), backend="cuda")
    (launch,) = cuda.cupy.launches
    assert launch.block == (max(threads, 32), 1, 1)
    assert f"-DQP_THREADS={threads}" in launch.options
    # the factor in shared memory wherever it fits beside 2 KB: by blocks of 8 x 8 for tensor cores, else n (n + 2)
    # numbers of 8 bytes, n rounded up to 4
    padded, tiles = -(-n // 4) * 4, -(-n // 8)
    other, factor = 8 * (padded * 19 + 16), 8 * padded * (padded + 2)
    tensor = minor == 0 and n > 8
    assert ("-DQP_TENSOR" in launch.options) == tensor
    if tensor:
        other, factor = 64 * tiles, 512 * tiles * (tiles + 1) // 2
    near = other + factor + 2048 <= SHARED_LIMIT
    assert launch.near == near
    least = other + near * factor
    room = SHARED_OF_ALL // BLOCKS_EACH // 128 * 128 - RESERVED - STATIC  # with as many blocks at once as need be
    assert launch.shared_stride == max(least, min(room // (4 if n <= 8 else 1) // 16 * 16, least + launch.stride))
    assert launch.shared == (4 if n <= 8 else 1) * launch.shared_stride
    assert launch.stride % 16 == 0
    assert launch.stride >= 8 * 23 * n + 8 * n * (n + 1) + (not near) * factor


@pytest.mark.parametrize(
    ("n", "batch", "blocks"),
    [
        (9, 1, 1),
        (9, 6, 6),
        (9, 100, PROCESSORS * BLOCKS_EACH),
        (2, 4, 1),
        (2, 5, 2),
        (2, 100, PROCESSORS * BLOCKS_EACH),
    ],
)
def test_no_more_blocks_than_run_at_once(cuda, n, batch, blocks):
    qp.solve_qp(None, torch.ones(batch, n).double(), lb=torch.zeros(n).double(), backend="cuda")
    (launch,) = cuda.cupy.launches
    assert launch.grid == (blocks, 1, 1)


def test_a_variant_is_compiled_once(cuda):
    for _ in range(2):
        solved(f.feasible(2, 4), backend="cuda")
    assert cuda.cupy.modules == 2  # forward and adjoint


def test_an_empty_batch_launches_nothing(cuda):
    assert qp.solve_qp(torch.eye(2).double(), torch.ones(0, 2).double(), backend="cuda").x.shape == (0, 2)
    assert not cuda.cupy.launches


@pytest.mark.parametrize(("n", "bounds"), [(257, {}), (256, {"C": torch.ones(257, 256).double(), "u": 1.0, "lb": 0.0})])
def test_larger_problems_are_refused_by_name(cuda, n, bounds):
    args = {"H": torch.eye(n).double(), "g": torch.ones(1, n).double()} | bounds
    with pytest.raises(qp.BackendError, match="'cuda' cannot take these problems: it takes 256 variables and 512 rows"):
        qp.solve_qp(**args, backend="cuda")
    assert not cuda.cupy.launches


def test_the_source_needs_no_other_file(cuda):
    source = importlib.import_module("qplayer_gpu.kernels.cuda.source")
    text = source.source()
    assert '#include "' not in text
    assert text.count("struct Solver") == text.count("struct Forward {") == text.count("MU_FLOOR =") == 1


def test_the_backend_says_what_it_wants(monkeypatch):
    rows = as_rows(f.feasible(1, 2))
    monkeypatch.setattr(backends, "_why_no_package", backends._why_no_package.__wrapped__)
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(qp.BackendError, match=r"install cupy \(pip install 'cupy-cuda13x>=13'\)"):
        backends.select("cuda", rows, False)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    assert "cupy-cuda12x" in backends.obstacle("cuda", torch.device("cuda", 0))
    monkeypatch.setattr(backends, "_why_no_package", lambda *_: "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(qp.BackendError, match="'cuda' cannot run here: there is no CUDA device"):
        backends.select("cuda", rows, False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(qp.BackendError, match="the tensors are on cpu; move them to a CUDA device"):
        backends.select("cuda", rows, False)
    assert backends.obstacle("cuda", torch.device("cuda", 0)) == ""


@pytest.fixture
def rows_on_a_gpu(monkeypatch):
    """Of sizes that are asked for, on a device on which nothing has been tried."""
    backends._fall_back.cache_clear()
    monkeypatch.setattr(backends, "record", lambda *_: "")
    monkeypatch.setattr(backends, "verdicts", lambda _: SimpleNamespace(wrong={}, unable={}))
    monkeypatch.setattr(backends, "obstacle", lambda *_: "")
    return lambda n, m: SimpleNamespace(n=n, m=m, g=SimpleNamespace(device=torch.device("cuda", 0)))


@pytest.mark.parametrize(
    ("n", "m", "expected", "otherwise"),
    [
        (8, 16, "cuda", "triton"),
        (64, 256, "cuda", "triton"),
        (64, 257, "cuda", "torch"),
        (65, 8, "cuda", "torch"),
        (256, 512, "cuda", "torch"),
        (257, 8, "torch", "torch"),
        (8, 513, "torch", "torch"),
    ],
)
def test_the_table_of_auto_for_a_cuda_device(monkeypatch, rows_on_a_gpu, n, m, expected, otherwise):
    """With all that it takes; otherwise without CuPy, or where the CUDA kernels are wrong or do not run."""
    rows = rows_on_a_gpu(n, m)
    assert backends.fastest(rows) == expected
    for found in ({"wrong": {"cuda": "why"}, "unable": {}}, {"wrong": {}, "unable": {"cuda": "why"}}):
        monkeypatch.setattr(backends, "verdicts", lambda _, found=found: SimpleNamespace(**found))
        assert backends.fastest(rows) == otherwise
    monkeypatch.setattr(backends, "verdicts", lambda _: SimpleNamespace(wrong={}, unable={}))
    monkeypatch.setattr(backends, "obstacle", lambda name, _: "install cupy" if name == "cuda" else "")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert backends.fastest(rows) == otherwise
    assert ["install cupy" in str(w.message) for w in said] == [True] * (expected != otherwise == "torch")


def test_auto_says_what_all_its_kernels_for_gpus_lack(monkeypatch, rows_on_a_gpu):
    monkeypatch.setattr(backends, "obstacle", lambda name, _: f"install what {name} needs")
    with pytest.warns(UserWarning, match="slow: install what cuda needs or install what triton needs"):
        assert backends.fastest(rows_on_a_gpu(8, 16)) == "torch"
    monkeypatch.setattr(backends, "passed", lambda _: {"triton": 0, "cuda": 0})  # by the trial
    assert backends.fastest(rows_on_a_gpu(8, 16)) == "torch"


def test_a_package_that_cannot_be_imported_is_no_error_of_auto(monkeypatch, tmp_path):
    """As CuPy without the libraries of CUDA."""
    (tmp_path / "halfinstalled.py").write_text("raise ImportError('libcudart is missing')")
    monkeypatch.syspath_prepend(tmp_path)
    why = backends._why_no_package("halfinstalled", "halfinstalled>=2")
    assert why == (
        "halfinstalled is there and cannot be imported (libcudart is missing); "
        "install halfinstalled (pip install 'halfinstalled>=2')"
    )


def moved(args):
    return {k: None if v is None else v.cuda() for k, v in args.items()}


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float64", "mixed"])
@pytest.mark.parametrize("n", [1, 16, 33, 64, 100, 200])
@pytest.mark.parametrize("family", [f.feasible, f.lp, f.overdetermined])
def test_forward_and_gradients_are_the_reference_s(family, n, precision):
    args, settings = moved(family(64, n)), qp.Settings(precision=precision)
    (ours, gradients), (theirs, expected) = (solved(args, settings=settings, backend=b) for b in ("cuda", "torch"))
    assert ours.status.tolist() == theirs.status.tolist()
    torch.testing.assert_close(ours.x, theirs.x, rtol=1e-7, atol=1e-7)
    for k in expected:
        assert (gradients[k] - expected[k]).norm() <= 1e-6 * expected[k].norm(), k


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float64", "mixed"])
def test_nothing_waits_for_the_device(precision):
    args, settings = moved(f.feasible(64, 16, two_sided=True)), qp.Settings(precision=precision)
    solved(args, settings=settings, backend="cuda")  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        solved(args, settings=settings, backend="cuda")
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_on_any_stream_and_in_a_cuda_graph():
    """Nothing waits for the host: forward and backward can be captured, and replayed with other data."""
    kernels = importlib.import_module("qplayer_gpu.kernels.cuda")
    rows = as_rows(moved(f.feasible(64, 16, two_sided=True)))
    options = qp.Settings().options(torch.float64, rows.g.device)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        eager = kernels.forward(rows, options, None)
        grad = Vectors(torch.ones_like(eager.x), torch.zeros_like(eager.z), torch.zeros_like(eager.s))
        eager_adjoint = kernels.adjoint(rows, eager.point, grad, options)
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        answer = kernels.forward(rows, options, None)
        adjoint = kernels.adjoint(rows, answer.point, grad, options)
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(answer.x, eager.x)
    assert torch.equal(adjoint.b_x, eager_adjoint.b_x)
    rows.g.neg_()
    graph.replay()
    torch.cuda.synchronize()
    torch.testing.assert_close(answer.x, kernels.forward(rows, options, None).x, rtol=0, atol=0)
