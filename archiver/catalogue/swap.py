"""Putting a new catalogue in the place of one that others may be reading and writing."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from archiver.catalogue.database import MovedError, patiently
from archiver.catalogue.errors import CatalogueUnusable
from archiver.catalogue.failures import is_passing
from archiver.catalogue.files import connect, identity, swap_in, swap_lock, sync
from archiver.catalogue.version import schema_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.catalogue.files import FileConnection


def put_in_place(new: Path, path: Path) -> None:
    """Make the closed catalogue ``new`` durable and let it take the place of ``path``."""
    log = Path(f"{new}-wal")
    if log.exists() and log.stat().st_size:
        raise CatalogueUnusable(new, "its log was not written back")
    sync(new)
    with _no_writers(path), swap_lock(path, exclusive=True):
        swap_in(new, path)


@contextmanager
def _no_writers(path: Path) -> Iterator[None]:
    """Holds the old catalogue's write lock, if it has one: no transaction is lost halfway.

    Taken before the lock on connecting: whoever writes needs no new connection to finish.
    """
    held = patiently(path, lambda: _write_locked(path))
    if held is None:
        yield
        return
    with closing(held):
        yield


def _write_locked(path: Path) -> FileConnection | None:
    """A connection that holds the write lock of the file at ``path``; None if it cannot be had."""
    with ExitStack() as undo:
        try:
            with swap_lock(path):
                connection = undo.enter_context(closing(connect(path, "rw")))
                schema_number(connection, path)
            connection.execute("BEGIN IMMEDIATE")
        except CatalogueUnusable:
            return None
        except sqlite3.Error as error:
            if is_passing(error):
                raise
            return None
        if connection.identity != identity(path):
            raise MovedError
        undo.pop_all()
    return connection
