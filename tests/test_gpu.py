"""The layer on a GPU, through what users call, at sizes that want one; smaller on a CPU, so that the tests are tried.

On a GPU it is each backend for GPUs that runs there beside "torch"; on a CPU the compiled kernels.
"""

import families as f
import pytest
import torch

import qplayer_gpu as qp
from qplayer_gpu import backend as backends

GPU = [pytest.param(name, marks=pytest.mark.gpu) for name in backends.LAZY]
BATCH = {"cpu": 8, "cuda": 4096}
SIZES = [1, 3, 8, 17, 33, 64]
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])

# Solved to 1e-9 by either backend; in float64 they were within 1e-11 of each other, their gradients within 3e-9, for
# a thousand problems of each case on a CPU. Float32 arguments are rounded answers, and may have factors in float32.
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-6}
GRADIENT_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}
# There is no derivative where a row is active with a multiplier near zero, and a poor one from factors in float32 where
# the rows that are shifted nearly depend on each other: for one problem in a hundred with n = 3.
SHARE = {torch.float64: 0.999, torch.float32: 0.98}
EXACT = qp.Settings(precision="float64")


@pytest.fixture(params=["cpu", *GPU])
def where(request):
    """The device and the backend."""
    if request.param == "cpu":
        request.getfixturevalue("compiler")
        return "cpu", "cpu"
    return "cuda", request.param


@pytest.fixture(params=backends.LAZY)
def on_gpu(request):
    """The backend, where nothing is tried on a CPU."""
    return request.param


def infeasible(B, n):
    """Half-spaces that exclude each other, about as many as the feasible problems have rows."""
    return f.excluding_halfspaces(B, n, extra=n // 4)


def mixed(B, n):
    """Every other problem is infeasible."""
    args = infeasible(B, n)
    args["u"][::2] = args["u"][::2].abs()  # the origin is inside
    return args


def rows_256(B, n):
    """With bounds, 256 rows."""
    args = f.feasible(B, n, two_sided=True, bounds=True)
    more = 256 - n - n // 4 - n
    C = torch.randn(B, more, n, dtype=torch.float64)
    x = (args["lb"] + args["ub"]) / 2
    wide = f.times(C, x) + 4 * C.norm(dim=-1)
    return args | {
        "C": torch.cat([args["C"], C], 1),
        "u": torch.cat([args["u"], wide], 1),
        "l": torch.cat([args["l"], torch.full_like(wide, -torch.inf)], 1),
    }


FAMILIES = {"feasible": f.feasible, "infeasible": infeasible, "mixed": mixed, "lp": f.lp}
CASES = {f"{name}-{n}": (make, n) for n in SIZES for name, make in FAMILIES.items()} | {"rows_256-64": (rows_256, 64)}
LARGEST_ON_CPU = 17


def moved(args, device, dtype=torch.float64):
    return {k: v if v is None else v.to(device, dtype) for k, v in args.items()}


def solved(args, backend, **options):
    """The answer and the gradients of a loss that looks at x and at the shifts."""
    leaves = {k: v if v is None else v.clone().requires_grad_() for k, v in args.items()}
    sol = qp.solve_qp(**{"H": None, **leaves}, backend=backend, **options)
    loss(sol).backward()
    return sol.detach(), {k: leaf.grad for k, leaf in leaves.items() if leaf is not None}


def loss(sol):
    weights = torch.linspace(-1, 1, sol.x.shape[-1], dtype=sol.x.dtype, device=sol.x.device)
    return (weights * sol.x).sum() + sol.s_in.square().sum() + sol.s_eq.square().sum()


def apart(ours, theirs):
    """The largest difference of each problem, relative to its largest entry: [B]."""
    ours, theirs = (t.reshape(len(t), -1).double() for t in (ours, theirs))
    if ours.shape[1] == 0:
        return torch.zeros(len(ours))
    return (ours - theirs).abs().amax(1) / (1 + theirs.abs().amax(1))


@DTYPES
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.gpu if n > LARGEST_ON_CPU else ()) for case, (_, n) in CASES.items()]
)
def test_as_the_reference(case, dtype, where):
    device, backend = where
    make, n = CASES[case]
    args = moved(make(BATCH[device], n), device, dtype)
    (ours, gradients), (theirs, expected) = solved(args, backend), solved(args, "torch", settings=EXACT)
    assert torch.equal(ours.status, theirs.status)
    assert (ours.status <= qp.Status.SOLVED_CLOSEST_FEASIBLE).all()
    for name in ("x", "s_eq", "s_in", "s_box"):
        assert apart(getattr(ours, name), getattr(theirs, name)).max() <= TOLERANCE[dtype], name
    differences = [apart(gradients[k], expected[k]) for k in expected if len(expected[k]) == BATCH[device]]
    assert (torch.stack(differences).amax(0) <= GRADIENT_TOLERANCE[dtype]).double().mean() >= SHARE[dtype]


@DTYPES
def test_shared_matrices_get_the_sum_of_their_gradients(dtype, where):
    device, backend = where
    args = moved(f.shared(f.feasible(BATCH[device], 8), "H", "A", "C"), device, dtype)
    (_, ours), (_, theirs) = solved(args, backend), solved(args, "torch", settings=EXACT)
    for name in args:
        largest = theirs[name].abs().max().item()
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=GRADIENT_TOLERANCE[dtype] * (1 + largest))


