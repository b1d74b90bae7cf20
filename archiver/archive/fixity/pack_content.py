"""Checking one pack: read once, front to back, every byte hashed, every object decoded and hashed.

Format: ``docs/format.md``, section 3. The frames are walked; head, index and trailer must say the
same as the walk. Where the walk is lost, the index leads to the objects that are still whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blake3 import blake3

from archiver.archive.fixity.pack_state import Fault, PackState
from archiver.archive.packs import frames
from archiver.archive.packs.reader import PackReader
from archiver.archive.packs.records import HEADER_MAX, STORED_MAX, IndexEntry, PackHead
from archiver.archive.records import FORMAT, parse_record
from archiver.codec.segment import ObjectHeader, check_header, decode
from archiver.codec.workspace import workspace
from archiver.errors import ArchiverError, DamageError

if TYPE_CHECKING:
    from archiver.archive.fixity.pack_state import Advance
    from archiver.storage.store import Reader

_PIECE: Final = 4 << 20


def check_pack(reader: Reader, advance: Advance) -> PackState:
    """Read a pack and decode all its objects; whatever is wrong is in the result."""
    return _Check(reader, advance).run()


class _Check:
    """One reading of one pack."""

    def __init__(self, reader: Reader, advance: Advance) -> None:
        self._reader = reader
        self._advance = advance
        self._pack = PackReader(reader, "the pack")
        self._hasher = blake3()
        self._at = 0
        self._listed: dict[int, IndexEntry] = {}
        self._indexed = False
        self._index_problem = ""
        self._archive = ""
        self._met: set[int] = set()
        self._sound = bytearray()
        self._faults: list[Fault] = []

    def run(self) -> PackState:
        self._read_index()
        unreadable = ""
        try:
            self._walk()
            while self._at < self._reader.size:
                self._take(min(_PIECE, self._reader.size - self._at))
        except ArchiverError as error:
            unreadable = error.message
        self._read_the_rest()
        return PackState(
            size=self._reader.size,
            blake3="" if unreadable else self._hasher.hexdigest(),
            archive=self._archive,
            sound=bytes(self._sound),
            faults=tuple(self._faults),
            index=self._index_problem,
            unreadable=unreadable,
        )

    def _read_index(self) -> None:
        try:
            self._listed = {entry.offset: entry for entry in self._pack.index()}
            self._indexed = True
        except ArchiverError as error:
            self._index_problem = error.message

    # ---- front to back

    def _take(self, size: int) -> memoryview:
        """The next bytes, hashed; valid until the next call."""
        buffer = workspace().take("stored", size).data
        if self._reader.read_into(self._at, buffer) != size:
            raise DamageError(f"it ends before byte {self._at + size}")
        self._hasher.update(buffer)
        self._at += size
        self._advance(size)
        return buffer

    def _walk(self) -> None:
        """Take frame after frame up to the index, or up to where they are no frames any more."""
        try:
            self._take_head()
            while self._next_is_object():
                self._take_object()
        except _LostError as lost:
            self._index_problem = self._index_problem or ("" if self._indexed else str(lost))

    def _take_head(self) -> None:
        try:
            head = parse_record(self._skippable(frames.HEAD), PackHead, "its head")
        except DamageError as error:
            raise _LostError(error.message) from error
        self._archive = head.archive
        if (head.kind, head.format) != ("pack", FORMAT):
            raise _LostError("its head is not that of a pack of format 1")

    def _next_is_object(self) -> bool:
        magic, size = self._peek()
        if magic == frames.INDEX:
            self._expect_end(size)
            return False
        return True

    def _peek(self) -> tuple[int, int]:
        prefix = bytearray(frames.PREFIX_SIZE)
        if self._reader.read_into(self._at, memoryview(prefix)) != len(prefix):
            raise _LostError("the frames end before the index")
        return frames.read_prefix(prefix)

    def _expect_end(self, size: int) -> None:
        """The index must lie where the trailer says, and list as many objects as were met."""
        end = self._at + frames.PREFIX_SIZE + size + frames.TRAILER_SIZE
        if self._indexed and (end != self._reader.size or len(self._listed) != len(self._met)):
            self._index_problem = "its index lists other objects than its frames hold"

    def _skippable(self, magic: int) -> bytes:
        """The payload of the skippable frame that must come next."""
        found, size = self._peek()
        if found != magic or size > HEADER_MAX:
            raise _LostError(f"no frame of the expected kind at byte {self._at}")
        if self._at + frames.PREFIX_SIZE + size > self._reader.size:
            raise _LostError("the frames end before the index")
        return bytes(self._take(frames.PREFIX_SIZE + size)[frames.PREFIX_SIZE :])

    def _take_object(self) -> None:
        begin = self._at
        payload = self._skippable(frames.OBJECT)
        try:
            header = parse_record(payload, ObjectHeader, f"the header at byte {begin}")
            check_header(header)
        except DamageError as error:
            raise _LostError(error.message) from error
        size = sum(header.frames)
        if size > min(STORED_MAX, self._reader.size - self._at):
            raise _LostError("an object is longer than the pack")
        body = self._take(size)
        self._judge(header, body, begin)

    def _judge(self, header: ObjectHeader, body: memoryview, begin: int) -> None:
        listed = self._listed.get(begin)
        self._met.add(begin)
        try:
            decode(header, body, workspace().take("check", header.size))
        except DamageError as error:
            # A flipped digit in the header would name an object that never was: the index knows.
            named = listed.blake3 if listed else header.blake3
            self._faults.append(Fault(named, error.message))
            return
        self._sound += bytes.fromhex(header.blake3)
        entry = IndexEntry(header.blake3, begin, self._at - begin, header.size, header.codec)
        if self._indexed and listed != entry:
            self._index_problem = "its index lists other objects than its frames hold"

    # ---- what the walk did not reach

    def _read_the_rest(self) -> None:
        for offset, entry in self._listed.items():
            if offset in self._met:
                continue
            self._advance(0)
            try:
                self._pack.read(entry, workspace().take("check", _plain_size(entry)))
                self._sound += bytes.fromhex(entry.blake3)
            except (ArchiverError, ValueError) as error:
                self._faults.append(Fault(entry.blake3, str(error)))


def _plain_size(entry: IndexEntry) -> int:
    return max(0, min(entry.size, STORED_MAX))


class _LostError(Exception):
    """What comes next in the pack is no frame that may stand there."""
