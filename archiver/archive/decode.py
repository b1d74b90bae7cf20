"""The way out: files from their segments, decoded in parallel, each byte proven.

``FileDecoder.files`` decodes many files at once. Batches of segments, each the size of one buffer, go to a
pool of threads, which write what they decode where it belongs, in whatever order they come to it. What a
thread decoded is hashed by another in the order of the file, and only then is its buffer used again. One
thread, the caller's, says what is done next; the others are told and tell.

``FileDecoder.pieces`` hands on the bytes of one file in order, for who needs them so.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, Self

import numpy as np
from blake3 import blake3

from archiver.archive.packs.reader import DECODER_BYTES
from archiver.codec.segment import SEGMENT_MAX
from archiver.errors import ArchiverError, DamageError, NotUnderstoodError, UnreadableError
from archiver.storage.direct import BLOCK_ALIGN

if TYPE_CHECKING:
    from archiver.archive.packs.index import ObjectIndex
    from archiver.archive.records import FileEntry
    from archiver.buffers import Bytes
    from archiver.memory import MemoryBudget

_BATCH: Final = 512
"""Small segments decoded by one task."""
_SMALL: Final = 1 << 20
"""Files of at most so many bytes are made from beginning to end by one thread."""
_FILE_THREADS: Final = 8
"""Threads that open, sync and name files, and make small ones; mostly they wait for the disk."""
_SMALL_AHEAD: Final = 4 * _FILE_THREADS
_WORD: Final = 8
_HASHED_BY: Final = 4
"""There is a buffer that waits to be hashed for each so many threads that decode."""

Segment = tuple[int, str]
"""Size in bytes and BLAKE3."""
Sink = Callable[[memoryview], None]


class Proof(StrEnum):
    """What must be right about a file before it is accepted. Each is also all that those before it are.

    ``SEGMENTS``: each segment has the BLAKE3 that the manifest gives it, and together they have the file's
    size. ``FILES``: the whole file has its SHA-256. ``DIGESTS``: it also has its BLAKE3.
    """

    SEGMENTS = "segments"
    FILES = "files"
    DIGESTS = "digests"


class Output(Protocol):
    """Where the bytes of one file go."""

    def write_at(self, offset: int, data: memoryview) -> None:
        """Take a stretch of the file; each comes once, from several threads, in any order."""

    def accept(self) -> None:
        """Take the file as it is: every byte came, and is proven."""

    def close(self) -> None:
        """Let go; what was not accepted must vanish."""


class Nowhere:
    """An output that keeps nothing: a file is decoded only to be proven."""

    def write_at(self, offset: int, data: memoryview) -> None:
        """Forget them."""

    def accept(self) -> None:
        """It is right."""

    def close(self) -> None:
        """Nothing is open."""


class FileTask(NamedTuple):
    """A file to decode. ``open`` is called by another thread; it returns None if nothing is to be done."""

    entry: FileEntry
    open: Callable[[], Output | None]


class DecodedFile(NamedTuple):
    """What became of a task; ``kept`` if nothing was to be done. ``error`` says why it was not accepted."""

    task: FileTask
    error: ArchiverError | None = None
    kept: bool = False


def decoder_workers(memory: MemoryBudget) -> int:
    """Return how many workers a ``FileDecoder`` may have."""
    # Each decodes into a buffer, and of four one has another that waits to be hashed.
    return memory.workers(DECODER_BYTES + SEGMENT_MAX + SEGMENT_MAX // _HASHED_BY)


class FileDecoder:
    """Decodes files of a snapshot; memory is a few buffers of 16 MiB. Use as a context manager."""

    def __init__(self, packs: ObjectIndex, *, workers: int) -> None:
        self._packs = packs
        self.streams = workers // 2 + 1
        """Larger files at a time: one thread hashes what about two decode."""
        self.decoders = ThreadPoolExecutor(workers, thread_name_prefix="decode")
        self.hashers = ThreadPoolExecutor(self.streams, thread_name_prefix="hash")
        self.files_pool = ThreadPoolExecutor(_FILE_THREADS, thread_name_prefix="file")
        self._ahead = workers + 1
        self._buffers = workers + max(1, workers // _HASHED_BY)
        self._free: deque[Bytes] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pool in (self.decoders, self.hashers, self.files_pool):
            pool.shutdown(wait=True, cancel_futures=True)

    def take_buffer(self) -> Bytes | None:
        """Return a buffer of a segment's size; None if all are in use."""
        if self._free:
            return self._free.pop()
        if not self._buffers:
            return None
        self._buffers -= 1
        return _aligned_buffer()

    def give_back(self, buffer: Bytes) -> None:
        """Let the buffer be used again."""
        self._free.append(buffer)

    # ---- many files, each in any order

    def files(
        self, tasks: Iterable[FileTask], proof: Proof = Proof.FILES
    ) -> Generator[DecodedFile, None, None]:
        """Decode files, and yield each as soon as it is accepted or has failed; to be closed if left early.

        A file that fails is closed, and the others go on. Tasks are taken when there is room for them.
        """
        return _Run(self, proof).execute(iter(tasks))

    # ---- one file, in order

    def pieces(self, segments: Iterator[Segment]) -> Iterator[memoryview]:
        """Yield the plain bytes of ``segments``, in order; each piece is valid until the next one.

        Raises:
            DamageError: A segment is missing or damaged; names the object.
        """
        decoding: deque[tuple[Bytes, Future[int]]] = deque()
        try:
            for batch in _batches(segments):
                buffer = self.take_buffer()
                while buffer is None:
                    yield from self._first(decoding)
                    buffer = self.take_buffer()
                decoding.append((buffer, self.decoders.submit(self.decode, batch, buffer)))
                if len(decoding) >= self._ahead:
                    yield from self._first(decoding)
            while decoding:
                yield from self._first(decoding)
        finally:
            for buffer, future in decoding:
                future.cancel()
                future.exception() if not future.cancelled() else None
                self._free.append(buffer)

    def _first(self, decoding: deque[tuple[Bytes, Future[int]]]) -> Iterator[memoryview]:
        buffer, future = decoding[0]
        size = future.result()
        decoding.popleft()
        try:
            yield buffer.data[:size]
        finally:
            self._free.append(buffer)

    def decode(self, batch: list[Segment], buffer: Bytes) -> int:
        """Fill a buffer with segments; return their size. Raise DamageError for one that is damaged."""
        at = 0
        for size, digest in batch:
            self._read(digest, size, buffer[at : at + size])
            at += size
        return at

    def _read(self, digest: str, size: int, out: Bytes) -> None:
        try:
            self._packs.read(digest, size, out)
        except DamageError as error:
            if isinstance(error, (UnreadableError, NotUnderstoodError)) or error.object == digest:
                raise
            raise DamageError(
                f"Object {digest} cannot be read: {error.message}",
                object=digest,
                pack=error.pack,
                path=error.path,
            ) from error

    def copy(self, entry: FileEntry, sink: Sink, proof: Proof = Proof.DIGESTS) -> None:
        """Hand a whole file to ``sink`` in order, and then check what ``proof`` asks for.

        Raises:
            DamageError: The bytes are not the file's. ``sink`` must then throw away what it got.
        """
        digests = _Digests(proof)
        for piece in self.pieces(iter(entry.segments)):
            hashed = self.hashers.submit(digests.update, piece)
            try:
                sink(piece)
            finally:
                hashed.result()
        digests.require(entry)


