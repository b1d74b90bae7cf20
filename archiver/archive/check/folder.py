"""Comparing a file of a plain folder with its manifest entry: one read, and damage is known by segment."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from concurrent.futures import Executor, Future, wait
from typing import TYPE_CHECKING, Any, Final

from blake3 import blake3

from archiver.archive.check.impact import affected_rows
from archiver.archive.findings import Finding
from archiver.archive.manifests import Segments, tensors_of
from archiver.codec.segment import SEGMENT_MAX
from archiver.tensors.weight_files import HEAD, stand_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from archiver.archive.records import FileEntry

CHECKER_BYTES: Final = SEGMENT_MAX + (4 << 20)
"""What a thread that checks files holds at most."""
_WORTH_A_TASK: Final = 1 << 20
"""Fewer bytes are hashed sooner than they are handed to another thread."""
_DamagedSegment = tuple[int, int, str]
"""Begin and end of a damaged segment in its file, and the BLAKE3 it should have."""


class Stopped(Exception):  # noqa: N818 - no error: somebody asked for it
    """The check was ended early."""


class _TruncatedError(Exception):
    """The file ended before its size."""


class FileChecker:
    """Checks files; threads may share it. Each thread keeps one buffer of 16 MiB.

    Args:
        hashers: Computes digests beside the thread that reads.
        advance: Told how many bytes were read.
    """

    def __init__(self, hashers: Executor, advance: Callable[[int], None]) -> None:
        self._hashers = hashers
        self._advance = advance
        self._own = threading.local()
        self._stopped = False

    def stop(self) -> None:
        """Let every check end with Stopped after the piece it is at."""
        self._stopped = True

    def check(self, entry: FileEntry, where: str) -> list[Finding]:
        """Return what is wrong with the file ``where``, which should be ``entry``; in file order."""
        try:
            handle = os.open(where, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                return self._check(entry, handle)
            finally:
                os.close(handle)
        except OSError as error:
            reason = error.strerror or str(error)
            return [Finding("file-unreadable", f"It cannot be read: {reason}.", entry.path)]
        except _TruncatedError:
            return [Finding("file-size", "It became shorter while it was read.", entry.path)]

    def _check(self, entry: FileEntry, handle: int) -> list[Finding]:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            return [Finding("file-unreadable", "It is not a plain file.", entry.path)]
        if status.st_size != entry.size:
            return [_other_size(entry, handle, status.st_size)]
        sha256, tree = hashlib.sha256(), blake3()
        damaged: list[_DamagedSegment] = []
        for at, segments, piece in self._pieces(entry, handle):
            self._hash(sha256, tree, piece, lambda: damaged.extend(_damaged(at, segments, piece)))  # noqa: B023 - called at once
        if damaged:
            return [_finding(entry, segment) for segment in damaged]
        return _whole(entry, sha256.hexdigest(), tree.hexdigest())

    def _hash(
        self, sha256: hashlib._Hash, tree: blake3, piece: memoryview, segments: Callable[[], None]
    ) -> None:
        """Compute three digests of one piece, side by side where that pays."""
        if len(piece) < _WORTH_A_TASK:
            tree.update(piece)
            segments()
            sha256.update(piece)
            return
        tasks: list[Future[Any]] = [
            self._hashers.submit(tree.update, piece),
            self._hashers.submit(segments),
        ]
        try:
            sha256.update(piece)
        finally:
            wait(tasks)
        for task in tasks:
            task.result()

    def _pieces(self, entry: FileEntry, handle: int) -> Iterator[tuple[int, Segments, memoryview]]:
        """Return where each piece begins, its segments, and its bytes, valid until the next."""
        buffer = self._buffer()
        at = 0
        for segments in _batches(entry.segments):
            piece = buffer[: sum(size for size, _ in segments)]
            self._fill(handle, at, piece)
            yield at, segments, piece
            at += len(piece)

    def _fill(self, handle: int, at: int, piece: memoryview) -> None:
        done = 0
        while done < len(piece):
            if self._stopped:
                raise Stopped
            count = os.preadv(handle, [piece[done:]], at + done)
            if not count:
                raise _TruncatedError
            done += count
        self._advance(done)

    def _buffer(self) -> memoryview:
        if not hasattr(self._own, "buffer"):
            self._own.buffer = memoryview(bytearray(SEGMENT_MAX))
        buffer: memoryview = self._own.buffer
        return buffer


def _other_size(entry: FileEntry, handle: int, size: int) -> Finding:
    """Return the finding that a file has another size, and what lies in its place if it is known."""
    sizes = f"{size:,} bytes; the manifest says {entry.size:,}"
    placeholder = stand_in(entry.path, os.pread(handle, HEAD, 0), size)
    if placeholder is None:
        return Finding("file-size", f"It has {sizes}.", entry.path)
    text = f"It {placeholder.description}: it has {sizes}."
    return Finding("file-size", text, entry.path, hint=placeholder.hint)


def _batches(segments: Segments) -> Iterator[Segments]:
    """Return adjacent segments of at most 16 MiB together."""
    first, total = 0, 0
    for at, (size, _) in enumerate(segments):
        if total + size > SEGMENT_MAX:
            yield segments[first:at]
            first, total = at, 0
        total += size
    if total:
        yield segments[first:]


def _damaged(at: int, segments: Segments, piece: memoryview) -> Iterator[_DamagedSegment]:
    begin = 0
    for size, digest in segments:
        if blake3(piece[begin : begin + size]).hexdigest() != digest:
            yield at + begin, at + begin + size, digest
        begin += size


def _finding(entry: FileEntry, segment: _DamagedSegment) -> Finding:
    begin, end, digest = segment
    hit = next(iter(affected_rows(entry, begin, end)), None)
    what = f"Bytes {begin:,} to {end - 1:,} are not what they should be"
    if hit is None:
        place = " (the header)" if begin == 0 and tensors_of(entry) else ""
        return Finding("file-damaged", f"{what}{place}.", entry.path, object=digest)
    message = f"{what}: tensor {hit}."
    return Finding("file-damaged", message, entry.path, object=digest, tensors=(hit,))


def _whole(entry: FileEntry, sha256: str, tree: str) -> list[Finding]:
    """Every segment is right: then so is the file, unless the manifest contradicts itself."""
    digests = (("SHA-256", entry.sha256, sha256), ("BLAKE3", entry.blake3, tree))
    wrong = [name for name, expected, actual in digests if expected != actual]
    if not wrong:
        return []
    message = f"Its segments are right and its {' and '.join(wrong)} is not: the manifest is wrong."
    return [Finding("manifest-damaged", message, entry.path)]
