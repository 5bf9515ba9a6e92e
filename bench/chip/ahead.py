"""Compiles, without a GPU, the variants of the Triton kernels that gpu.sh asks for, into Triton's cache.

    TRITON_CACHE_DIR=FOLDER python -m bench.chip.ahead ARCHITECTURE N...

The same version of Triton for the same Python finds them there: the calls are those of a solve on a GPU, up to the
launch. Not for a process with TRITON_INTERPRET=1, which compiles nothing.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace

import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from qplayer_gpu import Settings, backend, trial

from .. import gpu

LAUNCH = JITFunction.run


def compile_only(architecture: int) -> None:
    """Has each launch of this process end with compilation, for a device that is not there."""
    target = GPUTarget("cuda", architecture, 32)
    functions = {"target": lambda: target, "device": lambda: 0, "stream": lambda device: 0}
    triton.runtime.driver.set_active(SimpleNamespace(**{f"get_current_{k}": f for k, f in functions.items()}))
    JITFunction.run = lambda self, *args, **known: LAUNCH(self, *args, **known | {"warmup": True})
    backend.obstacle = lambda *_: ""  # type: ignore[assignment]


if __name__ == "__main__":
    compile_only(int(sys.argv[1]))
    for n in map(int, sys.argv[2:]):
        trial.solved(gpu.problems(n).arrays(), "triton", Settings())
