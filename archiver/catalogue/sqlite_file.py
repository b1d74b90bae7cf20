"""The catalogue as a file of SQLite's: how it is opened, recognised, tested and replaced.

All of it goes without SQLAlchemy, so that an audit can test the file and need not load that.

A file in WAL mode has companions (``-wal``, ``-shm``), and SQLite would replay a companion that an
earlier file left behind into the new one. So connecting and swapping exclude each other by a lock
on a file beside it, and every connection remembers which file it has open.

What can be wrong with the file, apart from anything being wrong with the archive::

    CatalogueUnusable            damaged, foreign, empty or missing: it is written anew
    └── CatalogueVersionError    another version of archiver wrote it: the same, but it is not damaged
    CatalogueReadOnlyError       this user may not write it, or its folder
    CatalogueFullError           the disk has no room for it
    CatalogueBusyError           other processes had it all the time
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import re
import secrets
import shlex
import sqlite3
import stat
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from archiver.errors import ArchiverError, LockedError, NoSpaceError
from archiver.storage.filesystem import open_working_file, sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

APPLICATION_ID: Final = 0x61726376
"""``arcv``: in the header of every catalogue, so that no other SQLite file is taken for one."""
SCHEMA: Final = 4
"""The number of this version's tables, in ``PRAGMA user_version``. Another number is never migrated: the
file is written anew. To be raised with every change of a table or an index, or of what goes into them."""
TABLES: Final = {
    "repositories": ("id", "name"),
    "layouts": ("id", "digest"),
    "packs": ("id", "digest", "size", "objects"),
    "manifests": ("id", "digest", "upstream", "endpoint", "committed", "licence"),
    "snapshots": (
        *("id", "digest", "repository_id", "revision", "manifest_id", "sealed", "tool", "parent"),
        *("selection", "files", "bytes", "objects", "stored", "tensors"),
    ),
    "tensors": ("layout_id", "number", "name", "dtype", "shape", "begin", "end"),
    "tensor_groups": ("layout_id", "number", "pattern", "dtype", "shape", "tensors", "bytes"),
    "cards": ("manifest_id", "licence", "title", "terms", "text"),
    "files": ("manifest_id", "path", "size", "sha256", "blake3", "oid", "lfs", "layout_id"),
    "objects": ("blake3", "pack_id", "offset", "stored", "size", "codec"),
    "events": ("digest", "event", "time", "tool", "repository", "revision", "detail"),
}
"""The tables of a catalogue and their columns: there are no others, and no views or triggers."""

BUSY_SECONDS = 0.5
"""How long SQLite itself waits for another process before it says that it is busy.

Meanwhile no signal is heard; so it is short, and the waiting is done by whoever tries again.
"""
VALUE_MAX: Final = 64 << 20
"""Bytes of the longest value that SQLite may make."""
SCHEMA_VALUE_MAX: Final = 64 << 10
"""Bytes of the longest value while the schema is read: its SQL is the longest,"""
SCHEMA_STEPS_MAX: Final = 20_000
"""and of SQLite's own steps, so many: a catalogue's schema takes some hundred."""
_SCHEMA_ENTRIES_MAX: Final = 64
"""Entries that a schema has at most: tables and their indexes."""
_PLAIN: Final = re.compile(
    r"CREATE TABLE [\w\s,()\"]*|CREATE (?:UNIQUE )?INDEX [\w\s\"]*\([\w\s,\"]*\)", re.ASCII
)
_COMPUTES: Final = re.compile(
    r"\b(?:AS|CHECK|COLLATE|DEFAULT|GENERATED|SELECT|TEMP|TRIGGER|USING|VIEW|VIRTUAL|WHERE)\b",
    re.IGNORECASE,
)
"""What would let SQLite compute something when a row is read or written."""

COMPANIONS: Final = ("-wal", "-shm", "-journal")
MEMORY: Final = "memory"
"""The mode of ``connect`` for a catalogue that lies on no disk; its path is only a name."""
_PARAMETERS: Final = {"immutable": "immutable=1", MEMORY: "mode=memory&cache=shared"}
_PRIMARY_CODE: Final = 0xFF
_DAMAGE_CODES: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_NO_SHARED_MEMORY: Final = {errno.ENODEV, errno.ENOSYS, errno.EINVAL}

FileIdentity = tuple[int, int]


# ---- errors


class CatalogueUnusable(ArchiverError):  # noqa: N818 - a state that an operation answers by a rebuild
    """The file is damaged, foreign, missing, or written by another version: rebuild it."""

    def __init__(self, path: object, reason: str) -> None:
        folder = shlex.quote(str(Path(str(path)).parent))
        super().__init__(
            f"The catalogue {path} cannot be used: {reason}.",
            hint=f"It is only an index: 'archiver catalogue rebuild -C {folder}' writes it anew.",
        )
        self.reason = reason


class CatalogueVersionError(CatalogueUnusable):
    """An older or newer version wrote the file: it is not damaged."""


class CatalogueReadOnlyError(ArchiverError):
    """The catalogue's file or folder may not be written by this user."""

    def __init__(self, path: object) -> None:
        super().__init__(
            f"The catalogue {path} may only be read.",
            hint="Run as a user who may write the archive's folder.",
        )


