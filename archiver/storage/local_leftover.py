"""Files of a local store whose writer died before it published them."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

from archiver.storage.local_reader import LocalReader
from archiver.storage.local_staged import TMP, UNLOCKED, LocalStaged, host

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class LocalLeftover:
    """A temporary file of this machine whose lock is free: its writer is dead."""

    def __init__(self, root: Path, path: Path, handle: int) -> None:
        self.name = path.name
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


def _claim(root: Path, path: Path) -> LocalLeftover | None:
    """The leftover at ``path``, locked; None while its writer lives or when it is gone."""
    try:
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        handle = os.open(path, flags)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between open and lock its writer may have published it, or another run discarded it.
        there = os.path.samestat(os.fstat(handle), path.stat(follow_symlinks=False))
    except OSError:
        there = False
    if not there:
        os.close(handle)
        return None
    return LocalLeftover(root, path, handle)


def leftovers(root: Path, purpose: str) -> Iterator[LocalLeftover]:
    """Files in ``tmp/`` that a dead process of this machine began, each locked.

    Those of other machines are left alone: whether their writer lives cannot be known here. Nor where
    a filesystem has no locks.
    """
    for path in sorted((root / TMP).glob(f"{purpose}-{host()}-*")):
        found = None if path.name.endswith(UNLOCKED) else _claim(root, path)
        if found is not None:
            yield found