def _aligned_buffer() -> Bytes:
    """Return a buffer that begins at a block, with room for a segment at any place of one."""
    whole = np.empty(SEGMENT_MAX + 2 * BLOCK_ALIGN, np.uint8)
    begin = -whole.ctypes.data % BLOCK_ALIGN
    return whole[begin : begin + SEGMENT_MAX + BLOCK_ALIGN]


def _placed(buffer: Bytes, offset: int) -> Bytes:
    """Return the part of a buffer that lies in memory as ``offset`` does in a file.

    Blocks of it can be written past the system's cache; but words must not begin anywhere.
    """
    return buffer[offset % BLOCK_ALIGN :] if offset % _WORD == 0 else buffer


def _batches(segments: Iterable[Segment]) -> Iterator[list[Segment]]:
    """Yield the segments in groups that fit a buffer each; raise DamageError for an impossible one."""
    batch: list[Segment] = []
    total = 0
    for size, digest in segments:
        if not 0 < size <= SEGMENT_MAX:
            raise DamageError(f"The manifest lists a segment of {size} bytes.")
        if batch and (total + size > SEGMENT_MAX or len(batch) >= _BATCH):
            yield batch
            batch, total = [], 0
        batch.append((size, digest))
        total += size
    if batch:
        yield batch


class _Digests:
    """The digests of one file so far, as many as its proof asks for."""

    def __init__(self, proof: Proof) -> None:
        self.size = 0
        self._sha256 = None if proof is Proof.SEGMENTS else hashlib.sha256()
        self._blake3 = blake3() if proof is Proof.DIGESTS else None

    @property
    def needed(self) -> bool:
        """Whether every byte must be hashed."""
        return self._sha256 is not None

    def update(self, piece: memoryview) -> None:
        self.size += len(piece)
        if self._sha256 is not None:
            self._sha256.update(piece)
        if self._blake3 is not None:
            self._blake3.update(piece)

    def require(self, entry: FileEntry) -> None:
        """Raise DamageError unless they are those of ``entry``."""
        right = self.size == entry.size
        if self._sha256 is not None:
            right = right and self._sha256.hexdigest() == entry.sha256
        if self._blake3 is not None:
            right = right and self._blake3.hexdigest() == entry.blake3
        if not right:
            raise DamageError(f"{entry.path} does not come out as its manifest says.")


