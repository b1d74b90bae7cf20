"""Opening a catalogue and running transactions on it, whoever else is doing the same."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
import uuid
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar, cast

from sqlalchemy import QueuePool, create_engine, event

from archiver.catalogue.errors import (
    CATALOGUE_FAULTS,
    CatalogueBusyError,
    CatalogueReadOnlyError,
    CatalogueUnusable,
)
from archiver.catalogue.failures import FAILURES, is_passing, reported
from archiver.catalogue.files import (
    MEMORY,
    FileConnection,
    connect,
    identity,
    may_write,
    shares_memory,
    swap_lock,
)
from archiver.catalogue.version import SCHEMA, schema_number
from archiver.progress import stop_requested

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from sqlalchemy import Connection

Result = TypeVar("Result")

PATIENCE = 60.0
"""Seconds after which a file that is busy all the time is given up."""
_LOOK = "SELECT 1 FROM sqlite_master LIMIT 1"
_BEGIN = "catalogue_begin"


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
        self._substitute: Callable[[], Catalogue] | None = None
        self._replacement: Catalogue | None = None
        self._replacing = threading.Lock()
        self._anchor: FileConnection | None = None
        self._engine = create_engine(
            "sqlite://", creator=self._connect, poolclass=QueuePool, pool_size=2, max_overflow=-1
        )
        event.listen(self._engine, "begin", _begin)

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, create: bool = True) -> Self:
        """Open the file at ``path``; make it, or bring it to this version's schema, where needed.

        Raises:
            CatalogueUnusable: Damaged, foreign, newer, or missing and not to be (or cannot be)
                created. The answer is to rebuild it.
        """
        where = Path(path)
        read_only = not may_write(where)
        if not read_only:
            _prepare(where, create=create)
        catalogue = cls(where, read_only=read_only)
        try:
            catalogue.read(lambda _: None)
        except BaseException:
            catalogue.close()
            raise
        return catalogue

    @classmethod
    def in_memory(cls) -> Self:
        """A new, empty one that lies on no disk and is gone when it is closed."""
        catalogue = cls(Path(f"archiver-{uuid.uuid4().hex}"), read_only=False, memory=True)
        # As long as somebody is connected it lives.
        catalogue._anchor = connect(catalogue.path, MEMORY)
        from archiver.catalogue.migrate import migrate  # noqa: PLC0415 - it imports alembic

        migrate(catalogue.path, MEMORY)
        return catalogue

    def replace_by(self, substitute: Callable[[], Catalogue]) -> None:
        """Go on with what ``substitute`` gives once this file cannot be read or written any more."""
        self._substitute = substitute

    def read(self, work: Callable[[Connection], Result]) -> Result:
        """What ``work`` gives; all its reads see one state of the catalogue."""
        return self._lastingly(
            lambda: patiently(self.path, lambda: self._once(work, "BEGIN")),
            lambda other: other.read(work),
        )

    def _lastingly(
        self, attempt: Callable[[], Result], again: Callable[[Catalogue], Result]
    ) -> Result:
        """What ``attempt`` gives, or ``again`` on the replacement where the file fails."""
        if self._replacement is None:
            try:
                return attempt()
            except CATALOGUE_FAULTS:
                if self._substitute is None or stop_requested.is_set():
                    raise
                with self._replacing:
                    if self._replacement is None:
                        self._replacement = self._substitute()
        return again(self._replacement)

    def write(self, work: Callable[[Connection], Result]) -> Result:
        """What ``work`` gives, committed whole or not at all; it may be called more than once.

        The transaction holds the write lock from its first statement, so what it reads stays true.
        """

        def attempt() -> Result:
            if self.read_only:
                raise CatalogueReadOnlyError(self.path)
            return patiently(self.path, lambda: self._once(work, "BEGIN IMMEDIATE"))

        return self._lastingly(attempt, lambda other: other.write(work))

    def close(self) -> None:
        """Close every connection."""
        # It may hold an archive's open packs, and this object is part of a cycle.
        self._substitute = None
        self._engine.dispose()
        if self._anchor is not None:
            self._anchor.close()
        if self._replacement is not None:
            self._replacement.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for rows that are too many to hold at once; one state, never retried."""
        # Whoever keeps readers out is waited for here: later it would be too late.
        self.read(lambda connection: connection.exec_driver_sql(_LOOK).first())
        if self._replacement is not None:
            with self._replacement.reading() as connection:
                yield connection
            return
        try:
            with self._transaction("BEGIN") as connection:
                yield connection
        except MovedError as error:
            raise CatalogueBusyError(
                f"The catalogue {self.path} was replaced; try again."
            ) from error
        except FAILURES as error:
            raise reported(error, self.path) from error

    def _once(self, work: Callable[[Connection], Result], begin: str) -> Result:
        with self._transaction(begin) as connection:
            return work(connection)

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Connection]:
        with self._engine.connect().execution_options(**{_BEGIN: begin}) as connection:
            with connection.begin():
                raw = cast("FileConnection", connection.connection.dbapi_connection)
                if raw.identity == identity(self.path):
                    yield connection
                    return
            connection.invalidate()
        raise MovedError

    def _connect(self) -> FileConnection:
        if self._memory:
            return _in_memory(self.path)
        with swap_lock(self.path):
            if self.read_only:
                return _open_to_read(self.path)
            return _ready(connect(self.path, "rw"), self.path, write=True)


