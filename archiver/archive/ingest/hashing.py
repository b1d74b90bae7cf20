"""The digests of a file on its way in, each on a thread of its own, so that reading goes on meanwhile.

SHA-256 is serial: it takes three quarters of a second for each gigabyte, and no other thread can help.
So the thread that reads does nothing else, and whoever is the last to need a buffer gives it back.
"""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, NamedTuple

from blake3 import blake3

from archiver.digest import git_blob_hasher

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from archiver.buffers import BufferPool, Bytes

_THREADS_FROM: Final = 4 << 20
"""A smaller file is hashed by the thread that reads it: threads would cost more than they save."""


class SharedBuffer:
    """A buffer of a pool that several threads read; the last one gives it back."""

    def __init__(self, pool: BufferPool, users: int) -> None:
        """Take a buffer, which is given back once it was released ``users`` times."""
        self._pool = pool
        self._users = users
        self._lock = threading.Lock()
        self.data: Bytes = pool.take()

    def release(self, users: int = 1) -> None:
        """Need the buffer no more, for so many of its users."""
        with self._lock:
            self._users -= users
            last = not self._users
        if last:
            self._pool.give_back(self.data)


class FileDigests(NamedTuple):
    """What a file's bytes are called; ``oid`` is ``""`` where nobody asked for git's."""

    sha256: str
    blake3: str
    oid: str


class FileHasher:
    """Hashes one file, whose bytes come in order."""

    def __init__(self, size: int, *, with_oid: bool) -> None:
        """Hash a file of ``size`` bytes, with git's object id if it is asked for."""
        self._sha256 = hashlib.sha256()
        self._blake3 = blake3()
        self._oid = git_blob_hasher(size) if with_oid else None
        threads = 2 if size >= _THREADS_FROM else 0
        self._threads = [ThreadPoolExecutor(1, thread_name_prefix="hash") for _ in range(threads)]
        self._failure: BaseException | None = None

    @property
    def users(self) -> int:
        """How often each buffer is released here."""
        return len(self._threads)

    def update(self, views: Sequence[memoryview], buffer: SharedBuffer) -> None:
        """Hash the next bytes, which lie in ``buffer``, and release it."""
        jobs = (self._update_sha256, self._update_others)
        if not self._threads:
            for job in jobs:
                job(views)
            return
        for thread, job in zip(self._threads, jobs, strict=True):
            thread.submit(self._run, job, views, buffer)

    def _run(
        self,
        job: Callable[[Sequence[memoryview]], None],
        views: Sequence[memoryview],
        buffer: SharedBuffer,
    ) -> None:
        try:
            job(views)
        except BaseException as error:  # noqa: BLE001 - raised by whoever asks for the digests
            self._failure = error
        finally:
            buffer.release()

    def _update_sha256(self, views: Sequence[memoryview]) -> None:
        for view in views:
            self._sha256.update(view)

    def _update_others(self, views: Sequence[memoryview]) -> None:
        for view in views:
            self._blake3.update(view)
            if self._oid is not None:
                self._oid.update(view)

    def close(self) -> None:
        """Return once no buffer is in use here any more."""
        for thread in self._threads:
            thread.shutdown(wait=True)

    def digests(self) -> FileDigests:
        """Return the digests of all that came."""
        self.close()
        if self._failure is not None:
            raise self._failure
        oid = self._oid.hexdigest() if self._oid is not None else ""
        return FileDigests(self._sha256.hexdigest(), self._blake3.hexdigest(), oid)