# ---- many files at once


class _Decoded(NamedTuple):
    """A batch of a file in its buffer."""

    buffer: Bytes
    piece: Bytes


class _OpenFile:
    """A larger file that is being made: which of its batches are where."""

    def __init__(self, task: FileTask, output: Output, proof: Proof) -> None:
        self.task = task
        self.output = output
        self.digests = _Digests(proof)
        self.error: ArchiverError | None = None
        self._error_number = 0
        self._batches = _batches(task.entry.segments)
        self._number = self._offset = 0
        self._upcoming = self._next_batch()
        self.under_way = 0
        """Batches that were handed out and whose buffers are not back yet."""
        self.waiting: dict[int, _Decoded] = {}
        """Decoded batches that are not hashed, by number."""
        self.hashed = 0
        self.hashing = False

    def _next_batch(self) -> list[Segment] | None:
        try:
            return next(self._batches, None)
        except DamageError as error:
            self.fail(self._number, error)
            return None

    @property
    def has_more(self) -> bool:
        """Whether there are batches that were not handed out."""
        return self._upcoming is not None

    def take(self) -> tuple[int, int, list[Segment]]:
        """Return the next batch: its number, where it begins in the file, and its segments."""
        batch = self._upcoming
        assert batch is not None, "has_more was asked"
        taken = self._number, self._offset, batch
        self._number += 1
        self._offset += sum(size for size, _ in batch)
        self.under_way += 1
        self._upcoming = self._next_batch()
        return taken

    def fail(self, number: int, error: ArchiverError) -> None:
        """Give up; of several reasons the one that is first in the file is kept."""
        self._upcoming = None
        if self.error is None or number < self._error_number:
            self.error, self._error_number = error, number

    def is_vain(self, number: int) -> bool:
        """Return whether a batch need not be decoded any more."""
        return self.error is not None and number > self._error_number


