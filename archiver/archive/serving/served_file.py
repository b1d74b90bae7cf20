"""Any part of any file of a snapshot, at once: a segment is proven before a byte of it goes out.

Pieces are copies, so that a reader who dawdles keeps no segment in memory, only its one piece.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections import OrderedDict
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from archiver.archive import layout
from archiver.archive.archive import Archive
from archiver.archive.decode import FileDecoder
from archiver.archive.manifests import entry_fault
from archiver.archive.quarantine import manifest_for, packs_for
from archiver.codec.segment import SEGMENT_MAX
from archiver.digest import blake3_hex
from archiver.errors import ArchiverError, DamageError, NotUnderstoodError, skip_damaged
from archiver.names import check_paths

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.archive.records import FileEntry, Manifest
    from archiver.archive.seals import Snapshot
    from archiver.archive.serving.segment_cache import SegmentCache
    from archiver.buffers import Bytes
    from archiver.storage.store import FileStamp

PIECE: Final = 1 << 20
"""What is handed out at once, at most, in bytes."""
_AHEAD_MAX: Final = 256
"""So many segments are expected at most, where they are small."""
_FAST_SECONDS: Final = 0.25
"""Who takes longer for a segment needs no more than the next one to be ready."""
SNAPSHOTS_OPEN: Final = 16
"""Snapshots whose manifests are kept in memory at most,"""
SEGMENTS_OPEN: Final = 400_000
"""and their segments and files together; one alone may have more."""


class Healer(Protocol):
    """Gets the bytes of an object that reads damaged from somewhere else."""

    def heal(self, error: DamageError, size: int) -> bytes | bytearray | memoryview | Bytes:
        """Return the ``size`` plain bytes of ``error.object``; raise ``error`` if they are nowhere."""

    def met(self, digest: str, size: int, damaged: str, whole: str) -> None:
        """Take note of an object that is damaged in one pack, and was had whole from another."""


class ServedSnapshot:
    """The files of a snapshot; threads may share it, and it is opened once for all of them.

    Which objects lie in which packs is read when the first byte is asked for. Where one is not found, or is
    damaged, and the packs are not the same as then, it is read anew: they may have been repaired, or packed
    anew.
    """

    def __init__(
        self,
        archive: Archive,
        snapshot: Snapshot,
        manifest: Manifest,
        cache: SegmentCache,
        healer: Healer | None = None,
    ) -> None:
        self.snapshot = snapshot
        self.manifest = manifest
        self.cache = cache
        self.entries: dict[str, FileEntry] = {entry.path: entry for entry in manifest.files}
        """Every file by its path, in the manifest's order."""
        self._archive = archive
        self._healer = healer
        self._on_damaged = healer.met if healer is not None else None
        self._files: dict[str, ServedFile] = {}
        self._opening = threading.Lock()
        self._decoder: FileDecoder | None = None
        self._packs_then: tuple[tuple[str, FileStamp | None], ...] = ()

    @classmethod
    def open(
        cls,
        archive: Archive,
        snapshot: Snapshot,
        cache: SegmentCache,
        healer: Healer | None = None,
    ) -> ServedSnapshot:
        """Open a snapshot to be served out of ``cache``, which many may share.

        Raises:
            DamageError: The manifest cannot be read, or contradicts itself.
            HostileNameError: It names a path that must not be written.
        """
        manifest = manifest_for(archive, snapshot)
        check_paths(entry.path for entry in manifest.files)
        for entry in manifest.files:
            fault = entry_fault(entry)
            if fault:
                raise DamageError(f"The manifest of {snapshot.title}: {entry.path!r} {fault}.")
        return cls(archive, snapshot, manifest, cache, healer)

    def file(self, path: str) -> ServedFile:
        """Return a file by its path; raise KeyError if the snapshot has none of that path."""
        file = self._files.get(path)
        if file is None:
            file = self._files.setdefault(path, ServedFile(self, self.entries[path]))
        return file

    def open_packs(self) -> None:
        """Read which objects lie in which packs, unless that is known: it may take seconds."""
        if self._decoder is None:
            self._packs()

    def segment(self, digest: str, size: int) -> memoryview:
        """Return a view of a segment, proven; to be let go of before the next one is asked for.

        Raises:
            DamageError: It is whole nowhere; names object, pack, and the path of the stored file.
            ArchiverError: It cannot be read, for another reason.
        """
        decode = partial(self._decode, digest, size)
        heal = partial(self._healed, self._healer, digest, size) if self._healer else None
        return self.cache.get(digest, size, decode, heal)

    def expect(self, digest: str, size: int) -> None:
        """Have a segment decoded that will be asked for."""
        self.cache.expect(digest, size, partial(self._decode, digest, size))

    def _decode(self, digest: str, size: int) -> Bytes:
        plain = np.empty(size, np.uint8)
        decoder = self._packs()
        try:
            decoder.decode([(size, digest)], plain)
        except ArchiverError:
            fresh = self._packs(instead_of=decoder)
            if fresh is decoder:
                raise
            fresh.decode([(size, digest)], plain)
        return plain

    @staticmethod
    def _healed(healer: Healer, digest: str, size: int, error: ArchiverError) -> Bytes:
        if not isinstance(error, DamageError) or isinstance(error, NotUnderstoodError):
            raise error
        plain = np.frombuffer(healer.heal(error, size), np.uint8)
        if len(plain) != size or blake3_hex(plain.data) != digest:
            raise error
        return plain

    def _packs(self, instead_of: FileDecoder | None = None) -> FileDecoder:
        """Return what decodes out of the packs; if they have changed, another than ``instead_of``."""
        with self._opening:
            if self._decoder is None:
                self._packs_then = self._packs_now()
                self._decoder = FileDecoder(
                    packs_for(self._archive, self.snapshot, self._on_damaged), workers=1
                )
            elif self._decoder is instead_of and (now := self._packs_now()) != self._packs_then:
                self._packs_then = now
                self._decoder = self._look_anew()
            return self._decoder

    def _packs_now(self) -> tuple[tuple[str, FileStamp | None], ...]:
        """Return the packs that are there, each with what changes when its file does."""
        store = self._archive.store
        return tuple((name, store.stamp(name)) for name in store.list(layout.PACKS))

    def _look_anew(self) -> FileDecoder:
        """Return the same from the packs as they are now, by the seal that stands for the manifest now."""
        seal = self.snapshot.seal
        # An archive of its own: what the other has open may be a file that was replaced.
        archive = Archive(self._archive.store, self._archive.info)
        sealed = archive.named(seal.repository, seal.revision, skip_damaged)
        same = [each for each in sealed if each.seal.manifest.blake3 == seal.manifest.blake3]
        snapshot = archive.preferred(same) if same else self.snapshot
        return FileDecoder(packs_for(archive, snapshot, self._on_damaged), workers=1)