class CatalogueFullError(NoSpaceError):
    """The disk has no room for the catalogue."""


class CatalogueBusyError(LockedError):
    """Other processes had the catalogue all the time."""


CATALOGUE_FAULTS: Final = (
    CatalogueUnusable,
    CatalogueReadOnlyError,
    CatalogueFullError,
    CatalogueBusyError,
)
"""What can be wrong with a catalogue's file: each is answered by another file, or by none."""


# ---- opening


class FileConnection(sqlite3.Connection):
    """A connection that knows which file it opened."""

    identity: FileIdentity | None = None


def identity(path: Path) -> FileIdentity | None:
    """Return which file is at ``path`` now; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def may_write(path: Path) -> bool:
    """Return whether the file (or a new one) and its companions can be written here."""
    return may_replace(path) and (not path.exists() or os.access(path, os.W_OK))


def may_replace(path: Path) -> bool:
    """Return whether a new file can take the place of the one at ``path``, whoever that belongs to."""
    return os.access(path.parent, os.W_OK | os.X_OK)


def connect(path: Path, mode: str) -> FileConnection:
    """Return a raw connection; ``mode`` is SQLite's URI parameter (``rw``, ``rwc``, ``ro``), or MEMORY.

    Nothing is read or written yet, apart from an empty file being created by ``rwc``. SQLite gives the
    companions the file's owner and access.
    """
    name = quote(str(path if mode == MEMORY else path.absolute()))
    if mode != MEMORY:
        _require_regular_files(path)
    if mode == "rwc" and may_replace(path):
        with suppress(OSError):
            os.close(open_working_file(path, os.O_RDWR, path.parent))
    connection = sqlite3.connect(
        f"file:{name}?{_PARAMETERS.get(mode, 'mode=' + mode)}",
        timeout=BUSY_SECONDS,
        isolation_level=None,  # SQLAlchemy's events write BEGIN, not the driver
        check_same_thread=False,
        factory=FileConnection,
        uri=True,
    )
    connection.identity = identity(path)
    _limit_values(connection, VALUE_MAX)
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _require_regular_files(path: Path) -> None:
    """Raise CatalogueUnusable if the file, or one beside it, is a link, a folder or a device.

    SQLite follows links, and writes to what they lead to.
    """
    for name in (path, *(Path(f"{path}{suffix}") for suffix in COMPANIONS)):
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(name.lstat().st_mode):
                raise CatalogueUnusable(path, f"{name.name} is a link, a folder or no file at all")


def _limit_values(connection: sqlite3.Connection, size: int) -> None:
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, size)
    connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, size)


# ---- whether it is a catalogue


def has_tables(connection: sqlite3.Connection, path: Path) -> bool:
    """Return whether the open file is a catalogue of this version; False if it is empty. Write nothing.

    Raises:
        CatalogueVersionError: It is one of another version.
        CatalogueUnusable: It is something else, or somebody has changed its tables.
    """
    # SQLite parses the whole schema at the first look, in memory, and it may be as large as the file.
    _limit_values(connection, SCHEMA_VALUE_MAX)
    connection.set_progress_handler(lambda: True, SCHEMA_STEPS_MAX)
    try:
        mark, number = _pragma(connection, "application_id"), _pragma(connection, "user_version")
        if mark == 0 and number == 0 and not _schema_entries(connection):
            return False
        if mark != APPLICATION_ID:
            raise CatalogueUnusable(path, "the file is something else's")
        if number != SCHEMA:
            reason = f"another version wrote it (schema {number}, not {SCHEMA})"
            raise CatalogueVersionError(path, reason)
        _require_plain(connection, path)
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode in (sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_INTERRUPT):
            raise CatalogueUnusable(path, "its schema is not that of a catalogue") from error
        raise
    finally:
        connection.set_progress_handler(None, 0)
        _limit_values(connection, VALUE_MAX)
    return True


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)


def _schema_entries(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
    """Return the kind, name, table and SQL of the schema's entries, one more than there may be at most."""
    query = "SELECT type, name, tbl_name, sql FROM sqlite_master LIMIT ?"
    return connection.execute(query, (_SCHEMA_ENTRIES_MAX + 1,)).fetchall()


