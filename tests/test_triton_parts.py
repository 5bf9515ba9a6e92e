"""The device functions alone, against torch.linalg."""

import inspect
import re
from pathlib import Path

import pytest
import torch
from interpreted import patch_once

from qplayer_gpu.kernels import numbers
from qplayer_gpu.kernels.reference.newton import exact_line_search

triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")
launch = pytest.importorskip("qplayer_gpu.kernels.triton.launch")
newton = pytest.importorskip("qplayer_gpu.kernels.triton.newton")
problem = pytest.importorskip("qplayer_gpu.kernels.triton.problem")
products = pytest.importorskip("qplayer_gpu.kernels.triton.products")
scratch = pytest.importorskip("qplayer_gpu.kernels.triton.scratch")
slots = pytest.importorskip("qplayer_gpu.kernels.triton.slots")
system = pytest.importorskip("qplayer_gpu.kernels.triton.system")
vectors = pytest.importorskip("qplayer_gpu.kernels.triton.vectors")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZES = [1, 3, 7, 17, 33]

if DEVICE == "cpu":
    patch_once()


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64).to(DEVICE)


def definite(B, n, damping=0.1):
    M = random(B, n, n)
    return M @ M.mT / n + damping * torch.eye(n, dtype=torch.float64, device=DEVICE)


def scratch_of(B, cfg):
    """Zeros, and the vectors of columns and of rows among them: [B, COLUMNS, N], [B, ROWS, M]."""
    memory = torch.zeros(B, scratch.scratch_size(cfg.N, cfg.M), dtype=torch.float64, device=DEVICE)
    split, end = slots.COLUMNS * cfg.N, scratch.vectors_size(cfg.N, cfg.M)
    return memory, memory[:, :split].unflatten(1, (-1, cfg.N)), memory[:, split:end].unflatten(1, (-1, cfg.M))


def test_the_page_has_the_size_of_the_scratch():
    page = (Path(__file__).parents[1] / "docs" / "kernels.md").read_text()
    columns, rows, numbers_of, kilobytes = re.search(
        r"8 \((\d+) N \+ (\d+) M \+ N² \+ (\d+)\) bytes, .* which is (\d+) kB at n = 64\s+with 128 rows", page
    ).groups()
    assert (int(columns), int(rows), int(numbers_of)) == (slots.COLUMNS, slots.ROWS, slots.NUMBERS)
    assert int(kilobytes) == round(8 * scratch.scratch_size(64, 128) / 1000)


def arrays_of(H, A, C):
    """With any of the kernels' arrays for the vectors, which are not read."""
    return problem.Arrays(H, H, A, C, H, H, H, H)


@triton.jit
def assembly_kernel(arrays, memory, K_ptr, order, n_eq, n_in, cfg: tl.constexpr):
    """G x, G'z, and K [B, N, N] = H / 2 + diag(P) + G' diag(t) G of matrices that all have a batch."""
    b = tl.program_id(0).to(tl.int64)
    data = problem.data_of(arrays, memory, b, b, 255, order, n_eq, n_in, cfg)
    products.row_product(data, slots.X, slots.GX, cfg)
    products.write_columns(data, scratch.rows_at(data, slots.Z, cfg), cfg)
    diagonal = scratch.column_vector(data, slots.METRIC_X, cfg)
    K = products.assembled(data, tl.sum(0.0 * diagonal, axis=0) + 0.5, diagonal, cfg)
    index = tl.arange(0, cfg.N)
    tl.store(K_ptr + b * cfg.N * cfg.N + (index[:, None] * cfg.N + index[None, :]), K)


