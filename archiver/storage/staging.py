"""Files of a local store that are being written, and those whose writer died before it published them.

A file is published by the sequence: exclusive temporary file on the same filesystem, write, fsync,
read-only mode, rename, fsync of the folder. What this cannot promise: a disk that acknowledges a flush
which it has not done, and filesystems where rename is not atomic.

A writer holds the lock of its file for as long as it lives, whatever this machine is called meanwhile:
a container has another name each time. So a free lock says that the writer is dead, wherever this
machine's kernel knows every lock. On a network's disk, or one without locks, a file of another
machine may have a living writer; it counts as dead once nothing was written to it for a week.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import mmap
import os
import re
import secrets
import socket
from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.digest import blake3_hex
from archiver.storage.direct import DirectFile
from archiver.storage.files import (
    EarlySync,
    LocalReader,
    explain,
    folders_above,
    make_folder,
    require_no_links,
    same_bytes,
    sync_up,
)
from archiver.storage.filesystem import (
    follow,
    is_of_one_machine,
    make_read_only,
    shared_mode,
    try_lock,
)
from archiver.storage.store import check_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_log = logging.getLogger(__name__)

TMP: Final = "tmp"
UNLOCKED: Final = "-unlocked"
"""Ends the name of a working file where the filesystem has no locks: nobody knows if its writer lives."""
_ABANDONED_SECONDS: Final = 7 * 86400
"""Seconds after which a file that nobody wrote to has no living writer, where no lock can say so."""
_COPIED: Final = 1 << 20
"""Bytes that are copied to where they are aligned, and written at once: they stay in the core's cache."""
_TOKEN_LENGTH: Final = 20
"""Of the last part of a name: 8 digits at random, 8 of the machine's start, 4 of the namespace."""


def host() -> str:
    """Return this machine's name, as a part of the name of a file."""
    return "".join(c for c in socket.gethostname().lower() if c.isalnum()) or "host"


@functools.cache
def machine_token() -> str:
    """Return this start of this machine, whatever its name, as 8 hexadecimal digits; zeros if not known."""
    return _short("/proc/sys/kernel/random/boot_id")


def process_token() -> str:
    """Return the machine, and the namespace of this process's number, as 12 hexadecimal digits."""
    try:
        space = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - it is a text, no path
    except OSError:
        return f"{machine_token()}0000"
    return f"{machine_token()}{blake3_hex(space.encode())[:4]}"


def _short(path: str) -> str:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - no Path of /proc
            return blake3_hex(file.read(64))[:8]
    except OSError:
        return "0" * 8


class LocalStaged:
    """A temporary file in ``tmp/``, locked for as long as its writer lives."""

    def __init__(
        self, root: Path, path: Path, handle: int | None, unsynced: set[Path] | None = None
    ) -> None:
        """Where ``unsynced`` is given, ``publish`` puts the folders there that are to be synced yet."""
        self._root = root
        self._unsynced = unsynced
        self.path = path
        self._handle = handle
        self._early = None if handle is None else EarlySync(handle)
        self._direct = None if handle is None else DirectFile(handle)
        self._size = 0
        self._durable = False
        """Whether nothing was written since the file was synced."""
        self._copy: mmap.mmap | None = None

    @classmethod
    def begin(cls, root: Path, purpose: str, unsynced: set[Path] | None = None) -> LocalStaged:
        """Begin a new file."""
        staged = cls(root, root / TMP, None, unsynced)
        require_no_links(root / TMP / purpose, root)
        try:
            make_folder(staged.path, root)
            while not staged._create(purpose):
                staged.abort()
        except OSError as error:
            staged.abort()
            raise explain(error, staged.path, "a new file was begun") from error
        _log.debug("staging %s", staged.path.name)
        return staged

    def _create(self, purpose: str) -> bool:
        """Create and lock the file; False if a run that looks for leftovers locked it first."""
        token = f"{secrets.token_hex(4)}{process_token()}"
        name = f"{purpose}-{host()}-{os.getpid()}-{token}"
        self.path = self._root / TMP / name
        mode = shared_mode(0o600, self._root)
        self._handle = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode)
        follow(self._handle, self._root, 0o600)
        try:
            if not try_lock(self._handle):
                # Whoever could lock it would take it for a dead run's.
                self.path = self.path.rename(self.path.with_name(f"{name}{UNLOCKED}"))
        except BlockingIOError:
            return False
        self._early = EarlySync(self._handle)
        self._direct = DirectFile(self._handle)
        # It may also have been discarded already, and the lock be free again.
        return os.fstat(self._handle).st_nlink > 0

    def write(self, *pieces: bytes | bytearray | memoryview) -> None:
        """Append ``pieces``; NoSpaceError when the disk is full."""
        assert self._handle is not None, "written after publish"
        assert self._direct is not None
        self._durable = False
        queue = [memoryview(piece).cast("B") for piece in pieces]
        blocks = self._direct.blocks(self._size, sum(map(len, queue)))
        end = self._size + blocks.stop
        try:
            self._write_cached(_next_bytes(queue, memoryview(bytearray(blocks.start))))
            while self._size < end:
                # Pieces lie anywhere in memory: they are copied to where they are aligned.
                self._copy = self._copy or mmap.mmap(-1, _COPIED)
                copy = _next_bytes(queue, memoryview(self._copy)[: min(_COPIED, end - self._size)])
                written = self._direct.write(self._size, copy)
                self._size += written
                self._write_cached(copy[written:])
            self._write_cached(queue[0] if len(queue) == 1 else b"".join(queue))
        except OSError as error:
            raise explain(error, self.path, "it was being written") from error

    def _write_cached(self, data: bytes | memoryview) -> None:
        assert self._handle is not None
        assert self._early is not None
        self._early.wrote(len(data))
        view = memoryview(data)
        while view:
            written = os.pwrite(self._handle, view, self._size)
            view, self._size = view[written:], self._size + written

    def cut(self, size: int) -> None:
        """Keep the first ``size`` bytes, and write on from there."""
        assert self._handle is not None, "cut after publish"
        self._durable = False
        try:
            os.ftruncate(self._handle, size)
            self._size = size
        except OSError as error:
            raise explain(error, self.path, "it was being cut") from error

    def reader(self) -> LocalReader:
        """Open what was written so far. It is durable, so that ``fresh`` can read it from the medium."""
        assert self._handle is not None, "read after publish"
        assert self._early is not None
        try:
            self._make_durable(self._early, self._handle)
            return LocalReader(self.path)
        except OSError as error:
            raise explain(error, self.path, "it was to be read back") from error

    def publish(self, name: str) -> None:
        """Make the file durable and then visible under ``name``."""
        assert self._handle is not None, "published twice"
        final = self._root / check_name(name)
        assert self._early is not None
        require_no_links(final, self._root)
        try:
            self._make_durable(self._early, self._handle)
            if self._is_there(final):
                self.abort()
                self._sync_name(final)
                _log.debug("%s is there already", name)
                return
            make_read_only(self._handle)
            make_folder(final.parent, self._root)
            self.path.rename(final)
            self._sync_name(final)
        except OSError as error:
            raise explain(error, final, "it was being published") from error
        _log.info("published %s", name)
        self._close()

    def _make_durable(self, early: EarlySync, handle: int) -> None:
        """Sync the file. An error is final: the kernel may already have dropped the dirty pages."""
        if self._durable:
            return
        try:
            early.finish()
            os.fsync(handle)
            self._durable = True
        except OSError:
            self.abort()
            raise

    def _sync_name(self, final: Path) -> None:
        if self._unsynced is None:
            sync_up(final, self._root)
        else:
            self._unsynced.update(folders_above(final, self._root))

    def _is_there(self, final: Path) -> bool:
        """Return whether ``final`` holds these very bytes; if others, it is damaged, and replaced."""
        assert self._handle is not None
        try:
            other = LocalReader(final)
        except FileNotFoundError:
            return False
        try:
            return same_bytes(self._handle, other)
        finally:
            other.close()

    def keep(self) -> None:
        """Leave the file for the next run, which looks at every object in it."""
        if self._handle is None or self._early is None:
            return
        try:
            self._early.finish()
        except OSError:
            self.abort()
            return
        with contextlib.suppress(OSError):
            # It may have become read-only before its name could be given.
            follow(self._handle, self._root, 0o600)
        self._close()

    def abort(self) -> None:
        """Remove the temporary file, if it is still there."""
        if self._handle is not None:
            self._close()
            with contextlib.suppress(OSError):
                self.path.unlink()

    def _close(self) -> None:
        if self._early is not None:
            with contextlib.suppress(OSError):
                self._early.finish()
        if self._direct is not None:
            self._direct.close()
        self._copy = None
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def _next_bytes(queue: list[memoryview], out: memoryview) -> memoryview:
    """Return ``out``, filled with the next bytes of ``queue``, which has as many."""
    done = 0
    while done < len(out):
        piece = queue[0][: len(out) - done]
        out[done : done + len(piece)] = piece
        done += len(piece)
        queue[0] = queue[0][len(piece) :]
        if not queue[0]:
            del queue[0]
    return out


