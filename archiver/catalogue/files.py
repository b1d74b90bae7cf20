"""The catalogue as a file: how it is opened, and how a new one takes its place.

A file in WAL mode has companions (``-wal``, ``-shm``), and SQLite would replay a companion that an
earlier file left behind into the new one. So connecting and swapping exclude each other by a lock
on a file beside it, and every connection remembers which file it has open.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterator

BUSY_SECONDS = 60.0
"""How long SQLite itself waits for another process before it says that it is busy."""
COMPANIONS = ("-wal", "-shm", "-journal")

FileIdentity = tuple[int, int]


class FileConnection(sqlite3.Connection):
    """A connection that knows which file it opened."""

    identity: FileIdentity | None = None


def identity(path: Path) -> FileIdentity | None:
    """Which file is at ``path`` now; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def may_write(path: Path) -> bool:
    """Whether the file (or a new one) and its companions can be written here."""
    return os.access(path.parent, os.W_OK) and (not path.exists() or os.access(path, os.W_OK))


def connect(path: Path, mode: str) -> FileConnection:
    """A raw connection; ``mode`` is SQLite's URI parameter (``rw``, ``rwc``, ``ro``).

    Nothing is read or written yet, apart from an empty file being created by ``rwc``.
    """
    where = quote(str(path.absolute()))
    connection = sqlite3.connect(
        f"file:{where}?{'immutable=1' if mode == 'immutable' else 'mode=' + mode}",
        timeout=BUSY_SECONDS,
        isolation_level=None,  # SQLAlchemy's events write BEGIN, not the driver
        check_same_thread=False,
        factory=FileConnection,
        uri=True,
    )
    connection.identity = identity(path)
    return connection


@contextmanager
def swap_lock(path: Path, *, exclusive: bool = False) -> Iterator[None]:
    """Excludes connecting (shared) and swapping (exclusive) from each other.

    Where the lock file cannot be made (a folder that may only be read, a file system without
    flock), nothing is locked: then nobody can swap, or the catalogue is only a hint less fresh.
    """
    descriptor = _lock_file(path)
    if descriptor is None:
        yield
        return
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def _lock_file(path: Path) -> int | None:
    name = f"{path}-lock"
    for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):
        with suppress(OSError):
            return os.open(name, flags | os.O_CLOEXEC, 0o666)
    return None


def swap_in(new: Path, path: Path) -> None:
    """Put ``new`` at ``path``; the caller holds the exclusive lock.

    The old file goes before its companions: a crash in between leaves no catalogue, and SQLite
    drops a log that has no file, whereas an old file without its log, or a new one with an alien
    log, would be silently wrong. Connections to the old file keep reading it until they look again.
    """
    path.unlink(missing_ok=True)
    remove_companions(path)
    new.rename(path)
    sync(path.parent)


def remove_companions(path: Path) -> None:
    """Remove the log and its index beside ``path``."""
    for suffix in COMPANIONS:
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def remove_all(path: Path) -> None:
    """Remove a file of ours and everything that was made beside it."""
    path.unlink(missing_ok=True)
    remove_companions(path)
    Path(f"{path}-lock").unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Make a closed file's content, or a folder's entries, durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
