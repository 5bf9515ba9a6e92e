"""Files that are kept from one process to the next, and taken again only where they are whole and this user's own.

The name of each ends in a digest of its content: one that was cut short or altered is made anew. Folders and files that
another user owns or may write to are left alone. All lie below ``$XDG_CACHE_HOME`` (``~/.cache``) or, where that cannot
be trusted or written to, in a folder of this user beside the temporary files, which lasts as long as these.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

UNFINISHED = "unfinished_"
TEMPORARY = "qplayer_gpu_cache."
PATIENCE = 300  # seconds; whoever holds the lock for longer is not waited for
OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def found(stem: str, suffix: str) -> Path | None:
    """A whole file whose name begins with ``stem``; None where there is none."""
    for folder in _folders():
        for path in sorted(folder.glob(f"{stem}_*{suffix}")):
            with suppress(OSError):  # removed since, or unreadable
                if _is_ours(path) and path.stem.endswith(f"_{_digest(path)}"):
                    return path
    return None


def kept(stem: str, suffix: str, make: Callable[[Path], object]) -> Path:
    """The file of that name, written by ``make(path)`` where there is none: by one of the processes that ask for it."""
    if path := found(stem, suffix):
        return path
    with locked(stem) as folder:
        return found(stem, suffix) or _write(folder, stem, suffix, make)


def replaced(stem: str, suffix: str, make: Callable[[Path], object]) -> Path:
    """The file of that name, written anew."""
    with locked(stem) as folder:
        return _write(folder, stem, suffix, make)


@contextmanager
def locked(stem: str) -> Iterator[Path]:
    """The folder to write files of this name to, alone; what killed processes have left of them is cleared.

    The lock saves work and no more: where it cannot be had, files are written all the same, each under a name of its
    own until it is whole. It ends with its process.
    """
    folder = _writable()
    lock = FileLock(folder / f"{stem}.lock", timeout=PATIENCE)
    with suppress(OSError, NotImplementedError, Timeout):
        lock.acquire()
        for remains in folder.glob(f"{UNFINISHED}{stem}_*"):
            remains.unlink(missing_ok=True)
    try:
        yield folder
    finally:
        lock.release()


def _write(folder: Path, stem: str, suffix: str, make: Callable[[Path], object]) -> Path:
    handle, name = tempfile.mkstemp(dir=folder, prefix=f"{UNFINISHED}{stem}_", suffix=suffix)
    os.close(handle)
    unfinished = Path(name)
    try:
        make(unfinished)
        unfinished.chmod(0o700)
        path = unfinished.replace(folder / f"{stem}_{_digest(unfinished)}{suffix}")
    finally:
        unfinished.unlink(missing_ok=True)
    for old in folder.glob(f"{stem}_*{suffix}"):
        if old != path:
            old.unlink(missing_ok=True)
    return path


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]


def _is_ours(path: Path) -> bool:
    """Whether none but this user and root may alter what is there; a link could be anyone's."""
    if not hasattr(os, "geteuid"):
        return True
    try:
        status = path.lstat()
    except OSError:
        return False
    foreign = status.st_uid not in (0, os.geteuid())
    return not foreign and not status.st_mode & OTHERS_MAY_WRITE and not stat.S_ISLNK(status.st_mode)


def _folders() -> list[Path]:
    """Those to be trusted that are there, the lasting one first."""
    temporary = sorted(Path(tempfile.gettempdir()).glob(f"{TEMPORARY}*"))
    return [folder for folder in (*_lasting(), *temporary) if _is_ours(folder) and folder.is_dir()]


def _lasting() -> list[Path]:
    """The folder of this user that lasts, made where it is not there; none without a home."""
    usual = "~/Library/Caches" if sys.platform == "darwin" else "~/.cache"
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or usual, "qplayer_gpu").expanduser()
    except RuntimeError:
        return []
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return [folder]


def _writable() -> Path:
    """The first folder that can be written to, or a new one beside the temporary files."""
    if not (folders := _all_writable()):
        tempfile.mkdtemp(prefix=TEMPORARY)
        folders = _all_writable()  # processes that come here at once take the same one
    return folders[0]


def _all_writable() -> list[Path]:
    return [folder for folder in _folders() if os.access(folder, os.W_OK | os.X_OK)]
