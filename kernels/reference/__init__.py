"""Batched torch on any device: the readable twin of the other implementations, and the fallback of all."""

from .adjoint import adjoint
from .forward import forward

__all__ = ["adjoint", "forward"]
