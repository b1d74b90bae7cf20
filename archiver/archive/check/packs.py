"""Reading packs, several at a time; one that looks damaged is read again before it is called so."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from blake3 import blake3

from archiver.archive.findings import Code, Finding
from archiver.archive.fixity import drop_cached
from archiver.archive.layout import pack_name
from archiver.archive.packs import format as pack_format
from archiver.archive.packs.format import HEADER_MAX, STORED_MAX, IndexEntry, PackHead
from archiver.archive.packs.reader import PackReader
from archiver.archive.policy import proves
from archiver.archive.records import FORMAT, parse_record
from archiver.buffers import workspace
from archiver.codec.segment import ObjectHeader, check_header, decode
from archiver.errors import ArchiverError, DamageError, DeniedError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from archiver.archive.advice import Advice
    from archiver.archive.archive import Archive
    from archiver.archive.policy import Level
    from archiver.archive.seals import Snapshot
    from archiver.storage.store import Reader, Store


_POLL_SECONDS: Final = 0.5


class PackResult(NamedTuple):
    """What came out of reading a pack; ``state`` is None if it could not be opened at all.

    ``level`` is the one it was read at: deeper than asked for where it looked damaged.
    """

    wanted: ExpectedPack
    state: PackState | None
    problem: str = ""
    unstable: str = ""
    denied: bool = False
    level: Level = "content"

    @property
    def pack(self) -> str:
        """The digest that is its name."""
        return self.wanted.pack

    @property
    def readable(self) -> bool:
        """Whether it could be opened at all."""
        return self.state is not None

    @property
    def blake3(self) -> str:
        """The digest that the file has; ``""`` if it could not be read to its end."""
        return "" if self.state is None else self.state.blake3

    @property
    def whole(self) -> bool:
        """Whether it is proven at its level."""
        return self.state is not None and _looks_whole(self.state, self.wanted, self.level)


class _StoppedError(Exception):
    """The run has ended; a thread that still reads ends too."""


def check_packs(
    store: Store,
    packs: Iterable[ExpectedPack],
    workers: int,
    advance: Advance,
    level: Level = "content",
) -> Generator[PackResult, None, None]:
    """Examine packs, several at a time, in whatever order they are done; to be closed if left early.

    The next of ``packs`` is taken only when a thread is free for it, so that they may end at any time.
    """
    stop = threading.Event()

    def counted(size: int) -> None:
        if stop.is_set():
            raise _StoppedError
        advance(size)

    pool = ThreadPoolExecutor(workers, thread_name_prefix="audit")
    coming, waiting = iter(packs), set[Future[PackResult]]()
    try:
        while True:
            more = islice(coming, workers + 1 - len(waiting))
            waiting |= {pool.submit(check_pack, store, one, counted, level) for one in more}
            if not waiting:
                return
            done, waiting = wait(waiting, _POLL_SECONDS, FIRST_COMPLETED)
            for future in done:
                yield future.result()
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def check_pack(
    store: Store, wanted: ExpectedPack, advance: Advance, level: Level = "content"
) -> PackResult:
    """Read a pack; what looks damaged is read once more, and decoded, before it is called so."""
    name = pack_name(wanted.pack)
    try:
        if store.stat(name) is None:
            return PackResult(wanted, None)
        first = _check(store, name, advance, level)
        if _looks_whole(first, wanted, level):
            return PackResult(wanted, first, level=level)
        drop_cached(store, name)
        second = _check(store, name, lambda _count: advance(0), "content")
    except FileNotFoundError:
        return PackResult(wanted, None)
    except ArchiverError as error:
        denied = isinstance(error, DeniedError)
        return PackResult(wanted, None, problem=error.message, denied=denied)
    same = first == second if proves(level, "content") else _agree(first, second, wanted)
    unstable = "" if same else f"{name} was not the same when it was read again."
    return PackResult(wanted, second, unstable=unstable)


def _looks_whole(state: PackState, wanted: ExpectedPack, level: Level) -> bool:
    if wanted.sizes and state.size not in wanted.sizes:
        return False
    return not state.index if level == "structure" else state.whole(wanted.pack)


def _agree(first: PackState, second: PackState, wanted: ExpectedPack) -> bool:
    """Whether a quick reading and a thorough one show the same file."""
    if first.blake3 or first.unreadable:
        return (first.blake3, first.unreadable) == (second.blake3, second.unreadable)
    return not _looks_whole(second, wanted, "content")


def _check(store: Store, name: str, advance: Advance, level: Level) -> PackState:
    reader = store.open(name)
    try:
        if level == "structure":
            advance(0)
            return look_at_pack(reader)
        return hash_pack(reader, advance) if level == "stored" else decode_pack(reader, advance)
    finally:
        reader.close()


# ---- The packs that an archive should have, as its seals name them, and those that it has beside.


class ExpectedPack(NamedTuple):
    """A pack, its sizes in bytes as seals name them, and the snapshots that need it."""

    pack: str
    sizes: frozenset[int]
    snapshots: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its stored name."""
        return pack_name(self.pack)