class MovedError(Exception):
    """Another process put a new file in the place of the one that is open."""


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))


def _prepare(path: Path, *, create: bool) -> None:
    """Make the file, or migrate it, if that is needed; alembic is imported only then."""

    def found() -> int:
        with swap_lock(path), closing(connect(path, "rwc" if create else "rw")) as connection:
            return schema_number(connection, path)

    number = patiently(path, found)
    if number == 0 and not create:
        raise CatalogueUnusable(path, "the file is empty")
    if number < SCHEMA:
        from archiver.catalogue.migrate import migrate  # noqa: PLC0415 - it imports alembic

        patiently(path, lambda: migrate(path))


def _open_to_read(path: Path) -> FileConnection:
    """A reading connection, also where the log's companions cannot be made beside the file."""
    try:
        return _ready(connect(path, "ro"), path, write=False)
    except sqlite3.OperationalError:
        return _ready(connect(path, "immutable"), path, write=False)


def _ready(connection: FileConnection, path: Path, *, write: bool) -> FileConnection:
    """The connection, set up, once its file is known to be an up-to-date catalogue."""
    with ExitStack() as undo:
        undo.callback(connection.close)
        number = schema_number(connection, path)
        if number < SCHEMA:
            raise CatalogueUnusable(path, f"its schema {number} is older than {SCHEMA}")
        if write:
            # The log's index is memory that processes share through a file.
            journal = "WAL" if shares_memory(path) else "TRUNCATE"
            connection.execute(f"PRAGMA journal_mode = {journal}")
            connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        undo.pop_all()
    return connection


def _in_memory(path: Path) -> FileConnection:
    connection = connect(path, MEMORY)
    # Of connections to the same memory, one that writes locks whole tables for those that read.
    connection.execute("PRAGMA read_uncommitted = ON")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def patiently(path: Path, attempt: Callable[[], Result]) -> Result:
    """What ``attempt`` gives, tried again while others are in the way."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return attempt()
        except MovedError:
            pass
        except FAILURES as error:
            if not is_passing(error):
                raise reported(error, path) from error
        if stop_requested.is_set():
            raise CatalogueBusyError(f"The catalogue {path} is busy, and the run is to end.")
        if time.monotonic() > deadline:
            raise CatalogueBusyError(f"The catalogue {path} was busy for {PATIENCE:.0f} seconds.")
        time.sleep(random.uniform(0.002, 0.05))  # noqa: S311 - spreads processes, hides nothing
