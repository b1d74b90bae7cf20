"""Packs: writing one, and reading objects out of one (``docs/format.md``, section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
from blake3 import blake3

from archiver.archive import frames
from archiver.archive.layout import pack_name
from archiver.archive.records import FORMAT, ArchiveInfo, Features, canonical, parse_record
from archiver.codec.segment import EncodedObject, HexDigest, ObjectHeader, check_header, decode
from archiver.codec.workspace import workspace
from archiver.digest import Blake3Hex
from archiver.errors import ArchiverError, DamageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from archiver.codec.zstd import Bytes
    from archiver.storage.store import Leftover, Reader, Staged, Store

PACK_TARGET: Final = 256 << 20
"""A pack is closed once it holds this many bytes,"""
_ENTRIES_MAX: Final = 50_000
"""or this many objects, so that its index stays small in memory."""
HEADER_MAX: Final = 64 << 10
_SEARCH = 1 << 20
_AFTER_OBJECT = {frames.OBJECT, frames.INDEX}
_INDEX_MAX = 256 << 20
STORED_MAX: Final = 40 << 20
"""An object of 16 MiB plain cannot take more, whatever the codec."""


_JOINED = 64 << 10
"""Objects up to this many bytes are written in one call: the calls cost more than the copy."""


class PackHead(msgspec.Struct, frozen=True):
    """A pack's first frame: which archive wrote it."""

    archive: str
    kind: str = "pack"
    format: int = FORMAT
    features: Features = Features()


class IndexEntry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where an object lies in its pack; offsets and sizes in bytes."""

    blake3: HexDigest
    offset: int
    stored: int
    size: int
    codec: int


class PackIndex(msgspec.Struct, frozen=True):
    """A pack's last frame but one."""

    objects: tuple[IndexEntry, ...]
    kind: str = "index"


class PackWriter:
    """Appends objects to a pack that becomes visible only when it is finished."""

    def __init__(self, store: Store, info: ArchiveInfo) -> None:
        self._begin(store.stage("pack"))
        try:
            self._write(head_frame(info))
        except ArchiverError:
            self.abort()
            raise

    def _begin(self, staged: Staged) -> None:
        self._hasher = blake3()
        self._staged = staged
        self._entries: list[IndexEntry] = []
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
            writer._take_over(reader, size, entries)  # noqa: SLF001
        finally:
            reader.close()
        return writer

    def _take_over(self, reader: Reader, size: int, entries: Sequence[IndexEntry]) -> None:
        for at in range(0, size, _SEARCH):
            piece = bytearray(min(_SEARCH, size - at))
            if reader.read_into(at, memoryview(piece)) != len(piece):
                raise DamageError("An unfinished pack became shorter while it was read.")
            self._hasher.update(piece)
        self._entries.extend(entries)
        self.size = size

    def _write(self, data: bytes) -> None:
        self._staged.write(data)
        self._hasher.update(data)
        self.size += len(data)

    @property
    def full(self) -> bool:
        """Whether it is time to close the pack."""
        return self.size >= PACK_TARGET or len(self._entries) >= _ENTRIES_MAX

    def append(self, item: EncodedObject) -> IndexEntry:
        """Append one object; NoSpaceError when the disk is full: the pack is then as before."""
        offset, header, before = self.size, item.header, self._hasher.copy()
        pieces = (frames.skippable(frames.OBJECT, canonical(header)), *item.frames)
        if item.stored <= _JOINED:
            pieces = (b"".join(pieces),)
        try:
            for piece in pieces:
                self._write(piece)
        except ArchiverError:
            self._torn = True
            self._staged.cut(offset)
            self._hasher, self.size, self._torn = before, offset, False
            raise
        entry = IndexEntry(header.blake3, offset, self.size - offset, header.size, header.codec)
        self._entries.append(entry)
        return entry

    def finish(
        self, before: Callable[[Blake3Hex, Staged], None] | None = None
    ) -> tuple[Blake3Hex, tuple[IndexEntry, ...]]:
        """Write the index, make the pack durable and visible; its digest and its entries.

        ``before`` is told the digest and the whole file before it is visible; it may refuse it.
        """
        if self._torn:
            raise ArchiverError("An unfinished pack ends in a part of an object.")
        index, entries = self.size, tuple(self._entries)
        self._torn = True  # until the index is whole
        self._write(frames.skippable(frames.INDEX, canonical(PackIndex(entries))))
        self._write(frames.trailer(index))
        pack = Blake3Hex(self._hasher.hexdigest())
        if before is not None:
            before(pack, self._staged)
        self._staged.publish(pack_name(pack))
        return pack, entries

    def written(self) -> PackReader:
        """What was appended so far, to be read back before ``finish``."""
        return PackReader(self._staged.reader(), "An unfinished pack")

    def keep(self) -> None:
        """Leave the pack unfinished for the next run to salvage; harmless after ``finish``."""
        self._staged.keep()

    def abort(self) -> None:
        """Throw the pack away; harmless after ``finish``."""
        self._staged.abort()


def head_frame(info: ArchiveInfo) -> bytes:
    """The bytes that a pack of this archive begins with."""
    head = PackHead(archive=info.archive, features=info.features)
    return frames.skippable(frames.HEAD, canonical(head))


