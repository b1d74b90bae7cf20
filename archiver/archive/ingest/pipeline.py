"""The way in: files are streamed once, hashed, cut, stored as objects, and checked against upstream.

Parallel over files and over segments, ordered within a file: each file has one thread that reads and
hashes it, and a pool encodes. Memory is the fixed set of buffers, whatever the model's size.
"""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import msgspec
from blake3 import blake3

from archiver.archive.ingest.object_store import ObjectStore
from archiver.archive.ingest.stream import ResumedStream
from archiver.archive.manifests import require_few_tensors
from archiver.archive.records import FileEntry
from archiver.buffers import BufferPool
from archiver.codec.segment import SEGMENT_MAX
from archiver.digest import git_blob_hasher
from archiver.errors import MismatchError
from archiver.tensors.cuts import CutPlanner
from archiver.tensors.weight_files import stand_in

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


_SPARE_BUFFERS: Final = 2


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
        room: Callable[[int], None] = lambda _size: None,
    ) -> None:
        """Take ``room`` as what is asked before each write of so many bytes; it may refuse."""
        self.resumed: dict[str, int] = {}
        """What an earlier run stored and this one took up: digest -> bytes it takes in its pack."""
        self.resumed_bytes = 0
        self.instead: dict[str, StandIn] = {}
        """Files that are something else than their names say, with the very digests that were expected."""
        self._resuming = threading.Lock()
        self._headers = HeaderBudget()
        self._archive = archive
        self._worklog = worklog
        self._hints = hints
        self._progress = progress
        self.objects = ObjectStore(archive, effort, hints, progress.stored, room)
        self._buffers = BufferPool(max(readers, workers + _SPARE_BUFFERS), SEGMENT_MAX)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="encode")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.objects.close()

    def stop(self) -> None:
        """Let every thread that waits for a buffer give up."""
        self._buffers.close()

    def add(self, expected: ExpectedFile, open_at: OpenAt) -> tuple[FileEntry, str]:
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
        self, expected: ExpectedFile, open_at: OpenAt, held: list[tuple[int, str]]
    ) -> tuple[FileEntry, str]:
        job = FileIngest(expected, self._progress, self._headers)
        with ResumedStream(self._archive, self._hints, held, open_at) as stream:
            try:
                self._take(job, stream)
                done = job.finish()
            except MismatchError as error:
                self._worklog.forget(expected.path)
                # Whatever size was listed: what came begins like a pointer or a page.
                instead = _instead(expected, stream, len(stream.head))
                if instead is not None:
                    error.message = f"{expected.path} {instead.description}. {error.message}"
                    error.hint = instead.hint
                raise
        instead = _instead(expected, stream, expected.size)
        with self._resuming:
            if instead is not None:
                self.instead[expected.path] = instead
            self.resumed |= stream.resumed
            self.resumed_bytes += stream.resumed_bytes
        return done

    def _take(self, job: FileIngest, stream: ResumedStream) -> None:
        """Read the file to its end, and store its segments."""
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

    def _store(self, job: FileIngest, buffer: Bytes, cells: list[Cell]) -> None:
        rows: list[tuple[int, int, str]] = []
        try:
            for cell in cells:
                plain = buffer[cell.at : cell.at + cell.cut.size]
                digest = self.objects.put(plain, cell.cut.dtype)
                job.digests[cell.number] = digest
                rows.append((cell.cut.begin, cell.cut.size, digest))
        finally:
            self._buffers.give_back(buffer)
            if rows:
                self._worklog.stored(job.expected.path, rows)


def _instead(expected: ExpectedFile, stream: ResumedStream, size: int) -> StandIn | None:
    """What came in the place of a file, as far as the first bytes tell."""
    return stand_in(expected.path, stream.head, size)


def _unfinished(pending: list[Future[None]]) -> list[Future[None]]:
    """Those that are not done; raises what a done one raised."""
    waiting = []
    for future in pending:
        if future.done():
            future.result()
        else:
            waiting.append(future)
    return waiting


# ---- One file on its way in: cut into segments as it is read, hashed, and judged at its end.


_LONG_HEADER: Final = 8 << 20
"""Bytes of a header from which on there is only one in memory at a time."""
_ALIGN: Final = 8
"""Segments begin at multiples of this in their buffer, so that words are aligned."""
_BATCH: Final = 4 << 20
"""Small segments are handed on together, this many bytes at once: what is handed on is soon stored,
and is not fetched again after a crash."""


_REFUSED: Final = {
    "upstream": "The file was refused. Run again later; if it stays so, upstream is damaged.",
    "the cache": "The file was refused. Delete it from the cache and download it again.",
}


class Cell(NamedTuple):
    """A segment inside a buffer."""

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
        """Let the planner look at a file's first bytes; TooLargeError if there are too many tensors."""
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
        self._sha256 = hashlib.sha256()
        self._blake3 = blake3()
        wanted = expected.oid and not expected.lfs
        self._oid = git_blob_hasher(expected.size) if wanted else None
        self._planner = CutPlanner(
            expected.size, safetensors=expected.path.endswith(".safetensors")
        )

    def fill(
        self, stream: ResumedStream, buffers: BufferPool
    ) -> Iterator[tuple[Bytes, list[Cell]]]:
        """Buffers of whole segments, in file order; who takes one gives it back to the pool."""
        with ExitStack() as held:
            prefix = self._read_prefix(stream, held)
            for cuts in _batches(self._planner.cuts()):
                buffer = buffers.take()
                try:
                    cells, prefix = self._read_cells(stream, prefix, buffer, cuts)
                except BaseException:
                    buffers.give_back(buffer)
                    raise
                if not prefix:
                    prefix = memoryview(b"")  # an empty slice would keep the whole header
                    held.close()
                # From here on the buffer is another's, also if the run ends at this very point.
                yield buffer, cells
        self._expect_end(stream)

    def _read_cells(
        self, stream: ResumedStream, prefix: memoryview, buffer: Bytes, cuts: list[Segment]
    ) -> tuple[list[Cell], memoryview]:
        """Read segments into a buffer; where they lie in it, and what is left of the prefix."""
        cells, fill = [], 0
        for cut in cuts:
            prefix = self._read_segment(stream, prefix, buffer[fill : fill + cut.size])
            cells.append(Cell(len(self._sizes), fill, cut))
            self._sizes.append(cut.size)
            fill = _aligned(fill + cut.size)
        return cells, prefix

    def _read_prefix(self, stream: ResumedStream, held: ExitStack) -> memoryview:
        prefix = bytearray()
        while not self._planner.decided:
            wants, have = self._planner.wants, len(prefix)
            if wants > _LONG_HEADER:
                held.enter_context(self._headers.long_header)
            # Made at once: six headers of a hundred megabytes are not to be held twice.
            longer = bytearray(wants)
            longer[:have] = prefix
            stream.fill(memoryview(longer)[have:], self.expected)
            prefix = longer
            self._headers.parse(self.expected.path, self._planner, memoryview(prefix))
        return memoryview(prefix)

    def _read_segment(self, stream: ResumedStream, prefix: memoryview, target: Bytes) -> memoryview:
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

    def _expect_end(self, stream: ResumedStream) -> None:
        if stream.readinto(memoryview(bytearray(1))):
            raise MismatchError(
                f"{self.expected.path} is longer than the {self.expected.size} bytes "
                f"{self.expected.by} lists."
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
                    f"{self.expected.path} has {kind} {got}, {self.expected.by} lists {wanted}.",
                    hint=_REFUSED[self.expected.by],
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
