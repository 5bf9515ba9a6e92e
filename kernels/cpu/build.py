"""Compiles ``main.cpp`` with the user's compiler for the user's processor, once.

A library built elsewhere could not use what this processor has, or would use what it has not; so it is built where it
runs, at first use, into a cache. Its name there is a digest of all that it depends on: the sources, the flags and what
the compiler says of itself and of the processor.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .. import numbers

MAIN = Path(__file__).with_name("main.cpp")
HEADERS = Path(__file__).parents[1] / "cuda"
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-shared", "-pthread", "-fvisibility=hidden", "-Wno-psabi")
FOR_THIS_PROCESSOR = (("-march=native",), ("-mcpu=native",), ())  # the first that the compiler knows
COMPILERS = ("c++", "g++", "clang++")
ADVICE = "install a C++17 compiler (g++ or clang++) or name one in the environment variable CXX"


class BuildError(RuntimeError):
    """The library cannot be compiled here."""


def build(extra: tuple[str, ...] = ()) -> Path:
    """The path of the library, compiled with extra flags if it is not in the cache yet.

    Raises:
        BuildError: there is no compiler, or it fails.
    """
    command, identity = _compiler()
    flags = (*FLAGS, *extra)
    digest = hashlib.sha256(" ".join((*command, *flags)).encode() + identity)
    digest.update(source().encode())
    for file in (MAIN, *sorted(HEADERS.glob("*.h"))):
        digest.update(file.read_bytes())
    library = cache_folder() / f"qplayer_{digest.hexdigest()[:24]}.so"
    if not library.exists():
        _compile([*command, *flags], library)
    return library


def source() -> str:
    """What is compiled: the numbers of the method, and main.cpp."""
    return f'{numbers.cpp()}#include "{MAIN}"\n'


def _compiler() -> tuple[list[str], bytes]:
    """The compiler with the flags for this processor, and all that it then defines: its version, the features."""
    named = shlex.split(os.environ.get("CXX", ""))
    found = named or [path for name in COMPILERS if (path := shutil.which(name))][:1]
    if not found:
        raise BuildError(f"no C++ compiler found: {ADVICE}")
    for flags in FOR_THIS_PROCESSOR:
        command = [*found, *flags]
        done = _run([*command, "-dM", "-E", "-x", "c++", os.devnull])
        if done.returncode == 0:
            return command, done.stdout
    raise BuildError(f"{shlex.join(found)} does not run: {ADVICE}")


def _run(command: list[str], text: str = "") -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(command, input=text.encode(), capture_output=True, check=False)
    except OSError as error:
        raise BuildError(f"{command[0]} does not run ({error}): {ADVICE}") from error


def _compile(command: list[str], library: Path) -> None:
    """Writes the library beside its place, then moves it there: another process sees all of it or nothing."""
    handle, unfinished = tempfile.mkstemp(dir=library.parent, suffix=".so")
    os.close(handle)
    try:
        done = _run([*command, "-o", unfinished, "-x", "c++", "-"], source())
        if done.returncode:
            raise BuildError(f"{shlex.join(command)} fails:\n{done.stderr.decode(errors='replace')[-2000:]}\n{ADVICE}")
        os.replace(unfinished, library)
    finally:
        Path(unfinished).unlink(missing_ok=True)


def cache_folder() -> Path:
    """A folder of this user that lasts, or one that lasts as long as the process where there is none to write to."""
    usual = "~/Library/Caches" if sys.platform == "darwin" else "~/.cache"
    folder = Path(os.environ.get("XDG_CACHE_HOME") or usual, "qplayer_gpu")
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: there is no home
        folder = folder.expanduser()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.access(folder, os.W_OK):
        return folder
    _temporary.append(tempfile.TemporaryDirectory(prefix="qplayer_gpu."))
    return Path(_temporary[-1].name)


_temporary: list[tempfile.TemporaryDirectory[str]] = []
