"""Parts of bench/gpu.sh on the emulator, as on a GPU: python -m gpu.script answers triton 5."""

from __future__ import annotations

import sys

import pytest
import torch

from bench import gpu
from qplayer_gpu import backend

from . import cases, on_cupy, on_triton


def main() -> int:
    """As :func:`bench.gpu.main`, and 1 too where the emulator has findings."""
    torch.set_num_threads(1)
    gpu.device = lambda: cases.CPU
    gpu.FEW, gpu.BATCHES, gpu.ROUNDS = 2, (2, 4), 1
    with pytest.MonkeyPatch.context() as patch:
        emulations = on_cupy.emulate(patch), on_triton.emulate()
        backend.obstacle = lambda *_: ""  # type: ignore[assignment]
        wrong = gpu.main()
    found = [finding for emulation in emulations for finding in emulation.findings]
    print(*found, sep="\n")
    return int(wrong or bool(found))


if __name__ == "__main__":
    sys.exit(main())
