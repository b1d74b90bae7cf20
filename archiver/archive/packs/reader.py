"""Reading a pack: its head, its index, its objects, and what is left of them where it is damaged.

A pack is untrusted until it was decoded: every length is compared with what the file has, and with the
format's bounds, before memory is taken for it.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
import numpy as np
from blake3 import blake3

from archiver.archive.packs import format as pack_format
from archiver.archive.packs.format import (
    HEADER_MAX,
    INDEX_MAX,
    PACK_MAX,
    STORED_MAX,
    IndexEntry,
    PackHead,
    PackIndex,
)
from archiver.archive.records import FORMAT, parse_record, require_known
from archiver.buffers import workspace
from archiver.codec.segment import (
    EncodedObject,
    ObjectHeader,
    check_header,
    decode,
    decoded_digest,
    is_named_rightly,
    require_named_rightly,
)
from archiver.codec.zstd import InMemory, with_checksum
from archiver.errors import DamageError, NotUnderstoodError, UnknownFormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from archiver.buffers import Bytes
    from archiver.codec.zstd import Source
    from archiver.digest import HexDigest
    from archiver.storage.store import Reader

DECODER_BYTES: Final = 8 << 20
"""What a thread holds that decodes, beside the plain bytes: a step of each stream, zstd's own windows; and
the holes that the C library has between buffers which grew."""

Result = TypeVar("Result")

_PIECE: Final = 1 << 20
_SMALL: Final = 256 << 10
"""An object whose frames have no more bytes is read at once."""
_BLOCK: Final = 4 << 10
_DOUBTFUL_MAX: Final = 4
"""Headers whose object is not followed by another frame may claim this many times the pack's bytes.

Those of real objects claim what the pack has, once: objects do not overlap.
"""
_AFTER_OBJECT: Final = {pack_format.OBJECT, pack_format.INDEX}


class _MagicSearch:
    """Finds the bytes that object headers begin with; reads a pack once, from its front on."""

    def __init__(self, pack: PackReader) -> None:
        self._pack = pack
        self._base = 0
        self._piece = bytearray()

    def next_magic(self, offset: int) -> int:
        """Return where one is next, from ``offset`` on; the pack's size if nowhere."""
        while offset < self._pack.size:
            piece = self._piece_with(offset, offset + 1)
            at = piece.find(pack_format.OBJECT_MAGIC, offset - self._base)
            if at >= 0:
                return self._base + at
            end = self._base + len(self._piece)
            if end >= self._pack.size:
                return self._pack.size
            # The bytes may begin at the very end of the piece.
            offset = max(end - len(pack_format.OBJECT_MAGIC) + 1, offset + 1)
            self._piece = bytearray()
        return self._pack.size

    def has_magic(self, begin: int, end: int) -> bool:
        """Return whether one begins and ends in this stretch, which is shorter than a piece."""
        piece = self._piece_with(begin, end)
        return piece.find(pack_format.OBJECT_MAGIC, begin - self._base, end - self._base) >= 0

    def _piece_with(self, begin: int, end: int) -> bytearray:
        """Return a piece that holds this stretch, as far as the pack has it."""
        inside = self._base <= begin and min(end, self._pack.size) <= self._base + len(self._piece)
        if not inside:
            self._base, self._piece = begin, self._pack.piece(min(begin, self._pack.size))
        return self._piece


