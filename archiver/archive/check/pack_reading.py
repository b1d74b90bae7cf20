"""One pack as an audit reads it: read once, reread if it looks damaged, and told as a result.

An ``ExpectedPack`` goes in, a ``PackResult`` comes out. Nothing is written.

How a pack is read follows the level: ``structure`` looks at its ends, ``stored`` hashes it, ``content``
decodes and hashes every object too. One that looks damaged is always reread at level ``content``, from the
medium, so that every object that still comes out is known.
"""

from __future__ import annotations

from contextlib import closing
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from blake3 import blake3

from archiver.archive.fixity import drop_cached
from archiver.archive.layout import pack_name
from archiver.archive.packs import format as pack_format
from archiver.archive.packs.format import HEADER_MAX, STORED_MAX, IndexEntry, PackHead
from archiver.archive.packs.reader import PackReader
from archiver.archive.policy import Level, proves
from archiver.archive.records import FORMAT, parse_record
from archiver.buffers import workspace
from archiver.codec.segment import (
    ObjectHeader,
    check_header,
    decoded_digest,
    is_named_rightly,
)
from archiver.errors import ArchiverError, DamageError, DeniedError, NotUnderstoodError

if TYPE_CHECKING:
    from collections.abc import Callable

    from archiver.digest import HexDigest
    from archiver.storage.store import Reader, Store

    Advance = Callable[[int], None]
    """Told how many bytes were read; may raise to stop."""


class ExpectedPack(NamedTuple):
    """A pack, its sizes in bytes as seals name them, and the titles of the snapshots that need it.

    A pack that no seal names has neither.
    """

    pack: str
    sizes: frozenset[int]
    snapshots: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its stored name."""
        return pack_name(self.pack)


class DamagedObject(NamedTuple):
    """An object that does not come out of a pack, by the name that it should have."""

    blake3: str
    pack: str
    reason: str


class PackResult(msgspec.Struct, frozen=True):
    """What came out of reading a pack. Two readings of the same bytes give equal results.

    Attributes:
        expected: The pack, as seals name it.
        level: The one that it was read at: deeper than asked for where it looked damaged.
        readable: Whether it could be opened. If not, the system denies it, or it is damaged as far as
            ``problem`` says so; else it is missing.
        denied: Whether this user may not read it: nothing is known about its bytes.
        not_understood: What its head announces that this version does not know, or ``""``: such a pack is
            hashed at most.
        problem: Why it could not be opened, or read to its end; or ``""``.
        unstable: Why the first reading and the second one differ, or ``""``.
        size: Of the file, in bytes.
        blake3: Of the whole file; ``""`` if it was not, or could not be, read to its end.
        sha256: Likewise, if that was asked for.
        archive: The archive that wrote it, by its head; ``""`` if that cannot be read.
        sound: The digests, 32 bytes each, of the objects that decode to what they are named; of
            those that the index lists where nothing was decoded.
        damaged: The objects that do not.
        index: What is wrong with head, index or trailer; ``""`` if they agree with the frames.
    """

    expected: ExpectedPack
    level: Level = "content"
    readable: bool = False
    denied: bool = False
    not_understood: str = ""
    problem: str = ""
    unstable: str = ""
    size: int = 0
    blake3: str = ""
    sha256: str = ""
    archive: str = ""
    sound: bytes = b""
    damaged: tuple[DamagedObject, ...] = ()
    index: str = ""

    @property
    def pack(self) -> str:
        """The digest that is its name."""
        return self.expected.pack

    @property
    def missing(self) -> bool:
        """Whether it is not there."""
        return not self.readable and not self.denied and not self.problem

    @property
    def objects(self) -> int:
        """How many objects there are, whole or not."""
        return len(self.sound) // 32 + len(self.damaged)

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong with it, as far as its level tells."""
        if not self.readable or (self.expected.sizes and self.size not in self.expected.sizes):
            return False
        if self.level == "structure":
            return not self.index
        return self.blake3 == self.pack and not self.damaged and not self.index