class _Run:
    """One run of ``FileDecoder.files``. Only ``_do`` and its like are called by other threads."""

    def __init__(self, decoder: FileDecoder, proof: Proof) -> None:
        self._decoder = decoder
        self._proof = proof
        self._events: queue.SimpleQueue[tuple[Callable[[Future[Any]], None], Future[Any]]] = (
            queue.SimpleQueue()
        )
        self._running = 0
        """Tasks that were submitted and whose ends were not handled."""
        self._active = 0
        """Tasks that a thread is at. Counted by the threads: an interrupt can hit the caller's anywhere."""
        self._changed = threading.Condition()
        self._next: FileTask | None = None
        self._opening = self._small = self._ending = 0
        self._open: list[_OpenFile] = []
        self._outputs: set[Output] = set()
        """Those that were opened and not closed."""
        self._taken: dict[int, Bytes] = {}
        """The buffers that are in use, by id."""
        self._stopped = False
        self._done: deque[DecodedFile] = deque()

    def execute(self, tasks: Iterator[FileTask]) -> Generator[DecodedFile, None, None]:
        """Yield each file as soon as it is done."""
        try:
            while True:
                self._begin_files(tasks)
                self._hand_out()
                while self._done:
                    yield self._done.popleft()
                if not self._running:
                    return
                handle, future = self._events.get()
                self._running -= 1
                handle(future)
        finally:
            self._stop()

    def _submit(
        self,
        pool: ThreadPoolExecutor,
        handle: Callable[[Future[Any]], None],
        do: Callable[..., Any],
        *arguments: object,
    ) -> None:
        self._running += 1
        future = pool.submit(self._do, do, *arguments)
        future.add_done_callback(lambda done: self._events.put((handle, done)))

    def _do(self, do: Callable[..., Any], *arguments: object) -> Any:
        """Do a task, unless the run has been stopped before it began."""
        with self._changed:
            if self._stopped:
                return None
            self._active += 1
        try:
            return do(*arguments)
        finally:
            with self._changed:
                self._active -= 1
                self._changed.notify()

    def _stop(self) -> None:
        """Wait for every thread, and close what is open: nobody writes behind an error."""
        with self._changed:
            self._stopped = True
            while self._active:
                self._changed.wait()
        while self._outputs:
            self._outputs.pop().close()
        while self._taken:
            self._decoder.give_back(self._taken.popitem()[1])

    # Files

    def _begin_files(self, tasks: Iterator[FileTask]) -> None:
        """Begin as many files as there is room for."""
        while True:
            if self._next is None:
                self._next = next(tasks, None)
            task = self._next
            if task is None:
                return
            if is_small(task.entry):
                if self._small >= _SMALL_AHEAD:
                    return
                self._small += 1
                self._submit(self._decoder.files_pool, self._small_done(task), self._do_small, task)
            else:
                streams = self._opening + len(self._open)
                if (
                    streams >= self._decoder.streams
                    or streams + self._ending >= self._decoder.streams + _FILE_THREADS
                ):
                    return
                self._opening += 1
                self._submit(self._decoder.files_pool, self._opened(task), self._do_open, task)
            self._next = None

    def _do_small(self, task: FileTask) -> bool:
        """Make a small file from beginning to end; return whether nothing was to be done."""
        output = task.open()
        if output is None:
            return True
        try:
            digests, offset = _Digests(self._proof), 0
            buffer = np.empty(task.entry.size, np.uint8)
            for batch in _batches(task.entry.segments):
                size = sum(size for size, _ in batch)
                if offset + size > len(buffer):
                    raise _misfit(task.entry)
                piece = buffer[offset : offset + size]
                self._decoder.decode(batch, piece)
                digests.update(piece.data)
                offset += size
            digests.require(task.entry)
            if offset:
                output.write_at(0, buffer.data)
            output.accept()
        finally:
            output.close()
        return False

    def _small_done(self, task: FileTask) -> Callable[[Future[bool]], None]:
        def handle(future: Future[bool]) -> None:
            self._small -= 1
            error = _error_of(future)
            self._done.append(DecodedFile(task, error, kept=error is None and future.result()))

        return handle

    def _do_open(self, task: FileTask) -> Output | None:
        output = task.open()
        if output is not None:
            self._outputs.add(output)
        return output

    def _opened(self, task: FileTask) -> Callable[[Future[Output | None]], None]:
        def handle(future: Future[Output | None]) -> None:
            self._opening -= 1
            error = _error_of(future)
            output = None if error else future.result()
            if output is None:
                self._done.append(DecodedFile(task, error, kept=error is None))
                return
            file = _OpenFile(task, output, self._proof)
            self._open.append(file)
            self._end_if_done(file)

        return handle

    def _end_if_done(self, file: _OpenFile) -> None:
        """Accept or close a file of which nothing is left to do."""
        if file.has_more or file.under_way:
            return
        self._open.remove(file)
        self._ending += 1
        self._submit(self._decoder.files_pool, self._ended(file), self._do_end, file)

    def _do_end(self, file: _OpenFile) -> None:
        try:
            if file.error is None:
                file.digests.require(file.task.entry)
                file.output.accept()
        finally:
            self._outputs.discard(file.output)
            file.output.close()

    def _ended(self, file: _OpenFile) -> Callable[[Future[None]], None]:
        def handle(future: Future[None]) -> None:
            self._ending -= 1
            self._done.append(DecodedFile(file.task, file.error or _error_of(future)))

        return handle

    # Batches

    def _hand_out(self) -> None:
        """Give free buffers to the next batches of the files that have least under way."""
        while True:
            file = min(
                (file for file in self._open if file.has_more),
                key=lambda file: file.under_way,
                default=None,
            )
            buffer = None if file is None else self._decoder.take_buffer()
            if file is None or buffer is None:
                return
            self._taken[id(buffer)] = buffer
            number, offset, batch = file.take()
            self._submit(
                self._decoder.decoders,
                self._decoded(file, (number, offset), buffer),
                self._do_decode,
                (file, number, offset),
                batch,
                _placed(buffer, offset),
            )

    def _do_decode(
        self, place: tuple[_OpenFile, int, int], batch: list[Segment], buffer: Bytes
    ) -> int:
        """Decode a batch and write it where it belongs; return its size."""
        file, number, offset = place
        if self._stopped or file.is_vain(number):
            return 0
        size = self._decoder.decode(batch, buffer)
        if offset + size > file.task.entry.size:
            raise _misfit(file.task.entry)
        file.output.write_at(offset, buffer.data[:size])
        return size

    def _decoded(
        self, file: _OpenFile, place: tuple[int, int], buffer: Bytes
    ) -> Callable[[Future[int]], None]:
        number, offset = place

        def handle(future: Future[int]) -> None:
            error = _error_of(future)
            if error is not None:
                file.fail(number, error)
                self._let_go(file, [buffer])
                for decoded in file.waiting.values():
                    self._let_go(file, [decoded.buffer])
                file.waiting.clear()
            elif file.error is not None or not file.digests.needed:
                file.digests.size += future.result()
                self._let_go(file, [buffer])
            else:
                piece = _placed(buffer, offset)[: future.result()]
                file.waiting[number] = _Decoded(buffer, piece)
                self._hash(file)
            self._end_if_done(file)

        return handle

    def _let_go(self, file: _OpenFile, buffers: list[Bytes]) -> None:
        for buffer in buffers:
            self._decoder.give_back(self._taken.pop(id(buffer)))
        file.under_way -= len(buffers)

    def _hash(self, file: _OpenFile) -> None:
        """Have all batches hashed that come next in the file; one thread at a time does so."""
        if file.hashing:
            return
        ready: list[_Decoded] = []
        while file.hashed in file.waiting:
            ready.append(file.waiting.pop(file.hashed))
            file.hashed += 1
        if ready:
            file.hashing = True
            self._submit(
                self._decoder.hashers, self._hashed(file, ready), self._do_hash, file, ready
            )

    @staticmethod
    def _do_hash(file: _OpenFile, ready: list[_Decoded]) -> None:
        for decoded in ready:
            file.digests.update(decoded.piece.data)

    def _hashed(self, file: _OpenFile, ready: list[_Decoded]) -> Callable[[Future[None]], None]:
        def handle(future: Future[None]) -> None:
            future.result()
            file.hashing = False
            self._let_go(file, [decoded.buffer for decoded in ready])
            if file.error is None:
                self._hash(file)
            self._end_if_done(file)

        return handle


def is_small(entry: FileEntry) -> bool:
    """Return whether a file is made by one thread, from beginning to end."""
    return entry.size <= _SMALL


def _misfit(entry: FileEntry) -> DamageError:
    return DamageError(f"{entry.path}: the segments in its manifest do not make up its size.")


def _error_of(future: Future[Any]) -> ArchiverError | None:
    """Return the error that a task ended with; raise any that is not this project's own."""
    error = future.exception()
    if error is None or isinstance(error, ArchiverError):
        return error
    raise error
