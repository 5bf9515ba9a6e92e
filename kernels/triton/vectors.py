"""Functions of vectors in registers."""

import triton
import triton.language as tl

INF = tl.constexpr(float("inf"))
NO_FRACTION = tl.constexpr(1.5 * 2**52)  # a sum with it is rounded to an integer, halves to even ones

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
def at_least(value, floor):
    """``max(value, floor)``; tl.maximum would have a number of Python rounded to float32."""
    return tl.where(value < floor, floor, value)


@triton.jit
def at_most(value, ceiling):
    """``min(value, ceiling)``, for the same reason."""
    return tl.where(value > ceiling, ceiling, value)


@triton.jit
def shrunk(value, factor, floor):
    """``max(factor value, floor)``."""
    return at_least(value * factor, floor)


@triton.jit
def power(base, exponent):
    """``base^exponent``, both positive."""
    return tl.exp(tl.log(base) * exponent)


@triton.jit
def power_of_two(size, MOST: tl.constexpr):
    """The power of two that is nearest to a size > 0 on the scale of logarithms, between those of -MOST and MOST."""
    power = (tl.log2(size) + NO_FRACTION) - NO_FRACTION
    return tl.exp2(tl.minimum(tl.maximum(power, -1.0 * MOST), 1.0 * MOST))
