"""Writing the catalogue anew from the archive's own files, and comparing two catalogues."""

from __future__ import annotations

import sqlite3
import time
import uuid
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from archiver.catalogue.database import Catalogue, MovedError, patiently
from archiver.catalogue.errors import CatalogueReadOnlyError, CatalogueUnusable
from archiver.catalogue.failures import is_passing
from archiver.catalogue.files import (
    connect,
    identity,
    may_write,
    remove_all,
    swap_in,
    swap_lock,
    sync,
)
from archiver.catalogue.rows import batches, put_event, put_pack, put_snapshot
from archiver.catalogue.version import schema_number

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator

    from sqlalchemy import Connection

    from archiver.archive.records import Event, Manifest, Seal
    from archiver.catalogue.files import FileConnection
    from archiver.catalogue.rows import PackEntry

Item = TypeVar("Item")

_SUFFIX = ".new"
_ABANDONED = 24 * 3600.0
"""Seconds after which a half-written file is taken to be a killed run's."""
_SMALL = 200
"""Records that are small enough to share a transaction with so many others."""


class Counts(NamedTuple):
    """How many records went into a new catalogue; one that was given twice counts once."""

    packs: int
    snapshots: int
    events: int


def rebuild(
    path: str | os.PathLike[str],
    packs: Iterable[tuple[str, int, Iterable[PackEntry]]],
    snapshots: Iterable[tuple[str, Seal, Manifest]],
    events: Iterable[tuple[str, Event]],
) -> Counts:
    """Write a new catalogue from these records and put it in the place of whatever is at ``path``.

    Others may go on reading and writing: they see the old catalogue until the new one is there,
    then the new one. What they add after the caller listed the archive may go with the old one;
    ``known_packs`` and the like tell what to add again. The records are taken one at a time.
    """
    where = Path(path)
    if not may_write(where):
        raise CatalogueReadOnlyError(where)
    _remove_abandoned(where)
    new = where.with_name(f"{where.name}.{uuid.uuid4().hex}{_SUFFIX}")
    try:
        with Catalogue.open(new) as catalogue:
            counts = Counts(
                _fill(catalogue, packs, lambda conn, item: put_pack(conn, *item)),
                _fill(catalogue, snapshots, lambda conn, item: put_snapshot(conn, *item)),
                _fill(catalogue, events, lambda conn, item: put_event(conn, *item), _SMALL),
            )
            catalogue.write(lambda connection: _check(connection, new))
        sync(new)
        _put_in_place(new, where)
    finally:
        remove_all(new)
    return counts


def _fill(
    catalogue: Catalogue,
    items: Iterable[Item],
    put: Callable[[Connection, Item], bool],
    at_once: int = 1,
) -> int:
    added = 0
    for batch in batches(items, at_once):
        # Nobody else knows this file, so a transaction is never retried and an iterable never re-read.
        added += catalogue.write(lambda conn, batch=batch: sum(put(conn, item) for item in batch))  # type: ignore[misc]
    return added


def _check(connection: Connection, path: Path) -> None:
    """Raise unless SQLite itself finds nothing wrong with the whole file."""
    problems = [row[0] for row in connection.exec_driver_sql("PRAGMA integrity_check")]
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
    if problems != ["ok"] or broken:
        raise CatalogueUnusable(path, f"it came out wrong: {(problems + broken)[:3]}")


def _put_in_place(new: Path, path: Path) -> None:
    left = Path(f"{new}-wal")
    if left.exists() and left.stat().st_size:
        raise CatalogueUnusable(new, "its log was not written back")
    with _no_writers(path), swap_lock(path, exclusive=True):
        swap_in(new, path)


@contextmanager
def _no_writers(path: Path) -> Iterator[None]:
    """Holds the old catalogue's write lock, so that no transaction is lost halfway, if it has one.

    Taken before the lock on connecting: whoever writes needs no new connection to finish.
    """
    held = patiently(path, lambda: _write_locked(path))
    if held is None:
        yield
        return
    with closing(held):
        yield


def _write_locked(path: Path) -> FileConnection | None:
    """A connection that holds the write lock of the file at ``path``; None if it is no catalogue."""
    connection: FileConnection | None = None
    try:
        with swap_lock(path):
            connection = connect(path, "rw")
            schema_number(connection, path)
        connection.execute("BEGIN IMMEDIATE")
        if connection.identity != identity(path):
            raise MovedError
    except (sqlite3.Error, CatalogueUnusable, MovedError) as error:
        if connection is not None:
            connection.close()
        if isinstance(error, MovedError) or (
            isinstance(error, sqlite3.Error) and is_passing(error)
        ):
            raise
        return None
    return connection


def _remove_abandoned(path: Path) -> None:
    """Remove what killed rebuilds left behind."""
    for old in path.parent.glob(f"{path.name}.*{_SUFFIX}"):
        if time.time() - old.stat().st_mtime > _ABANDONED:
            remove_all(old)
