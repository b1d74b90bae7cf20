"""What a filesystem may lack, and how an archive does without it.

An archive may lie on exFAT, FAT or NTFS, on a network share, below FUSE. What only protects from
accidents (modes) or from doing work twice (locks) is left out where the system refuses it. What a
power cut may lose (folders that cannot be synced) is left out too, and said: ``limits_of``. An input
or output error is never left out: it says that the medium failed.

What is made in an archive belongs to whom its folder belongs to, and may be used by whom may use the
folder: else one run by root, or by one of a group, would lock the others out.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import re
import stat
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_UNSUPPORTED: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
_NO_MODES: Final = _UNSUPPORTED | {errno.EPERM, errno.EACCES, errno.EROFS}
_NO_LOCKS: Final = _UNSUPPORTED | {errno.ENOLCK}
_ONE_MACHINE: Final = frozenset(
    {
        *("bcachefs", "btrfs", "ecryptfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "fuseblk"),
        *("hfs", "hfsplus", "jfs", "msdos", "nilfs2", "ntfs", "ntfs3", "overlay", "ramfs"),
        *("reiserfs", "squashfs", "tmpfs", "ubifs", "udf", "vfat", "xfs", "zfs"),
    }
)
"""Types of filesystems on which only this machine's kernel works: it knows every lock there is."""
_SHARED: Final = 0o077
"""What a group and everybody may do."""


class Limit(StrEnum):
    """Something that most filesystems have and this one has not."""

    FOLDER_SYNC = "folder-sync"
    """Names cannot be made durable: what was published last may be gone after a power cut."""
    LOCKS = "locks"
    """No ``flock``: two runs of one plan at a time are not kept apart."""


def limits_of(root: Path) -> frozenset[Limit]:
    """Return what the filesystem of the folder ``root`` has not; asked of it, without writing anything."""
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        limits = set() if _sync(handle) else {Limit.FOLDER_SYNC}
        if not try_lock(handle, fcntl.LOCK_SH):
            limits.add(Limit.LOCKS)
    except BlockingIOError:
        return frozenset(limits)  # somebody holds such a lock
    finally:
        os.close(handle)
    return frozenset(limits)


def has_range_locks(path: Path) -> bool:
    """Return whether SQLite's kind of lock works on the filesystem of the file ``path``; True if unknown.

    No file may be asked that somebody in this process has locked so: closing it would unlock it.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return True
    try:
        fcntl.lockf(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _NO_LOCKS
    finally:
        os.close(handle)
    return True


def try_lock(handle: int, kind: int = fcntl.LOCK_EX) -> bool:
    """Take the lock of an open file; return False where the filesystem has none.

    Raise BlockingIOError if another has it.
    """
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    return True


@functools.cache
def is_of_one_machine(folder: Path) -> bool:
    """Return whether nobody but this machine writes to the filesystem of ``folder``; False if not known.

    Containers of one machine count as that machine, whatever their names are.
    """
    path, best, kind = os.path.realpath(folder), "", ""
    for point, mounted in mounts():
        inside = path == point or path.startswith(f"{point.rstrip('/')}/")
        if inside and len(point) >= len(best):
            best, kind = point, mounted
    return kind in _ONE_MACHINE


def mounts_below(folder: Path) -> list[str]:
    """Return the paths below ``folder``, relative to it, at which something is mounted; empty if not known.

    Also where that is a folder of the same disk (``mount --bind``): nothing can be renamed into it.
    """
    above = f"{os.path.realpath(folder).rstrip('/')}/"
    return [point.removeprefix(above) for point, _ in mounts() if point.startswith(above)]


def mounts() -> list[tuple[str, str]]:
    """Return the mount points, each with the type of its filesystem; empty if the system tells none."""
    points = []
    try:
        # The bytes of a path are what the system gives, whatever the locale is.
        with open("/proc/self/mountinfo", "rb") as file:  # noqa: PTH123 - no Path of /proc
            for line in file:
                before, _, after = line.partition(b" - ")
                point = re.sub(
                    rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), before.split(b" ")[4]
                )
                points.append((os.fsdecode(point), os.fsdecode(after.split()[0])))
    except (OSError, IndexError):
        return []
    return points


def sync_folder(folder: Path) -> None:
    """Make the entries of ``folder`` durable, where the filesystem can do that."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _sync(handle)
    finally:
        os.close(handle)


def _sync(handle: int) -> bool:
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        return False
    return True


def free_bytes(folder: Path) -> int | None:
    """Return the room for new files on the disk of ``folder``, in bytes; None if the disk does not tell.

    Some network and FUSE filesystems say that they have no blocks at all: that is no full disk.
    """
    try:
        info = os.statvfs(folder)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return None
        raise
    return info.f_bavail * info.f_frsize if info.f_blocks else None


def make_read_only(handle: int) -> None:
    """Take the right to write an open file away, from its owner as well, where modes can be set."""
    _set_mode(handle, 0o444)


def shared_mode(mode: int, folder: Path) -> int:
    """Return the access that a new file below ``folder`` has: ``mode`` is its owner's, such as 0o600."""
    try:
        like = folder.stat().st_mode
    except OSError:
        return mode
    return mode | ((mode >> 3 | mode >> 6) & _SHARED & like)


def follow(handle: int, folder: Path, mode: int) -> None:
    """Let an open file, or folder, belong to whom ``folder`` belongs to, with the same access.

    The owner can be given by root only, a group by who is in it. Where the group cannot be given, the
    own one gets no right to write.

    Args:
        handle: What was just made.
        folder: The archive's own folder.
        mode: What the owner may do: 0o600 for a file, 0o700 for a folder.
    """
    like, made = folder.stat(), os.fstat(handle)
    bits = mode | ((mode >> 3 | mode >> 6) & _SHARED & like.st_mode)
    if stat.S_ISDIR(made.st_mode):
        bits |= like.st_mode & stat.S_ISGID
    owner = like.st_uid if os.geteuid() == 0 else made.st_uid
    if (owner, like.st_gid) != (made.st_uid, made.st_gid) and not _give(handle, owner, like.st_gid):
        bits &= ~stat.S_IWGRP
    may = os.geteuid() in {0, made.st_uid}
    if may and stat.S_IMODE(made.st_mode) & ~stat.S_ISVTX != bits:
        _set_mode(handle, bits)


def open_working_file(path: Path, flags: int, folder: Path) -> int:
    """Open the file ``path``, which several runs share; it is made, as ``folder`` is, if there is none.

    One that is there is opened without O_CREAT, which Linux forbids in a sticky folder for a file of
    somebody else. Returns a handle.
    """
    flags |= os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            pass
        try:
            handle = os.open(path, flags | os.O_CREAT | os.O_EXCL, shared_mode(0o600, folder))
        except FileExistsError:
            continue
        follow(handle, folder, 0o600)
        return handle


def follow_folder(folder: Path, root: Path) -> None:
    """``follow`` for a folder that was just made below ``root``."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        follow(handle, root, 0o700)
    finally:
        os.close(handle)


def _give(handle: int, owner: int, group: int) -> bool:
    try:
        os.fchown(handle, owner, group)
    except OSError as error:
        if error.errno not in _NO_MODES:
            raise
        return False
    return True


def _set_mode(handle: int, mode: int) -> None:
    try:
        os.fchmod(handle, mode)
    except OSError as error:
        if error.errno not in _NO_MODES:
            raise