@pytest.mark.parametrize("bounded", [False, True], ids=["", "bounded"])
@pytest.mark.parametrize("n", SIZES)
def test_products(n, bounded):
    B, n_eq, n_in = 2, 5, n + 2
    m = n_eq + n_in + n * bounded
    H, A, C = definite(B, n), random(B, n_eq, n), random(B, n_in, n)
    x, P, z = random(B, n), random(B, n).abs(), random(B, m)
    w = random(B, m).relu()  # half of them zero, as of rows that are not active
    cfg = problem.Config(n, launch.padded(n), launch.padded(m), 4, True, bounded, "")
    memory, columns, rows = scratch_of(B, cfg)
    for place, value in ((slots.X, x), (slots.METRIC_X, P)):
        columns[:, place, :n] = value
    for place, value in ((slots.Z, z), (slots.ROW_WEIGHT, w)):
        rows[:, place, :m] = value
    K = torch.full((B, cfg.N, cfg.N), torch.nan, dtype=torch.float64, device=DEVICE)
    assembly_kernel[(B,)](arrays_of(H, A, C), memory, K, n, n_eq, n_in, cfg, num_warps=4)
    K, Gx, Gz = K[:, :n, :n], rows[:, slots.GX, :m], columns[:, slots.GZ, :n]
    eye = torch.eye(n, dtype=torch.float64, device=DEVICE).expand(B, -1, -1)
    G = torch.cat([A, C, eye[:, : n * bounded]], 1)
    close = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(Gx, (G @ x.unsqueeze(-1)).squeeze(-1), **close)
    torch.testing.assert_close(Gz, (G.mT @ z.unsqueeze(-1)).squeeze(-1), **close)
    torch.testing.assert_close(K, 0.5 * H + torch.diag_embed(P) + G.mT @ (w.unsqueeze(-1) * G), **close)


@triton.jit
def line_search_kernel(slope_ptr, curvature_ptr, v_ptr, w_ptr, lo_ptr, hi_ptr, omega_ptr, alpha_ptr, M: tl.constexpr):
    """One program for each row of [B, M]."""
    b = tl.program_id(0).to(tl.int64)
    at = b * M + tl.arange(0, M)
    v, w, lo, hi = tl.load(v_ptr + at), tl.load(w_ptr + at), tl.load(lo_ptr + at), tl.load(hi_ptr + at)
    slope, curvature, omega = tl.load(slope_ptr + b), tl.load(curvature_ptr + b), tl.load(omega_ptr + at)
    tl.store(alpha_ptr + b, newton.exact_line_search(slope, curvature, v, w, lo, hi, omega))


def test_line_search():
    B, m = 12, 7
    M = triton.next_power_of_2(m)
    v, w, weight = random(B, M), random(B, M), random(B, M).abs() + 0.1
    lo, hi = -random(B, M).abs(), random(B, M).abs()
    lo[:, ::3], hi[:, 1::3] = -torch.inf, torch.inf
    curvature = random(B).abs()
    start = (weight * w * (v - v.clamp(lo, hi))).sum(-1)
    slope = -start - random(B).abs()  # phi falls at first
    alpha = torch.empty_like(slope)
    line_search_kernel[(B,)](slope, curvature, v, w, lo, hi, weight, alpha, M)
    expected = exact_line_search(slope, curvature, v, w, lo, hi, weight)
    assert (alpha > 0).all()
    torch.testing.assert_close(alpha, expected, rtol=1e-9, atol=0)


@triton.jit
def powers_kernel(size_ptr, power_ptr, M: tl.constexpr):
    """Of all sizes [M]."""
    at = tl.arange(0, M)
    tl.store(power_ptr + at, vectors.power_of_two(tl.load(size_ptr + at), 60))


def test_powers_of_two_are_exact():
    """A unit that is none would round each number of the scaling."""
    size = torch.tensor([1e-300, 1e-9, 0.7, 0.71, 1.0, 1.41, 1.42, 1e300], dtype=torch.float64, device=DEVICE)
    found = torch.empty_like(size)
    powers_kernel[(1,)](size, found, len(size))
    assert found.tolist() == [2.0**k for k in (-60, -30, -1, 0, 0, 0, 1, 60)]


@triton.jit
def systems_kernel(arrays, memory, sigma, rho, t, r, x, definite, systems, n, n_eq, n_in, cfg: tl.constexpr):
    """Solves one system after the other in the same scratch: sigma, rho [S], t [S, M], r [N] -> x [S, N]."""
    part = tl.program_id(0).to(tl.int64)
    data = problem.data_of(arrays, memory, part, part, 0, n, n_eq, n_in, cfg)
    columns, rows = tl.arange(0, cfg.N), tl.arange(0, cfg.M)
    scratch.put_number(data, slots.IS_DEFINITE, 0.0, cfg)
    for k in range(0, systems):
        scratch.put_rows(data, slots.ROW_WEIGHT, tl.load(t + k * cfg.M + rows), cfg)
        tl.store(definite + k, system.factor(data, tl.load(sigma + k), tl.load(rho + k), cfg))
        tl.store(x + k * cfg.N + columns, system.solution(data, tl.load(r + columns), cfg))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of zero divisors, in the interpreter
