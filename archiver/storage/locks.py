"""A lock that one run holds against another of the same kind, and that dies with its process.

``flock`` on a working file. Some network filesystems grant it to everyone: then two runs do the same
work twice, which costs time and harms nothing, for adding to an archive needs no lock.

Where a filesystem has no such locks at all, whoever adds goes on without. Whoever deletes must not: a
file that can only be made once stands in. It does not die with its process, so after kill -9 a person
has to delete it, as the error says.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import socket
from typing import TYPE_CHECKING, Final, Self

import msgspec

from archiver.errors import DeniedError, LockedError
from archiver.storage.files import explain
from archiver.storage.filesystem import follow, open_working_file, shared_mode, try_lock
from archiver.text import utc_now

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger(__name__)

_HOLDER_MAX: Final = 4096
_STAND_IN: Final = ".held"
"""Ends the name of the file that stands in for a lock."""


class _Holder(msgspec.Struct, frozen=True):
    """Who holds a lock."""

    pid: int
    host: str
    since: str


class RunLock:
    """Held from ``with`` on; ``what`` names the run in an error, as in ``The plan nightly``.

    Raise LockedError on entry if another process holds it.

    Args:
        path: A working file in the archive's ``tmp/``.
        what: What is run.
        needed: Whether the run must not go on where the filesystem has no locks.

    Attributes:
        protects: Whether it keeps another run out; False where there are no locks and none is needed.
    """

    def __init__(self, path: Path, what: str, *, needed: bool = False) -> None:
        self._path = path
        self._archive = path.parents[1]
        self._what = what
        self._needed = needed
        self._handle = -1
        self._stand_in: Path | None = None
        self.protects = True

    def __enter__(self) -> Self:
        try:
            # A link there would let the run empty whatever file it leads to.
            self._handle = open_working_file(self._path, os.O_RDWR, self._archive)
            follow(self._handle, self._archive, 0o600)
            self.protects = try_lock(self._handle)
            if self._needed:
                self._require_alone()
            self._sign(self._handle)
        except BlockingIOError:
            raise self._locked_error() from None
        except PermissionError as error:
            self._release()
            if not os.path.lexists(self._path):
                raise explain(error, self._path, "the lock was taken") from error
            raise self._foreign_error(error) from error
        except OSError as error:
            self._release()
            raise explain(error, self._path, "the lock was taken") from error
        _log.info("took the lock %s" if self.protects else "no lock for %s", self._path.name)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            os.ftruncate(self._handle, 0)
        if self._stand_in is not None:
            with contextlib.suppress(OSError):
                self._stand_in.unlink()
        self._release()

    def _release(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _require_alone(self) -> None:
        """Raise LockedError if another runs, also one to which the filesystem gave no lock."""
        path = self._path.with_name(f"{self._path.name}{_STAND_IN}")
        if self.protects:
            if path.exists():
                raise self._stand_in_error(path)
            return
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            handle = os.open(path, flags, shared_mode(0o600, self._archive))
        except FileExistsError:
            raise self._stand_in_error(path) from None
        self._stand_in, self.protects = path, True
        try:
            follow(handle, self._archive, 0o600)
            self._sign(handle)
        finally:
            os.close(handle)

    def _sign(self, handle: int) -> None:
        """Write who holds it. That only helps whoever waits: a full disk must not keep a run out."""
        holder = _Holder(os.getpid(), socket.gethostname(), utc_now())
        with contextlib.suppress(OSError):
            os.ftruncate(handle, 0)
            os.pwrite(handle, msgspec.json.encode(holder), 0)

    def _locked_error(self) -> LockedError:
        holder = _read_holder(self._handle)
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

    def _stand_in_error(self, path: Path) -> LockedError:
        """Return the error where the file that stands in is there: its run goes on, or was killed."""
        self._release()
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            holder = _read_holder(handle)
            os.close(handle)
            if holder is not None:
                return LockedError(
                    f"{self._what} is being run by process {holder.pid} on {holder.host} since "
                    f"{holder.since}, or that process was killed. This disk has no locks that tell.",
                    hint=f"Wait until it has ended. If there is no such process on {holder.host} any "
                    f"more: rm {shlex.quote(str(path))}",
                )
        return LockedError(
            f"{self._what} is being run by another process, or it was killed. This disk has no "
            "locks that tell.",
            hint=f"If none is running: rm {shlex.quote(str(path))}",
        )

    def _foreign_error(self, error: OSError) -> DeniedError:
        """Return the error where another user left the lock's file, as versions before this one did."""
        path, archive = shlex.quote(str(self._path)), shlex.quote(str(self._archive))
        return DeniedError(
            f"{self._path} cannot be opened: {os.strerror(error.errno or 0)}.",
            hint="It may be another user's, of an older run. Let root, or that user, give it to the "
            f"archive's owner: chown --reference={archive} {path}",
        )


def _read_holder(handle: int) -> _Holder | None:
    try:
        return msgspec.json.decode(os.pread(handle, _HOLDER_MAX, 0), type=_Holder)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
