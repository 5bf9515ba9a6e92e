"""This library by its batched torch operations: what runs on any device, and where there is no compiler."""

from __future__ import annotations

from . import qplayer_gpu


class Adapter(qplayer_gpu.Adapter):
    """As the library, with its backend "torch"."""

    backend = "torch"
