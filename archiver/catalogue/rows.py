"""Records of the archive as rows: the one place that decides which row a record becomes.

Each function is a step of a transaction that its caller holds, does nothing when its record is
already there, and says whether it added it.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec
from blake3 import blake3
from sqlalchemy import Table, insert, select

from archiver.archive.records import canonical
from archiver.catalogue.schema import (
    EventRow,
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
    from collections.abc import Iterable, Iterator

    from sqlalchemy import Connection
    from sqlalchemy.orm import InstrumentedAttribute

    from archiver.archive.records import Event, FileEntry, Manifest, Seal
    from archiver.tensors.header import Tensor

BATCH = 2000
"""Rows sent to SQLite at a time; this, and not a model's size, bounds memory."""

Item = TypeVar("Item")


class PackEntry(Protocol):
    """A line of a pack's index, as ``archiver.archive.packs.records.IndexEntry``."""

    @property
    def blake3(self) -> str: ...  # noqa: D102 - the format's names
    @property
    def offset(self) -> int: ...  # noqa: D102
    @property
    def stored(self) -> int: ...  # noqa: D102
    @property
    def size(self) -> int: ...  # noqa: D102
    @property
    def codec(self) -> int: ...  # noqa: D102


def put_pack(connection: Connection, pack_id: str, size: int, entries: Iterable[PackEntry]) -> bool:
    """A pack and its objects."""
    if _id_of(connection, Pack.digest, pack_id) is not None:
        return False
    listed = sorted(
        entries, key=lambda entry: entry.blake3
    )  # the table's order: fewer pages touched
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
    """A seal, the files of the manifest that it names, and their tensors."""
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
    """An event of the journal; ``event_id`` is its digest."""
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
                "detail": canonical(event.detail).decode(),
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


def _layout_digest(tensors: tuple[Tensor, ...]) -> str:
    """The BLAKE3 of the tensors' canonical JSON, one document after the other."""
    hasher = blake3()
    for tensor in tensors:
        hasher.update(canonical(tensor))
    return hasher.hexdigest()


def _id_of(connection: Connection, key: InstrumentedAttribute[str], value: str) -> int | None:
    table = key.class_.__table__
    found: int | None = connection.scalar(select(table.c.id).where(key == value))
    return found


def _add(connection: Connection, row: type[Any], **values: Any) -> int:
    """Insert one row; its number."""
    key = connection.execute(insert(row.__table__).values(values)).inserted_primary_key
    assert key is not None
    return int(key[0])


def _add_all(connection: Connection, row: type[Any], rows: Iterable[dict[str, Any]]) -> None:
    table: Table = row.__table__
    for batch in batches(rows):
        connection.execute(insert(table), batch)


def batches(items: Iterable[Item], size: int = BATCH) -> Iterator[list[Item]]:
    """The items in lists of at most ``size``."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch
