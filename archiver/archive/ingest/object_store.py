"""Where segments become stored objects: each plain content once, in packs of about 256 MiB."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from archiver.archive.packs.writer import PackWriter
from archiver.buffers import workspace
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
_STORED_BITS: Final = 32


class Hints(Protocol):
    """Where an object may be stored already. A hint is believed only after the object was read."""

    def locate(self, digest: Blake3Hex) -> list[tuple[str, IndexEntry]]:
        """Packs and entries that may hold the object ``digest``."""


class NoHints:
    """Knows of nothing."""

    def locate(self, digest: Blake3Hex) -> list[tuple[str, IndexEntry]]:
        """Nothing."""
        del digest
        return []


class PublishedPack(NamedTuple):
    """A pack that this run wrote."""

    pack: Blake3Hex
    size: int
    entries: tuple[IndexEntry, ...]


class ObjectStore:
    """Stores segments from several threads; a content that is stored already is not stored again."""

    def __init__(
        self,
        archive: Archive,
        effort: Effort,
        hints: Hints,
        on_stored: Callable[[int, int], None] = lambda _plain, _stored: None,
        room: Callable[[int], None] = lambda _size: None,
    ) -> None:
        """Take ``room`` as what is asked before each write of so many bytes; it may refuse."""
        self._archive = archive
        self._effort = effort
        self._hints = hints
        self._on_stored = on_stored
        self._room = room
        self._lock = threading.Lock()
        # Object -> pack number in this run and bytes it takes there, in one integer: there may be
        # hundreds of thousands.
        self._placed: dict[bytes, int] = {}
        self._pending: dict[bytes, Future[None]] = {}
        self._pack_names: list[str | None] = []
        self._pack_numbers: dict[str, int] = {}
        self._writer: PackWriter | None = None
        self._writer_number = -1
        self._writing = threading.Lock()
        self._publisher = ThreadPoolExecutor(1, thread_name_prefix="publish")
        self._publishing: list[Future[None]] = []
        self._failure: ArchiverError | None = None
        self.published: list[PublishedPack] = []
        self.stored_bytes = 0
        self.reused_bytes = 0

    # ---- storing

    def put(self, plain: Bytes, dtype: str | None) -> Blake3Hex:
        """Store a segment unless it is stored; its BLAKE3. Raises NoSpaceError, ArchiverError."""
        digest = blake3_hex(plain.data)
        key = bytes.fromhex(digest)
        with self._lock:
            if key in self._placed:
                return digest
            other = self._pending.get(key)
            if other is None:
                mine = self._pending[key] = Future()
        if other is not None:
            other.result()
            return digest
        try:
            self._place(key, digest, plain, dtype)
        except BaseException as error:
            mine.set_exception(error)
            raise
        else:
            mine.set_result(None)
        finally:
            with self._lock:
                del self._pending[key]
        return digest

    def _place(self, key: bytes, digest: Blake3Hex, plain: Bytes, dtype: str | None) -> None:
        found = self._reuse(digest, len(plain))
        if found is not None:
            pack, entry = found
            self.place_existing(key, pack, entry)
            self.reused_bytes += len(plain)
            return
        self._append(key, encode(plain, dtype, self._effort, digest))

    def _reuse(self, digest: Blake3Hex, size: int) -> tuple[str, IndexEntry] | None:
        """A stored copy of the object that was just read and found whole, or None."""
        for pack, entry in self._hints.locate(digest):
            if entry.size != size:
                continue
            try:
                out = workspace().take("check", entry.size)
                self._archive.pack(pack).read(entry, out)
            except DamageError:
                continue  # the bytes are at hand: a new copy heals what the old one lost
            return pack, entry
        return None

    def place_existing(self, key: bytes, pack: str, entry: IndexEntry) -> None:
        """Note that an object lies in a published pack."""
        with self._lock:
            number = self._pack_numbers.get(pack)
            if number is None:
                number = self._pack_numbers[pack] = len(self._pack_names)
                self._pack_names.append(pack)
            self._placed[key] = number << _STORED_BITS | entry.stored

    def _append(self, key: bytes, item: EncodedObject) -> None:
        with self._only_while_sound():
            self._room(item.stored)
            if self._writer is None:
                self._writer = PackWriter(self._archive.store, self._archive.info)
                with self._lock:
                    self._writer_number = len(self._pack_names)
                    self._pack_names.append(None)
            entry = self._writer.append(item)
            with self._lock:
                self._placed[key] = self._writer_number << _STORED_BITS | entry.stored
                self.stored_bytes += entry.stored
            if self._writer.full:
                self._rotate()
        self._on_stored(entry.size, entry.stored)

    # ---- packs

    @contextlib.contextmanager
    def _only_while_sound(self) -> Iterator[None]:
        """One thread at a time; once writing has failed, it fails for all and for the same reason."""
        with self._writing:
            if self._failure is not None:
                raise self._failure
            try:
                yield
            except ArchiverError as error:
                self._failure = error
                raise

    def _rotate(self) -> None:
        writer, number = self._writer, self._writer_number
        self._writer = None
        if writer is None:
            return
        while len(self._publishing) >= _UNPUBLISHED_MAX:
            self._publishing.pop(0).result()
        self._publishing.append(self._publisher.submit(self._publish, writer, number))

    def _publish(self, writer: PackWriter, number: int) -> None:
        try:
            pack, entries = writer.finish()
        finally:
            writer.keep()
        with self._lock:
            self._pack_names[number] = pack
            self._pack_numbers.setdefault(pack, number)
        self.published.append(PublishedPack(pack, writer.size, entries))

    def flush(self) -> None:
        """Publish every object stored so far; returns when they will survive a crash."""
        with self._only_while_sound():
            self._rotate()
            while self._publishing:
                self._publishing.pop(0).result()
        self._archive.store.barrier()

    def close(self) -> None:
        """End; objects that were not flushed stay in a leftover file for the next run to salvage.

        When room has run out there is perhaps enough for an index, and the pack needs no salvage.
        """
        self._publisher.shutdown(wait=True)
        writer, self._writer = self._writer, None
        if writer is None:
            return
        if isinstance(self._failure, NoSpaceError):
            with contextlib.suppress(ArchiverError):
                self._publish(writer, self._writer_number)
        writer.keep()

    # ---- what was stored

    def placed(self, digest: str) -> tuple[str, int] | None:
        """The pack of a flushed object and the bytes it takes there, or None."""
        found = self._placed.get(bytes.fromhex(digest))
        if found is None:
            return None
        name = self._pack_names[found >> _STORED_BITS]
        return (name, found & (1 << _STORED_BITS) - 1) if name is not None else None