def _require_plain(connection: sqlite3.Connection, path: Path) -> None:
    """Raise CatalogueUnusable unless the schema is tables of plain columns and nothing else.

    The file lies in a folder that others may have written: a view in the place of a table, a trigger or a
    computed column would run, with all the memory and time that there is, at the first look.
    """
    entries = _schema_entries(connection)
    if len(entries) > _SCHEMA_ENTRIES_MAX or not all(_is_plain(*entry) for entry in entries):
        raise CatalogueUnusable(path, "its tables are not those of a catalogue")
    for table in TABLES:
        columns = tuple(row[1] for row in connection.execute(f"PRAGMA table_xinfo({table})"))
        if columns != TABLES[table]:
            raise CatalogueUnusable(path, f"its table {table} is not that of a catalogue")


def _is_plain(kind: object, name: object, table: object, sql: object) -> bool:
    """Return whether an entry of the schema is a known table, or an index of one."""
    if table not in TABLES or (kind != "index" and (kind, name) != ("table", table)):
        return False
    if sql is None:
        return kind == "index"
    return isinstance(sql, str) and bool(_PLAIN.fullmatch(sql)) and not _COMPUTES.search(sql)


def damage_of(path: Path, *, untouched: bool = False) -> str:
    """Return what SQLite says is wrong with the file; ``""`` if nothing, or if it cannot be asked.

    With ``untouched`` not even a lock or a log comes to lie beside it: what other processes have not
    yet written into it is not seen.
    """
    if not os.path.lexists(path):
        return ""
    # A connection that may write takes its log away with it when it is closed.
    mode = "rw" if may_write(path) and not untouched else "immutable"
    lock = nullcontext() if untouched else swap_lock(path)
    try:
        with lock, closing(connect(path, mode)) as connection:
            has_tables(connection, path)  # no view, trigger or computed column may run
            (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except CatalogueVersionError:
        return ""
    except CatalogueUnusable as error:
        return error.reason
    except sqlite3.Error as error:
        damaged = getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE in _DAMAGE_CODES
        return str(error) if damaged else ""
    return "" if answer == "ok" else " ".join(str(answer).split())


# ---- the lock beside it, and a new file in its place


@contextmanager
def swap_lock(path: Path, *, exclusive: bool = False) -> Iterator[None]:
    """Exclude connecting (shared) and swapping (exclusive) from each other.

    Where the lock file cannot be made (a folder that may only be read, a file system without
    flock), nothing is locked: then nobody can swap, or the catalogue is only a hint less fresh.
    """
    descriptor = _open_lock_file(path)
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
    """Return whether processes can share memory through a file beside ``path``; True if not known.

    Asked on the lock's file. Some FUSE and network filesystems cannot, and once SQLite has tried, the
    catalogue cannot be opened any more.
    """
    descriptor = _open_lock_file(path)
    if descriptor is None:
        return True
    try:
        os.pwrite(descriptor, b"\0", 0)
        mmap.mmap(descriptor, 1).close()
    except OSError as error:
        return error.errno not in _NO_SHARED_MEMORY
    finally:
        os.close(descriptor)
    return True


def _open_lock_file(path: Path) -> int | None:
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
    for name in (path, *(Path(f"{path}{suffix}") for suffix in COMPANIONS)):
        if name.is_dir() and not name.is_symlink():
            # It may hold anything, so that it is only moved.
            name.rename(name.with_name(f"{name.name}.folder-{secrets.token_hex(4)}"))
        else:
            name.unlink(missing_ok=True)
    new.rename(path)
    sync_folder(path.parent)


def remove_all(path: Path) -> None:
    """Remove a file of ours and everything that was made beside it."""
    for suffix in ("", *COMPANIONS, "-lock"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
