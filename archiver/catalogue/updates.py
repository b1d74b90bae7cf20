"""Records of the archive as rows: adding them to the catalogue, and taking them out.

``add_…`` and ``forget_…`` are one transaction each, and may run in several processes at once. ``put_…``
are steps of a transaction that their caller holds. All do nothing when it is done already, and return
whether anything changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from blake3 import blake3
from sqlalchemy import delete, insert, select

from archiver.archive.records import canonical
from archiver.catalogue.database import batches
from archiver.catalogue.groups import groups_of
from archiver.catalogue.schema import (
    Card,
    EventRow,
    FileRow,
    Layout,
    ManifestRow,
    ObjectRow,
    Pack,
    Repository,
    Snapshot,
    TensorGroup,
    TensorRow,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy import Connection, Table
    from sqlalchemy.orm import InstrumentedAttribute

    from archiver.archive.events import Event
    from archiver.archive.packs.format import IndexEntry
    from archiver.archive.records import FileEntry, Manifest, Seal
    from archiver.catalogue.database import Catalogue
    from archiver.tensors.header import Tensor

_BATCH: Final = 2000
"""Rows sent to SQLite at a time; this, and not a model's size, bounds memory."""


def add_pack(catalogue: Catalogue, pack_id: str, size: int, entries: Iterable[IndexEntry]) -> bool:
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
        row = connection.execute(
            select(Snapshot.id, Snapshot.manifest_id, Snapshot.repository_id).where(
                Snapshot.digest == snapshot_id
            )
        ).first()
        if row is None:
            return False
        number, manifest, repository = row
        connection.execute(delete(Snapshot).where(Snapshot.id == number))
        if not connection.scalar(select(Snapshot.id).where(Snapshot.manifest_id == manifest)):
            _forget_manifest(connection, manifest)
        unused = Repository.id.not_in(select(Snapshot.repository_id))
        connection.execute(delete(Repository).where(Repository.id == repository, unused))
        return True

    return catalogue.write(remove)


def _forget_manifest(connection: Connection, number: int) -> None:
    in_manifest = FileRow.manifest_id == number
    layouts = connection.scalars(select(FileRow.layout_id).where(in_manifest).distinct()).all()
    connection.execute(delete(FileRow).where(in_manifest))
    connection.execute(delete(Card).where(Card.manifest_id == number))
    connection.execute(delete(ManifestRow).where(ManifestRow.id == number))
    for layout in layouts:
        if not connection.scalar(select(FileRow.layout_id).where(FileRow.layout_id == layout)):
            connection.execute(delete(TensorRow).where(TensorRow.layout_id == layout))
            connection.execute(delete(TensorGroup).where(TensorGroup.layout_id == layout))
            connection.execute(delete(Layout).where(Layout.id == layout))


# ---- which row a record becomes


def put_pack(
    connection: Connection, pack_id: str, size: int, entries: Iterable[IndexEntry]
) -> bool:
    """Put a pack and its objects."""
    if _id_of(connection, Pack.digest, pack_id) is not None:
        return False
    # In the table's order, fewer pages are touched.
    listed = sorted(entries, key=lambda entry: entry.blake3)
    number = _add(connection, Pack, digest=pack_id, size=size, objects=len(listed))
    _add_all(
        connection,
        ObjectRow,
        (
            {
                "blake3": entry.blake3,
                "pack_id": number,
                "offset": entry.offset,
                "stored": entry.stored,
                "size": entry.size,
                "codec": entry.codec,
            }
            for entry in listed
        ),
    )
    return True


def put_snapshot(connection: Connection, snapshot_id: str, seal: Seal, manifest: Manifest) -> bool:
    """Put a seal, the files of the manifest that it names, and their tensors."""
    if _id_of(connection, Snapshot.digest, snapshot_id) is not None:
        return False
    _add(
        connection,
        Snapshot,
        digest=snapshot_id,
        repository_id=_repository(connection, seal.repository),
        revision=seal.revision,
        manifest_id=_manifest(connection, seal.manifest.blake3, manifest),
        sealed=seal.sealed,
        tool=seal.tool,
        parent=seal.parent,
        selection=canonical(seal.selection).decode(),
        **msgspec.structs.asdict(seal.totals),
    )
    return True


