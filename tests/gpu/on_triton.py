"""Runs Triton's kernels without a GPU: compiled and launched by Triton, with a driver that emulates what it loads.

For a process without TRITON_INTERPRET.
"""

from __future__ import annotations

import ctypes
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from triton import knobs
from triton.backends.nvidia import driver as nvidia

from .emulated import Emulation
from .program import HERE, Program, compiled

LAUNCH = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_uint64, *[ctypes.c_uint] * 3, ctypes.POINTER(ctypes.c_void_p)
)  # as in libcuda.cpp
FOLDER = tempfile.TemporaryDirectory()  # of the stand-in for libcuda, which some launchers of Triton link late
MOST_SHARED, PROCESSORS = 232448, 132  # of an H100


class Launcher(nvidia.CudaLauncher):
    """Triton's, which also says which tensors a kernel gets."""

    def __call__(self, *arguments: Any) -> None:
        given = triton.runtime.driver.active.tensors
        given[:] = tensors_in(arguments)
        super().__call__(*arguments)


class Driver(nvidia.CudaDriver):
    """Triton's, of a device that is not there."""

    def __init__(self, architecture: int, emulation: Emulation) -> None:
        super().__init__()
        self.emulation, self.architecture = emulation, architecture
        self.launcher_cls = Launcher
        self.tensors: list[torch.Tensor] = []
        self.loaded: list[tuple[Program, str]] = []  # by their handles less 1
        self.hook = LAUNCH(self.launch)
        self.path = ""  # of the PTX of what is loaded next
        self.utils.load_binary = self.load
        self.utils.get_device_properties = lambda device: {
            "max_shared_mem": MOST_SHARED,
            "multiprocessor_count": PROCESSORS,
        }
        self.get_current_device = lambda: 0
        self.set_current_device = lambda device: None
        self.get_current_stream = lambda device: 0
        self.get_device_capability = lambda device: divmod(architecture, 10)

    def note(self, module: Any, function: Any, name: str, files: dict[str, str], digest: str) -> None:
        """Called by Triton before it loads a kernel."""
        self.path = files[f"{name}.ptx"]

    def load(self, name: str, binary: bytes, shared: int, device: int) -> tuple[int, int, int, int, int]:
        """A module and a function, and what Triton wants to know of it."""
        self.loaded.append((Program(Path(self.path).read_text()), name))
        return 1, len(self.loaded), 255, 0, 1024

    def launch(self, handle: int, blocks: int, threads: int, shared: int, pointers: Any) -> int:
        """Called by the stand-in for libcuda."""
        program, name = self.loaded[handle - 1]
        sizes = program.translation.parameters[name]
        arguments = [ctypes.string_at(pointers[k], size) for k, size in enumerate(sizes)]
        memory = [(t.data_ptr(), t.numel() * t.element_size()) for t in self.tensors]
        return self.emulation.run(program, name, blocks, threads, arguments, memory, shared)


def tensors_in(value: Any) -> list[torch.Tensor]:
    """Those among arguments, each once."""
    if isinstance(value, torch.Tensor):
        return [value]
    found = [t for part in value for t in tensors_in(part)] if isinstance(value, (tuple, list)) else []
    return list({t.data_ptr(): t for t in sorted(found, key=lambda t: t.numel())}.values())


def emulate(architecture: int = 90) -> Emulation:
    """Has all kernels of this process run on the CPU, on tensors there."""
    emulation = Emulation()
    include = f"-I{Path(nvidia.__file__).with_name('include')}"
    built = compiled((HERE / "libcuda.cpp").read_text(), (include, "-Wl,-soname,libcuda.so.1"), [])
    library = Path(FOLDER.name, "libcuda.so.1")
    library.symlink_to(built)
    stand_in = ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    knobs.nvidia.libcuda_path = FOLDER.name
    driver = Driver(architecture, emulation)
    stand_in.set_launch(driver.hook)
    triton.runtime.driver.set_active(driver)
    knobs.runtime.kernel_load_start_hook = driver.note
    return emulation