class PackReader:
    """Reads a pack, or the unfinished file of one; several threads may share a reader."""

    def __init__(self, reader: Reader, what: str) -> None:
        self._reader = reader
        self.what = what
        self.size = reader.size

    @classmethod
    def stored(cls, reader: Reader, what: str) -> PackReader:
        """Return a reader of a stored pack; raise DamageError for a file that no pack can be."""
        if reader.size > PACK_MAX:
            reader.close()
            raise DamageError(f"{what} has {reader.size:,} bytes, more than a pack can have.")
        return cls(reader, what)

    def close(self) -> None:
        """Release the file."""
        self._reader.close()

    def _read(self, offset: int, size: int) -> bytearray:
        # Compared first: what a damaged length or offset says can be more than this machine has.
        inside = offset + size <= self.size
        data = bytearray(size if inside else 0)
        if not inside or self._reader.read_into(offset, memoryview(data)) != size:
            raise DamageError(f"{self.what} ends before byte {offset + size}.")
        return data

    def _skippable(self, offset: int, magic: int, limit: int) -> bytearray:
        actual, size = pack_format.read_prefix(self._read(offset, pack_format.PREFIX_SIZE))
        if actual != magic or size > limit:
            raise DamageError(f"{self.what} has no frame of the expected kind at byte {offset}.")
        return self._read(offset + pack_format.PREFIX_SIZE, size)

    def begins_with(self, data: bytes) -> bool:
        """Return whether these are the first bytes."""
        return len(data) <= self.size and self._read(0, len(data)) == data

    def head(self) -> PackHead:
        """Return the pack's first frame; raise DamageError if it cannot be read."""
        return parse_record(self._skippable(0, pack_format.HEAD, HEADER_MAX), PackHead, self.what)

    def require_understood(self, pack: str) -> None:
        """Raise NotUnderstoodError if the head of ``pack`` announces what this version does not know.

        A head that cannot be read announces nothing. Another format number counts only if the pack is what
        its name says: one flipped bit makes another number.
        """
        try:
            head = self.head()
        except DamageError:
            return
        known = head.format == FORMAT or self._digest() != pack
        if known and not head.features.read:
            return
        try:
            require_known(f"Pack {pack}", head.format, head.features)
        except UnknownFormatError as error:
            raise NotUnderstoodError(error.message, hint=error.hint, pack=pack) from error

    def _digest(self) -> str:
        hasher = blake3()
        for at in range(0, self.size, _PIECE):
            hasher.update(self.piece(at))
        return hasher.hexdigest()

    def index(self) -> tuple[IndexEntry, ...]:
        """Return the pack's entries; raise DamageError if it has no whole index.

        A damaged trailer does not matter: the index is found by what it begins with.
        """
        try:
            return self.index_at_trailer()
        except DamageError as error:
            for data in self._index_payloads():
                with suppress(DamageError):
                    return self._entries_in(data)
            raise DamageError(f"{self.what} has lost its index: {error.message}") from error

    def index_at_trailer(self) -> tuple[IndexEntry, ...]:
        """Return the pack's entries; raise DamageError if its end does not lead to a whole index."""
        try:
            size = pack_format.TRAILER_SIZE
            if self.size < size:
                raise ValueError("the pack is too short")  # noqa: TRY301 - worded in one place
            offset = pack_format.read_trailer(self._read(self.size - size, size))
        except ValueError as error:
            raise DamageError(f"{self.what} does not lead to its index: {error}.") from error
        return self._entries_in(self._skippable(offset, pack_format.INDEX, INDEX_MAX))

    def index_size(self) -> int:
        """Return how many bytes the index takes, by the trailer; 0 if that is damaged."""
        size = pack_format.TRAILER_SIZE
        if self.size < size:
            return 0
        try:
            offset = pack_format.read_trailer(self._read(self.size - size, size))
        except ValueError:
            return 0
        return max(self.size - size - offset, 0)

    def _index_payloads(self) -> Iterator[bytearray]:
        """Yield what may be the payload of the index, the last one first; no byte twice."""
        longest = INDEX_MAX + pack_format.PREFIX_SIZE + pack_format.TRAILER_SIZE
        end = bytearray()
        for at in range(max(0, self.size - longest), self.size, _PIECE):
            end += self.piece(at)
        at = limit = len(end)
        while (at := end.rfind(pack_format.INDEX_MAGIC, 0, at)) >= 0:
            payload = at + pack_format.PREFIX_SIZE
            if payload <= limit:
                size = pack_format.read_prefix(end[at:payload])[1]
                # JSON holds no byte as the last one of a magic: where another stands, it has ended.
                if payload + size <= limit:
                    yield end[payload : payload + size]
            limit = at

    def _entries_in(self, data: bytearray) -> tuple[IndexEntry, ...]:
        entries = parse_record(data, PackIndex, f"The index of {self.what}").objects
        at = 0
        for entry in entries:
            # Else an index could let the same bytes be read a hundred thousand times.
            if entry.offset < at or not pack_format.PREFIX_SIZE <= entry.stored <= STORED_MAX:
                raise DamageError(f"The index of {self.what} lists objects that cannot lie so.")
            at = entry.offset + entry.stored
        return entries

    def true_entries(self) -> Iterator[IndexEntry]:
        """Yield the entries in pack order, each under the name that its bytes have, if these still decode.

        Where index and header agree on a name, it is taken for right. So this costs little for a pack whose
        index is whole, and else decodes it once.
        """
        try:
            entries: Iterable[IndexEntry] = self.index()
        except DamageError:
            entries, named_twice = self.walk(), False
        else:
            named_twice = True
        for entry in entries:
            if named_twice and self._header_says(entry):
                yield entry
                continue
            try:
                yield self.content(entry)
            except DamageError:
                yield entry

    def _header_says(self, entry: IndexEntry) -> bool:
        try:
            header, body = self.object_header(entry.offset)
        except DamageError:
            return False
        says = IndexEntry.of(header, entry.offset, body + sum(header.frames) - entry.offset)
        return says == entry

    def walk(self) -> Iterator[IndexEntry]:
        """Yield the entries found by the object headers alone, also past damage, in one pass.

        The entries are what object headers claim: an object counts only once it was decoded. What they
        claim together is bounded, so that a pack full of made-up headers costs a few times its length.
        """
        search, doubtful = _MagicSearch(self), _DOUBTFUL_MAX * self.size
        offset = search.next_magic(0)
        while offset < self.size:
            entry = self._entry_at(offset, search)
            if entry is None:
                offset = search.next_magic(offset + 1)
                continue
            end = entry.offset + entry.stored
            # A header that lies about its frames must not hide the objects after it.
            whole = end == self.size or self._magic(end) in _AFTER_OBJECT
            doubtful -= 0 if whole else entry.stored
            if end <= self.size and doubtful >= 0:
                yield entry
            offset = end if whole else search.next_magic(offset + 1)

    def _entry_at(self, offset: int, search: _MagicSearch) -> IndexEntry | None:
        """Return what the object header at ``offset`` claims; None if it is none."""
        try:
            _, size = pack_format.read_prefix(self._read(offset, pack_format.PREFIX_SIZE))
            # JSON holds no byte as the last one of a magic: what holds another magic is no header.
            # So no byte is parsed twice, however close together the magics stand.
            if size > HEADER_MAX or search.has_magic(
                offset + 1, offset + pack_format.PREFIX_SIZE + size
            ):
                return None
            header, body = self.object_header(offset)
        except DamageError:
            return None
        return IndexEntry.of(header, offset, body + sum(header.frames) - offset)

    def _magic(self, offset: int) -> int | None:
        try:
            return pack_format.read_prefix(self._read(offset, pack_format.PREFIX_SIZE))[0]
        except DamageError:
            return None

    def piece(self, offset: int) -> bytearray:
        """Return the bytes from ``offset`` on, a piece of them; zeros where the medium gives none."""
        size = min(_PIECE, self.size - offset)
        try:
            return self._read(offset, size)
        except DamageError:
            piece = bytearray(size)
        end = offset + size
        # Where a disk's blocks begin: of one that cannot be read, its neighbours can.
        edges = [offset, *range(offset - offset % _BLOCK + _BLOCK, end, _BLOCK), end]
        for begin, stop in pairwise(edges):
            with suppress(DamageError):
                piece[begin - offset : stop - offset] = self._read(begin, stop - begin)
        return piece

    def object_header(self, offset: int) -> tuple[ObjectHeader, int]:
        """Return the object header at ``offset`` and where its first data frame begins."""
        data = self._skippable(offset, pack_format.OBJECT, HEADER_MAX)
        header = parse_record(data, ObjectHeader, f"The object at byte {offset} of {self.what}")
        check_header(header)
        return header, offset + pack_format.PREFIX_SIZE + len(data)

    def read(self, entry: IndexEntry, size: int, out: Bytes | None = None) -> None:
        """Decode an object of ``size`` plain bytes into ``out``, or only to see that it is whole.

        Raise DamageError unless it is.
        """

        def decode_into_out(header: ObjectHeader, frames: Source) -> None:
            if header.size != size:
                raise DamageError(
                    f"{self.what} lists another size for object {entry.blake3}.",
                    object=entry.blake3,
                )
            decode(header, frames, None if out is None else out[:size])

        self._first_whole(entry, decode_into_out)

    def copy(self, entry: IndexEntry) -> EncodedObject:
        """Return an object as it is stored, after it was decoded and checked.

        A frame whose checksum alone is wrong gets the right one: damage is not copied.
        """

        def copied(header: ObjectHeader, frames: Source) -> EncodedObject:
            check_header(header)
            kept, begin = [], 0
            for length in header.frames:
                size = min(length, frames.size - begin)
                kept.append(bytes(frames.read(begin, size, np.empty(size, np.uint8))))
                begin += size
            whole = InMemory(*kept)
            try:
                digest = decoded_digest(header, whole, checksums=True)
            except DamageError:
                if not is_named_rightly(header, whole):
                    raise
                return EncodedObject(header, tuple(map(with_checksum, kept)))
            require_named_rightly(header, digest)
            return EncodedObject(header, tuple(kept))

        return self._first_whole(entry, copied)

    def content(self, entry: IndexEntry) -> IndexEntry:
        """Return the entry under the name that the bytes have; raise DamageError if they do not decode.

        Where index and header decode to different bytes, those are right that one of them names.
        """
        names, contents = {entry.blake3}, dict[str, IndexEntry]()
        with suppress(DamageError):
            names.add(self.object_header(entry.offset)[0].blake3)

        def add(header: ObjectHeader, frames: Source) -> None:
            digest: HexDigest
            try:
                digest = decoded_digest(header, frames, checksums=True)
            except DamageError:
                # Without checksums anything may come out: only a name that is known tells.
                known = (msgspec.structs.replace(header, blake3=name) for name in names)
                right = (each for each in known if is_named_rightly(each, frames))
                if (found := next(right, None)) is None:
                    raise
                digest = found.blake3
            named = msgspec.structs.replace(header, blake3=digest)
            contents[digest] = IndexEntry.of(named, entry.offset, entry.stored)
            if digest not in names:
                raise DamageError(f"{self.what} has another name for {digest}.", object=digest)

        try:
            self._first_whole(entry, add)
        except DamageError:
            if not contents:
                raise
        likely = [contents[name] for name in contents if name in names]
        return (likely or [*contents.values()])[0]

    def _first_whole(
        self, entry: IndexEntry, take: Callable[[ObjectHeader, Source], Result]
    ) -> Result:
        """Return what ``take`` makes of the first of the ways to decode an object that it accepts."""
        damage: DamageError | None = None
        try:
            for header, frames in self._encodings(entry):
                try:
                    return take(header, frames)
                except DamageError as error:
                    damage = damage or error
        except DamageError as error:
            damage = damage or error
        raise damage or DamageError(f"{self.what} does not hold object {entry.blake3}.")

    def _encodings(self, entry: IndexEntry) -> Iterator[tuple[ObjectHeader, Source]]:
        """Yield how an object may be encoded, and its frames, both under the name that the entry has.

        First as the entry says: then nothing else of the pack needs to be readable. If that is not
        right, or the entry does not say it, as the object's own header does, whose name is only a hint.
        """
        if not pack_format.PREFIX_SIZE <= entry.stored <= STORED_MAX:
            raise DamageError(
                f"{self.what} claims {entry.stored} bytes for {entry.blake3}.", object=entry.blake3
            )
        listed = entry.header
        if listed is not None:
            yield listed, self._frames(entry, entry.stored - sum(listed.frames))
        prefix = self._stretch(entry, 0, pack_format.PREFIX_SIZE)
        magic, size = pack_format.read_prefix(prefix)
        end = pack_format.PREFIX_SIZE + size
        what = f"The object at byte {entry.offset} of {self.what}"
        if magic != pack_format.OBJECT or end > entry.stored:
            raise DamageError(f"{what} has no header.", object=entry.blake3)
        own = parse_record(self._stretch(entry, pack_format.PREFIX_SIZE, size), ObjectHeader, what)
        header = msgspec.structs.replace(own, blake3=entry.blake3)
        if header != listed:
            yield header, self._frames(entry, end)

    def _frames(self, entry: IndexEntry, begin: int) -> Source:
        """Return what an object takes from ``begin`` on: all at once if it is small."""
        size = entry.stored - begin
        if size <= _SMALL:
            return InMemory(self._stretch(entry, begin, size))
        return _StoredFrames(self, entry, begin)

    def _stretch(self, entry: IndexEntry, begin: int, size: int) -> memoryview:
        """Return a stretch of what an object takes, in the thread's workspace."""
        return self.read_object(entry, begin, workspace().take("stored", size))

    def read_object(self, entry: IndexEntry, begin: int, buffer: Bytes) -> memoryview:
        """Fill ``buffer`` from what an object takes; raise DamageError if the pack ends before."""
        inside = 0 <= entry.offset <= self.size - entry.stored
        if not inside or self._reader.read_into(entry.offset + begin, buffer.data) != len(buffer):
            raise DamageError(
                f"{self.what} ends inside object {entry.blake3}.", object=entry.blake3
            )
        return buffer.data


class _StoredFrames:
    """The frames of an object, read from its pack as they are needed."""

    def __init__(self, pack: PackReader, entry: IndexEntry, begin: int) -> None:
        self._pack = pack
        self._entry = entry
        self._begin = begin
        self.size = entry.stored - begin

    def read(self, begin: int, size: int, buffer: Bytes) -> memoryview:
        """Return a stretch, in ``buffer``."""
        return self._pack.read_object(self._entry, self._begin + begin, buffer[:size])

    def open(self, begin: int, size: int, buffer: Bytes) -> _Stretch:
        """Return a stretch as a file."""
        return _Stretch(self, begin, size, buffer)


class _Stretch:
    """A stretch of an object's frames, as the file that zstandard reads from."""

    def __init__(self, frames: _StoredFrames, begin: int, size: int, buffer: Bytes) -> None:
        self._frames = frames
        self._at, self._end = begin, begin + size
        self._buffer = buffer

    def read(self, size: int) -> memoryview:
        """Return the next bytes, valid until the next call."""
        size = min(size, len(self._buffer), self._end - self._at)
        piece = self._frames.read(self._at, size, self._buffer)
        self._at += size
        return piece
