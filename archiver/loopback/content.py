"""The bytes of one file: held in memory or lying on disk, hashed once and only when asked for."""

from __future__ import annotations

import hashlib
import os
import threading
from typing import IO, TYPE_CHECKING

from archiver.digest import git_blob_hasher

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path

_SAMPLE = 64 * 1024
_BLOCK = 1024 * 1024


class Content:
    """A file's bytes, from memory or from a path.

    A path is never loaded as a whole, so that repositories of many gigabytes can be served; its
    digest is computed at the first listing that names it and remembered.
    """

    def __init__(self, source: bytes | Path) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._sha256 = ""
        self._git_oid = ""
        self.size = len(source) if isinstance(source, bytes) else source.stat().st_size

    @property
    def sha256(self) -> str:
        """The SHA-256 of the bytes, as an LFS pointer names them."""
        with self._lock:
            if not self._sha256:
                self._sha256 = self._digest(hashlib.sha256())
            return self._sha256

    @property
    def git_oid(self) -> str:
        """The git object id of the bytes, as a plain blob."""
        with self._lock:
            if not self._git_oid:
                self._git_oid = self._digest(git_blob_hasher(self.size))
            return self._git_oid

    def fingerprint(self) -> bytes:
        """A digest for commit ids: of everything when short, else of the size and both ends.

        A commit id must be known when a repository is created, and reading gigabytes to get it
        would make creation slow.
        """
        tail = max(0, self.size - _SAMPLE)
        hasher = hashlib.sha256(b"%d\x00" % self.size)
        hasher.update(self.read(0, min(self.size, _SAMPLE)))
        hasher.update(self.read(tail, self.size - tail))
        return hasher.digest()

    def read(self, start: int, length: int) -> bytes:
        """``length`` bytes from ``start``."""
        if isinstance(self._source, bytes):
            return self._source[start : start + length]
        with self._source.open("rb") as file:
            file.seek(start)
            return file.read(length)

    def send(self, to: socket.socket, start: int, lengths: Iterator[int]) -> Iterator[int]:
        """Send consecutive chunks of the given lengths from ``start``; yields what went out.

        Raises ConnectionError when the file on disk has become shorter than it was.
        """
        if isinstance(self._source, bytes):
            yield from _send_memory(to, memoryview(self._source), start, lengths)
            return
        with self._source.open("rb") as file:
            yield from _send_file(to, file, start, lengths)

    def _digest(self, hasher: hashlib._Hash) -> str:
        if isinstance(self._source, bytes):
            hasher.update(self._source)
            return hasher.hexdigest()
        with self._source.open("rb") as file:
            while block := file.read(_BLOCK):
                hasher.update(block)
        return hasher.hexdigest()


def _send_memory(
    to: socket.socket, data: memoryview, start: int, lengths: Iterator[int]
) -> Iterator[int]:
    for length in lengths:
        to.sendall(data[start : start + length])
        start += length
        yield length


def _send_file(
    to: socket.socket, file: IO[bytes], start: int, lengths: Iterator[int]
) -> Iterator[int]:
    for length in lengths:
        end = start + length
        while start < end:
            count = os.sendfile(to.fileno(), file.fileno(), start, end - start)
            if not count:
                raise ConnectionError("The served file has become shorter than it was listed.")
            start += count
            yield count
