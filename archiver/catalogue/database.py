"""An open catalogue: transactions on it, whoever else is doing the same, and a new file in its place."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
import uuid
from contextlib import ExitStack, closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeVar, cast

from sqlalchemy import QueuePool, create_engine, event
from sqlalchemy.exc import StatementError

from archiver.catalogue.schema import create_statements
from archiver.catalogue.sqlite_file import (
    APPLICATION_ID,
    CATALOGUE_FAULTS,
    MEMORY,
    SCHEMA,
    CatalogueBusyError,
    CatalogueFullError,
    CatalogueReadOnlyError,
    CatalogueUnusable,
    FileConnection,
    connect,
    has_tables,
    identity,
    may_write,
    shares_memory,
    swap_in,
    swap_lock,
)
from archiver.errors import ArchiverError, DamageError
from archiver.progress import stop_requested

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from sqlalchemy import Connection

Result = TypeVar("Result")
Item = TypeVar("Item")

RETRY_SECONDS = 60.0
"""Seconds after which a file that is busy all the time is given up."""
_BEGIN: Final = "catalogue_begin"
_PRIMARY_CODE: Final = 0xFF
_PASSING_CODES: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_BAD_ROW_CODES: Final = {
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_MISMATCH,
}

Failure = sqlite3.Error | StatementError | OverflowError | UnicodeEncodeError
_FAILURES: Final = (sqlite3.Error, StatementError, OverflowError, UnicodeEncodeError)
"""What a transaction can fail with. The last two are values that SQLite cannot hold."""


class MovedError(Exception):
    """Another process put a new file in the place of the one that is open."""


class Catalogue:
    """An open catalogue. Threads may share it; processes each open their own.

    Args:
        path: The SQLite file.
        read_only: Whether the file or its folder may not be written by this user.
        memory: Whether it lies on no disk; the path is only a name then.
    """

    def __init__(self, path: Path, *, read_only: bool, memory: bool = False) -> None:
        self.path = path
        self.read_only = read_only
        self._memory = memory
        self._open_fallback: Callable[[], Catalogue] | None = None
        self._fallback: Catalogue | None = None
        self._fallback_lock = threading.Lock()
        self._anchor: FileConnection | None = None
        self._engine = create_engine(
            "sqlite://", creator=self._connect, poolclass=QueuePool, pool_size=2, max_overflow=-1
        )
        event.listen(self._engine, "begin", _begin)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open the file at ``path``; make it, and its tables, where there are none.

        Raises:
            CatalogueUnusable: Damaged, foreign, of another version, or missing where none can be created.
                The answer is to rebuild it.
        """
        path = Path(path)
        read_only = not may_write(path)
        if not read_only:
            retry_while_busy(path, lambda: _create(path))
        catalogue = cls(path, read_only=read_only)
        try:
            catalogue.read(lambda _: None)
        except BaseException:
            catalogue.close()
            raise
        return catalogue

    @classmethod
    def in_memory(cls) -> Self:
        """Return a new, empty one that lies on no disk and is gone when it is closed."""
        catalogue = cls(Path(f"archiver-{uuid.uuid4().hex}"), read_only=False, memory=True)
        # As long as somebody is connected it lives.
        catalogue._anchor = connect(catalogue.path, MEMORY)
        _create_tables(catalogue._anchor, catalogue.path)
        return catalogue

    @property
    def in_memory_only(self) -> bool:
        """Whether what it answers lies on no disk, from the start or since its file failed."""
        return self._memory or self._fallback is not None

    def fall_back_on(self, open_fallback: Callable[[], Catalogue]) -> None:
        """Go on with what ``open_fallback`` gives once this file cannot be read or written any more."""
        self._open_fallback = open_fallback

    def read(self, work: Callable[[Connection], Result]) -> Result:
        """Return what ``work`` gives; all its reads see one state of the catalogue."""
        return self._with_fallback(
            lambda: retry_while_busy(self.path, lambda: self._run(work, "BEGIN")),
            lambda fallback: fallback.read(work),
        )

    def write(self, work: Callable[[Connection], Result]) -> Result:
        """Return what ``work`` gives, committed whole or not at all; it may be called more than once.

        The transaction holds the write lock from its first statement, so what it reads stays true.
        """

        def attempt() -> Result:
            if self.read_only:
                raise CatalogueReadOnlyError(self.path)
            return retry_while_busy(self.path, lambda: self._run(work, "BEGIN IMMEDIATE"))

        return self._with_fallback(attempt, lambda fallback: fallback.write(work))

    def _with_fallback(
        self, attempt: Callable[[], Result], again: Callable[[Catalogue], Result]
    ) -> Result:
        """Return what ``attempt`` gives, or ``again`` on the fallback where the file fails."""
        if self._fallback is None:
            try:
                return attempt()
            except CATALOGUE_FAULTS:
                if self._open_fallback is None or stop_requested.is_set():
                    raise
                with self._fallback_lock:
                    if self._fallback is None:
                        self._fallback = self._open_fallback()
        return again(self._fallback)

    def _run(self, work: Callable[[Connection], Result], begin: str) -> Result:
        with self._engine.connect().execution_options(**{_BEGIN: begin}) as connection:
            with connection.begin():
                raw = cast("FileConnection", connection.connection.dbapi_connection)
                if raw.identity == identity(self.path):
                    return work(connection)
            connection.invalidate()
        raise MovedError

    def _connect(self) -> FileConnection:
        if self._memory:
            connection = connect(self.path, MEMORY)
            # Of connections to the same memory, one that writes locks whole tables for those that read.
            connection.execute("PRAGMA read_uncommitted = ON")
            connection.execute("PRAGMA temp_store = MEMORY")
            connection.execute("PRAGMA foreign_keys = ON")
            return connection
        with swap_lock(self.path):
            if not self.read_only:
                return _set_up(connect(self.path, "rw"), self.path, write=True)
            try:
                return _set_up(connect(self.path, "ro"), self.path, write=False)
            except sqlite3.OperationalError:
                # The log's companions cannot be made beside the file.
                return _set_up(connect(self.path, "immutable"), self.path, write=False)

    def close(self) -> None:
        """Close every connection."""
        # It may hold an archive's open packs, and this object is part of a cycle.
        self._open_fallback = None
        self._engine.dispose()
        if self._anchor is not None:
            self._anchor.close()
        if self._fallback is not None:
            self._fallback.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))


