"""Which schema a catalogue file has, read from SQLite's own header without any other import."""

from __future__ import annotations

import re
import sqlite3
from typing import TYPE_CHECKING, Final

from archiver.catalogue.errors import CatalogueNewerError, CatalogueUnusable
from archiver.catalogue.files import short_schema

if TYPE_CHECKING:
    from pathlib import Path

APPLICATION_ID = 0x61726376
"""``arcv``: in the header of every catalogue, so that no other SQLite file is taken for one."""
SCHEMA = 2
"""The newest migration, as its number; ``PRAGMA user_version`` of an up-to-date file."""
TABLES: Final = {
    "alembic_version": ("version_num",),
    "repositories": ("id", "name"),
    "layouts": ("id", "digest"),
    "packs": ("id", "digest", "size", "objects"),
    "manifests": ("id", "digest", "upstream", "endpoint", "committed", "licence"),
    "snapshots": (
        *("id", "digest", "repository_id", "revision", "manifest_id", "sealed", "tool", "parent"),
        *("selection", "files", "bytes", "objects", "stored", "tensors"),
    ),
    "tensors": ("layout_id", "number", "name", "dtype", "shape", "begin", "end"),
    "files": ("manifest_id", "path", "size", "sha256", "blake3", "oid", "lfs", "layout_id"),
    "objects": ("blake3", "pack_id", "offset", "stored", "size", "codec"),
    "events": ("digest", "event", "time", "tool", "repository", "revision", "detail"),
}
"""The tables of a catalogue and their columns: there are no others, and no views or triggers."""
_ENTRIES_MAX: Final = 64
"""Entries that a schema has at most: tables and their indexes."""
_PLAIN: Final = re.compile(
    r"CREATE TABLE [\w\s,()\"]*|CREATE (?:UNIQUE )?INDEX [\w\s\"]*\([\w\s,\"]*\)", re.ASCII
)
_COMPUTES: Final = re.compile(
    r"\b(?:AS|CHECK|COLLATE|DEFAULT|GENERATED|SELECT|TEMP|TRIGGER|USING|VIEW|VIRTUAL|WHERE)\b",
    re.IGNORECASE,
)
"""What would let SQLite compute something when a row is read or written."""
_ANYTHING = "SELECT 1 FROM sqlite_master LIMIT 1"


def schema_number(connection: sqlite3.Connection, path: Path) -> int:
    """The schema of the open file, 0 if it is empty; writes nothing.

    Raises CatalogueUnusable when the file is no catalogue, or one of a newer version.
    """
    try:
        with short_schema(connection):
            return _number(connection, path)
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode in (sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_INTERRUPT):
            raise CatalogueUnusable(path, "its schema is not that of a catalogue") from error
        raise


def _number(connection: sqlite3.Connection, path: Path) -> int:
    mark = _pragma(connection, "application_id")
    number = _pragma(connection, "user_version")
    if mark == 0 and number == 0 and not connection.execute(_ANYTHING).fetchone():
        return 0
    if mark != APPLICATION_ID:
        raise CatalogueUnusable(path, "the file is something else's")
    if not 0 < number <= SCHEMA:
        raise CatalogueNewerError(path, f"a newer version wrote it (schema {number}, not {SCHEMA})")
    _require_plain(connection, path)
    return number


def _require_plain(connection: sqlite3.Connection, path: Path) -> None:
    """Raise CatalogueUnusable unless the schema is tables of plain columns and nothing else.

    The file lies in a folder that others may have written: a view in the place of a table, a trigger or a
    computed column would run, with all the memory and time that there is, at the first look.
    """
    rows = connection.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_master LIMIT ?", (_ENTRIES_MAX + 1,)
    ).fetchall()
    if len(rows) > _ENTRIES_MAX or not all(_is_plain(*row) for row in rows):
        raise CatalogueUnusable(path, "its tables are not those of a catalogue")
    for name in {row[1] for row in rows if row[0] == "table"}:
        columns = tuple(row[1] for row in connection.execute(f"PRAGMA table_xinfo({name})"))
        if columns != TABLES[name]:
            raise CatalogueUnusable(path, f"its table {name} is not that of a catalogue")


def _is_plain(kind: object, name: object, table: object, sql: object) -> bool:
    """Whether an entry of the schema is a known table, or an index of one."""
    if table not in TABLES or (kind != "index" and (kind, name) != ("table", table)):
        return False
    if sql is None:
        return kind == "index"
    return isinstance(sql, str) and bool(_PLAIN.fullmatch(sql)) and not _COMPUTES.search(sql)


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)
