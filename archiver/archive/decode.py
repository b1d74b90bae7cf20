"""The way out: a file's bytes from its segments, decoded ahead in parallel, handed on in order.

Segments are handed to a pool in batches that fill one buffer each. As many batches are under way as there
are workers, and one more; the first is waited for, handed on, and its buffer used again.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Self

import numpy as np
from blake3 import blake3

from archiver.codec.segment import SEGMENT_MAX
from archiver.errors import DamageError, NotUnderstoodError, UnreadableError

if TYPE_CHECKING:
    from archiver.archive.packs.index import ObjectIndex
    from archiver.archive.records import FileEntry
    from archiver.buffers import Bytes

_BATCH: Final = 512
"""Small segments decoded by one task."""

Segment = tuple[int, str]
"""Size in bytes and BLAKE3."""
Sink = Callable[[memoryview], None]


class FileDecoder:
    """Decodes files of a snapshot; memory is a few buffers of 16 MiB. Use as a context manager."""

    def __init__(self, packs: ObjectIndex, *, workers: int) -> None:
        self._packs = packs
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
        self._hasher = ThreadPoolExecutor(1, thread_name_prefix="hash")
        self._ahead = workers + 1
        self._free: deque[Bytes] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._hasher.shutdown(wait=True)

    def pieces(self, segments: Iterator[Segment]) -> Iterator[memoryview]:
        """Yield the plain bytes of ``segments``, in order; each piece is valid until the next one.

        Raises:
            DamageError: A segment is missing or damaged; names the object.
        """
        decoding: deque[tuple[Bytes, Future[int]]] = deque()
        try:
            for batch in _batches(segments):
                buffer = self._free.pop() if self._free else np.empty(SEGMENT_MAX, np.uint8)
                decoding.append((buffer, self._pool.submit(self._decode, batch, buffer)))
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
        yield buffer.data[:size]
        self._free.append(buffer)

    def _decode(self, batch: list[Segment], buffer: Bytes) -> int:
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

    def copy(self, entry: FileEntry, sink: Sink) -> None:
        """Hand a whole file to ``sink`` and then check its size, SHA-256 and BLAKE3.

        Raises:
            DamageError: The bytes are not the file's. ``sink`` must then throw away what it got.
        """
        sha256, blake, size = hashlib.sha256(), blake3(), 0
        for piece in self.pieces(iter(entry.segments)):
            # The slowest of the three runs beside the others.
            hashed = self._hasher.submit(sha256.update, piece)
            try:
                blake.update(piece)
                sink(piece)
            finally:
                hashed.result()
            size += len(piece)
        actual = (size, sha256.hexdigest(), blake.hexdigest())
        if actual != (entry.size, entry.sha256, entry.blake3):
            raise DamageError(f"{entry.path} does not come out as its manifest says.")


def _batches(segments: Iterator[Segment]) -> Iterator[list[Segment]]:
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