class LocalLeftover:
    """A temporary file whose writer is dead; its lock is held here, where there are locks.

    Attributes:
        name: Its name in ``tmp/``.
        size: In bytes.
        idle: Seconds since it was last written to, by the disk's own clock.
    """

    def __init__(self, root: Path, path: Path, handle: int) -> None:
        self.name = path.name
        info = os.fstat(handle)
        self.size = info.st_size
        self.idle = _idle(root, info)
        self._root = root
        self._path = path
        self._handle = handle

    def reader(self) -> LocalReader:
        """Open it for ranged reads."""
        return LocalReader(self._path)

    def resume(self, size: int) -> LocalStaged:
        """Go on writing it after its first ``size`` bytes, under the lock that is held."""
        staged = LocalStaged(self._root, self._path, self._handle)
        staged.cut(size)
        self._handle = -1
        return staged

    def discard(self) -> None:
        """Remove it."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        self.release()

    def release(self) -> None:
        """Give its lock back."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


class _TemporaryName(NamedTuple):
    """What the name of a temporary file says of its writer."""

    host: str
    pid: int
    token: str
    unlocked: bool

    @property
    def is_since_boot(self) -> bool:
        """Return whether it was written since this machine started, under whatever name."""
        return len(self.token) == _TOKEN_LENGTH and self.token[8:16] == machine_token()

    @property
    def writer_is_gone(self) -> bool:
        """Return whether its writer had a number that no process has any more."""
        if len(self.token) != _TOKEN_LENGTH or self.token[8:] != process_token():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):
            return False
        return False


def _parse_name(name: str, purpose: str) -> _TemporaryName | None:
    pattern = rf"{re.escape(purpose)}-([a-z0-9]+)-([0-9]+)-([0-9a-z]+)({re.escape(UNLOCKED)})?"
    match = re.fullmatch(pattern, name)
    return match and _TemporaryName(match[1], int(match[2]), match[3], bool(match[4]))


def _claim(root: Path, path: Path, name: _TemporaryName) -> LocalLeftover | None:
    """Return the leftover at ``path``, locked; None while its writer may live or when it is gone."""
    try:
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        handle = os.open(path, flags)
    except OSError:
        return None
    try:
        locked = try_lock(handle)
        info = os.fstat(handle)
        # Between open and lock its writer may have published it, or another run discarded it.
        there = os.path.samestat(info, path.stat(follow_symlinks=False))
    except OSError:
        there = False
    if there and locked and not name.unlocked:
        dead = name.host == host() or name.is_since_boot or is_of_one_machine(root)
    else:
        dead = there and name.writer_is_gone
    if not there or not (dead or _idle(root, info) > _ABANDONED_SECONDS):
        os.close(handle)
        return None
    return LocalLeftover(root, path, handle)


def _idle(root: Path, info: os.stat_result) -> float:
    """Return the seconds from the last writing of a file to the last change of the folder that it lies in.

    Both are told by the clock of the disk's own machine. Whoever is about to write has changed it.
    """
    return (root / TMP).stat().st_mtime - info.st_mtime


def leftovers(root: Path, purpose: str) -> Iterator[LocalLeftover]:
    """Give the files in ``tmp/`` that a dead process began, each locked."""
    for path in sorted((root / TMP).glob(f"{purpose}-*")):
        name = _parse_name(path.name, purpose)
        leftover = name and _claim(root, path, name)
        if leftover:
            yield leftover