def _create(path: Path) -> None:
    """Make the file and its tables if they are not there. Several processes may do this at once."""
    with swap_lock(path), closing(connect(path, "rwc")) as connection:
        if not has_tables(connection, path):
            _create_tables(connection, path)


def _create_tables(connection: FileConnection, path: Path) -> None:
    """Make all tables or none, and mark the file last, in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    if not has_tables(connection, path):  # now that nobody else can write
        for statement in create_statements():
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
    connection.execute("COMMIT")


def _set_up(connection: FileConnection, path: Path, *, write: bool) -> FileConnection:
    """Return the connection, set up, once its file is known to be a catalogue of this version."""
    with ExitStack() as undo:
        undo.callback(connection.close)
        if not has_tables(connection, path):
            raise CatalogueUnusable(path, "the file is empty")
        if write:
            # The log's index is memory that processes share through a file.
            journal = "WAL" if shares_memory(path) else "TRUNCATE"
            connection.execute(f"PRAGMA journal_mode = {journal}")
            connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        undo.pop_all()
    return connection


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Give the items in lists of at most ``size``."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch


# ---- failures


def retry_while_busy(path: Path, attempt: Callable[[], Result]) -> Result:
    """Return what ``attempt`` gives, tried again while other processes are in the way.

    Raises:
        DamageError: A record holds what SQLite cannot hold, or contradicts itself.
        ArchiverError: One of CATALOGUE_FAULTS.
    """
    deadline = time.monotonic() + RETRY_SECONDS
    while True:
        try:
            return attempt()
        except MovedError:
            pass
        except _FAILURES as error:
            if not _is_passing(error):
                raise _explained(error, path) from error
        if stop_requested.is_set():
            raise CatalogueBusyError(f"The catalogue {path} is busy, and the run is to end.")
        if time.monotonic() > deadline:
            raise CatalogueBusyError(
                f"The catalogue {path} was busy for {RETRY_SECONDS:.0f} seconds."
            )
        time.sleep(random.uniform(0.002, 0.05))  # noqa: S311 - spreads processes, hides nothing


def _is_passing(error: Failure) -> bool:
    """Return whether the error comes from another process being busy, or having replaced the file."""
    code = _code(error)
    return code == sqlite3.SQLITE_READONLY_DBMOVED or code & _PRIMARY_CODE in _PASSING_CODES


def _explained(error: Failure, path: Path) -> ArchiverError:
    """Return the error that tells the user, or the calling operation, what to do."""
    code = _code(error) & _PRIMARY_CODE
    cause = _cause(error)
    if code in _BAD_ROW_CODES or isinstance(cause, ValueError | OverflowError):
        return DamageError(f"A record cannot be put into the catalogue {path}: {cause}.")
    if code == sqlite3.SQLITE_FULL:
        return CatalogueFullError(
            f"The disk has no room for the catalogue {path}.",
            hint="Free some room and run the same command again; it goes on from there.",
        )
    if code == sqlite3.SQLITE_READONLY:
        return CatalogueReadOnlyError(path)
    return CatalogueUnusable(path, str(cause))


def _code(error: Failure) -> int:
    """Return SQLite's extended error code, 0 if the error is not SQLite's."""
    return int(getattr(_cause(error), "sqlite_errorcode", 0))


def _cause(error: Failure) -> BaseException | None:
    return error.orig if isinstance(error, StatementError) else error


# ---- a new file in the place of one that others may be reading and writing


def replace_file(new: Path, path: Path) -> None:
    """Make the closed catalogue ``new`` durable and let it take the place of ``path``."""
    log = Path(f"{new}-wal")
    if log.exists() and log.stat().st_size:
        raise CatalogueUnusable(new, "its log was not written back")
    descriptor = os.open(new, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    # The write lock first: whoever writes needs no new connection, and so no swap lock, to finish.
    with _no_writers(path), swap_lock(path, exclusive=True):
        swap_in(new, path)


@contextmanager
def _no_writers(path: Path) -> Iterator[None]:
    """Hold the old catalogue's write lock, if it has one: no transaction is lost halfway."""
    connection = retry_while_busy(path, lambda: _write_locked(path))
    if connection is None:
        yield
        return
    with closing(connection):
        yield


def _write_locked(path: Path) -> FileConnection | None:
    """Return a connection that holds the write lock of the file; None if it cannot be had."""
    with ExitStack() as undo:
        try:
            with swap_lock(path):
                connection = undo.enter_context(closing(connect(path, "rw")))
                has_tables(connection, path)
            connection.execute("BEGIN IMMEDIATE")
        except CatalogueUnusable:
            return None
        except sqlite3.Error as error:
            if _is_passing(error):
                raise
            return None
        if connection.identity != identity(path):
            raise MovedError
        undo.pop_all()
    return connection
