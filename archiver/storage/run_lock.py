"""A lock that one run holds against another of the same kind, and that dies with its process.

``flock`` on a working file. Some network filesystems grant it to everyone: then two runs do the same
work twice, which costs time and harms nothing, for adding to an archive needs no lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from typing import TYPE_CHECKING, Self

import msgspec

from archiver.errors import LockedError
from archiver.storage.folders import explain
from archiver.text import utc_now

if TYPE_CHECKING:
    from pathlib import Path

_HOLDER_MAX = 4096


class _Holder(msgspec.Struct, frozen=True):
    """Who holds a lock."""

    pid: int
    host: str
    since: str


class RunLock:
    """Held from ``with`` on; ``what`` names the run in an error, as in ``The plan nightly``.

    Raises LockedError on entry if another process holds it.
    """

    def __init__(self, path: Path, what: str) -> None:
        self._path = path
        self._what = what
        self._handle = -1

    def __enter__(self) -> Self:
        try:
            # A link there would let the run empty whatever file it leads to.
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._handle = os.open(self._path, flags, 0o600)
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._sign()
        except BlockingIOError:
            raise self._taken() from None
        except OSError as error:
            self._release()
            raise explain(error, self._path, "the lock was taken") from error
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            os.ftruncate(self._handle, 0)
        self._release()

    def _release(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _sign(self) -> None:
        """Write who holds it. That only helps whoever waits: a full disk must not keep a run out."""
        me = _Holder(os.getpid(), socket.gethostname(), utc_now())
        with contextlib.suppress(OSError):
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, msgspec.json.encode(me), 0)

    def _taken(self) -> LockedError:
        holder = self._holder()
        self._release()
        if holder is None:
            return LockedError(
                f"{self._what} is being run by another process.", hint="Wait until it has ended."
            )
        return LockedError(
            f"{self._what} is being run by process {holder.pid} on {holder.host} since {holder.since}.",
            hint=f"Wait until it has ended, or end it with 'kill {holder.pid}' on {holder.host}: "
            "a run that was ended goes on where it stopped.",
        )

    def _holder(self) -> _Holder | None:
        try:
            return msgspec.json.decode(os.pread(self._handle, _HOLDER_MAX, 0), type=_Holder)
        except (OSError, msgspec.DecodeError):
            return None
