"""Show: what one snapshot is, and what a manifest lists."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import msgspec

from archiver.archive.manifests import Segments, tensor_segments
from archiver.archive.quarantine import packs_for
from archiver.archive.records import FileEntry, Manifest, Selection, Source, Totals
from archiver.archive.vouching import Voucher, Vouching, counted, vouches_of
from archiver.errors import DamageError
from archiver.front_matter import README, README_MAX
from archiver.smoke.receipt import newest_receipt
from archiver.tensors.gguf import MetadataValue, read_metadata
from archiver.tensors.header import HeaderError
from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.archive.archive import Archive
    from archiver.archive.packs.index import ObjectIndex
    from archiver.archive.seals import Snapshot


class SnapshotFacts(msgspec.Struct, frozen=True):
    """One snapshot: its source, its seal, and its manifest; sizes in bytes.

    ``vouched`` says whose digests its files were compared with, ``unvouched`` which were with none.
    """

    snapshot: str
    manifest: str
    manifest_size: int
    source: Source
    totals: Totals
    packs: int
    pack_bytes: int
    selection: Selection
    parent: str
    sealed: str
    tool: str
    smoke_test: LastTest | None = None
    vouched: Vouching = Vouching()
    unvouched: tuple[str, ...] = ()

    @property
    def ratio(self) -> float:
        """Stored bytes per plain byte; 0 when nothing is held."""
        return self.totals.stored / self.totals.bytes if self.totals.bytes else 0.0


class LastTest(msgspec.Struct, frozen=True):
    """The newest receipt of a smoke test: its event, when, how each level ended, with which versions.

    ``read`` is ``archive`` or ``folder``; ``place`` is where the archive lay, by its identity; ``accepted``
    are the codes that were found and failed no level, since the policy accepted them.
    """

    event: str
    time: str
    levels: dict[str, str]
    versions: dict[str, str]
    read: str
    place: str
    accepted: tuple[str, ...] = ()


class ShownTensor(msgspec.Struct, frozen=True):
    """One tensor of a file; ``begin`` is its offset there, ``segments`` are (bytes, BLAKE3)."""

    path: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    bytes: int
    segments: Segments


def show(archive: Archive, snapshot: Snapshot) -> tuple[SnapshotFacts, Manifest]:
    """Return what seal and manifest say of a snapshot; raise DamageError if the manifest is not whole."""
    manifest = archive.manifest(snapshot.seal)
    return snapshot_facts(archive, snapshot, manifest), manifest


def snapshot_facts(archive: Archive, snapshot: Snapshot, manifest: Manifest) -> SnapshotFacts:
    """Return what seal and manifest say of a snapshot, for who has read that manifest already."""
    seal = snapshot.seal
    vouches = vouches_of(seal, manifest.source, manifest.files)
    pairs = zip(manifest.files, vouches, strict=True)
    return SnapshotFacts(
        snapshot=snapshot.id,
        manifest=seal.manifest.blake3,
        manifest_size=seal.manifest.size,
        source=manifest.source,
        totals=seal.totals,
        packs=len(seal.packs),
        pack_bytes=sum(size for _, size in seal.packs),
        selection=seal.selection,
        parent=seal.parent,
        sealed=seal.sealed,
        tool=seal.tool,
        smoke_test=_last_test(archive, snapshot),
        vouched=counted(vouches),
        unvouched=tuple(file.path for file, vouch in pairs if vouch.by is Voucher.NOBODY),
    )


class FileMetadata(msgspec.Struct, frozen=True):
    """What the header of a GGUF file says of the model; ``left_out`` keys more are not told."""

    path: str
    metadata: tuple[MetadataValue, ...]
    left_out: int


def gguf_metadata(
    archive: Archive, snapshot: Snapshot, manifest: Manifest
) -> Iterator[FileMetadata]:
    """Yield the metadata of each GGUF file of a snapshot, read from its packs.

    Raise DamageError if a segment of a header cannot be read, or is none.
    """
    packs = packs_for(archive, snapshot)
    for entry in manifest.files:
        if entry.container == "gguf":
            beginning = _Beginning(packs, entry)
            try:
                metadata = read_metadata(beginning.read, entry.size)
            except HeaderError as error:
                raise DamageError(f"{printable(entry.path)}: {error}") from error
            yield FileMetadata(entry.path, metadata.values, metadata.left_out)


def card_of(archive: Archive, snapshot: Snapshot, manifest: Manifest) -> bytes | None:
    """Return the card (README.md) of a snapshot; None if it has none, or a larger one than is read.

    Raise DamageError if it cannot be read.
    """
    entry = manifest.file(README)
    if entry is None or entry.size > README_MAX:
        return None
    return _Beginning(packs_for(archive, snapshot), entry).read(entry.size)


class _Beginning:
    """The first bytes of a file, of which more and more are asked for."""

    def __init__(self, packs: ObjectIndex, entry: FileEntry) -> None:
        self._packs = packs
        self._segments = iter(entry.segments)
        self._data = bytearray()

    def read(self, size: int) -> bytes:
        """Return so many first bytes."""
        import numpy as np  # noqa: PLC0415 - whoever shows no header need not wait for it

        while len(self._data) < size:
            length, digest = next(self._segments)
            segment = np.empty(length, np.uint8)
            self._packs.read(digest, length, segment)
            self._data += segment.data
        return bytes(self._data[:size])


def _last_test(archive: Archive, snapshot: Snapshot) -> LastTest | None:
    receipt = newest_receipt(archive, snapshot)
    if receipt is None:
        return None
    name, time, tested = receipt
    accepted = {finding.code for finding in tested.findings if finding.accepted is True}
    return LastTest(
        event=name,
        time=time,
        levels=tested.levels,
        versions=tested.versions,
        read=tested.read,
        place=tested.place,
        accepted=tuple(sorted(accepted)),
    )


def matching_tensors(manifest: Manifest, pattern: str) -> Iterator[ShownTensor]:
    """Give the tensors whose names fit ``pattern``, in the order of the manifest."""
    for entry in manifest.files:
        for tensor, segments in tensor_segments(entry):
            if fnmatchcase(tensor.name, pattern):
                yield ShownTensor(
                    path=entry.path,
                    name=tensor.name,
                    dtype=tensor.dtype,
                    shape=tensor.shape,
                    begin=tensor.begin,
                    bytes=tensor.end - tensor.begin,
                    segments=segments,
                )