def expected_packs(snapshots: Iterable[Snapshot]) -> list[ExpectedPack]:
    """Every pack that the snapshots need, in order."""
    sizes: dict[str, set[int]] = {}
    titles: dict[str, dict[str, None]] = {}
    for snapshot in snapshots:
        for pack, size in snapshot.seal.packs:
            sizes.setdefault(pack, set()).add(size)
            titles.setdefault(pack, {})[snapshot.title] = None
    return [
        ExpectedPack(pack, frozenset(sizes[pack]), tuple(titles[pack])) for pack in sorted(sizes)
    ]


def others(archive: Archive, packs: Iterable[ExpectedPack]) -> list[ExpectedPack]:
    """Every pack that is there beside these: nobody is known to need it."""
    known = {one.pack for one in packs}
    return [ExpectedPack(pack, frozenset(), ()) for pack in archive.packs() if pack not in known]


# ---- What a reading of one pack showed, however deep it went.


Advance = Callable[[int], None]
"""Told how many bytes were read; may raise to stop."""


class Fault(NamedTuple):
    """An object that does not come out, by the name it should have."""

    blake3: str
    reason: str


class PackState(msgspec.Struct, frozen=True):
    """What reading a pack showed; equal states mean that two readings agree.

    Attributes:
        blake3: Of the whole file; ``""`` if it could not be read to its end.
        archive: The archive that wrote it, by its head; ``""`` if that cannot be read.
        sound: The digests, 32 bytes each, of the objects that decode to what they are named.
        faults: The objects that do not.
        index: What is wrong with head, index or trailer; ``""`` if they agree with the frames.
        unreadable: Why the file could not be read to its end, or ``""``.
    """

    size: int
    blake3: str
    archive: str
    sound: bytes
    faults: tuple[Fault, ...]
    index: str
    unreadable: str = ""

    @property
    def objects(self) -> int:
        """How many objects there are, whole or not."""
        return len(self.sound) // 32 + len(self.faults)

    def whole(self, pack: str) -> bool:
        """Whether nothing is wrong with it, if ``pack`` is its name."""
        return self.blake3 == pack and not self.faults and not self.index


# ---- Checking one pack: read once, front to back, every byte hashed, every object decoded and hashed.
#
# Format: ``docs/format.md``, section 3. The frames are walked; head, index and trailer must say the
# same as the walk. Where the walk is lost, the index leads to the objects that are still whole.


_PIECE: Final = 4 << 20


def decode_pack(reader: Reader, advance: Advance) -> PackState:
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
            head = parse_record(self._skippable(pack_format.HEAD), PackHead, "its head")
        except DamageError as error:
            raise _LostError(error.message) from error
        self._archive = head.archive
        if (head.kind, head.format) != ("pack", FORMAT):
            raise _LostError("its head is not that of a pack of format 1")

    def _next_is_object(self) -> bool:
        magic, size = self._peek()
        if magic == pack_format.INDEX:
            self._expect_end(size)
            return False
        return True

    def _peek(self) -> tuple[int, int]:
        prefix = bytearray(pack_format.PREFIX_SIZE)
        if self._reader.read_into(self._at, memoryview(prefix)) != len(prefix):
            raise _LostError("the frames end before the index")
        return pack_format.read_prefix(prefix)

    def _expect_end(self, size: int) -> None:
        """The index must lie where the trailer says, and list as many objects as were met."""
        end = self._at + pack_format.PREFIX_SIZE + size + pack_format.TRAILER_SIZE
        if self._indexed and (end != self._reader.size or len(self._listed) != len(self._met)):
            self._index_problem = "its index lists other objects than its frames hold"

    def _skippable(self, magic: int) -> bytes:
        """The payload of the skippable frame that must come next."""
        found, size = self._peek()
        if found != magic or size > HEADER_MAX:
            raise _LostError(f"no frame of the expected kind at byte {self._at}")
        if self._at + pack_format.PREFIX_SIZE + size > self._reader.size:
            raise _LostError("the frames end before the index")
        return bytes(self._take(pack_format.PREFIX_SIZE + size)[pack_format.PREFIX_SIZE :])

    def _take_object(self) -> None:
        begin = self._at
        payload = self._skippable(pack_format.OBJECT)
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