class PackReader:
    """Reads a pack, or the unfinished file of one; several threads may share a reader."""

    def __init__(self, reader: Reader, what: str) -> None:
        self._reader = reader
        self.what = what
        self.size = reader.size

    def close(self) -> None:
        """Release the file."""
        self._reader.close()

    def _read(self, offset: int, size: int) -> bytearray:
        # Looked at first: what a damaged length or offset says can be more than this machine has.
        inside = offset + size <= self.size
        data = bytearray(size if inside else 0)
        if not inside or self._reader.read_into(offset, memoryview(data)) != size:
            raise DamageError(f"{self.what} ends before byte {offset + size}.")
        return data

    def _skippable(self, offset: int, magic: int, limit: int) -> bytearray:
        found, size = frames.read_prefix(self._read(offset, frames.PREFIX_SIZE))
        if found != magic or size > limit:
            raise DamageError(f"{self.what} has no frame of the expected kind at byte {offset}.")
        return self._read(offset + frames.PREFIX_SIZE, size)

    def begins_with(self, data: bytes) -> bool:
        """Whether these are the first bytes."""
        return len(data) <= self.size and self._read(0, len(data)) == data

    def head(self) -> PackHead:
        """The pack's first frame; DamageError if it cannot be read."""
        return parse_record(self._skippable(0, frames.HEAD, HEADER_MAX), PackHead, self.what)

    def index(self) -> tuple[IndexEntry, ...]:
        """The pack's entries; DamageError if its end does not lead to a whole index."""
        try:
            last = frames.TRAILER_SIZE
            if self.size < last:
                raise ValueError("the pack is too short")  # noqa: TRY301 - worded in one place
            offset = frames.read_trailer(self._read(self.size - last, last))
        except ValueError as error:
            raise DamageError(f"{self.what} has lost its index: {error}.") from error
        data = self._skippable(offset, frames.INDEX, _INDEX_MAX)
        return parse_record(data, PackIndex, f"The index of {self.what}").objects

    def walk(self) -> Iterator[IndexEntry]:
        """The entries found by the object headers alone, also past damage.

        The entries are what object headers claim: an object counts only once it was decoded.
        """
        offset = self._next_magic(0)
        while offset < self.size:
            try:
                header, body = self.object_header(offset)
            except DamageError:
                offset = self._next_magic(offset + 1)
                continue
            end = body + sum(header.frames)
            if end <= self.size:
                yield IndexEntry(header.blake3, offset, end - offset, header.size, header.codec)
            # A header that lies about its frames must not hide the objects after it.
            whole = end == self.size or self._magic(end) in _AFTER_OBJECT
            offset = end if whole else self._next_magic(body)

    def _magic(self, offset: int) -> int | None:
        if offset + frames.PREFIX_SIZE > self.size:
            return None
        return frames.read_prefix(self._read(offset, frames.PREFIX_SIZE))[0]

    def _next_magic(self, offset: int) -> int:
        """Where the bytes that begin an object header are next found; the pack's size if nowhere."""
        while offset < self.size:
            piece = self._read(offset, min(_SEARCH, self.size - offset))
            found = piece.find(frames.OBJECT_MAGIC)
            if found >= 0:
                return offset + found
            # The bytes may begin at the very end of the piece.
            offset += max(len(piece) - len(frames.OBJECT_MAGIC) + 1, 1)
        return self.size

    def object_header(self, offset: int) -> tuple[ObjectHeader, int]:
        """The object header at ``offset`` and where its first data frame begins."""
        data = self._skippable(offset, frames.OBJECT, HEADER_MAX)
        header = parse_record(data, ObjectHeader, f"The object at byte {offset} of {self.what}")
        check_header(header)
        return header, offset + frames.PREFIX_SIZE + len(data)

    def _fetch(self, entry: IndexEntry) -> tuple[ObjectHeader, memoryview]:
        """An object's header and frames, in one read; the frames lie in the thread's workspace."""
        if not frames.PREFIX_SIZE <= entry.stored <= STORED_MAX:
            raise DamageError(f"{self.what} claims {entry.stored} bytes for {entry.blake3}.")
        buffer = workspace().take("stored", entry.stored).data
        inside = 0 <= entry.offset <= self.size - entry.stored
        if not inside or self._reader.read_into(entry.offset, buffer) != entry.stored:
            raise DamageError(f"{self.what} ends inside object {entry.blake3}.")
        magic, size = frames.read_prefix(buffer)
        if magic != frames.OBJECT or frames.PREFIX_SIZE + size > entry.stored:
            raise DamageError(f"{self.what} has no object at byte {entry.offset}.")
        end = frames.PREFIX_SIZE + size
        what = f"The object at byte {entry.offset} of {self.what}"
        return parse_record(buffer[frames.PREFIX_SIZE : end], ObjectHeader, what), buffer[end:]

    def read(self, entry: IndexEntry, out: Bytes) -> None:
        """Decode an object into ``out`` (``entry.size`` bytes); DamageError unless it is whole."""
        header, body = self._fetch(entry)
        if header.blake3 != entry.blake3 or header.size != len(out):
            raise DamageError(f"{self.what} holds another object than {entry.blake3}.")
        decode(header, body, out)

    def copy(self, entry: IndexEntry) -> EncodedObject:
        """An object as it is stored, after it was decoded and checked."""
        header, body = self._fetch(entry)
        check_header(header)
        out = np.empty(header.size, np.uint8)
        if header.blake3 != entry.blake3:
            raise DamageError(f"{self.what} holds another object than {entry.blake3}.")
        decode(header, body, out)
        cut, at = [], 0
        for length in header.frames:
            cut.append(bytes(body[at : at + length]))
            at += length
        return EncodedObject(header, tuple(cut))
