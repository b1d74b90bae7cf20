"""The way in: files are streamed once, hashed, cut, stored as objects, and checked against upstream.

Parallel over files and over segments, ordered within a file: each file has a thread that reads it
(:class:`FileIngest`) and two that hash it, and a pool encodes. What they hand on are buffers of whole
segments, a fixed set, whatever the model's size: a thread that finds none free waits.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from mmap import mmap
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import msgspec

from archiver.archive.ingest.hashing import FileHasher, SharedBuffer
from archiver.archive.ingest.object_store import PACKS_OPEN, ObjectStore
from archiver.archive.ingest.stream import ResumedStream
from archiver.archive.manifests import require_few_tensors
from archiver.archive.records import FileEntry
from archiver.buffers import BufferPool
from archiver.codec.segment import SEGMENT_MAX
from archiver.errors import MismatchError
from archiver.tensors.cuts import CutPlanner
from archiver.tensors.weight_files import container_of, stand_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from archiver.archive.archive import Archive
    from archiver.archive.ingest.object_store import Hints
    from archiver.archive.ingest.resume import Worklog
    from archiver.archive.ingest.stream import ExpectedFile, OpenAt
    from archiver.buffers import Bytes
    from archiver.codec.segment import Effort
    from archiver.digest import Blake3Hex
    from archiver.progress import Progress
    from archiver.tensors.cuts import Segment
    from archiver.tensors.weight_files import StandIn


ENCODER_BYTES: Final = 2 * SEGMENT_MAX + (8 << 20)
"""What a thread that encodes holds at most: a buffer, its frames, a step of each stream, zstd's windows."""
_EXTRA_BUFFERS: Final = 1
SHARED_BYTES: Final = (_EXTRA_BUFFERS + 1) * SEGMENT_MAX
"""What all of them hold together: buffers that are being filled, and one second encoding of a segment."""
_LONG_HEADER: Final = 8 << 20
"""Bytes of a header from which on there is only one in memory at a time."""
_ALIGN: Final = 8
"""Segments begin at multiples of this in their buffer, so that words are aligned."""
_BATCH_BYTES: Final = 4 << 20
"""Small segments are handed on together, this many bytes at once: what is handed on is soon stored,
and is not fetched again after a crash."""
_REFUSED: Final = {
    "upstream": "The file was refused. Run again later; if it stays so, upstream is damaged.",
    "the cache": "The file was refused. Delete it from the cache and download it again.",
}


class IngestedFile(NamedTuple):
    """A file that is stored; ``header_problem`` says why its header was not used, if it has a bad one."""

    entry: FileEntry
    header_problem: str