class OpenSnapshots:
    """Snapshots as they are read, opened once and shared; the least used is let go first.

    Args:
        archive: What is read.
        cache: Out of which their files are served.
        healer: Where what reads damaged is had from.
        most: How many are kept open.
    """

    def __init__(
        self,
        archive: Archive,
        cache: SegmentCache,
        healer: Healer | None = None,
        most: int = SNAPSHOTS_OPEN,
    ) -> None:
        self._archive = archive
        self._cache = cache
        self._healer = healer
        self._most = most
        self._open: OrderedDict[str, ServedSnapshot] = OrderedDict()
        self._opening: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, snapshot: Snapshot) -> ServedSnapshot:
        """Return an opened snapshot; who asks while it is being opened waits for that.

        Raise as ``ServedSnapshot.open`` does.
        """
        with self._lock:
            known = self._known(snapshot.id)
            if known is not None:
                return known
            opening = self._opening.setdefault(snapshot.id, threading.Lock())
        with opening:
            with self._lock:
                known = self._known(snapshot.id)
            if known is not None:
                return known
            try:
                opened = ServedSnapshot.open(self._archive, snapshot, self._cache, self._healer)
                with self._lock:
                    self._open[snapshot.id] = opened
                    self._let_go()
            finally:
                with self._lock:
                    self._opening.pop(snapshot.id, None)
        return opened

    def _known(self, snapshot: str) -> ServedSnapshot | None:
        known = self._open.get(snapshot)
        if known is not None:
            self._open.move_to_end(snapshot)
        return known

    def _let_go(self) -> None:
        while len(self._open) > 1 and (
            len(self._open) > self._most or self._segments() > SEGMENTS_OPEN
        ):
            self._open.popitem(last=False)

    def _segments(self) -> int:
        """Return how many segments and files those have that are open."""
        files = (entry for opened in self._open.values() for entry in opened.manifest.files)
        return sum(len(entry.segments) + 1 for entry in files)


