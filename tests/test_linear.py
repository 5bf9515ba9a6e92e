"""The solves that are callable alone, of the reference and of Triton, against torch.linalg."""

import importlib

import pytest
import torch
from interpreted import patch_once

from qplayer_gpu.kernels import linear

# numpy, in the interpreter, warns of the square root of a pivot that is negative
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZES = [1, 3, 7, 17, 33]
LARGE = [1, 5, 8, 16, 31, 32, 63, 64]
METHODS = pytest.mark.parametrize("method", ["cholesky_solve", "sweep_solve"])
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)

if DEVICE == "cpu":
    patch_once()


@pytest.fixture(params=["reference", "triton"])
def solve(request):
    """The implementation, called as the public function calls it."""
    if request.param == "triton":
        pytest.importorskip("triton")
    implementation = importlib.import_module(f"qplayer_gpu.kernels.{request.param}.linear")

    def solve(method, K, r):
        x, failed = getattr(implementation, method)(K, r if r.dim() == 3 else r.unsqueeze(1))
        return x.reshape(r.shape), failed

    return solve


def definite(B, n, dtype):
    """Of condition about 100, with rows and columns over six decades: the sweep brings it to a unit diagonal."""
    M = torch.randn(B, n, n, dtype=torch.float64)
    K = M @ M.mT / n + 0.1 * torch.eye(n, dtype=torch.float64)
    scale = torch.logspace(-3, 3, n, dtype=torch.float64)
    return (K * (scale[:, None] * scale)).to(DEVICE, dtype), scale.to(DEVICE, dtype)


def assert_solved(solve, method, B, n, k, dtype):
    """As torch.linalg does in double precision, up to the rounding of a matrix of that condition."""
    K, scale = definite(B, n, dtype)
    r = torch.randn(B, k, n, dtype=torch.float64).to(DEVICE, dtype) * scale
    x, failed = solve(method, K, r)
    assert x.dtype == dtype
    assert failed.dtype == torch.bool
    assert not failed.any()
    L, info = torch.linalg.cholesky_ex(K.double())
    assert (info == 0).all()
    exact = torch.cholesky_solve(r.double().mT, L).mT * scale
    tolerance = 1e4 * torch.finfo(dtype).eps  # condition 100, next to n and to the rounding of K itself
    torch.testing.assert_close((x * scale).double(), exact, rtol=tolerance, atol=tolerance * exact.abs().max().item())


@DTYPES
@METHODS
@pytest.mark.parametrize("n", SIZES)
def test_as_torch_linalg(solve, method, n, dtype):
    assert_solved(solve, method, 2, n, 2 if n > 1 else 1, dtype)


@pytest.mark.gpu
@DTYPES
@METHODS
@pytest.mark.parametrize("n", LARGE)
def test_large_batches_as_torch_linalg(solve, method, n, dtype):
    assert_solved(solve, method, 4096, n, 3, dtype)


@DTYPES
@METHODS
def test_a_matrix_that_is_not_definite_is_found_out(solve, method, dtype):
    """And leaves the others as they are."""
    K, _ = definite(5, 5, dtype)
    r = torch.ones(5, 5, dtype=dtype, device=DEVICE)
    alone, _ = solve(method, K[:1], r[:1])
    K[1, 2, 2] = -1.0
    K[2, 0, 0] = torch.nan
    K[3] = 0.0
    K[4] = 0.0
    K[4, 0, 1] = K[4, 1, 0] = 1.0  # indefinite with a diagonal of zeros
    x, failed = solve(method, K, r)
    assert failed.tolist() == [False, True, True, True, True]
    assert torch.equal(x[0], alone[0])
    assert x[1:].isnan().all()


@METHODS
def test_strides_do_not_matter(solve, method):
    K, _ = definite(3, 4, torch.float64)
    r = torch.randn(4, dtype=torch.float64).to(DEVICE)
    expected, _ = solve(method, K, r.repeat(3, 1))
    assert torch.equal(solve(method, K.mT, r.expand(3, 4))[0], expected)


@METHODS
def test_one_right_hand_side_or_many_and_no_problem_at_all(method):
    K, scale = definite(3, 4, torch.float64)
    r = torch.randn(3, 2, 4, dtype=torch.float64).to(DEVICE) * scale
    solve = getattr(linear, method)
    both, _ = solve(K, r)
    one, _ = solve(K, r[:, 1])
    torch.testing.assert_close(one, both[:, 1], rtol=1e-10, atol=0)
    x, failed = solve(K[:0], r[:0])
    assert x.shape == (0, 2, 4)
    assert failed.shape == (0,)


@METHODS
def test_what_does_not_fit_is_refused(method):
    solve, K, r = getattr(linear, method), torch.eye(3).repeat(2, 1, 1), torch.ones(2, 3)
    for wrong in ((K[0], r), (K, r[0]), (K, r[:1]), (K[:, :2], r), (K, r[:, :2]), (K, r[:, None][:, :0])):
        with pytest.raises(ValueError, match=r"K must be \[B, n, n\] and r \[B, n\] or \[B, k, n\]"):
            solve(*wrong)
    with pytest.raises(TypeError, match=r"not torch.float32 and torch.float64"):
        solve(K, r.double())
    with pytest.raises(TypeError, match=r"not torch.float16 and torch.float16"):
        solve(K.half(), r.half())
    with pytest.raises(ValueError, match=r"K is on meta and r on cpu"):
        solve(K.to("meta"), r)


def test_it_has_no_derivatives():
    K = torch.eye(2).unsqueeze(0).requires_grad_()
    x, _ = linear.cholesky_solve(K, torch.ones(1, 2, requires_grad=True))
    assert not x.requires_grad
