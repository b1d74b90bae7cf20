"""A query that a person wrote, over the catalogue: read-only, and bounded in time, rows and memory.

It may come from somebody who was told to try it, and the catalogue's file from anybody. So the file is
opened read-only, an authorizer allows nothing but reading, and a query that runs away is ended.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import Final, NamedTuple

from archiver.errors import ArchiverError, UsageError
from archiver.text import human_bytes, human_duration, printable

Value = str | int | float | bytes | None

SECONDS: Final = 30.0
ROWS: Final = 10_000
"""A query's limits where nobody asked for others."""
SQL_MAX: Final = 64 << 10
"""Bytes of a query."""
MEMORY_MAX: Final = 256 << 20
"""Bytes that SQLite may take: for sorting, and for what a query makes up."""
_STEPS: Final = 10_000
"""Of SQLite's own steps, after so many the time is looked at."""
_ALLOWED: Final = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE}
_PRAGMAS: Final = {"table_info", "table_xinfo", "table_list", "index_list", "index_info"}
_FUNCTIONS_DENIED: Final = {"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"}


class Answer(NamedTuple):
    """The columns and rows of a query; ``cut`` if there were more rows than the limit."""

    columns: tuple[str, ...]
    rows: list[tuple[Value, ...]]
    cut: bool


def run_query(
    connection: sqlite3.Connection, sql: str, *, rows: int = ROWS, seconds: float = SECONDS
) -> Answer:
    """Return what one SELECT gives, at most so many rows of it; the connection is to be read only.

    Raise UsageError if it is no query, or would do more than read; ArchiverError if it takes too long.
    """
    if len(sql.encode("utf-8", "replace")) > SQL_MAX:
        raise UsageError(f"The query is longer than {human_bytes(SQL_MAX)}.")
    deadline = time.monotonic() + seconds
    for pragma in ("query_only = ON", "temp_store = MEMORY", f"hard_heap_limit = {MEMORY_MAX}"):
        connection.execute(f"PRAGMA {pragma}")
    connection.set_authorizer(_authorize)
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    try:
        with closing(connection.execute(sql)) as cursor:
            if cursor.description is None:
                raise UsageError("That is no query: it gives no rows.", hint="Write a SELECT.")
            columns = tuple(column[0] for column in cursor.description)
            listed = cursor.fetchmany(rows + 1)
        return Answer(columns, listed[:rows], len(listed) > rows)
    except (sqlite3.Error, sqlite3.Warning, MemoryError, UnicodeError) as error:
        if time.monotonic() > deadline:
            raise ArchiverError(
                f"The query was ended after {human_duration(seconds)}.",
                hint="Ask for less, or allow more with --max-duration.",
            ) from error
        raise _explained(error) from error
    finally:
        connection.set_progress_handler(None, 0)
        connection.set_authorizer(None)
        connection.execute("PRAGMA query_only = OFF")


def _authorize(
    action: int, first: str | None, second: str | None, _schema: str | None, _by: str | None
) -> int:
    """Say whether SQLite may do what the query asks for."""
    if action in _ALLOWED:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() not in _FUNCTIONS_DENIED:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_PRAGMA and (first or "").lower() in _PRAGMAS:
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


def _explained(cause: BaseException) -> ArchiverError:
    if isinstance(cause, MemoryError) or "out of memory" in str(cause):
        return ArchiverError(
            f"The query needs more than {human_bytes(MEMORY_MAX)} of memory.", hint="Ask for less."
        )
    if "not authorized" in str(cause) or "prohibited" in str(cause):
        return UsageError(
            "The query would do more than read the catalogue.", hint="Only a SELECT is run here."
        )
    message = printable(str(cause).removesuffix("."), 300) or type(cause).__name__
    return UsageError(
        f"The query cannot be run: {message}.",
        hint="docs/catalogue.md lists the tables and columns.",
    )