class ServedFile:
    """A file of a snapshot, of which any part can be read; threads may share it."""

    def __init__(self, snapshot: ServedSnapshot, entry: FileEntry) -> None:
        self.entry = entry
        self._snapshot = snapshot
        self._cache = snapshot.cache
        self._ends = list(accumulate(size for size, _ in entry.segments))

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return self.entry.size

    def read(
        self, start: int = 0, stop: int | None = None, *, sequential: bool = False
    ) -> Iterator[memoryview]:
        """Yield the bytes from ``start`` up to, not with, ``stop``, in pieces of at most 1 MiB.

        Of a part that goes over several segments, the next are decoded while one is read. ``sequential``
        says that the part after this one will be asked for, so that its first ones are too. To be closed if
        it is left early.

        Raises:
            DamageError: A segment is whole nowhere; names object, pack, and the path of the stored file.
        """
        stop = self.size if stop is None else min(stop, self.size)
        at = max(0, start)
        taken: list[bytes] = []
        room = PIECE
        for number in self._numbers(at, stop, sequential=sequential):
            size, digest = self.entry.segments[number]
            end = self._ends[number]
            while at < min(end, stop):
                begin, count = at - (end - size), min(end - at, stop - at, room)
                # Asked for anew for each piece: nothing of the segment is kept while the reader dawdles.
                taken.append(bytes(self._snapshot.segment(digest, size)[begin : begin + count]))
                at += count
                room -= count
                if not room:
                    yield _joined(taken)
                    room = PIECE
        if taken:
            yield _joined(taken)

    def _numbers(self, start: int, stop: int, *, sequential: bool) -> Iterator[int]:
        """Yield the numbers of the segments that a part lies in; one is held while it is read."""
        if start >= stop:
            return
        # Here, and not by one of the few threads that decode for everybody.
        self._snapshot.open_packs()
        segments = self.entry.segments
        first, last = bisect_right(self._ends, start), bisect_right(self._ends, stop - 1)
        number, expected = first, first + 1
        ahead = self._cache.threads + 1 if sequential else 1
        try:
            for number in range(first, last + 1):
                began = time.monotonic()
                size, digest = segments[number]
                self._cache.hold(digest, size)
                try:
                    end = len(segments) if sequential else last + 1
                    expected = self._expect(number, max(expected, number + 1), end, ahead)
                    yield number
                finally:
                    self._cache.release(digest, size)
                fast = time.monotonic() - began < _FAST_SECONDS
                ahead = self._cache.threads + 1 if fast else 1
        finally:
            if not sequential:
                left = segments[number + 1 : expected]
                self._cache.forget((digest, size) for size, digest in left)

    def _expect(self, number: int, expected: int, end: int, ahead: int) -> int:
        """Expect the segments after ``number`` that are not yet, ``ahead`` large ones; return the next."""
        room = ahead * SEGMENT_MAX - (self._ends[expected - 1] - self._ends[number])
        while expected < min(end, number + 1 + _AHEAD_MAX) and room > 0:
            size, digest = self.entry.segments[expected]
            self._snapshot.expect(digest, size)
            expected += 1
            room -= size
        return expected


def _joined(taken: list[bytes]) -> memoryview:
    """Return the parts of a piece as one, and let go of them: the reader may dawdle."""
    piece = memoryview(taken[0] if len(taken) == 1 else b"".join(taken))
    taken.clear()
    return piece