def check_pack(
    store: Store,
    expected: ExpectedPack,
    advance: Advance,
    level: Level = "content",
    *,
    rehash: bool = False,
) -> PackResult:
    """Read a pack; what looks damaged is reread, and decoded, before it is called so."""
    try:
        if store.stat(expected.name) is None:
            return PackResult(expected)
        first = _read(store, expected, advance, level, rehash=rehash)
        if first.whole:
            return first
        drop_cached(store, expected.name)
        second = _read(store, expected, lambda _size: advance(0), "content", rehash=rehash)
    except FileNotFoundError:
        return PackResult(expected)
    except ArchiverError as error:
        denied = isinstance(error, DeniedError)
        return PackResult(expected, problem=error.message, denied=denied)
    if _agree(first, second):
        return second
    unstable = f"{expected.name} was not the same when it was read again."
    return msgspec.structs.replace(second, unstable=unstable)


def _agree(first: PackResult, second: PackResult) -> bool:
    """Return whether two readings, the second of them a thorough one, show the same file."""
    if first.level == second.level:
        return first == second
    if first.blake3 or first.problem:
        return (first.blake3, first.problem) == (second.blake3, second.problem)
    return not second.whole


def _read(
    store: Store, expected: ExpectedPack, advance: Advance, level: Level, *, rehash: bool
) -> PackResult:
    with closing(store.open(expected.name)) as reader:
        pack, unread = PackReader.stored(reader, expected.name), ""
        try:
            pack.head()
        except DamageError as error:
            unread = error.message
        try:
            pack.require_understood(expected.pack)
        except NotUnderstoodError as error:
            return _hash_only(reader, expected, advance, level, error.message)
        if proves(level, "content"):
            result = _Decoding(reader, expected, advance, rehash=rehash).run()
        elif level == "stored":
            result = _hash(reader, expected, advance, rehash=rehash)
        else:
            advance(0)
            result = _look(reader, expected)
        if unread and result.whole:
            # A head that fails once and not again: the machine's fault, which has to be told.
            return msgspec.structs.replace(result, problem=unread, index=unread, blake3="")
        return result


# ---- level structure


def _look(reader: Reader, expected: ExpectedPack) -> PackResult:
    """Return what head and index say; the objects that the index lists count as sound."""
    pack, archive, sound, problem = PackReader(reader, "the pack"), "", b"", ""
    try:
        head = pack.head()
        archive = head.archive
        if (head.kind, head.format) != ("pack", FORMAT):
            problem = "its head is not that of a pack of format 1"
        index = pack.index_at_trailer()
        for entry in index:
            if not 0 <= entry.offset <= entry.offset + entry.stored <= pack.size:
                problem = f"its index has object {entry.blake3} outside of the pack"
                break
        else:
            sound = bytes.fromhex("".join(entry.blake3 for entry in index))
    except ArchiverError as error:
        problem = error.message
    return PackResult(
        expected,
        "structure",
        readable=True,
        size=reader.size,
        archive=archive,
        sound=sound,
        index=problem,
    )


# ---- level stored

_HASHED_PIECE: Final = 512 << 10
"""A piece stays in the core's cache between the system's copy and the digest."""


def _hash(reader: Reader, expected: ExpectedPack, advance: Advance, *, rehash: bool) -> PackResult:
    """Return what ``_look`` does, with the digest of the whole file, read front to back."""
    return _with_digest(_look(reader, expected), reader, advance, rehash=rehash)


def _hash_only(
    reader: Reader, expected: ExpectedPack, advance: Advance, level: Level, reason: str
) -> PackResult:
    """Return what is known of a pack of which no more can be understood than its name."""
    result = PackResult(
        expected, "structure", readable=True, not_understood=reason, size=reader.size
    )
    advance(0)
    return result if level == "structure" else _with_digest(result, reader, advance)