def test_a_factor_serves_as_long_as_its_system_is_the_same(monkeypatch):
    """A change of the weights, of rho or of sigma is seen, and a failure is not taken for a factor."""
    n, n_eq, n_in = 5, 2, 3
    H, A, C, r, P = definite(1, n)[0], random(n_eq, n), random(n_in, n), random(8), random(n).abs() + 0.1
    cfg = problem.Config(n, 8, 8, 4, True, False, "")
    memory, columns, _ = scratch_of(1, cfg)
    columns[0, slots.METRIC_X] = 1.0
    columns[0, slots.METRIC_X, :n] = P
    one, two = (torch.cat([random(n_eq + n_in).abs(), random(3) * 0]) for _ in range(2))
    systems = [(1, 1, one), (1, 1, one), (1, 1, two), (1, 2, two), (0, 2, two), (0, 2, two)]
    systems += [(1, 1, -1e3 * two), (1, 1, -1e3 * two), (1, 1, one), (1, 1, one)]
    new = [True, False, True, True, True, False, True, True, True, False]
    sigma, rho = (torch.tensor([s[k] for s in systems], device=DEVICE).double() for k in (0, 1))
    t, x = torch.stack([s[2] for s in systems]), random(len(systems), 8)
    found = torch.zeros(len(systems), dtype=torch.bool, device=DEVICE)
    calls, anew = [], system.factor_anew
    if DEVICE == "cpu":
        monkeypatch.setattr(system, "factor_anew", lambda *a: (calls.append(1), anew(*a))[1])
    arrays = arrays_of(H, A, C)
    systems_kernel[(1,)](arrays, memory, sigma, rho, t, r, x, found, len(systems), n, n_eq, n_in, cfg, num_warps=1)
    G = torch.cat([A, C])
    K = sigma[:, None, None] * H + torch.diag_embed(rho[:, None] * P) + G.mT @ (t[:, : len(G), None] * G)
    right = t[:, 0] >= 0
    assert found.tolist() == right.tolist()
    exact = torch.linalg.solve(K, r[:n].expand(len(K), -1))
    torch.testing.assert_close(x[right, :n], exact[right], rtol=1e-9, atol=1e-9)  # of a condition of some 100
    assert DEVICE != "cpu" or len(calls) == sum(new)


def reads_a_number(out_ptr, cfg: tl.constexpr):
    tl.store(out_ptr, numbers.MU_FLOOR)


def key_of(version):
    """By which Triton finds what it has compiled."""
    cfg = problem.Config(8, 8, 8, 4, True, True, version)
    function = triton.runtime.JITFunction(reads_a_number)
    return triton.compiler.ASTSource(function, {"out_ptr": "*fp64", "cfg": "constexpr"}, {"cfg": cfg}).hash()


def test_a_number_that_changes_has_the_kernels_compiled_again(monkeypatch):
    """Triton looks at no number that is read off a module; so the variant has a digest of them."""
    key, sources = key_of(launch.VERSION), [inspect.getsource(module) for module in (numbers, slots)]
    changed = sources[0].replace("MU_FLOOR = 1e-8", "MU_FLOOR = 1e-7"), sources[1].replace("V = 17", "V = 18")
    monkeypatch.setattr(numbers, "MU_FLOOR", 1e-7)
    assert key_of(launch.VERSION) == key
    assert key_of(launch.digest(*sources)) == key
    assert key_of(launch.digest(changed[0], sources[1])) != key
    assert key_of(launch.digest(sources[0], changed[1])) != key


def test_a_function_that_is_not_inlined_begins_with_a_barrier():
    """Triton puts none between what its caller left in shared memory and its own first use of it."""
    source = "".join(file.read_text() for file in Path(launch.__file__).parent.glob("*.py"))
    found = re.findall(r"noinline=True\)\ndef (\w+)\(.*\):\n +\"{3}[^\"]*\"{3}\n +(.*)", source)
    assert len(found) == source.count("(noinline=True") > 0
    assert [name for name, first in found if first != "tl.debug_barrier()"] == []
