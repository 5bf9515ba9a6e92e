"""This library by its Triton kernels: on a GPU, or with TRITON_INTERPRET=1 slowly anywhere."""

from __future__ import annotations

import os

from . import qplayer_gpu


class Adapter(qplayer_gpu.Adapter):
    """As the library, with its backend "triton"."""

    backend = "triton"
    devices = ("cpu", "cuda") if os.environ.get("TRITON_INTERPRET") == "1" else ("cuda",)