def _with_digest(
    result: PackResult, reader: Reader, advance: Advance, *, rehash: bool = False
) -> PackResult:
    hasher, second, problem = blake3(), sha256() if rehash else None, ""
    try:
        for at in range(0, reader.size, _HASHED_PIECE):
            piece = workspace().take("stored", min(_HASHED_PIECE, reader.size - at)).data
            if reader.read_into(at, piece) != len(piece):
                raise DamageError(f"it ends before byte {at + len(piece)}")
            hasher.update(piece)
            if second is not None:
                second.update(piece)
            advance(len(piece))
    except ArchiverError as error:
        problem = error.message
    result = msgspec.structs.replace(result, level="stored", problem=problem)
    if problem:
        return result
    also = second.hexdigest() if second is not None else ""
    return msgspec.structs.replace(result, blake3=hasher.hexdigest(), sha256=also)


# ---- level content

_PIECE: Final = 4 << 20
_OTHER_OBJECTS: Final = "its index lists other objects than its frames hold"


def _says(listed: IndexEntry | None, entry: IndexEntry) -> bool:
    """Return whether an index has this entry, in full or as older writers made it."""
    return listed is not None and (
        listed == entry or (listed.place, listed.frames) == (entry.place, ())
    )


class _LostError(Exception):
    """What comes next in the pack is no frame that may stand there."""


