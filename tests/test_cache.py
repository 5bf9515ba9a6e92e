"""What is kept between processes: whole, this user's own, and compiled once."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from qplayer_gpu.kernels import cache, cpu
from qplayer_gpu.kernels.cpu import build, library

pytestmark = pytest.mark.usefixtures("compiler")

COMPILER = """#!/bin/sh
case "$*" in *-dM*) echo version 1; exit;; esac
echo compiled >> "{log}"
while [ "$1" != -o ]; do shift; done
{write} "$2"
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The cache folder of a user who has none yet, and whose temporary files lie beside it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "home" / "qplayer_gpu"


@pytest.fixture
def compile_by(tmp_path, monkeypatch):
    """Names a compiler that writes its library by a command of the shell; returns how often it has compiled."""

    def compile_by(write):
        script, log = tmp_path / "c++", tmp_path / "log"
        script.write_text(COMPILER.format(log=log, write=write))
        script.chmod(0o755)
        monkeypatch.setenv("CXX", str(script))
        return lambda: log.read_text().count("compiled") if log.exists() else 0

    return compile_by


@pytest.fixture
def count(home, compile_by):
    """How often a compiler has run that copies the library from the cache of these tests' user."""
    return compile_by(f"cp {library.load()._name}")


def built():
    return build.build(library.opened)


def rewrite(path, change):
    """As a file of its own: this process has the old one in use."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(change(content))


DAMAGE = {
    "half of it": lambda path: rewrite(path, lambda content: content[: len(content) // 2]),
    "nothing": lambda path: rewrite(path, lambda content: b""),
    "garbage": lambda path: rewrite(path, lambda content: b"no library"),
    "a byte": lambda path: rewrite(path, lambda content: content[:-1] + b"?"),
    "a link": lambda path: path.symlink_to(path.rename(path.with_name("elsewhere"))),
    "writable by others": lambda path: path.chmod(0o777),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_library_that_is_not_whole_and_ours_is_compiled_anew(count, damage):
    path = built()
    assert built() == path
    assert count() == 1
    DAMAGE[damage](path)
    library.opened(built())
    assert count() == 2
    library.opened(built())
    assert count() == 2


def owned_by_another(folder, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    real = Path.lstat
    ours = lambda path: os.stat_result((*(s := real(path))[:4], os.geteuid() + (path == folder), *s[5:]))  # noqa: E731
    monkeypatch.setattr(Path, "lstat", ours)


REFUSED = {
    "owned by another": owned_by_another,
    "writable by all": lambda folder, _: folder.chmod(0o777),
    "writable by a group": lambda folder, _: folder.chmod(0o770),
    "a link": lambda folder, _: folder.symlink_to(folder.rename(folder.with_name("elsewhere"))),
}


@pytest.mark.parametrize("how", REFUSED)
def test_a_folder_that_others_may_write_to_is_refused(count, home, monkeypatch, how):
    planted = built()
    assert planted.parent == home
    REFUSED[how](home, monkeypatch)
    private = [built(), built()]
    assert private[0] == private[1] != planted
    assert count() == 2
    assert private[0].parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["true", 'g++ "', "no-such-compiler"])
def test_a_compiler_that_lies_leaves_nothing(home, monkeypatch, name):
    monkeypatch.setenv("CXX", name)
    with pytest.raises(cpu.BuildError, match=r"install a C\+\+17 compiler"):
        built()
    assert not list(home.glob("*.so"))


@pytest.mark.parametrize("write", ["echo no library >", "g++ -shared -x c++ /dev/null -o"])
def test_what_has_not_our_functions_is_not_kept(home, compile_by, write):
    compile_by(write)
    with pytest.raises(cpu.BuildError, match="what was compiled cannot be used"):
        built()
    assert {path.suffix for path in home.iterdir()} == {".lock"}


def test_without_a_cache_one_is_made_beside_the_temporary_files(count, home):
    home.parent.touch()  # a file, where the folder would be
    assert built() == built()
    assert count() == 1
    (folder,) = Path(tempfile.gettempdir()).iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_cache_that_cannot_be_written_to_is_read(count, home, monkeypatch):
    path = built()
    monkeypatch.setattr(os, "access", lambda folder, _: folder != home)  # which root could write to
    assert built() == path
    path.unlink()
    assert built() == built()
    assert count() == 2


def test_without_a_folder_at_all(count, home, monkeypatch, tmp_path):
    home.parent.touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(OSError, match="none"):
        built()


def test_without_a_compiler_a_kept_library_is_taken(count, monkeypatch):
    path = built()
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", "")
    assert built() == path
    monkeypatch.setattr(build, "_processor", lambda: ("another",))
    with pytest.raises(cpu.BuildError, match="no C\\+\\+ compiler found"):
        built()


def test_another_compiler_compiles_anew(count, monkeypatch, tmp_path):
    first = built()
    other = shutil.copy(os.environ["CXX"], tmp_path / "other")
    monkeypatch.setenv("CXX", str(other))
    assert built() != first
    assert count() == 2
    assert first.exists()


SLOWLY = """
import importlib.util, sys, time
spec = importlib.util.spec_from_file_location("cache", sys.argv[1])
cache = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cache)

def make(path):
    print("making", flush=True)
    time.sleep(float(sys.argv[2]))
    path.write_text("whole")

print(cache.kept("thing", ".txt", make).read_text())
"""


def start(seconds):
    command = [sys.executable, "-c", SLOWLY, cache.__file__, str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_that_want_it_at_once_make_it_once(home):
    said = [process.communicate(timeout=60)[0].split() for process in [start(0.5) for _ in range(8)]]
    assert sorted(map(len, said)) == [1] * 7 + [2]
    assert all(words[-1] == "whole" for words in said)


def test_a_killed_process_blocks_nobody_and_its_remains_are_cleared(home):
    killed = start(60)
    assert killed.stdout.readline() == "making\n"
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert list(home.glob(f"{cache.UNFINISHED}*"))
    began = time.monotonic()
    assert start(0).communicate(timeout=60)[0] == "making\nwhole\n"
    assert time.monotonic() - began < 20
    assert not list(home.glob(f"{cache.UNFINISHED}*"))
