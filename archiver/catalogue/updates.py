"""Adding to the catalogue what the archive has got. Each call is one transaction.

All are idempotent and may run in several processes at once. They say whether anything changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from archiver.catalogue.rows import put_event, put_pack, put_snapshot
from archiver.catalogue.schema import (
    FileRow,
    Layout,
    ManifestRow,
    ObjectRow,
    Pack,
    Repository,
    Snapshot,
    TensorRow,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection

    from archiver.archive.records import Event, Manifest, Seal
    from archiver.catalogue.database import Catalogue
    from archiver.catalogue.rows import PackEntry


def add_pack(catalogue: Catalogue, pack_id: str, size: int, entries: Iterable[PackEntry]) -> bool:
    """Add a pack of ``size`` bytes with the entries of its index."""
    listed = list(entries)
    return catalogue.write(lambda connection: put_pack(connection, pack_id, size, listed))


def add_snapshot(catalogue: Catalogue, snapshot_id: str, seal: Seal, manifest: Manifest) -> bool:
    """Add a published seal with the manifest that it names."""
    return catalogue.write(lambda connection: put_snapshot(connection, snapshot_id, seal, manifest))


def add_event(catalogue: Catalogue, event_id: str, event: Event) -> bool:
    """Add an event of the journal; ``event_id`` is its digest."""
    return catalogue.write(lambda connection: put_event(connection, event_id, event))


def forget_pack(catalogue: Catalogue, pack_id: str) -> bool:
    """Remove a pack and its objects: to be done before the pack is deleted or quarantined."""

    def remove(connection: Connection) -> bool:
        number = connection.scalar(select(Pack.id).where(Pack.digest == pack_id))
        connection.execute(delete(ObjectRow).where(ObjectRow.pack_id == number))
        return connection.execute(delete(Pack).where(Pack.id == number)).rowcount > 0

    return catalogue.write(remove)


def forget_snapshot(catalogue: Catalogue, snapshot_id: str) -> bool:
    """Remove a snapshot that is not in the archive any more, and what no other one has."""

    def remove(connection: Connection) -> bool:
        found = connection.execute(
            select(Snapshot.id, Snapshot.manifest_id, Snapshot.repository_id).where(
                Snapshot.digest == snapshot_id
            )
        ).first()
        if found is None:
            return False
        connection.execute(delete(Snapshot).where(Snapshot.id == found[0]))
        if not connection.scalar(select(Snapshot.id).where(Snapshot.manifest_id == found[1])):
            _forget_manifest(connection, found[1])
        unused = Repository.id.not_in(select(Snapshot.repository_id))
        connection.execute(delete(Repository).where(Repository.id == found[2], unused))
        return True

    return catalogue.write(remove)


def _forget_manifest(connection: Connection, number: int) -> None:
    its = FileRow.manifest_id == number
    layouts = connection.scalars(select(FileRow.layout_id).where(its).distinct()).all()
    connection.execute(delete(FileRow).where(its))
    connection.execute(delete(ManifestRow).where(ManifestRow.id == number))
    for layout in layouts:
        if not connection.scalar(select(FileRow.layout_id).where(FileRow.layout_id == layout)):
            connection.execute(delete(TensorRow).where(TensorRow.layout_id == layout))
            connection.execute(delete(Layout).where(Layout.id == layout))
