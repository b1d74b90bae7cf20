"""The way in: files are streamed once, hashed, cut, stored as objects, and checked against upstream.

Parallel over files and over segments, ordered within a file: each file has one thread that reads and
hashes it, and a pool encodes. Memory is the fixed set of buffers, whatever the model's size.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, Self

import msgspec
import numpy as np
from blake3 import blake3

from archiver.archive.buffers import BufferPool
from archiver.archive.objects import Hints, ObjectSink
from archiver.archive.records import FileEntry
from archiver.codec.segment import SEGMENT_MAX, Effort
from archiver.digest import Blake3Hex, git_blob_hasher
from archiver.errors import DamageError, MismatchError
from archiver.tensors.cuts import CutPlanner, Segment

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.archive.worklog import Worklog
    from archiver.codec.zstd import Bytes
    from archiver.progress import Progress

_ALIGN: Final = 8
"""Segments begin at multiples of this in their buffer, so that words are aligned."""
_SPARE_BUFFERS: Final = 2
_BATCH: Final = 4 << 20
"""Small segments are handed on together, this many bytes at once: what is handed on is soon stored,
and is not fetched again after a crash."""


class Expected(msgspec.Struct, frozen=True):
    """What upstream says of a file; empty strings where it says nothing."""

    path: str
    size: int
    sha256: str = ""
    oid: str = ""
    lfs: bool = False

    @property
    def checkable(self) -> bool:
        """Whether upstream says what the bytes are; if not, stored ones cannot stand for them."""
        return bool(self.sha256 or (self.oid and not self.lfs))


class Stream(Protocol):
    """A file's bytes in order."""

    def readinto(self, buffer: memoryview) -> int:
        """Put the next bytes into ``buffer``; 0 at the end."""


OpenAt = Callable[[int], AbstractContextManager[Stream]]
"""Opens a file's bytes from an offset on."""


class _Cell(NamedTuple):
    """A segment inside a buffer."""

    number: int
    at: int
    cut: Segment


class Intake:
    """Takes files in; one per run. Use as a context manager."""

    def __init__(
        self,
        archive: Archive,
        worklog: Worklog,
        hints: Hints,
        *,
        effort: Effort,
        workers: int,
        readers: int,
        progress: Progress,
        room: Callable[[int], None] = lambda _size: None,
    ) -> None:
        """Take ``room`` as what is asked before each write of so many bytes; it may refuse."""
        self.resumed: dict[str, int] = {}
        """What an earlier run stored and this one took up: digest -> bytes it takes in its pack."""
        self.resumed_bytes = 0
        self._resuming = threading.Lock()
        self._archive = archive
        self._worklog = worklog
        self._hints = hints
        self._progress = progress
        self.sink = ObjectSink(archive, effort, hints, progress.stored, room)
        self._buffers = BufferPool(max(readers, workers + _SPARE_BUFFERS))
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="encode")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.sink.close()

    def stop(self) -> None:
        """Let every thread that waits for a buffer give up."""
        self._buffers.close()

    def add(self, expected: Expected, open_at: OpenAt) -> tuple[FileEntry, str]:
        """Take one file in; its entry, and why it was cut plainly (empty unless it has a bad header).

        Bytes that are not upstream's are fetched once more from the beginning.

        Raises:
            MismatchError: Also then they have another size or digest than upstream lists.
            NoSpaceError, NetworkError, UpstreamGoneError: As the archive's disk or upstream raise them.
        """
        self._progress.begin(expected.path, expected.size)
        held = list(self._worklog.segments(expected.path)) if expected.checkable else []
        try:
            found = self._attempt(expected, open_at, held)
        except MismatchError:
            self._worklog.forget(expected.path)
            self._progress.rewind(expected.size)
            found = self._attempt(expected, open_at, [])
        self._progress.end(expected.path)
        return found

    def _attempt(
        self, expected: Expected, open_at: OpenAt, held: list[tuple[int, str]]
    ) -> tuple[FileEntry, str]:
        job = _FileJob(expected, self._progress)
        with _Continued(self._archive, self._hints, held, open_at) as stream:
            pending: list[Future[None]] = []
            try:
                for buffer, cells in job.fill(stream, self._buffers):
                    pending.append(self._pool.submit(self._store, job, buffer, cells))
                    pending = _unfinished(pending)
            finally:
                # also after a failure: no thread may still use a buffer of this file
                for future in pending:
                    future.exception()
            for future in pending:
                future.result()
        try:
            done = job.finish()
        except MismatchError:
            self._worklog.forget(expected.path)
            raise
        with self._resuming:
            self.resumed |= stream.resumed
            self.resumed_bytes += stream.resumed_bytes
        return done

    def _store(self, job: _FileJob, buffer: Bytes, cells: list[_Cell]) -> None:
        rows: list[tuple[int, int, str]] = []
        try:
            for cell in cells:
                plain = buffer[cell.at : cell.at + cell.cut.size]
                digest = self.sink.put(plain, cell.cut.dtype)
                job.digests[cell.number] = digest
                rows.append((cell.cut.begin, cell.cut.size, digest))
        finally:
            self._buffers.give(buffer)
            if rows:
                self._worklog.stored(job.expected.path, rows)


