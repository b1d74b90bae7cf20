"""What the catalogue adds up to: how much is held, and how much room it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Select, distinct, func, select

from archiver.catalogue.schema import FileRow, ObjectRow, Pack, Repository, Snapshot, TensorRow

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from archiver.catalogue.database import Catalogue


class CodecStats(NamedTuple):
    """The stored copies of one codec: how many, their plain and their stored bytes."""

    objects: int
    size: int
    stored: int


class DtypeStats(NamedTuple):
    """The tensors of one dtype in distinct files: how many, and their bytes."""

    tensors: int
    size: int


class Stats(msgspec.Struct, frozen=True):
    """Totals over the catalogue. All sizes are bytes.

    Attributes:
        files: Files of all manifests; a manifest that has several seals counts once.
        logical_bytes: Their sizes: what restoring every revision would write.
        distinct_file_bytes: The same with equal files counted once.
        objects: Distinct objects.
        object_bytes: Their plain sizes: what deduplication left.
        copies: Stored copies of objects; more than ``objects`` when some lie in several packs.
        stored_bytes: What these copies take in packs.
        pack_bytes: What the packs take.
        dtypes: Per dtype, over distinct files.
        codecs: Per codec number, over stored copies.
    """

    repositories: int
    snapshots: int
    files: int
    logical_bytes: int
    distinct_file_bytes: int
    objects: int
    object_bytes: int
    copies: int
    stored_bytes: int
    packs: int
    pack_bytes: int
    dtypes: dict[str, DtypeStats]
    codecs: dict[int, CodecStats]

    @property
    def ratio(self) -> float:
        """Return bytes in packs per byte that is held; 0 when nothing is held."""
        return self.pack_bytes / self.logical_bytes if self.logical_bytes else 0.0

    @property
    def compression(self) -> float:
        """Return stored bytes per plain byte of the stored copies; 0 when there are none."""
        plain = sum(codec.size for codec in self.codecs.values())
        return self.stored_bytes / plain if plain else 0.0

    @property
    def dedup_saving(self) -> int:
        """Return the bytes that deduplication kept from being stored.

        0 where packs hold more than the manifests name, as after an interrupted run.
        """
        return max(0, self.logical_bytes - self.object_bytes)


def stats(catalogue: Catalogue) -> Stats:
    """Return the totals, all from one state of the catalogue."""
    return catalogue.read(_stats)


def _stats(connection: Connection) -> Stats:
    codecs = _codecs(connection)
    distinct_files = (
        select(func.max(FileRow.size).label("size")).group_by(FileRow.blake3).subquery()
    )
    distinct_objects = (
        select(func.max(ObjectRow.size).label("size")).group_by(ObjectRow.blake3).subquery()
    )
    files, logical = _row(connection, select(func.count(), _sum(FileRow.size)))
    objects, object_bytes = _row(connection, select(func.count(), _sum(distinct_objects.c.size)))
    packs, pack_bytes = _row(connection, select(func.count(), _sum(Pack.size)))
    return Stats(
        repositories=_row(connection, select(func.count(Repository.id)))[0],
        snapshots=_row(connection, select(func.count(Snapshot.id)))[0],
        files=files,
        logical_bytes=logical,
        distinct_file_bytes=_row(connection, select(_sum(distinct_files.c.size)))[0],
        objects=objects,
        object_bytes=object_bytes,
        copies=sum(codec.objects for codec in codecs.values()),
        stored_bytes=sum(codec.stored for codec in codecs.values()),
        packs=packs,
        pack_bytes=pack_bytes,
        dtypes=_dtypes(connection),
        codecs=codecs,
    )


def _codecs(connection: Connection) -> dict[int, CodecStats]:
    query = (
        select(ObjectRow.codec, func.count(), _sum(ObjectRow.size), _sum(ObjectRow.stored))
        .group_by(ObjectRow.codec)
        .order_by(ObjectRow.codec)
    )
    return {codec: CodecStats(*sums) for codec, *sums in connection.execute(query)}


def _dtypes(connection: Connection) -> dict[str, DtypeStats]:
    """Return the totals per dtype.

    Layouts are summed once each, then counted as often as distinct files have them.
    """
    uses = (
        select(FileRow.layout_id, func.count(distinct(FileRow.blake3)).label("files"))
        .where(FileRow.layout_id.is_not(None))
        .group_by(FileRow.layout_id)
        .subquery()
    )
    sums = (
        select(
            TensorRow.layout_id,
            TensorRow.dtype,
            func.count().label("tensors"),
            _sum(TensorRow.end - TensorRow.begin).label("size"),
        )
        .group_by(TensorRow.layout_id, TensorRow.dtype)
        .subquery()
    )
    query = (
        select(sums.c.dtype, _sum(sums.c.tensors * uses.c.files), _sum(sums.c.size * uses.c.files))
        .join(uses, uses.c.layout_id == sums.c.layout_id)
        .group_by(sums.c.dtype)
        .order_by(sums.c.dtype)
    )
    return {dtype: DtypeStats(*totals) for dtype, *totals in connection.execute(query)}


def _sum(column: ColumnElement[int] | Any) -> ColumnElement[int]:
    return func.coalesce(func.sum(column), 0)


def _row(connection: Connection, query: Select[*tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(connection.execute(query).one())
