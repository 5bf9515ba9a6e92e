"""The device functions alone, against torch.linalg."""

import pytest
import torch
from interpreted import patch_once

from qplayer_gpu.kernels.reference.newton import exact_line_search

triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")
launch = pytest.importorskip("qplayer_gpu.kernels.triton.launch")
newton = pytest.importorskip("qplayer_gpu.kernels.triton.newton")
problem = pytest.importorskip("qplayer_gpu.kernels.triton.problem")
products = pytest.importorskip("qplayer_gpu.kernels.triton.products")
system = pytest.importorskip("qplayer_gpu.kernels.triton.system")

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
    scratch = torch.zeros(B, problem.scratch_size(cfg), dtype=torch.float64, device=DEVICE)
    split = problem.COLUMNS.value * cfg.N
    end = split + problem.ROWS.value * cfg.M
    return scratch, scratch[:, :split].unflatten(1, (-1, cfg.N)), scratch[:, split:end].unflatten(1, (-1, cfg.M))


@pytest.mark.parametrize("bounded", [False, True], ids=["", "bounded"])
@pytest.mark.parametrize("n", SIZES)
def test_products(n, bounded):
    B, n_eq, n_in = 2, 5, n + 2
    m = n_eq + n_in + n * bounded
    H, A, C = definite(B, n), random(B, n_eq, n), random(B, n_in, n)
    x, P, z = random(B, n), random(B, n).abs(), random(B, m)
    w = random(B, m).relu()  # half of them zero, as of rows that are not active
    cfg = problem.Config(n, launch.padded(n), launch.padded(m), 4, launch.SWEEP, True, bounded, False)
    scratch, columns, rows = scratch_of(B, cfg)
    for place, value in ((problem.X, x), (problem.PROX, P)):
        columns[:, place.value, :n] = value
    for place, value in ((problem.Z, z), (problem.T, w)):
        rows[:, place.value, :m] = value
    K = torch.full((B, cfg.N, cfg.N), torch.nan, dtype=torch.float64, device=DEVICE)
    products.assembly_kernel[(B,)](H, A, C, scratch, K, n, n_eq, n_in, cfg, num_warps=4)
    K, Gx, Gz = K[:, :n, :n], rows[:, problem.GX.value, :m], columns[:, problem.GZ.value, :n]
    eye = torch.eye(n, dtype=torch.float64, device=DEVICE).expand(B, -1, -1)
    G = torch.cat([A, C, eye[:, : n * bounded]], 1)
    close = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(Gx, (G @ x.unsqueeze(-1)).squeeze(-1), **close)
    torch.testing.assert_close(Gz, (G.mT @ z.unsqueeze(-1)).squeeze(-1), **close)
    torch.testing.assert_close(K, 0.5 * H + torch.diag_embed(P) + G.mT @ (w.unsqueeze(-1) * G), **close)


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
    newton.line_search_kernel[(B,)](slope, curvature, v, w, lo, hi, weight, alpha, M)
    expected = exact_line_search(slope, curvature, v, w, lo, hi, weight)
    assert (alpha > 0).all()
    torch.testing.assert_close(alpha, expected, rtol=1e-9, atol=0)


@triton.jit
def systems_kernel(H, A, C, scratch, sigma, rho, t, r, x, definite, systems, n, n_eq, n_in, cfg: tl.constexpr):
    """Solves one system after the other in the same scratch: sigma, rho [S], t [S, M], r [N] -> x [S, N]."""
    data = problem.data_of(H, A, C, scratch, tl.program_id(0).to(tl.int64), 0, n, n_eq, n_in, cfg)
    columns, rows = tl.arange(0, cfg.N), tl.arange(0, cfg.M)
    problem.put_number(data, problem.DEFINITE, 0.0, cfg)
    for k in range(0, systems):
        problem.put_rows(data, problem.T, tl.load(t + k * cfg.M + rows), cfg)
        tl.store(definite + k, system.factor(data, tl.load(sigma + k), tl.load(rho + k), cfg))
        tl.store(x + k * cfg.N + columns, system.solution(data, tl.load(r + columns), cfg))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of zero divisors, in the interpreter
@pytest.mark.parametrize("mixed", [False, True], ids=["float64", "mixed"])
def test_a_factor_serves_as_long_as_its_system_is_the_same(mixed, monkeypatch):
    """A change of the weights, of rho or of sigma is seen, and a failure is not taken for a factor."""
    n, n_eq, n_in = 5, 2, 3
    H, A, C, r, P = definite(1, n)[0], random(n_eq, n), random(n_in, n), random(8), random(n).abs() + 0.1
    cfg = problem.Config(n, 8, 8, 4, launch.SWEEP, True, False, mixed)
    scratch, columns, _ = scratch_of(1, cfg)
    columns[0, problem.PROX.value] = 1.0
    columns[0, problem.PROX.value, :n] = P
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
    systems_kernel[(1,)](H, A, C, scratch, sigma, rho, t, r, x, found, len(systems), n, n_eq, n_in, cfg, num_warps=1)
    G = torch.cat([A, C])
    K = sigma[:, None, None] * H + torch.diag_embed(rho[:, None] * P) + G.mT @ (t[:, : len(G), None] * G)
    right = t[:, 0] >= 0
    assert found.tolist() == right.tolist()
    exact = torch.linalg.solve(K, r[:n].expand(len(K), -1))
    torch.testing.assert_close(x[right, :n], exact[right], rtol=1e-9, atol=1e-9)  # of a condition of some 100
    assert DEVICE != "cpu" or len(calls) == sum(new)
