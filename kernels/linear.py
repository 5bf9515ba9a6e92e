"""The solves inside the kernels, callable alone: batches of small symmetric positive definite systems ``K x = r``.

On a CUDA device with CuPy and fast tensor cores for doubles (sm_80, sm_90, sm_100), these make the Cholesky factors of
float64, up to n = 128. With Triton, one program for each matrix holds it in registers, up to n = 64; elsewhere they are
batched operations of torch. There are no derivatives. Two methods give the same answer:

- :func:`cholesky_solve`: ``K = U'U``, the right-hand side carried along, and back-substitution.
- :func:`sweep_solve`: with K scaled to a unit diagonal, one symmetric sweep for each pivot, and no substitution. With
  d = K_jj and w row j, but w_j = d - 1: ``K <- K - w w'/d, x <- x - w x_j/d``; after the last pivot ``x = K^-1 r``. It
  takes fewer instructions on a GPU; on a CPU it is there to be compared with.
"""

from __future__ import annotations

from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

from .reference import linear as reference


def cholesky_solve(
    K: Tensor,  # [B, n, n] symmetric
    r: Tensor,  # [B, n], or [B, k, n] for k right-hand sides
) -> tuple[Tensor, Tensor]:
    """``K^-1 r`` in the shape of r, and which of the matrices are not positive definite: [B] bool; their x is NaN.

    Raises:
        ValueError: shapes or devices do not fit.
        TypeError: K and r are not both float64, or both float32.
    """
    return _solve("cholesky_solve", K, r)


def sweep_solve(
    K: Tensor,  # [B, n, n] symmetric
    r: Tensor,  # [B, n], or [B, k, n] for k right-hand sides
) -> tuple[Tensor, Tensor]:
    """As :func:`cholesky_solve`, by the scaled symmetric sweep."""
    return _solve("sweep_solve", K, r)


@torch.no_grad()
def _solve(method: str, K: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    check(K, r)
    x, failed = getattr(_implementation(K, method), method)(K, r if r.dim() == 3 else r.unsqueeze(1))
    return x.reshape(r.shape), failed


def check(K: Tensor, r: Tensor) -> None:
    """Raises where K and r are not one batch of systems."""
    if K.dtype not in (torch.float64, torch.float32) or r.dtype != K.dtype:
        raise TypeError(f"K and r must both be torch.float64 or torch.float32, not {K.dtype} and {r.dtype}")
    square = K.dim() == 3 and K.shape[1] == K.shape[2] > 0
    if not square or r.dim() not in (2, 3) or r.shape[1] == 0 or (r.shape[0], r.shape[-1]) != K.shape[:2]:
        raise ValueError(
            f"K must be [B, n, n] and r [B, n] or [B, k, n], n and k > 0, not {list(K.shape)} and {list(r.shape)}"
        )
    if K.device != r.device:
        raise ValueError(f"K is on {K.device} and r on {r.device}")


def _implementation(K: Tensor, method: str) -> ModuleType:
    if K.is_cuda and method == "cholesky_solve" and find_spec("cupy"):
        from .cuda import linear as tensor

        if tensor.takes(K):
            return tensor
    if K.is_cuda and find_spec("triton"):
        from .triton import linear

        if K.shape[-1] <= linear.LARGEST:
            return linear
    return reference
