"""A catalogue that is only asked: by a person who waits for the answer.

Where it has all that is held already, which is seen by names alone, it is asked by SQLite itself: to load
SQLAlchemy, with which it is written, takes longer than most questions. Else what is new is put in first.
"""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar, cast

from archiver.archive.layout import CATALOGUE, SNAPSHOTS, document_of, event_of
from archiver.catalogue.location import usable_paths
from archiver.catalogue.sqlite_file import (
    COMPANIONS,
    CatalogueUnusable,
    FileConnection,
    connect,
    has_tables,
    identity,
    may_write,
    shares_memory,
    swap_lock,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection

    from archiver.archive.archive import Archive
    from archiver.progress import Progress

Answer = TypeVar("Answer")

_CARDLESS: Final = "SELECT 1 FROM manifests WHERE id NOT IN (SELECT manifest_id FROM cards) LIMIT 1"


def ask(
    archive: Archive,
    progress: Progress,
    question: Callable[[sqlite3.Connection], Answer],
    *,
    packs_and_events: bool = True,
    read_only: bool = False,
) -> Answer:
    """Return what ``question`` gives, asked of the catalogue with all that is held, and all cards.

    Args:
        archive: Whose catalogue it is.
        progress: Is told if the catalogue has to be written anew.
        question: May be asked twice.
        packs_and_events: Whether it is about these, too: there is an event more after each night.
        read_only: Whether its connection cannot write the file.
    """
    for path, mode in _ways(archive):
        # Whatever is wrong with the file is answered by whoever can mend it.
        with suppress(CatalogueUnusable, sqlite3.Error), closing(_open(path, mode)) as connection:
            if _has_snapshots(archive, connection) and (
                not packs_and_events or _has_packs_and_events(archive, connection)
            ):
                if not read_only or mode != "rw":
                    return question(connection)
                # Beside the other, which takes the log away with it when it is closed.
                with closing(_open(path, "ro")) as reading:
                    return question(reading)
    return _ask_refreshed(archive, progress, question, read_only=read_only)


def _ways(archive: Archive) -> Iterator[tuple[Path, str]]:
    """Yield where an index is that can be asked as it is, and how it is opened."""
    path = next(usable_paths(archive), None)
    if path is not None and may_write(path) and path.exists():
        yield path, "rw"
    folder = archive.store.folder
    own = folder.path / CATALOGUE if folder else None
    if own is not None and own.exists() and not may_write(own):
        # That of a medium that may only be read, which came with it.
        yield own, "ro"
        if not any(Path(f"{own}{suffix}").exists() for suffix in COMPANIONS):
            yield own, "immutable"


def _open(path: Path, mode: str) -> FileConnection:
    """Return a connection that sees one state of the file; raise CatalogueUnusable if it cannot be had."""
    with ExitStack() as undo:
        with swap_lock(path):
            connection = undo.enter_context(closing(connect(path, mode)))
        # Where no memory can be shared, whoever writes the file first gives it a journal of another kind.
        ready = shares_memory(path) and has_tables(connection, path)
        connection.execute("BEGIN")
        if not ready or connection.identity != identity(path):
            raise CatalogueUnusable(path, "it is empty, or was replaced")
        undo.pop_all()
    return connection


def _has_snapshots(archive: Archive, connection: sqlite3.Connection) -> bool:
    """Return whether it has each seal that is there by its name, none else, and the cards of all."""
    seals = map(document_of, archive.store.list(SNAPSHOTS))
    known = _known(connection, "SELECT lower(hex(digest)) FROM snapshots")
    return (
        known == {seal.digest for seal in seals if seal}
        and connection.execute(_CARDLESS).fetchone() is None
    )


def _has_packs_and_events(archive: Archive, connection: sqlite3.Connection) -> bool:
    """Return whether it has each pack that is there by its name, none else, and each event."""
    packs = _known(connection, "SELECT lower(hex(digest)) FROM packs")
    events = _known(connection, "SELECT lower(hex(digest)) FROM events")
    return packs == set(archive.packs()) and events.issuperset(
        map(event_of, archive.journal.names())
    )


def _known(connection: sqlite3.Connection, query: str) -> set[str]:
    return {digest for (digest,) in connection.execute(query)}


def _ask_refreshed(
    archive: Archive,
    progress: Progress,
    question: Callable[[sqlite3.Connection], Answer],
    *,
    read_only: bool,
) -> Answer:
    from archiver.catalogue.cards import add_cards  # noqa: PLC0415 - loads SQLAlchemy
    from archiver.catalogue.database import Catalogue  # noqa: PLC0415 - likewise
    from archiver.catalogue.rebuild import open_catalogue  # noqa: PLC0415 - likewise

    def work(connection: Connection) -> Answer:
        return question(cast("sqlite3.Connection", connection.connection.dbapi_connection))

    with open_catalogue(archive, progress) as catalogue:
        add_cards(archive, catalogue)
        if not read_only or catalogue.in_memory_only:
            return catalogue.read(work)
        with Catalogue(catalogue.path, read_only=True) as reading:
            return reading.read(work)
