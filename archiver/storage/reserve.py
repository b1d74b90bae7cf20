"""Room that is kept for a full disk, so that what frees some can begin.

Files of 32 KiB in ``tmp/reserve/``, 32 of them: a full disk may lack bytes or inodes. They are made where
there is plenty of both, and given up by whoever is about to delete. Nothing is ever stopped because they
cannot be made, and nobody misses them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from typing import TYPE_CHECKING, Final

from archiver.storage.filesystem import follow_folder, open_working_file

if TYPE_CHECKING:
    from pathlib import Path

_FOLDER: Final = "tmp/reserve"
_FILES: Final = tuple(f"{number:02}" for number in range(32))
_BYTES: Final = 32 << 10
"""Of each file."""
_PLENTY_BYTES: Final = 8 << 20
_PLENTY_INODES: Final = 256
"""With less room than this nothing is put by: it is wanted for other things."""
_NO_ROOM: Final = {errno.ENOSPC, errno.EDQUOT}


def hold_reserve(root: Path) -> None:
    """Make the reserve of the archive in ``root``, if it is not there and the disk has plenty of room."""
    folder = root / _FOLDER
    with contextlib.suppress(OSError):
        if _is_link(root) or len(os.listdir(folder)) >= len(_FILES):  # noqa: PTH208 - only a count
            return
    if not _has(root, _PLENTY_BYTES, _PLENTY_INODES):
        return
    try:
        # Nothing is synced: no power cut takes anything of it that is missed.
        if not folder.is_dir():
            folder.mkdir()
            follow_folder(folder, root)
        for name in _FILES:
            _fill(folder / name, root)
    except OSError:
        release_reserve(root)


def release_reserve(root: Path) -> None:
    """Give the reserve's room back."""
    folder = root / _FOLDER
    if _is_link(root):
        return
    for name in _FILES:
        with contextlib.suppress(OSError):
            (folder / name).unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()


def lacks_room(root: Path) -> bool:
    """Return whether the disk has not as much room left as the reserve has, or refuses to give any.

    A quota shows only where something is written.
    """
    if not _has(root, _BYTES * len(_FILES), len(_FILES)):
        return True
    probe = root / "tmp" / f"probe-room-{secrets.token_hex(8)}"
    try:
        handle = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError as error:
        return error.errno in _NO_ROOM
    try:
        os.write(handle, os.urandom(_BYTES))
    except OSError as error:
        return error.errno in _NO_ROOM
    finally:
        os.close(handle)
        with contextlib.suppress(OSError):
            probe.unlink()
    return False


def _is_link(root: Path) -> bool:
    return (root / "tmp").is_symlink() or (root / _FOLDER).is_symlink()


def _has(root: Path, size: int, inodes: int) -> bool:
    """Return whether so much is free, as far as the disk tells."""
    try:
        info = os.statvfs(root)
    except OSError:
        return True
    bytes_free = info.f_bavail * info.f_frsize >= size or not info.f_blocks
    return bytes_free and (info.f_favail >= inodes or not info.f_files)


def _fill(path: Path, root: Path) -> None:
    handle = open_working_file(path, os.O_WRONLY, root)
    try:
        if os.fstat(handle).st_size < _BYTES:
            # What a disk cannot make smaller, or store only once.
            os.pwrite(handle, os.urandom(_BYTES), 0)
    finally:
        os.close(handle)