def _unfinished(pending: list[Future[None]]) -> list[Future[None]]:
    """Those that are not done; raises what a done one raised."""
    waiting = []
    for future in pending:
        if future.done():
            future.result()
        else:
            waiting.append(future)
    return waiting


class _FileJob:
    """One file on its way in: its hashes, its cuts, and the digests of its segments so far."""

    def __init__(self, expected: Expected, progress: Progress) -> None:
        self.expected = expected
        self.digests: dict[int, Blake3Hex] = {}
        self._sizes: list[int] = []
        self._progress = progress
        self._sha256 = hashlib.sha256()
        self._blake3 = blake3()
        wanted = expected.oid and not expected.lfs
        self._oid = git_blob_hasher(expected.size) if wanted else None
        self._planner = CutPlanner(
            expected.size, safetensors=expected.path.endswith(".safetensors")
        )

    def fill(self, stream: _Continued, buffers: BufferPool) -> Iterator[tuple[Bytes, list[_Cell]]]:
        """Buffers of whole segments, in file order; who takes one gives it back to the pool."""
        prefix = self._read_prefix(stream)
        for cuts in _batches(self._planner.cuts()):
            buffer = buffers.take()
            try:
                cells, prefix = self._read_cells(stream, prefix, buffer, cuts)
            except BaseException:
                buffers.give(buffer)
                raise
            # From here on the buffer is another's, also if the run ends at this very point.
            yield buffer, cells
        self._expect_end(stream)

    def _read_cells(
        self, stream: _Continued, prefix: memoryview, buffer: Bytes, cuts: list[Segment]
    ) -> tuple[list[_Cell], memoryview]:
        """Read segments into a buffer; where they lie in it, and what is left of the prefix."""
        cells, fill = [], 0
        for cut in cuts:
            prefix = self._read_segment(stream, prefix, buffer[fill : fill + cut.size])
            cells.append(_Cell(len(self._sizes), fill, cut))
            self._sizes.append(cut.size)
            fill = _aligned(fill + cut.size)
        return cells, prefix

    def _read_prefix(self, stream: _Continued) -> memoryview:
        prefix = bytearray()
        while not self._planner.decided:
            missing = self._planner.wants - len(prefix)
            piece = bytearray(missing)
            stream.fill(memoryview(piece), self.expected)
            prefix += piece
            self._planner.feed(memoryview(prefix))
        return memoryview(prefix)

    def _read_segment(self, stream: _Continued, prefix: memoryview, target: Bytes) -> memoryview:
        """Fill ``target`` from the rest of the prefix and the stream; gives what is left of it."""
        taken = min(len(prefix), len(target))
        view = target.data
        view[:taken] = prefix[:taken]
        before = stream.fetched
        stream.fill(view[taken:], self.expected)
        self._hash(view)
        fetched = stream.fetched - before
        self._progress.advance(fetched, fetched=True)
        self._progress.advance(len(view) - fetched, fetched=False)
        return prefix[taken:]

    def _hash(self, view: memoryview) -> None:
        self._sha256.update(view)
        self._blake3.update(view)
        if self._oid is not None:
            self._oid.update(view)

    def _expect_end(self, stream: _Continued) -> None:
        if stream.readinto(memoryview(bytearray(1))):
            raise MismatchError(
                f"{self.expected.path} is longer than the {self.expected.size} bytes upstream lists."
            )

    def finish(self) -> tuple[FileEntry, str]:
        """The file's entry; MismatchError unless its digests are upstream's."""
        sha256 = self._sha256.hexdigest()
        oid = self._oid.hexdigest() if self._oid is not None else self.expected.oid
        for kind, got, wanted in (
            ("SHA-256", sha256, self.expected.sha256),
            ("git blob SHA-1", oid, self.expected.oid),
        ):
            if wanted and got != wanted:
                raise MismatchError(
                    f"{self.expected.path} has {kind} {got}, upstream lists {wanted}.",
                    hint="The file was refused. Run again later; if it stays so, upstream is damaged.",
                )
        header = self._planner.header
        entry = FileEntry(
            path=self.expected.path,
            size=self.expected.size,
            sha256=sha256,
            blake3=self._blake3.hexdigest(),
            oid=self.expected.oid,
            lfs=self.expected.lfs,
            segments=tuple((size, self.digests[i]) for i, size in enumerate(self._sizes)),
            tensors=msgspec.UNSET if header is None else header.tensors,
        )
        return entry, self._planner.reason