def put_event(connection: Connection, event_id: str, event: Event) -> bool:
    """Put an event of the journal; ``event_id`` is its digest."""
    known = connection.scalar(select(EventRow.time).where(EventRow.digest == event_id))
    if known is not None:
        return False
    _add_all(
        connection,
        EventRow,
        [
            {
                "digest": event_id,
                "event": event.event,
                "time": event.time,
                "tool": event.tool,
                "repository": event.repository,
                "revision": event.revision,
                "detail": bytes(event.raw).decode(),
            }
        ],
    )
    return True


def _repository(connection: Connection, name: str) -> int:
    known = _id_of(connection, Repository.name, name)
    return _add(connection, Repository, name=name) if known is None else known


def _manifest(connection: Connection, digest: str, manifest: Manifest) -> int:
    known = _id_of(connection, ManifestRow.digest, digest)
    if known is not None:
        return known
    source = manifest.source
    number = _add(
        connection,
        ManifestRow,
        digest=digest,
        upstream=source.upstream,
        endpoint=source.endpoint,
        committed=source.committed,
        licence=source.licence,
    )
    rows = (_file_row(connection, number, entry) for entry in manifest.files)
    _add_all(connection, FileRow, rows)
    return number


def _file_row(connection: Connection, manifest: int, entry: FileEntry) -> dict[str, Any]:
    tensors = entry.tensors
    return {
        "manifest_id": manifest,
        "path": entry.path,
        "size": entry.size,
        "sha256": entry.sha256,
        "blake3": entry.blake3,
        "oid": entry.oid,
        "lfs": entry.lfs,
        "layout_id": None if tensors is msgspec.UNSET else _layout(connection, tensors),
    }


def _layout(connection: Connection, tensors: tuple[Tensor, ...]) -> int:
    digest = _layout_digest(tensors)
    known = _id_of(connection, Layout.digest, digest)
    if known is not None:
        return known
    number = _add(connection, Layout, digest=digest)
    _add_all(connection, TensorRow, _tensor_rows(number, tensors))
    _add_all(connection, TensorGroup, _group_rows(number, tensors))
    return number


def _tensor_rows(layout: int, tensors: tuple[Tensor, ...]) -> Iterator[dict[str, Any]]:
    for number, tensor in enumerate(tensors):
        yield {
            "layout_id": layout,
            "number": number,
            "name": tensor.name,
            "dtype": tensor.dtype,
            "shape": tensor.shape,
            "begin": tensor.begin,
            "end": tensor.end,
        }


def _group_rows(layout: int, tensors: tuple[Tensor, ...]) -> Iterator[dict[str, Any]]:
    for number, group in enumerate(groups_of(tensors)):
        yield {"layout_id": layout, "number": number, **group._asdict()}


def _layout_digest(tensors: tuple[Tensor, ...]) -> str:
    """Return the BLAKE3 of the tensors' canonical JSON, one document after the other."""
    hasher = blake3()
    for tensor in tensors:
        hasher.update(canonical(tensor))
    return hasher.hexdigest()


def _id_of(connection: Connection, key: InstrumentedAttribute[str], value: str) -> int | None:
    table = key.class_.__table__
    number: int | None = connection.scalar(select(table.c.id).where(key == value))
    return number


def _add(connection: Connection, row: type[Any], **values: Any) -> int:
    """Insert one row; return its number."""
    key = connection.execute(insert(row.__table__).values(values)).inserted_primary_key
    assert key is not None
    return int(key[0])


def _add_all(connection: Connection, row: type[Any], rows: Iterable[dict[str, Any]]) -> None:
    table: Table = row.__table__
    for batch in batches(rows, _BATCH):
        connection.execute(insert(table), batch)
