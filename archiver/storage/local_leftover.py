"""Files of a local store whose writer died before it published them.

A writer holds the lock of its file for as long as it lives, whatever this machine is called meanwhile:
a container has another name each time. So a free lock says that the writer is dead, wherever this
machine's kernel knows every lock. On a network's disk, or one without locks, a file of another
machine may have a living writer; it counts as dead once nothing was written to it for a week.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.storage.filesystem import is_of_one_machine, try_lock
from archiver.storage.local_reader import LocalReader
from archiver.storage.local_staged import (
    TMP,
    UNLOCKED,
    LocalStaged,
    host,
    machine_token,
    process_token,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FORGOTTEN: Final = 7 * 86400
"""Seconds after which a file that nobody wrote to has no living writer, where no lock can say so."""
_TOKEN_LENGTH: Final = 20
"""Of the last part of a name: 8 digits at random, 8 of the machine's start, 4 of the namespace."""


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


class _Name(NamedTuple):
    """What the name of a temporary file says of its writer."""

    host: str
    pid: int
    token: str
    unlocked: bool

    @property
    def is_of_this_start(self) -> bool:
        """Whether it was written since this machine started, under whatever name."""
        return len(self.token) == _TOKEN_LENGTH and self.token[8:16] == machine_token()

    @property
    def is_gone(self) -> bool:
        """Whether its writer had a number that no process has any more."""
        if len(self.token) != _TOKEN_LENGTH or self.token[8:] != process_token():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):
            return False
        return False


def _named(name: str, purpose: str) -> _Name | None:
    pattern = rf"{re.escape(purpose)}-([a-z0-9]+)-([0-9]+)-([0-9a-z]+)({re.escape(UNLOCKED)})?"
    found = re.fullmatch(pattern, name)
    return found and _Name(found[1], int(found[2]), found[3], bool(found[4]))


def _claim(root: Path, path: Path, name: _Name) -> LocalLeftover | None:
    """The leftover at ``path``, locked; None while its writer may live or when it is gone."""
    try:
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        handle = os.open(path, flags)
    except OSError:
        return None
    try:
        locked = try_lock(handle)
        # Between open and lock its writer may have published it, or another run discarded it.
        there = os.path.samestat(os.fstat(handle), path.stat(follow_symlinks=False))
    except OSError:
        there = False
    if there and locked and not name.unlocked:
        there = name.host == host() or name.is_of_this_start or is_of_one_machine(root)
        there = there or _idle(root, os.fstat(handle)) > _FORGOTTEN
    elif there:
        there = name.is_gone or _idle(root, os.fstat(handle)) > _FORGOTTEN
    if not there:
        os.close(handle)
        return None
    return LocalLeftover(root, path, handle)


def _idle(root: Path, info: os.stat_result) -> float:
    """Seconds from the last writing of a file to the last change of the folder that it lies in.

    Both are told by the clock of the disk's own machine. Whoever is about to write has changed it.
    """
    return (root / TMP).stat().st_mtime - info.st_mtime


def leftovers(root: Path, purpose: str) -> Iterator[LocalLeftover]:
    """Files in ``tmp/`` that a dead process began, each locked."""
    for path in sorted((root / TMP).glob(f"{purpose}-*")):
        name = _named(path.name, purpose)
        found = name and _claim(root, path, name)
        if found:
            yield found
