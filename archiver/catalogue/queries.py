"""What the catalogue can be asked about packs, objects, files and events.

Every answer is a hint: whoever acts on it reads the archive's own files first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
from sqlalchemy import LargeBinary, false, func, select, type_coerce

from archiver.archive.events import Event, KnownDetail, name_of
from archiver.archive.lookup import FileKey, HeldFile
from archiver.catalogue.database import batches
from archiver.catalogue.schema import (
    Card,
    EventRow,
    FileRow,
    ManifestRow,
    ObjectRow,
    Pack,
    Repository,
    Snapshot,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from sqlalchemy import ColumnElement, Connection, RowMapping, Select

    from archiver.catalogue.database import Catalogue

PREFIX_BYTES = 8
VARIABLES = 5000
"""Values asked for at a time; SQLite before 3.32 took 999, since then 32,766."""


class Location(NamedTuple):
    """A copy of an object: where its header begins, and how many bytes it takes from there."""

    pack: str
    offset: int
    stored: int
    size: int
    codec: int


def locate(catalogue: Catalogue, blake3s: Iterable[str]) -> dict[str, list[Location]]:
    """Return every known copy of each object, by pack and offset; unknown objects are left out."""
    digests = list(dict.fromkeys(blake3s))

    def work(connection: Connection) -> dict[str, list[Location]]:
        locations: dict[str, list[Location]] = {}
        for batch in batches(digests, VARIABLES):
            for row in connection.execute(_locating(batch)):
                locations.setdefault(row[0], []).append(Location(*row[1:]))
        return locations

    return catalogue.read(work)


def object_prefixes(catalogue: Catalogue) -> bytes:
    """Return the first 8 bytes of every object's digest, one after the other, in rising order."""
    first = func.substr(type_coerce(ObjectRow.blake3, LargeBinary), 1, PREFIX_BYTES)
    query = select(first).order_by(ObjectRow.blake3)
    return catalogue.read(lambda connection: b"".join(connection.scalars(query)))


def held_files(catalogue: Catalogue, keys: Iterable[FileKey]) -> dict[FileKey, HeldFile]:
    """Return which of these files some snapshot has, and where; of several, the one sealed last.

    A key with a SHA-256 is looked up by it, any other by its git oid (which is that of the content
    only for files outside LFS); the size must agree as well.
    """
    unique = set(keys)
    by_sha256 = {key.sha256 for key in unique if key.sha256}
    by_oid = {key.oid for key in unique if key.oid and not key.sha256}

    def work(connection: Connection) -> dict[FileKey, HeldFile]:
        held: dict[FileKey, HeldFile] = {}
        for batch in batches(by_sha256, VARIABLES):
            for size, sha256, _, *file in connection.execute(_holding(FileRow.sha256.in_(batch))):
                held[FileKey(size, sha256)] = HeldFile(*file)
        for batch in batches(by_oid, VARIABLES):
            blobs = FileRow.oid.in_(batch) & (FileRow.lfs == false())
            for size, _, oid, *file in connection.execute(_holding(blobs)):
                held[FileKey(size, oid=oid)] = HeldFile(*file)
        return held

    held = catalogue.read(work)
    lookups = {
        key: FileKey(key.size, key.sha256) if key.sha256 else FileKey(key.size, oid=key.oid)
        for key in unique
    }
    return {key: held[lookup] for key, lookup in lookups.items() if lookup in held}


def known_packs(catalogue: Catalogue) -> set[str]:
    """Return the packs whose objects are in the catalogue."""
    return set(catalogue.read(lambda conn: conn.scalars(select(Pack.digest)).all()))


def known_snapshots(catalogue: Catalogue) -> set[str]:
    """Return the ids of the seals that are in the catalogue."""
    return set(catalogue.read(lambda conn: conn.scalars(select(Snapshot.digest)).all()))


def known_events(catalogue: Catalogue) -> set[str]:
    """Return the ids of the events that are in the catalogue."""
    return set(catalogue.read(lambda conn: conn.scalars(select(EventRow.digest)).all()))


def events(
    catalogue: Catalogue,
    *,
    repository: str | None = None,
    kinds: Collection[type[KnownDetail]] = (),
) -> list[tuple[str, Event]]:
    """Return events with their ids, oldest first; of one repository, or of these kinds, if given."""
    query = select(EventRow.__table__).order_by(EventRow.time, EventRow.digest)
    if repository is not None:
        query = query.where(EventRow.repository == repository)
    if kinds:
        query = query.where(EventRow.event.in_(map(name_of, kinds)))
    rows = catalogue.read(lambda connection: connection.execute(query).mappings().all())
    return [(row["digest"], _event(row)) for row in rows]


def licences(catalogue: Catalogue) -> dict[str, str]:
    """Return id of a snapshot -> its licence, as upstream says it or else the card."""
    licence = func.coalesce(func.nullif(ManifestRow.licence, ""), Card.licence, "")
    query = (
        select(Snapshot.digest, licence)
        .join(ManifestRow, ManifestRow.id == Snapshot.manifest_id)
        .outerjoin(Card, Card.manifest_id == ManifestRow.id)
    )
    rows = catalogue.read(lambda connection: list(connection.execute(query)))
    return {snapshot: licence for snapshot, licence in rows if licence}


def _locating(blake3s: list[str]) -> Select[str, str, int, int, int, int]:
    row = ObjectRow
    return (
        select(row.blake3, Pack.digest, row.offset, row.stored, row.size, row.codec)
        .join(Pack, Pack.id == row.pack_id)
        .where(row.blake3.in_(blake3s))
        .order_by(row.blake3, Pack.digest, row.offset)
    )


def _holding(
    condition: ColumnElement[bool],
) -> Select[int, str, str, str, str, str]:
    """Return size, SHA-256, oid, then the fields of HeldFile; sealed last comes last."""
    return (
        select(
            FileRow.size,
            FileRow.sha256,
            FileRow.oid,
            Snapshot.digest,
            Repository.name,
            FileRow.path,
        )
        .join(ManifestRow, ManifestRow.id == FileRow.manifest_id)
        .join(Snapshot, Snapshot.manifest_id == ManifestRow.id)
        .join(Repository, Repository.id == Snapshot.repository_id)
        .where(condition)
        .order_by(Snapshot.sealed, Snapshot.digest, FileRow.path.desc())
    )


def _event(row: RowMapping) -> Event:
    return Event(
        event=row["event"],
        time=row["time"],
        tool=row["tool"],
        repository=row["repository"],
        revision=row["revision"],
        raw=msgspec.Raw(row["detail"]),
    )