def same_bits(ours, theirs):
    torch.utils._pytree.tree_map(lambda a, b: torch.testing.assert_close(a, b, rtol=0, atol=0), ours, theirs)


@DTYPES
def test_the_same_inputs_give_the_same_bits(dtype, where):
    device, backend = where
    args = moved(mixed(BATCH[device], 17), device, dtype)
    first = solved(args, backend)
    torch.use_deterministic_algorithms(True)
    try:
        for _ in range(3):
            same_bits(solved(args, backend), first)
    finally:
        torch.use_deterministic_algorithms(False)


@DTYPES
def test_a_problem_does_not_depend_on_its_batch(dtype, where):
    """Alone, it has the bits that it has among others."""
    device, backend = where
    args = moved(mixed(BATCH[device], 8), device, dtype)
    together, _ = solved(args, backend)
    for i in (0, 1, BATCH[device] - 1):
        alone, _ = solved({k: v[i : i + 1] for k, v in args.items()}, backend)
        assert torch.equal(alone.x[0], together.x[i])


def test_autocast(where):
    device, backend = where
    args = moved(f.feasible(BATCH[device], 8), device, torch.bfloat16)
    low = {k: v.requires_grad_() for k, v in args.items()}
    single = {k: v.detach().float() for k, v in low.items()}
    with torch.autocast(device, dtype=torch.bfloat16):
        sol = qp.solve_qp(**low, backend=backend)
    assert sol.x.dtype == torch.float32
    expected, gradients = solved(single, backend)
    same_bits(sol.detach(), expected)
    loss(sol).backward()
    for name, gradient in gradients.items():
        assert torch.equal(low[name].grad, gradient.bfloat16())


@pytest.mark.gpu
@pytest.mark.parametrize("dynamic", [None, True], ids=["static", "dynamic"])
def test_compiled_to_cuda_graphs_or_beside_them(dynamic, on_gpu):
    """The answers are those of eager mode, call after call, for new data and for a new batch; see test_inductor."""
    torch._dynamo.reset()
    layer = qp.QPLayer(backend=on_gpu)
    compiled = torch.compile(layer, fullgraph=True, mode="reduce-overhead", dynamic=dynamic)
    for B in (64, 64, 64, 32, 64):
        args = moved(mixed(B, 8), "cuda")
        args["g"] = args["g"] * torch.rand(1).item()
        leaves = {k: v.clone().requires_grad_() for k, v in args.items()}
        torch.compiler.cudagraph_mark_step_begin()
        sol = compiled(**leaves)
        loss(sol).backward()
        expected, gradients = solved(args, on_gpu)
        torch.testing.assert_close(sol.x.detach(), expected.x, rtol=1e-9, atol=1e-9)
        for name, gradient in gradients.items():
            torch.testing.assert_close(leaves[name].grad, gradient, rtol=1e-7, atol=1e-7)


def captured(work, device):
    """A function that repeats the work, from a CUDA graph; on a CPU the work itself."""
    if device == "cpu":
        return work
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        work()  # compiles, and allocates what lives on
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


@DTYPES
def test_a_training_step_in_a_cuda_graph(dtype, where):
    """Forward and backward captured once and replayed on changed inputs: the bits of eager mode."""
    device, backend = where
    first, *others = (moved(make(BATCH[device], 8), device, dtype) for make in (mixed, infeasible, mixed))
    others[-1]["g"] = others[-1]["g"] + 1
    leaves = {k: v.clone().requires_grad_() for k, v in first.items()}
    results = {}

    def step():
        sol = qp.solve_qp(**leaves, backend=backend)
        gradients = torch.autograd.grad(loss(sol), list(leaves.values()))
        results.update(zip(leaves, gradients, strict=True), x=sol.x.detach(), status=sol.status)

    replay = captured(step, device)
    for args in (first, *others):
        with torch.no_grad():
            for k, leaf in leaves.items():
                leaf.copy_(args[k])
        replay()
        sol, gradients = solved(args, backend)
        same_bits(results, gradients | {"x": sol.x, "status": sol.status})


@pytest.mark.gpu
@DTYPES
def test_two_streams(dtype, on_gpu):
    """Solves on streams of their own do not disturb each other."""
    problems = [moved(make(BATCH["cuda"], n), "cuda", dtype) for make in (f.feasible, mixed) for n in (8, 17)]
    expected = [solved(args, on_gpu) for args in problems]
    streams = [torch.cuda.Stream() for _ in problems]
    torch.cuda.synchronize()
    for _ in range(5):
        found = []
        for args, stream in zip(problems, streams, strict=True):
            with torch.cuda.stream(stream):
                found.append(solved(args, on_gpu))
        torch.cuda.synchronize()
        same_bits(found, expected)


@pytest.mark.gpus
def test_tensors_on_another_device_than_the_current(on_gpu):
    args = f.feasible(16, 8)
    there = qp.solve_qp(**moved(args, "cuda:1"), backend=on_gpu)
    assert there.x.device == torch.device("cuda:1")
    assert torch.equal(there.x.cpu(), qp.solve_qp(**moved(args, "cuda:0"), backend=on_gpu).x.cpu())
