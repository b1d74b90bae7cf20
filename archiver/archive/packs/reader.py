"""Reading a pack: its head, its index, its objects, and what is left of them where it is damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from archiver.archive.packs import frames
from archiver.archive.packs.records import (
    HEADER_MAX,
    INDEX_MAX,
    STORED_MAX,
    IndexEntry,
    PackHead,
    PackIndex,
)
from archiver.archive.records import parse_record
from archiver.codec.segment import EncodedObject, ObjectHeader, check_header, decode
from archiver.codec.workspace import workspace
from archiver.errors import DamageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.codec.zstd import Bytes
    from archiver.storage.store import Reader

_SEARCH: Final = 1 << 20
_AFTER_OBJECT: Final = {frames.OBJECT, frames.INDEX}


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
        data = self._skippable(offset, frames.INDEX, INDEX_MAX)
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
