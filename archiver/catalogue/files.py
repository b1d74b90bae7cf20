"""The catalogue as a file: how it is opened, and how a new one takes its place.

A file in WAL mode has companions (``-wal``, ``-shm``), and SQLite would replay a companion that an
earlier file left behind into the new one. So connecting and swapping exclude each other by a lock
on a file beside it, and every connection remembers which file it has open.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import secrets
import sqlite3
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from archiver.catalogue.errors import CatalogueUnusable
from archiver.storage.filesystem import open_working_file, sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

BUSY_SECONDS = 0.5
"""How long SQLite itself waits for another process before it says that it is busy.

Meanwhile no signal is heard; so it is short, and the waiting is done in ``patiently``.
"""
_VALUE_MAX: Final = 64 << 20
"""Bytes of the longest value that SQLite may make."""
_SCHEMA_VALUE_MAX: Final = 64 << 10
"""Bytes of the longest value while the schema is read: its SQL is the longest,"""
_SCHEMA_STEPS: Final = 20_000
"""and of SQLite's own steps, so many: a catalogue's schema takes some hundred."""
MEMORY: Final = "memory"
"""The mode of ``connect`` for a catalogue that lies on no disk; its path is only a name."""
_NO_SHARING: Final = {errno.ENODEV, errno.ENOSYS, errno.EINVAL}
COMPANIONS = ("-wal", "-shm", "-journal")

_PARAMETERS: Final = {"immutable": "immutable=1", MEMORY: "mode=memory&cache=shared"}

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
    return may_replace(path) and (not path.exists() or os.access(path, os.W_OK))


def may_replace(path: Path) -> bool:
    """Whether a new file can take the place of the one at ``path``, whoever that belongs to."""
    return os.access(path.parent, os.W_OK | os.X_OK)


def connect(path: Path, mode: str) -> FileConnection:
    """A raw connection; ``mode`` is SQLite's URI parameter (``rw``, ``rwc``, ``ro``), or MEMORY.

    Nothing is read or written yet, apart from an empty file being created by ``rwc``. SQLite gives the
    companions the file's owner and access.
    """
    where = quote(str(path if mode == MEMORY else path.absolute()))
    if mode != MEMORY:
        require_own_files(path)
    if mode == "rwc" and may_replace(path):
        with suppress(OSError):
            os.close(open_working_file(path, os.O_RDWR, path.parent))
    connection = sqlite3.connect(
        f"file:{where}?{_PARAMETERS.get(mode, 'mode=' + mode)}",
        timeout=BUSY_SECONDS,
        isolation_level=None,  # SQLAlchemy's events write BEGIN, not the driver
        check_same_thread=False,
        factory=FileConnection,
        uri=True,
    )
    connection.identity = identity(path)
    _limit_values(connection, _VALUE_MAX)
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


@contextmanager
def short_schema(connection: sqlite3.Connection) -> Iterator[None]:
    """While it is held, SQLite reads no schema that is much longer than a catalogue's.

    It parses all of it at the first look, in memory, and a schema may be as large as the file.
    """
    _limit_values(connection, _SCHEMA_VALUE_MAX)
    connection.set_progress_handler(lambda: True, _SCHEMA_STEPS)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)
        _limit_values(connection, _VALUE_MAX)


def _limit_values(connection: sqlite3.Connection, size: int) -> None:
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, size)
    connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, size)


def require_own_files(path: Path) -> None:
    """Raise CatalogueUnusable if the file, or one beside it, is a link, a folder or a device.

    SQLite follows links, and writes to what they lead to.
    """
    for name in (path, *(Path(f"{path}{suffix}") for suffix in COMPANIONS)):
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(name.lstat().st_mode):
                raise CatalogueUnusable(path, f"{name.name} is a link, a folder or no file at all")


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


def shares_memory(path: Path) -> bool:
    """Whether processes can share memory through a file beside ``path``; True if that is not known.

    Asked on the lock's file. Some FUSE and network filesystems cannot, and once SQLite has tried, the
    catalogue cannot be opened any more.
    """
    descriptor = _lock_file(path)
    if descriptor is None:
        return True
    try:
        os.pwrite(descriptor, b"\0", 0)
        mmap.mmap(descriptor, 1).close()
    except OSError as error:
        return error.errno not in _NO_SHARING
    finally:
        os.close(descriptor)
    return True


def _lock_file(path: Path) -> int | None:
    name = Path(f"{path}-lock")
    with suppress(OSError):
        return open_working_file(name, os.O_RDWR, path.parent)
    with suppress(OSError):
        return os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    return None


def swap_in(new: Path, path: Path) -> None:
    """Put ``new`` at ``path``; the caller holds the exclusive lock.

    The old file goes before its companions: a crash in between leaves no catalogue, and SQLite
    drops a log that has no file, whereas an old file without its log, or a new one with an alien
    log, would be silently wrong. Connections to the old file keep reading it until they look again.
    """
    _remove(path)
    remove_companions(path)
    new.rename(path)
    sync_folder(path.parent)


def remove_companions(path: Path) -> None:
    """Remove the log and its index beside ``path``."""
    for suffix in COMPANIONS:
        _remove(Path(f"{path}{suffix}"))


def _remove(path: Path) -> None:
    """Remove a file or a link; a folder in its place is only moved, for it may hold anything."""
    if path.is_dir() and not path.is_symlink():
        path.rename(path.with_name(f"{path.name}.folder-{secrets.token_hex(4)}"))
    else:
        path.unlink(missing_ok=True)


def remove_all(path: Path) -> None:
    """Remove a file of ours and everything that was made beside it."""
    path.unlink(missing_ok=True)
    remove_companions(path)
    Path(f"{path}-lock").unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Make a closed file's content durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
