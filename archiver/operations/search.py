"""Search and SQL: what the catalogue, brought up to date, has an answer to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from archiver.catalogue.reader import ask
from archiver.catalogue.search import Hits, Query, RepositoryIndex, search
from archiver.catalogue.sql import ROWS, SECONDS, Answer, run_query

if TYPE_CHECKING:
    from sqlite3 import Connection

    from archiver.archive.archive import Archive
    from archiver.progress import Progress


class SqlRequest(msgspec.Struct, frozen=True):
    """One SELECT, and the most rows and seconds of it."""

    query: str
    rows: int = ROWS
    seconds: float = SECONDS


def search_archive(archive: Archive, query: Query, progress: Progress) -> Hits:
    """Return what is held and has the words; ``progress`` is told if the catalogue is written anew."""

    def question(connection: Connection) -> Hits:
        return search(connection, query)

    return ask(archive, progress, question, packs_and_events=False)


def repository_index(archive: Archive, progress: Progress) -> RepositoryIndex:
    """Return an index of the repositories that are held now, to be searched any number of times."""
    return ask(archive, progress, RepositoryIndex, packs_and_events=False)


def query_catalogue(archive: Archive, request: SqlRequest, progress: Progress) -> Answer:
    """Return the rows of a query over the catalogue; the errors are those of ``run_query``."""

    def question(connection: Connection) -> Answer:
        return run_query(connection, request.query, rows=request.rows, seconds=request.seconds)

    return ask(archive, progress, question, read_only=True)