def _aligned(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


def _batches(cuts: Iterable[Segment]) -> Iterator[list[Segment]]:
    """The cuts in groups that fit a buffer each."""
    batch: list[Segment] = []
    fill = 0
    for cut in cuts:
        if batch and (fill >= _BATCH or fill + cut.size > SEGMENT_MAX):
            yield batch
            batch, fill = [], 0
        batch.append(cut)
        fill = _aligned(fill + cut.size)
    if batch:
        yield batch


class _Continued:
    """A file's bytes: first those that an earlier run stored, then upstream's from there on."""

    def __init__(
        self, archive: Archive, hints: Hints, held: list[tuple[int, str]], open_at: OpenAt
    ) -> None:
        self._archive = archive
        self._hints = hints
        self._held = iter(held)
        self._open_at = open_at
        self._piece = memoryview(b"")
        self._at = 0
        self._opened: AbstractContextManager[Stream] | None = None
        self._stream: Stream | None = None
        self.fetched = 0
        """Bytes that came from upstream."""
        self.resumed: dict[str, int] = {}
        """Stored objects that were taken up, and the bytes that they take in their packs."""
        self.resumed_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        if self._opened is not None:
            self._opened.__exit__(None, None, None)

    def fill(self, view: memoryview, expected: Expected) -> None:
        """Fill ``view``; MismatchError if the file ends first."""
        done = 0
        while done < len(view):
            got = self.readinto(view[done:])
            if not got:
                raise MismatchError(
                    f"{expected.path} ends early: upstream lists {expected.size} bytes."
                )
            done += got

    def readinto(self, view: memoryview) -> int:
        """The next bytes; 0 at the end."""
        if not self._piece and self._stream is None:
            self._next_piece()
        if self._piece:
            count = min(len(self._piece), len(view))
            view[:count] = self._piece[:count]
            self._piece = self._piece[count:]
            return count
        assert self._stream is not None
        count = self._stream.readinto(view)
        self.fetched += count
        return count

    def _next_piece(self) -> None:
        size, digest = next(self._held, (0, ""))
        found = self._load(size, Blake3Hex(digest)) if size else None
        if found is None:
            self._opened = self._open_at(self._at)
            self._stream = self._opened.__enter__()
            return
        self._at += size
        self._piece = found.data

    def _load(self, size: int, digest: Blake3Hex) -> Bytes | None:
        for pack, entry in self._hints.locate(digest):
            if entry.size != size:
                continue  # the worklog is damaged
            try:
                out = np.empty(size, np.uint8)
                self._archive.pack(pack).read(entry, out)
            except DamageError:
                continue
            self.resumed[digest] = entry.stored
            self.resumed_bytes += size
            return out
        return None
