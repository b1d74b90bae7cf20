"""Which schema a catalogue file has, read from SQLite's own header without any other import."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.catalogue.errors import CatalogueUnusable

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

APPLICATION_ID = 0x61726376
"""``arcv``: in the header of every catalogue, so that no other SQLite file is taken for one."""
SCHEMA = 2
"""The newest migration, as its number; ``PRAGMA user_version`` of an up-to-date file."""
_ANYTHING = "SELECT 1 FROM sqlite_master LIMIT 1"


def schema_number(connection: sqlite3.Connection, path: Path) -> int:
    """The schema of the open file, 0 if it is empty; writes nothing.

    Raises CatalogueUnusable when the file is no catalogue, or one of a newer version.
    """
    mark = _pragma(connection, "application_id")
    number = _pragma(connection, "user_version")
    if mark == 0 and number == 0 and not connection.execute(_ANYTHING).fetchone():
        return 0
    if mark != APPLICATION_ID:
        raise CatalogueUnusable(path, "the file is something else's")
    if not 0 < number <= SCHEMA:
        raise CatalogueUnusable(path, f"a newer version wrote it (schema {number}, not {SCHEMA})")
    return number


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)
