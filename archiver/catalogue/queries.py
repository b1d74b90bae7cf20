"""What the catalogue can be asked about packs, objects, files and events.

Every answer is a hint: whoever acts on it reads the archive's own files first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
from sqlalchemy import LargeBinary, false, func, select, type_coerce

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
    from collections.abc import Collection, Iterable

    from sqlalchemy import ColumnElement, Connection, RowMapping, Select

    from archiver.catalogue.database import Catalogue

PREFIX_BYTES = 8
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
    """Every known copy of each object, by pack and offset; unknown objects are left out."""
    wanted = list(dict.fromkeys(blake3s))

    def work(connection: Connection) -> dict[str, list[Location]]:
        found: dict[str, list[Location]] = {}
        for batch in batches(wanted, VARIABLES):
            for row in connection.execute(_locating(batch)):
                found.setdefault(row[0], []).append(Location(*row[1:]))
        return found

    return catalogue.read(work)


def object_prefixes(catalogue: Catalogue) -> bytes:
    """The first 8 bytes of every object's digest, one after the other, in rising order."""
    first = func.substr(type_coerce(ObjectRow.blake3, LargeBinary), 1, PREFIX_BYTES)
    query = select(first).order_by(ObjectRow.blake3)
    return catalogue.read(lambda connection: b"".join(connection.scalars(query)))


def held_files(catalogue: Catalogue, keys: Iterable[FileKey]) -> dict[FileKey, HeldFile]:
    """Which of these files some snapshot has, and where; of several, the one sealed last.

    A key with a SHA-256 is looked up by it, any other by its git oid (which is that of the content
    only for files outside LFS); the size must agree as well.
    """
    asked = set(keys)
    by_sha256 = {key.sha256 for key in asked if key.sha256}
    by_oid = {key.oid for key in asked if key.oid and not key.sha256}

    def work(connection: Connection) -> dict[FileKey, HeldFile]:
        found: dict[FileKey, HeldFile] = {}
        for batch in batches(by_sha256, VARIABLES):
            for size, sha256, _, *held in connection.execute(_holding(FileRow.sha256.in_(batch))):
                found[FileKey(size, sha256)] = HeldFile(*held)
        for batch in batches(by_oid, VARIABLES):
            blobs = FileRow.oid.in_(batch) & (FileRow.lfs == false())
            for size, _, oid, *held in connection.execute(_holding(blobs)):
                found[FileKey(size, oid=oid)] = HeldFile(*held)
        return found

    found = catalogue.read(work)
    return {key: held for key in asked if (held := found.get(_looked_up(key)))}


def known_packs(catalogue: Catalogue) -> set[str]:
    """The packs whose objects are in the catalogue."""
    return set(catalogue.read(lambda conn: conn.scalars(select(Pack.digest)).all()))


def known_snapshots(catalogue: Catalogue) -> set[str]:
    """The ids of the seals that are in the catalogue."""
    return set(catalogue.read(lambda conn: conn.scalars(select(Snapshot.digest)).all()))


def known_events(catalogue: Catalogue) -> set[str]:
    """The ids of the events that are in the catalogue."""
    return set(catalogue.read(lambda conn: conn.scalars(select(EventRow.digest)).all()))


def snapshots(catalogue: Catalogue, repository: str | None = None) -> list[SnapshotInfo]:
    """Every seal, or those of one repository; by repository, then oldest first."""
    query = (
        select(
            *(Snapshot.__table__.c[name] for name in ("digest", "revision", "sealed", "tool")),
            *(Snapshot.__table__.c[name] for name in ("parent", "selection")),
            *(Snapshot.__table__.c[name] for name in Totals.__struct_fields__),
            Repository.name.label("repository"),
            ManifestRow.digest.label("manifest"),
        )
        .join(Repository, Repository.id == Snapshot.repository_id)
        .join(ManifestRow, ManifestRow.id == Snapshot.manifest_id)
        .order_by(Repository.name, Snapshot.sealed, Snapshot.digest)
    )
    if repository is not None:
        query = query.where(Repository.name == repository)
    rows = catalogue.read(lambda connection: connection.execute(query).mappings().all())
    return [_snapshot_info(row) for row in rows]


def events(
    catalogue: Catalogue,
    *,
    repository: str | None = None,
    since: str = "",
    until: str = "",
    names: Collection[str] = (),
) -> list[tuple[str, Event]]:
    """Events with their ids, oldest first; ``since`` and ``until`` are times, both included.

    With ``names`` only events of these names.
    """
    query = select(EventRow.__table__).order_by(EventRow.time, EventRow.digest)
    if repository is not None:
        query = query.where(EventRow.repository == repository)
    if since:
        query = query.where(EventRow.time >= since)
    if until:
        query = query.where(EventRow.time <= until)
    if names:
        query = query.where(EventRow.event.in_(names))
    rows = catalogue.read(lambda connection: connection.execute(query).mappings().all())
    return [(row["digest"], _event(row)) for row in rows]


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
) -> Select[int, str, str, str, str, str, str, str, str]:
    """Size, SHA-256, oid, then the fields of HeldFile; sealed last comes last."""
    return (
        select(
            FileRow.size,
            FileRow.sha256,
            FileRow.oid,
            ManifestRow.digest,
            Snapshot.digest,
            Repository.name,
            Snapshot.revision,
            FileRow.path,
            FileRow.blake3,
        )
        .join(ManifestRow, ManifestRow.id == FileRow.manifest_id)
        .join(Snapshot, Snapshot.manifest_id == ManifestRow.id)
        .join(Repository, Repository.id == Snapshot.repository_id)
        .where(condition)
        .order_by(Snapshot.sealed, Snapshot.digest, FileRow.path.desc())
    )


def _looked_up(key: FileKey) -> FileKey:
    return FileKey(key.size, key.sha256) if key.sha256 else FileKey(key.size, oid=key.oid)


def _snapshot_info(row: RowMapping) -> SnapshotInfo:
    return SnapshotInfo(
        id=row["digest"],
        repository=row["repository"],
        revision=row["revision"],
        manifest=row["manifest"],
        sealed=row["sealed"],
        tool=row["tool"],
        parent=row["parent"],
        selection=msgspec.json.decode(row["selection"], type=Selection),
        totals=Totals(**{name: row[name] for name in Totals.__struct_fields__}),
    )


def _event(row: RowMapping) -> Event:
    return Event(
        event=row["event"],
        time=row["time"],
        tool=row["tool"],
        repository=row["repository"],
        revision=row["revision"],
        detail=msgspec.json.decode(row["detail"]),
    )
