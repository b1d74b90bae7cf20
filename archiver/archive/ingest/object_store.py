"""Where segments become stored objects: each plain content once, in packs of at most 256 MiB.

Threads bring segments. Each is hashed; what lies in the archive already, and reads back whole, is not
stored again; the rest is encoded and appended, in parallel, to one of a few packs that are being written.
A full pack is published by a thread of its own.
"""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, Self

from archiver.archive.manifests import DOCUMENT_DTYPE, pieces_of
from archiver.archive.packs.writer import PackWriter
from archiver.codec.segment import Effort, EncodedObject, encode
from archiver.digest import Blake3Hex, blake3_hex
from archiver.errors import ArchiverError, DamageError, NoSpaceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from archiver.archive.archive import Archive
    from archiver.archive.packs.format import IndexEntry
    from archiver.buffers import Bytes

_UNPUBLISHED_MAX: Final = 2
"""Packs that may wait for the disk before writing pauses."""
PACKS_OPEN: Final = 4
"""Packs that are written at once at most: writing and hashing a pack is one thread's work at a time, and
would hold up many that encode."""
_SPREAD_BYTES: Final = 64 << 20
"""There is another pack only for each so many bytes stored: a small model lies in one."""
_STORED_BITS: Final = 32


class Hints(Protocol):
    """Where an object may be stored already. A hint is believed only after the object was read."""

    def locate(self, digest: Blake3Hex) -> list[tuple[str, IndexEntry]]:
        """Return packs and entries that may hold the object ``digest``."""


class PublishedPack(NamedTuple):
    """A pack that this run wrote."""

    pack: Blake3Hex
    size: int
    entries: tuple[IndexEntry, ...]

    @classmethod
    def finished(cls, writer: PackWriter) -> Self:
        """Return the pack that ``writer`` holds, once it is finished."""
        pack, entries = writer.finish()
        return cls(pack, writer.size, entries)


class _OpenPack:
    """A pack that is being written, if there is one; one thread at a time has it."""

    def __init__(self) -> None:
        self.free = True
        self.writer: PackWriter | None = None
        self.number = -1


