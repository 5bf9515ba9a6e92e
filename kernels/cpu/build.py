"""Compiles ``main.cpp``, or ``mixed.cpp``, with the user's compiler for the user's processor, once.

A library built elsewhere could not use what this processor has, or would use what it has not; so it is built where it
runs, at first use, and kept (kernels/cache.py). Its name is a digest of all that it depends on: the sources, the flags
and the processor, then what the compiler says of itself. Where no compiler is left, that of any compiler is taken.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from .. import numbers
from ..cache import found, kept

MAIN, MIXED = (Path(__file__).with_name(name) for name in ("main.cpp", "mixed.cpp"))
HEADERS = (MAIN.parent, Path(__file__).parents[1] / "cuda")
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-shared", "-pthread", "-fvisibility=hidden", "-fno-math-errno", "-Wno-psabi")
FOR_THIS_PROCESSOR = (("-march=native",), ("-mcpu=native",), ())  # the first that the compiler knows
COMPILERS = ("c++", "g++", "clang++")
OF_A_PROCESSOR = ("model name", "flags", "features", "cpu implementer", "cpu part", "cpu", "isa")  # in /proc/cpuinfo
ADVICE = "install a C++17 compiler (g++ or clang++) or name one in the environment variable CXX"


class BuildError(RuntimeError):
    """The library cannot be compiled here."""


def build(check: Callable[[Path], object], main: Path = MAIN, extra: tuple[str, ...] = ()) -> Path:
    """The path of the library, compiled with extra flags if it is not kept yet; ``check`` raises where it is no good.

    Raises:
        BuildError: there is no compiler, or it fails.
    """
    flags = (*FLAGS, *extra)
    headers = (header for folder in HEADERS for header in sorted(folder.glob("*.h")))
    files = (file.read_bytes() for file in (main, *headers))
    stem = f"qplayer_{_digest(source(main).encode(), *files, *map(str.encode, (*flags, *_processor())))}"
    named = _named()
    if not named:
        if path := found(stem, ".so"):
            return path
        raise BuildError(f"no C++ compiler found: {ADVICE}")
    command, identity = _compiler(named)

    def make(path: Path) -> None:
        _compile([*command, *flags], source(main), path)
        check(path)

    return kept(f"{stem}_{_digest(shlex.join(command).encode(), identity)}", ".so", make)


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\n".join(parts)).hexdigest()[:16]


def source(main: Path = MAIN) -> str:
    """What is compiled: the numbers of the method, and the file."""
    return f'{numbers.cpp()}#include "{main}"\n'


def _processor() -> tuple[str, ...]:
    """What tells this processor's instructions from those of another."""
    known = (sys.platform, platform.machine(), platform.processor())
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return known
    return *known, *(line for line in lines if line.partition(":")[0].strip().lower() in OF_A_PROCESSOR)


def _named() -> list[str]:
    """The command of the compiler that CXX names, or else of the first that is installed; empty where none is."""
    try:
        named = shlex.split(os.environ.get("CXX", ""))
    except ValueError as error:
        raise BuildError(f"CXX={os.environ['CXX']!r} is no command ({error}): {ADVICE}") from error
    return named or [path for name in COMPILERS if (path := shutil.which(name))][:1]


def _compiler(named: list[str]) -> tuple[list[str], bytes]:
    """The compiler with the flags for this processor, and all that it then defines: its version, the features."""
    for flags in FOR_THIS_PROCESSOR:
        command = [*named, *flags]
        done = _run([*command, "-dM", "-E", "-x", "c++", os.devnull])
        if done.returncode == 0:
            return command, done.stdout
    raise BuildError(f"{shlex.join(named)} does not run: {ADVICE}")


def _run(command: list[str], text: str = "") -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(command, input=text.encode(), capture_output=True, check=False)
    except OSError as error:
        raise BuildError(f"{command[0]} does not run ({error}): {ADVICE}") from error


def _compile(command: list[str], text: str, library: Path) -> None:
    done = _run([*command, "-o", str(library), "-x", "c++", "-"], text)
    if done.returncode:
        raise BuildError(f"{shlex.join(command)} fails:\n{done.stderr.decode(errors='replace')[-2000:]}\n{ADVICE}")