class IngestPipeline:
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
        reserve: Callable[[int], None] = lambda _size: None,
    ) -> None:
        """Call ``reserve`` before each write with the bytes that it takes; it may raise NoSpaceError."""
        self.resumed: dict[str, int] = {}
        """What an earlier run stored and this one took up: digest -> bytes it takes in its pack."""
        self.resumed_bytes = 0
        self.stand_ins: dict[str, StandIn] = {}
        """Files that are something else than their names say, with the very digests that were expected."""
        self.readers = readers
        """Files that are taken in at once."""
        self._lock = threading.Lock()
        self._headers = HeaderBudget()
        self._archive = archive
        self._worklog = worklog
        self._hints = hints
        self._progress = progress
        packs = min(workers, PACKS_OPEN)
        self.objects = ObjectStore(archive, effort, hints, progress.stored, reserve, packs)
        self._buffers = BufferPool(max(readers, workers + _EXTRA_BUFFERS), SEGMENT_MAX)
        self._encoders = ThreadPoolExecutor(workers, thread_name_prefix="encode")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self.objects.close()

    def release(self) -> None:
        """End reading, and let go of the buffers; what is stored can still be added to."""
        self.stop()
        self._encoders.shutdown(wait=True, cancel_futures=True)
        self._buffers = BufferPool(0, SEGMENT_MAX)

    def stop(self) -> None:
        """Let every thread that waits for a buffer give up."""
        self._buffers.close()

    def add(self, expected: ExpectedFile, open_at: OpenAt) -> IngestedFile:
        """Take one file in. Bytes that are not upstream's are fetched once more from the beginning.

        Raises:
            MismatchError: Also then they have another size or digest than upstream lists.
            NoSpaceError, NetworkError, UpstreamGoneError: As the archive's disk or upstream raise them.
        """
        self._progress.begin(expected.path, expected.size)
        segments = self._worklog.segments(expected.path) if expected.checkable else []
        try:
            file = self._attempt(expected, open_at, segments)
        except MismatchError:
            self._worklog.forget(expected.path)
            self._progress.rewind(expected.size)
            file = self._attempt(expected, open_at, [])
        self._progress.end(expected.path)
        return file

    def _attempt(
        self, expected: ExpectedFile, open_at: OpenAt, segments: list[tuple[int, str]]
    ) -> IngestedFile:
        """Take a file in; ``segments`` of it are stored already."""
        file = FileIngest(expected, self._progress, self._headers)
        with ResumedStream(self._archive, self._hints, segments, open_at) as stream:
            try:
                self._store(file, stream)
                ingested = file.finish()
            except MismatchError as error:
                self._worklog.forget(expected.path)
                # Whatever size was listed: what came begins like a pointer or a page.
                placeholder = stand_in(expected.path, stream.head, len(stream.head))
                if placeholder is not None:
                    error.message = f"{expected.path} {placeholder.description}. {error.message}"
                    error.hint = placeholder.hint
                raise
        placeholder = stand_in(expected.path, stream.head, expected.size)
        with self._lock:
            if placeholder is not None:
                self.stand_ins[expected.path] = placeholder
            self.resumed |= stream.resumed
            self.resumed_bytes += stream.resumed_bytes
        return ingested

    def _store(self, file: FileIngest, stream: ResumedStream) -> None:
        """Read the file to its end, and store its segments."""
        pending: list[Future[None]] = []
        try:
            for buffer, segments in file.fill(stream, self._buffers):
                pending.append(self._encoders.submit(self._store_buffer, file, buffer, segments))
                done = [future for future in pending if future.done()]
                for future in done:
                    future.result()  # a failure ends the file now, not when all of it was read
                pending = [future for future in pending if future not in done]
        finally:
            # also after a failure: no thread may still use a buffer of this file
            file.hasher.close()
            for future in pending:
                future.exception()
        for future in pending:
            future.result()

    def _store_buffer(
        self, file: FileIngest, buffer: SharedBuffer, segments: list[BufferedSegment]
    ) -> None:
        """Store the segments in a buffer, note them in the worklog, and release the buffer."""
        rows: list[tuple[int, int, str]] = []
        try:
            for number, at, cut in segments:
                digest = self.objects.put(buffer.data[at : at + cut.size], cut.dtype)
                file.digests[number] = digest
                rows.append((cut.begin, cut.size, digest))
        finally:
            buffer.release()
            if rows:
                self._worklog.add(file.expected.path, rows)


class BufferedSegment(NamedTuple):
    """A segment of a file, by its number there, and where it lies in its buffer."""

    number: int
    at: int
    cut: Segment


class HeaderBudget:
    """What the headers of all files of a run take: one long one at a time, and one parsed at a time.

    Together they have no more tensors than a manifest may list.
    """

    def __init__(self) -> None:
        self.long_header = threading.Lock()
        """Held from before a long header is read until its bytes are stored."""
        self._parsing = threading.Lock()
        self._tensors: dict[str, int] = {}

    def parse(self, path: str, planner: CutPlanner, prefix: memoryview) -> None:
        """Let the planner look at a file's first bytes; raise TooLargeError for too many tensors."""
        with self._parsing:
            planner.feed(prefix)
            if planner.header is not None:
                self._tensors[path] = len(planner.header.tensors)
                require_few_tensors(sum(self._tensors.values()))


