"""This library by its CUDA kernels, compiled by CuPy: on a GPU."""

from __future__ import annotations

from . import qplayer_gpu


class Adapter(qplayer_gpu.Adapter):
    """As the library, with its backend "cuda"."""

    backend = "cuda"
    devices = ("cuda",)
