"""What the catalogue can be asked about packs, objects, files and events.

Every answer is a hint: whoever acts on it reads the archive's own files first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
from sqlalchemy import false, select

from archiver.archive.records import Event, Selection, Totals
from archiver.catalogue.rows import batches
from archiver.catalogue.schema import (
    EventRow,
    FileRow,
    ManifestRow,
    ObjectRow,
    Pack,
    Repository,
    Snapshot,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy import ColumnElement, Connection, RowMapping, Select

    from archiver.catalogue.database import Catalogue

VARIABLES = 5000
"""Values asked for at a time; SQLite before 3.32 took 999, since then 32,766."""


class FileKey(NamedTuple):
    """What upstream says of a file: its content's SHA-256 (LFS) or else its git blob's id."""

    size: int
    sha256: str = ""
    oid: str = ""


class HeldFile(NamedTuple):
    """A file that a snapshot has, and the manifest that tells its segments."""

    manifest: str
    snapshot: str
    repository: str
    revision: str
    path: str
    blake3: str


class Location(NamedTuple):
    """A copy of an object: where its header begins, and how many bytes it takes from there."""

    pack: str
    offset: int
    stored: int
    size: int
    codec: int


class SnapshotInfo(msgspec.Struct, frozen=True):
    """A seal as the catalogue has it."""

    id: str
    repository: str
    revision: str
    manifest: str
    sealed: str
    tool: str
    parent: str
    selection: Selection
    totals: Totals


def locate(catalogue: Catalogue, blake3s: Iterable[str]) -> dict[str, list[Location]]:
    """Every known copy of each object, in the order of pack and offset; unknown ones are left out."""
    wanted = list(dict.fromkeys(blake3s))

    def work(connection: Connection) -> dict[str, list[Location]]:
        found: dict[str, list[Location]] = {}
        for batch in batches(wanted, VARIABLES):
            for blake3, *place in connection.execute(_locating(batch)):
                found.setdefault(blake3, []).append(Location(*place))
        return found

    return catalogue.read(work)
