"""The way in: files are streamed once, hashed, cut, stored as objects, and checked against upstream.

Parallel over files and over segments, ordered within a file: each file has one thread that reads and
hashes it, and a pool encodes. Memory is the fixed set of buffers, whatever the model's size.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Self

from archiver.archive.intake.buffers import BufferPool
from archiver.archive.intake.continued import Continued
from archiver.archive.intake.file_job import FileJob, HeaderRoom
from archiver.archive.intake.sink import ObjectSink
from archiver.errors import MismatchError
from archiver.tensors.weight_files import stand_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from archiver.archive.archive import Archive
    from archiver.archive.intake.expected import Expected, OpenAt
    from archiver.archive.intake.file_job import Cell
    from archiver.archive.intake.sink import Hints
    from archiver.archive.intake.worklog import Worklog
    from archiver.archive.records import FileEntry
    from archiver.codec.segment import Effort
    from archiver.codec.zstd import Bytes
    from archiver.progress import Progress
    from archiver.tensors.weight_files import StandIn

_SPARE_BUFFERS: Final = 2


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
        self.instead: dict[str, StandIn] = {}
        """Files that are something else than their names say, with the very digests that were expected."""
        self._resuming = threading.Lock()
        self._headers = HeaderRoom()
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
        job = FileJob(expected, self._progress, self._headers)
        with Continued(self._archive, self._hints, held, open_at) as stream:
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

    def _take(self, job: FileJob, stream: Continued) -> None:
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

    def _store(self, job: FileJob, buffer: Bytes, cells: list[Cell]) -> None:
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


def _instead(expected: Expected, stream: Continued, size: int) -> StandIn | None:
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