class _Decoding:
    """One reading of one pack, front to back: every byte hashed, every object decoded and hashed.

    Format: ``docs/format.md``, section 3. The frames are walked; head, index and trailer must say the same
    as the walk. Where the walk is lost, the index leads to the objects that are still whole.
    """

    def __init__(
        self, reader: Reader, expected: ExpectedPack, advance: Advance, *, rehash: bool
    ) -> None:
        self._second = sha256() if rehash else None
        self._reader = reader
        self._expected = expected
        self._advance = advance
        self._pack = PackReader(reader, "the pack")
        self._hasher = blake3()
        self._at = 0
        self._index: dict[int, IndexEntry] = {}
        self._indexed = False
        self._index_problem = ""
        self._lost = ""
        """Why the frames do not lead to every object; ``""`` if they do."""
        self._archive = ""
        self._walked: set[int] = set()
        """Where the objects begin that were met,"""
        self._doubtful: set[int] = set()
        """and those of them that are not what their headers say."""
        self._sound = bytearray()
        self._damaged: list[DamagedObject] = []

    def run(self) -> PackResult:
        """Read it; whatever is wrong is in the result."""
        # The index first: where a header is damaged, it knows what the object should be called.
        try:
            self._index = {entry.offset: entry for entry in self._pack.index()}
            self._indexed = True
            self._pack.index_at_trailer()
        except ArchiverError as error:
            self._index_problem = error.message
        problem = ""
        try:
            self._walk()
            while self._at < self._reader.size:
                self._take(min(_PIECE, self._reader.size - self._at))
        except ArchiverError as error:
            problem = error.message
        self._read_unwalked()
        digest = "" if problem else self._hasher.hexdigest()
        if digest == self._expected.pack:  # else that is what is wrong with it
            self._index_problem = self._index_problem or self._lost
        return PackResult(
            self._expected,
            readable=True,
            problem=problem,
            size=self._reader.size,
            blake3=digest,
            sha256=self._second.hexdigest() if digest and self._second is not None else "",
            archive=self._archive,
            sound=bytes(self._sound),
            damaged=tuple(self._damaged),
            index=self._index_problem,
        )

    def _walk(self) -> None:
        """Take frame after frame up to the index, or up to where they are no frames any more."""
        try:
            self._take_head()
            while self._next_is_object():
                self._take_object()
        except _LostError as lost:
            self._lost = str(lost)
            self._index_problem = self._index_problem or ("" if self._indexed else str(lost))

    def _take(self, size: int) -> memoryview:
        """Return the next bytes, hashed; valid until the next call."""
        buffer = workspace().take("stored", size).data
        if self._reader.read_into(self._at, buffer) != size:
            raise DamageError(f"it ends before byte {self._at + size}")
        self._hasher.update(buffer)
        if self._second is not None:
            self._second.update(buffer)
        self._at += size
        self._advance(size)
        return buffer

    def _peek(self) -> tuple[int, int]:
        """Return the magic and the size of the skippable frame that comes next."""
        prefix = bytearray(pack_format.PREFIX_SIZE)
        if self._reader.read_into(self._at, memoryview(prefix)) != len(prefix):
            raise _LostError("the frames end before the index")
        return pack_format.read_prefix(prefix)

    def _take_skippable(self, expected: int) -> bytes:
        """Return the payload of the skippable frame that must come next."""
        magic, size = self._peek()
        if magic != expected or size > HEADER_MAX:
            raise _LostError(f"no frame of the expected kind at byte {self._at}")
        if self._at + pack_format.PREFIX_SIZE + size > self._reader.size:
            raise _LostError("the frames end before the index")
        return bytes(self._take(pack_format.PREFIX_SIZE + size)[pack_format.PREFIX_SIZE :])

    def _take_head(self) -> None:
        try:
            head = parse_record(self._take_skippable(pack_format.HEAD), PackHead, "its head")
        except DamageError as error:
            raise _LostError(error.message) from error
        self._archive = head.archive
        if (head.kind, head.format) != ("pack", FORMAT):
            raise _LostError("its head is not that of a pack of format 1")

    def _next_is_object(self) -> bool:
        magic, size = self._peek()
        if magic != pack_format.INDEX:
            return True
        # It must lie where the trailer says, and list as many objects as were met.
        end = self._at + pack_format.PREFIX_SIZE + size + pack_format.TRAILER_SIZE
        if self._indexed and (end != self._reader.size or len(self._index) != len(self._walked)):
            self._index_problem = _OTHER_OBJECTS
        return False

    def _take_object(self) -> None:
        begin = self._at
        payload = self._take_skippable(pack_format.OBJECT)
        try:
            header = parse_record(payload, ObjectHeader, f"the header at byte {begin}")
            check_header(header)
        except DamageError as error:
            raise _LostError(error.message) from error
        size = sum(header.frames)
        if size > min(STORED_MAX, self._reader.size - self._at):
            raise _LostError("an object is longer than the pack")
        body = self._take(size)
        self._walked.add(begin)
        digest: HexDigest
        try:
            digest = decoded_digest(header, body, checksums=True)
        except DamageError as error:
            if not is_named_rightly(header, body):
                self._doubt(header, begin, error.message)
                return
            digest = header.blake3
            self._lost = f"a frame of the object at byte {begin} has a wrong checksum"
        self._sound += bytes.fromhex(digest)
        listed = self._index.get(begin)
        if digest == header.blake3:
            entry = IndexEntry.of(header, begin, self._at - begin)
            if self._indexed and not _says(listed, entry):
                self._index_problem = _OTHER_OBJECTS
        elif listed and listed.blake3 == digest:
            self._lost = f"the header at byte {begin} names another object"
        else:
            reason = f"Object {header.blake3} is damaged: its bytes have another digest."
            self._doubt(header, begin, reason)

    def _doubt(self, header: ObjectHeader, begin: int, reason: str) -> None:
        """Note that an object is not what its header says: the index may know better."""
        if begin in self._index:
            self._doubtful.add(begin)
        else:
            self._add_damaged(header.blake3, reason)

    def _read_unwalked(self) -> None:
        """Read the objects that the walk did not reach, or not as what they are listed."""
        read = self._walked - self._doubtful
        if self._indexed and self._index.keys() <= read:
            return
        entries = self._index.values() if self._indexed else self._pack.walk()
        sound = {bytes(self._sound[at : at + 32]) for at in range(0, len(self._sound), 32)}
        for entry in entries:
            # What came out where the frames have it may be listed at another place.
            if entry.offset in read or bytes.fromhex(entry.blake3) in sound:
                continue
            self._advance(0)
            size = max(0, min(entry.size, STORED_MAX))
            try:
                self._pack.read(entry, size)
                self._sound += bytes.fromhex(entry.blake3)
            except (ArchiverError, ValueError) as error:
                self._add_damaged(entry.blake3, str(error))

    def _add_damaged(self, digest: str, reason: str) -> None:
        self._damaged.append(DamagedObject(digest, self._expected.pack, reason))
