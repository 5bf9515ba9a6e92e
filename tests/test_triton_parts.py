"""The device functions alone, against torch.linalg."""

import pytest
import torch
from interpreted import patch_once

from qplayer_gpu.kernels.reference.newton import exact_line_search

triton = pytest.importorskip("triton")
launch = pytest.importorskip("qplayer_gpu.kernels.triton.launch")
newton = pytest.importorskip("qplayer_gpu.kernels.triton.newton")
problem = pytest.importorskip("qplayer_gpu.kernels.triton.problem")
products = pytest.importorskip("qplayer_gpu.kernels.triton.products")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZES = [1, 3, 7, 17, 33]

if DEVICE == "cpu":
    patch_once()


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64).to(DEVICE)


def definite(B, n, damping=0.1):
    M = random(B, n, n)
    return M @ M.mT / n + damping * torch.eye(n, dtype=torch.float64, device=DEVICE)


def columns_and_rows(scratch, cfg):
    """The vectors of columns and of rows in scratch: [B, COLUMNS, N], [B, ROWS, M]."""
    split = problem.COLUMNS.value * cfg.N
    end = split + problem.ROWS.value * cfg.M
    return scratch[:, :split].unflatten(1, (-1, cfg.N)), scratch[:, split:end].unflatten(1, (-1, cfg.M))


@pytest.mark.parametrize("bounded", [False, True], ids=["", "bounded"])
@pytest.mark.parametrize("n", SIZES)
def test_products(n, bounded):
    B, n_eq, n_in = 2, 5, n + 2
    m = n_eq + n_in + n * bounded
    H, A, C = definite(B, n), random(B, n_eq, n), random(B, n_in, n)
    x, P, z = random(B, n), random(B, n).abs(), random(B, m)
    w = random(B, m).relu()  # half of them zero, as of rows that are not active
    cfg = problem.Config(n, launch.padded(n), launch.padded(m), 4, launch.SWEEP, True, bounded, False)
    scratch = torch.zeros(B, problem.scratch_size(cfg), dtype=torch.float64, device=DEVICE)
    columns, rows = columns_and_rows(scratch, cfg)
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
