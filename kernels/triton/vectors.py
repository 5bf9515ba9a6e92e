"""Functions of vectors in registers."""

import triton
import triton.language as tl

INF = tl.constexpr(float("inf"))

# How all kernels are compiled. Fused with the first step of a sum over lanes, a product would be rounded in one of two
# lanes only, so that the lanes of a warp differ in the last bit of the sum; where it pays, the kernels say tl.fma.
COMPILED = {"enable_fp_fusion": False}


@triton.jit
def largest(v):
    """``max |v_i|``."""
    return tl.max(tl.abs(v), axis=0)


@triton.jit
def some(condition):
    """Whether it holds for any entry."""
    return tl.max(condition.to(tl.int32), axis=0) > 0


@triton.jit
def clamped(v, lo, hi):
    """``clamp(v, lo, hi)``."""
    return tl.minimum(tl.maximum(v, lo), hi)


@triton.jit
def shrunk(value, factor, floor):
    """``max(factor value, floor)``."""
    value *= factor
    return tl.where(value < floor, floor, value)


@triton.jit
def power(base, exponent):
    """``base^exponent``, both positive."""
    return tl.exp(tl.log(base) * exponent)