class ObjectStore:
    """Stores segments from several threads; a content that is stored already is not stored again."""

    def __init__(
        self,
        archive: Archive,
        effort: Effort,
        hints: Hints,
        on_stored: Callable[[int, int], None] = lambda _plain, _stored: None,
        reserve: Callable[[int], None] = lambda _size: None,
        packs: int = 1,
    ) -> None:
        """Write at most so many ``packs`` at once.

        Call ``reserve`` before each write with the bytes that it takes; it may raise NoSpaceError.
        """
        self._archive = archive
        self._effort = effort
        self._hints = hints
        self._on_stored = on_stored
        self._reserve = reserve
        self._lock = threading.Lock()
        # Object -> pack number in this run and bytes it takes there, in one integer: there may be
        # hundreds of thousands.
        self._locations: dict[bytes, int] = {}
        self._pending: dict[bytes, Future[None]] = {}
        self._pack_names: list[str | None] = []
        self._pack_numbers: dict[str, int] = {}
        self._packs = [_OpenPack() for _ in range(packs)]
        self._pack_freed = threading.Condition()
        self._reserving = threading.Lock()
        self._rotating = threading.Lock()
        self._publisher = ThreadPoolExecutor(1, thread_name_prefix="publish")
        self._publishing: list[Future[None]] = []
        self._failure: ArchiverError | None = None
        self.published: list[PublishedPack] = []
        self.stored_bytes = 0
        self.reused_bytes = 0

    def put(self, plain: Bytes, dtype: str | None) -> Blake3Hex:
        """Store a segment unless it is stored, and return its BLAKE3.

        Raises:
            NoSpaceError: The disk is full, or would be.
            ArchiverError: It cannot be encoded or written, by this thread or by one that stores the same.
        """
        digest = blake3_hex(plain.data)
        key = bytes.fromhex(digest)
        with self._lock:
            if key in self._locations:
                return digest
            pending = self._pending.get(key)
            if pending is None:
                own = self._pending[key] = Future()
        if pending is not None:
            pending.result()  # another thread is storing the same content
            return digest
        try:
            stored = self._stored_copy(digest, len(plain))
            if stored is not None:
                self.add_existing(key, *stored)
                self.reused_bytes += len(plain)
            else:
                self._append(key, encode(plain, dtype, self._effort, digest))
        except BaseException as error:
            own.set_exception(error)
            raise
        else:
            own.set_result(None)
        finally:
            with self._lock:
                del self._pending[key]
        return digest

    def keep(self, plain: bytes) -> tuple[tuple[int, str], ...]:
        """Store a document in pieces, and publish it with all that was stored so far.

        Return size and BLAKE3 of its objects, once they will survive a crash.
        """
        pieces = pieces_of(plain)
        objects = tuple((len(piece), str(self.put(piece, DOCUMENT_DTYPE))) for piece in pieces)
        self.flush()
        return objects

    def _stored_copy(self, digest: Blake3Hex, size: int) -> tuple[str, IndexEntry] | None:
        """Return a stored copy of the object that was just read and found whole, or None."""
        for pack, entry in self._hints.locate(digest):
            if entry.size != size:
                continue
            try:
                self._archive.pack(pack).read(entry, entry.size)
            except DamageError:
                continue  # the bytes are at hand: a new copy heals what the old one lost
            return pack, entry
        return None

    def add_existing(self, key: bytes, pack: str, entry: IndexEntry) -> None:
        """Note that an object lies in a published pack."""
        with self._lock:
            number = self._pack_numbers.get(pack)
            if number is None:
                number = self._pack_numbers[pack] = len(self._pack_names)
                self._pack_names.append(pack)
            self._locations[key] = number << _STORED_BITS | entry.stored

    def location(self, digest: str) -> tuple[str, int] | None:
        """Return the pack of a flushed object and the bytes it takes there, or None."""
        location = self._locations.get(bytes.fromhex(digest))
        if location is None:
            return None
        name = self._pack_names[location >> _STORED_BITS]
        return (name, location & (1 << _STORED_BITS) - 1) if name is not None else None

    def _append(self, key: bytes, encoded: EncodedObject) -> None:
        with self._writing() as pack:
            with self._reserving:
                self._reserve(encoded.stored)
            if pack.writer is not None and not pack.writer.has_room(encoded):
                self._rotate(pack)
            if pack.writer is None:
                pack.writer = PackWriter(self._archive.store, self._archive.info)
                with self._lock:
                    pack.number = len(self._pack_names)
                    self._pack_names.append(None)
            entry = pack.writer.append(encoded)
            with self._lock:
                self._locations[key] = pack.number << _STORED_BITS | entry.stored
                self.stored_bytes += entry.stored
        self._on_stored(entry.size, entry.stored)

    @contextlib.contextmanager
    def _writing(self, chosen: _OpenPack | None = None) -> Iterator[_OpenPack]:
        """Yield a pack for this thread alone: ``chosen``, or the first that is free.

        Once writing has failed, it fails for all and for that reason.
        """
        with self._pack_freed:
            while (pack := self._free_pack(chosen)) is None:
                self._pack_freed.wait()
            pack.free = False
        try:
            if self._failure is not None:
                raise self._failure
            try:
                yield pack
            except ArchiverError as error:
                self._failure = error
                raise
        finally:
            with self._pack_freed:
                pack.free = True
                self._pack_freed.notify_all()

    def _free_pack(self, chosen: _OpenPack | None) -> _OpenPack | None:
        allowed = self._packs[: 1 + self.stored_bytes // _SPREAD_BYTES]
        return next((pack for pack in ([chosen] if chosen else allowed) if pack.free), None)

    def _rotate(self, pack: _OpenPack) -> None:
        """Hand the pack to the thread that publishes."""
        writer, number = pack.writer, pack.number
        if writer is None:
            return
        with self._rotating:
            while len(self._publishing) >= _UNPUBLISHED_MAX:
                self._publishing.pop(0).result()
            # Only now: where an earlier pack has failed, `close` keeps this one. And before the other
            # thread has it: who is told to end in between must not hand it over again.
            pack.writer = None
            self._publishing.append(self._publisher.submit(self._publish, writer, number))

    def _publish(self, writer: PackWriter, number: int) -> None:
        try:
            published = PublishedPack.finished(writer)
        finally:
            writer.keep()
        with self._lock:
            self._pack_names[number] = published.pack
            self._pack_numbers.setdefault(published.pack, number)
        self.published.append(published)

    def flush(self) -> None:
        """Publish every object stored so far; return when they will survive a crash."""
        for chosen in self._packs:
            with self._writing(chosen) as pack:
                self._rotate(pack)
        with self._writing(), self._rotating:
            while self._publishing:
                self._publishing.pop(0).result()
        self._archive.store.barrier()

    def close(self) -> None:
        """End; objects that were not flushed stay in leftover files for the next run to salvage.

        When space has run out there is perhaps enough for an index, and a pack needs no salvage.
        """
        self._publisher.shutdown(wait=True)
        for pack in self._packs:
            writer, pack.writer = pack.writer, None
            if writer is None:
                continue
            if isinstance(self._failure, NoSpaceError):
                with contextlib.suppress(ArchiverError):
                    self._publish(writer, pack.number)
            writer.keep()
