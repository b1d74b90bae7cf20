"""Writing a pack: objects are appended, and it becomes visible, under its digest, once it is whole.

What a writer that was killed leaves is a beginning without an index. ``PackWriter.resumed`` goes on from
there (``archive/ingest/resume.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blake3 import blake3

from archiver.archive.layout import pack_name
from archiver.archive.packs import format as pack_format
from archiver.archive.packs.format import (
    PREFIX_SIZE,
    TRAILER_SIZE,
    IndexEntry,
    PackIndex,
    head_frame,
)
from archiver.archive.records import canonical
from archiver.digest import Blake3Hex
from archiver.errors import ArchiverError, DamageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from archiver.archive.records import ArchiveInfo
    from archiver.codec.segment import EncodedObject
    from archiver.storage.store import Leftover, Reader, Staged, Store

PACK_SIZE: Final = 256 << 20
"""A pack has at most this many bytes, index and trailer included,"""
_ENTRIES_MAX: Final = 50_000
"""and this many objects, so that its index stays small in memory."""
_READ_BYTES: Final = 1 << 20

_COMMA: Final = b","
_INDEX_BEGIN, _INDEX_END = canonical(PackIndex(())).split(b"]")
_INDEX_END = b"]" + _INDEX_END
"""The canonical JSON of an index, around its entries."""


class PackWriter:
    """Appends objects to a pack that becomes visible only when it is finished."""

    def __init__(self, store: Store, info: ArchiveInfo, *, short_entries: bool = False) -> None:
        """Begin a pack of the archive ``info``; with an index as older writers made it, if asked."""
        self._begin(store.stage("pack"), short_entries=short_entries)
        try:
            self._write(head_frame(info))
        except ArchiverError:
            self.abort()
            raise

    def _begin(self, staged: Staged, *, short_entries: bool = False) -> None:
        self._hasher = blake3()
        self._staged = staged
        self._entries: list[IndexEntry] = []
        self._listed: list[bytes] = []
        """The entries as the index will have them."""
        self._end_size = len(_INDEX_BEGIN) + len(_INDEX_END) + PREFIX_SIZE + TRAILER_SIZE
        """Bytes of index and trailer, if no object follows."""
        self._short_entries = short_entries
        self._torn = False
        self.size = 0

    @classmethod
    def resumed(cls, leftover: Leftover, entries: Sequence[IndexEntry]) -> PackWriter:
        """Go on with an unfinished pack in its place, after these whole objects.

        They must follow each other without a gap from the pack's head on.
        """
        writer = cls.__new__(cls)
        size = entries[-1].offset + entries[-1].stored
        reader = leftover.reader()
        try:
            writer._begin(leftover.resume(size))  # noqa: SLF001 - its own class
            for at in range(0, size, _READ_BYTES):
                piece = bytearray(min(_READ_BYTES, size - at))
                if reader.read_into(at, memoryview(piece)) != len(piece):
                    raise DamageError("An unfinished pack became shorter while it was read.")
                writer._hasher.update(piece)  # noqa: SLF001
        finally:
            reader.close()
        for entry in entries:
            writer._add(entry)  # noqa: SLF001
        writer.size = size
        return writer

    def _write(self, *pieces: bytes | memoryview) -> None:
        self._staged.write(*pieces)
        for piece in pieces:
            self._hasher.update(piece)
            self.size += len(piece)

    @property
    def entries(self) -> tuple[IndexEntry, ...]:
        """What was appended so far."""
        return tuple(self._entries)

    def has_room(self, encoded: EncodedObject) -> bool:
        """Return whether the pack keeps to its size with this object too; an empty one takes any."""
        if not self._entries:
            return True
        stored = PREFIX_SIZE + len(canonical(encoded.header)) + encoded.stored
        listed = self._listing(IndexEntry.of(encoded.header, self.size, stored))
        size = self.size + stored + self._end_size + len(listed) + len(_COMMA)
        return size <= PACK_SIZE and len(self._entries) < _ENTRIES_MAX

    def append(self, encoded: EncodedObject) -> IndexEntry:
        """Append one object and return its entry; ask ``has_room`` before.

        Raise NoSpaceError when the disk is full: the pack is then as before.
        """
        offset, header, hasher = self.size, encoded.header, self._hasher.copy()
        head = pack_format.skippable(pack_format.OBJECT, canonical(header))
        try:
            self._write(head, *encoded.pieces)
        except ArchiverError:
            self._torn = True
            self._staged.cut(offset)
            self._hasher, self.size, self._torn = hasher, offset, False
            raise
        entry = IndexEntry.of(header, offset, self.size - offset)
        self._add(entry)
        return entry

    def _add(self, entry: IndexEntry) -> None:
        listed = self._listing(entry)
        self._end_size += len(listed) + (len(_COMMA) if self._listed else 0)
        self._listed.append(listed)
        self._entries.append(entry)

    def _listing(self, entry: IndexEntry) -> bytes:
        """Return an entry as the index has it."""
        return canonical(entry.place if self._short_entries else entry)

    def complete(self) -> Blake3Hex:
        """Write the index: the pack is whole then, and not visible yet. Return its digest."""
        if self._torn:
            raise ArchiverError("An unfinished pack ends in a part of an object.")
        index = self.size
        self._torn = True  # whoever is stopped inside the index may not complete it again
        payload = _INDEX_BEGIN + _COMMA.join(self._listed) + _INDEX_END
        self._write(pack_format.skippable(pack_format.INDEX, payload))
        self._write(pack_format.trailer(index))
        return Blake3Hex(self._hasher.hexdigest())

    def publish(self) -> tuple[Blake3Hex, tuple[IndexEntry, ...]]:
        """Make a complete pack durable and visible; return its digest and its entries."""
        pack = Blake3Hex(self._hasher.hexdigest())
        self._staged.publish(pack_name(pack))
        return pack, tuple(self._entries)

    def finish(self) -> tuple[Blake3Hex, tuple[IndexEntry, ...]]:
        """Write the index, make the pack durable and visible; return its digest and its entries."""
        self.complete()
        return self.publish()

    def reader(self) -> Reader:
        """Return a reader of what was written so far, to be read back before it is published."""
        return self._staged.reader()

    def keep(self) -> None:
        """Leave the pack unfinished for the next run to salvage; harmless after ``finish``."""
        self._staged.keep()

    def abort(self) -> None:
        """Throw the pack away; harmless after ``finish``."""
        self._staged.abort()
