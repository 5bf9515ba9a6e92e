"""Functions of vectors in registers."""

import triton
import triton.language as tl

INF = tl.constexpr(float("inf"))


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