class FileIngest:
    """One file on its way in: its hashes, its cuts, and the digests of its segments so far."""

    def __init__(self, expected: ExpectedFile, progress: Progress, headers: HeaderBudget) -> None:
        self.expected = expected
        self._headers = headers
        self.digests: dict[int, Blake3Hex] = {}
        self._sizes: list[int] = []
        self._progress = progress
        self.hasher = FileHasher(expected.size, with_oid=bool(expected.oid) and not expected.lfs)
        self._planner = CutPlanner(expected.size, container_of(expected.path))

    def fill(
        self, stream: ResumedStream, buffers: BufferPool
    ) -> Iterator[tuple[SharedBuffer, list[BufferedSegment]]]:
        """Yield buffers of whole segments, in file order; who takes one releases it."""
        with ExitStack() as long_header:
            prefix = self._read_prefix(stream, long_header)
            for cuts in _batches(self._planner.cuts()):
                users = 1 + self.hasher.users
                buffer = SharedBuffer(buffers, users)
                segments, views, fill = [], [], 0
                try:
                    for cut in cuts:
                        target = buffer.data[fill : fill + cut.size]
                        prefix = self._read_segment(stream, prefix, target)
                        views.append(target.data)
                        segments.append(BufferedSegment(len(self._sizes), fill, cut))
                        self._sizes.append(cut.size)
                        fill = _aligned(fill + cut.size)
                except BaseException:
                    buffer.release(users)
                    raise
                self.hasher.update(views, buffer)
                if not prefix:
                    prefix = memoryview(b"")  # an empty slice would keep the whole header
                    long_header.close()
                # From here on the buffer is another's, also if the run ends at this very point.
                yield buffer, segments
        if stream.readinto(memoryview(bytearray(1))):
            raise MismatchError(
                f"{self.expected.path} is longer than the {self.expected.size} bytes "
                f"{self.expected.by} lists."
            )

    def _read_prefix(self, stream: ResumedStream, long_header: ExitStack) -> memoryview:
        """Return the first bytes, as many as the cuts depend on."""
        prefix = memoryview(b"")
        while not self._planner.decided:
            needed, have = self._planner.needed, len(prefix)
            if needed > _LONG_HEADER >= have:
                long_header.enter_context(self._headers.long_header)
            # Made at once, and the system's again at once: the C library would keep for each of six
            # threads what a header took that was read in steps.
            longer = memoryview(mmap(-1, needed))
            longer[:have] = prefix
            stream.fill(longer[have:], self.expected)
            prefix = longer
            self._headers.parse(self.expected.path, self._planner, prefix)
        return prefix

    def _read_segment(self, stream: ResumedStream, prefix: memoryview, target: Bytes) -> memoryview:
        """Fill ``target`` from the rest of the prefix and the stream; return what is left of it."""
        taken = min(len(prefix), len(target))
        view = target.data
        view[:taken] = prefix[:taken]
        before = stream.fetched
        stream.fill(view[taken:], self.expected)
        fetched = stream.fetched - before
        self._progress.advance(fetched, fetched=True)
        self._progress.advance(len(view) - fetched, fetched=False)
        return prefix[taken:]

    def finish(self) -> IngestedFile:
        """Return the file's entry; raise MismatchError unless its digests are upstream's."""
        expected = self.expected
        digests = self.hasher.digests()
        for kind, actual, listed in (
            ("SHA-256", digests.sha256, expected.sha256),
            ("git blob SHA-1", digests.oid or expected.oid, expected.oid),
        ):
            if listed and actual != listed:
                raise MismatchError(
                    f"{expected.path} has {kind} {actual}, {expected.by} lists {listed}.",
                    hint=_REFUSED[expected.by],
                )
        header = self._planner.header
        entry = FileEntry(
            path=expected.path,
            size=expected.size,
            sha256=digests.sha256,
            blake3=digests.blake3,
            oid=expected.oid,
            lfs=expected.lfs,
            segments=tuple((size, self.digests[i]) for i, size in enumerate(self._sizes)),
            tensors=msgspec.UNSET if header is None else header.tensors,
            container="gguf" if self._planner.container == "gguf" else msgspec.UNSET,
        )
        return IngestedFile(entry, self._planner.reason)


def _aligned(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


def _batches(cuts: Iterable[Segment]) -> Iterator[list[Segment]]:
    """Yield the cuts in groups that fit a buffer each."""
    batch: list[Segment] = []
    fill = 0
    for cut in cuts:
        if batch and (fill >= _BATCH_BYTES or fill + cut.size > SEGMENT_MAX):
            yield batch
            batch, fill = [], 0
        batch.append(cut)
        fill = _aligned(fill + cut.size)
    if batch:
        yield batch