# ---- Looking at a pack without decoding an object: its ends alone, or its digest as well.


_STORED_PIECE: Final = 512 << 10
"""A piece stays in the core's cache between the system's copy and the digest."""


def look_at_pack(reader: Reader) -> PackState:
    """What head and index say; the objects that the index lists count as sound.

    The state has no digest. Whatever is wrong is in ``index``.
    """
    pack, archive, sound, problem = PackReader(reader, "the pack"), "", b"", ""
    try:
        head = pack.head()
        archive = head.archive
        if (head.kind, head.format) != ("pack", FORMAT):
            problem = "its head is not that of a pack of format 1"
        sound = _listed(pack)
    except ArchiverError as error:
        problem = error.message
    return PackState(reader.size, "", archive, sound, (), problem)


def _listed(pack: PackReader) -> bytes:
    entries = pack.index()
    for entry in entries:
        if not 0 <= entry.offset <= entry.offset + entry.stored <= pack.size:
            raise DamageError(f"its index has object {entry.blake3} outside of the pack")
    return bytes.fromhex("".join(entry.blake3 for entry in entries))


def hash_pack(reader: Reader, advance: Advance) -> PackState:
    """As ``look_at_pack``, with the digest of the whole file, read front to back."""
    seen, hasher, unreadable = look_at_pack(reader), blake3(), ""
    try:
        for at in range(0, reader.size, _STORED_PIECE):
            piece = workspace().take("stored", min(_STORED_PIECE, reader.size - at)).data
            if reader.read_into(at, piece) != len(piece):
                raise DamageError(f"it ends before byte {at + len(piece)}")
            hasher.update(piece)
            advance(len(piece))
    except ArchiverError as error:
        unreadable = error.message
    digest = "" if unreadable else hasher.hexdigest()
    return PackState(
        seen.size, digest, seen.archive, seen.sound, (), seen.index, unreadable=unreadable
    )


# ---- What an audit says about a pack as a file, once it was read.


def pack_findings(found: PackResult, advice: Advice) -> Iterator[Finding]:
    """What is wrong with the pack as a file; its objects are judged with the files they hold."""
    for one in _faults(found):
        name = pack_name(found.wanted.pack)
        actions = advice.copy_back(name, one.code)
        if one.code == "read-unstable":
            actions = advice.unstable()
        elif one.code == "file-unreadable":
            actions = advice.make_readable()
        yield msgspec.structs.replace(one, actions=actions)


def _faults(found: PackResult) -> Iterator[Finding]:
    wanted, state = found.wanted, found.state
    name = pack_name(wanted.pack)
    if found.unstable:
        yield _finding("read-unstable", found.unstable, wanted)
    if state is None:
        code: Code = "pack-damaged" if found.problem else "pack-missing"
        if found.denied:
            code = "file-unreadable"
        yield _finding(code, found.problem or f"{name} is missing.", wanted)
        return
    if wanted.sizes and state.size not in wanted.sizes:
        # A pack of another size has another digest and has lost its index: that goes without saying.
        sizes = " or ".join(f"{size:,}" for size in sorted(wanted.sizes))
        text = f"{name} has {state.size:,} bytes, its seals say {sizes}."
        yield _finding("pack-size", text, wanted)
        return
    if found.level != "structure" and state.blake3 != wanted.pack:
        reason = state.unreadable or "its bytes have another digest than its name"
        yield _finding("pack-damaged", f"{name} is damaged: {reason}.", wanted)
    if state.index:
        yield _finding("index-damaged", f"{name}: {state.index}", wanted)


def _finding(code: Code, message: str, wanted: ExpectedPack) -> Finding:
    path, snapshots = pack_name(wanted.pack), tuple(wanted.snapshots)
    return Finding(code, message, path=path, pack=wanted.pack, snapshots=snapshots)
