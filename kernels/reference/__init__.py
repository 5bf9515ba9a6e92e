"""Batched torch on any device: the readable twin of the other implementations, and what runs where none does."""

from ..interface import Rows
from .adjoint import adjoint
from .forward import forward

__all__ = ["adjoint", "forward", "obstacle"]


def obstacle(rows: Rows, mixed: bool) -> str:
    """Nothing: any problem will do."""
    return ""
