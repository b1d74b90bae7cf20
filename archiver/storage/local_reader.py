"""Reading a stored file of the local filesystem."""

from __future__ import annotations

import contextlib
import errno
import os
import stat as stat_module
from typing import TYPE_CHECKING, Final

from archiver.errors import DamageError
from archiver.storage.folders import explain

if TYPE_CHECKING:
    from pathlib import Path

_PIECE: Final = 4 << 20
_UNREADABLE: Final = {errno.EIO, errno.EBADMSG, errno.EUCLEAN}
"""What a medium answers that has lost bytes."""


class LocalReader:
    """An open file, read with ``pread`` so that threads do not share a position."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Not blocking: what lies under the name may be a pipe.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        self._handle = os.open(path, flags)
        info = os.fstat(self._handle)
        if not stat_module.S_ISREG(info.st_mode):
            self.close()
            raise FileNotFoundError(errno.ENOENT, "not a regular file", str(path))
        self.size = info.st_size

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill ``buffer`` from ``offset`` on; fewer bytes only at the end of the file."""
        done = 0
        while done < len(buffer):
            try:
                got = os.preadv(self._handle, [buffer[done:]], offset + done)
            except OSError as error:
                if error.errno in _UNREADABLE:
                    raise DamageError(f"{self._path} cannot be read: {error.strerror}.") from error
                raise explain(error, self._path, "it was being read") from error
            if not got:
                break
            done += got
        return done

    def fresh(self) -> None:
        """Let the kernel forget what it has read of the file."""
        with contextlib.suppress(OSError):
            os.posix_fadvise(self._handle, 0, 0, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        """Release the file."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __del__(self) -> None:
        # Shared readers are closed by whoever lets go last.
        with contextlib.suppress(AttributeError):
            self.close()


def same_bytes(handle: int, other: LocalReader) -> bool:
    """Whether an open file and ``other`` hold the same; what cannot be read is not the same."""
    if os.fstat(handle).st_size != other.size:
        return False
    piece = bytearray(_PIECE)
    for at in range(0, other.size, _PIECE):
        mine = os.pread(handle, _PIECE, at)
        try:
            got = other.read_into(at, memoryview(piece)[: len(mine)])
        except DamageError:
            return False
        if piece[:got] != mine:
            return False
    return True
