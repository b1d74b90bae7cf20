"""Files and folders of this machine: shared readers, durable names, no way through links.

What a filesystem may lack for that is in ``filesystem``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
import secrets
import stat as stat_module
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from archiver.errors import (
    ArchiverError,
    DamageError,
    DeniedError,
    LinkedFolderError,
    UsageError,
    explain_system_error,
)
from archiver.storage.filesystem import follow_folder, sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


_PIECE: Final = 4 << 20
_SYNC_EVERY: Final = 64 << 20
"""Bytes after which a growing file is brought to the disk."""
_TOKEN: Final = 4
"""Bytes of chance in the name of a file that will replace another,"""
_TRIES: Final = 3
"""and how many names are tried."""
_UNREADABLE: Final = {errno.EIO, errno.EBADMSG, errno.EUCLEAN}
"""What a medium answers that has lost bytes."""


def explain(error: OSError, place: Path, what: str) -> ArchiverError:
    """Return the domain error that a system error stands for; ``what`` says what was being done."""
    return explain_system_error(
        OSError(error.errno, error.strerror or str(error), str(place)), what
    )


def folders_above(path: Path, root: Path) -> Sequence[Path]:
    """Return the folders that ``path`` lies in, from its own up to ``root``."""
    return path.parents[: len(path.parents) - len(root.parents)]


def require_no_links(path: Path, root: Path) -> None:
    """Raise LinkedFolderError if a folder below ``root`` that ``path`` lies in is a symbolic link.

    What is written or deleted through one lands outside the archive, or on a disk to which nothing
    can be renamed. The root itself may be a link: that is how its owner names it.
    """
    for folder in folders_above(path, root)[:-1]:
        if folder.is_symlink():
            raise LinkedFolderError(folder)


def require_same_disk(folder: Path, root: Path) -> None:
    """Raise LinkedFolderError if ``folder`` lies on another disk than ``root``, the archive's own folder.

    Files are made in one folder and get their names in another, by a rename, which no two disks allow.
    """
    try:
        same_disk = folder.stat().st_dev == root.stat().st_dev
    except OSError:
        return  # not there yet, or whoever needs it will say what is wrong
    if not same_disk:
        raise LinkedFolderError(folder)


def sync_up(path: Path, root: Path) -> None:
    """Make the name ``path`` durable, with all folders up to the root.

    A run that was killed may have made a folder and not synced it.
    """
    for folder in folders_above(path, root):
        sync_folder(folder)


def make_folder(folder: Path, root: Path) -> None:
    """Create ``folder`` and its missing parents so that they survive a crash.

    Those below ``root``, the archive's own folder, get its owner, group and access.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent, root)
    try:
        folder.mkdir()
    except FileExistsError:
        pass  # another run made it, or is about to say why it cannot
    else:
        if root in folder.parents:
            follow_folder(folder, root)
    sync_folder(folder.parent)


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
    """Return whether an open file and ``other`` hold the same; what cannot be read is not the same."""
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


class EarlySync:
    """Syncs the open file ``handle`` in a thread of its own, each time 64 MiB more were written.

    The system keeps written bytes in memory for half a minute. A gigabyte that is synced at the end makes
    its writer wait for as long as the disk takes, while it could have been written along the way.

    Several threads may write. It promises nothing: the one sync that counts is the writer's own, after
    ``finish``.
    """

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._pending = 0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._failure: OSError | None = None

    def wrote(self, count: int) -> None:
        """Note that ``count`` bytes were appended; raise OSError if an earlier sync failed."""
        with self._lock:
            self._pending += count
            if self._failure is not None:
                raise self._failure
            is_syncing = self._thread is not None and self._thread.is_alive()
            if self._pending >= _SYNC_EVERY and not is_syncing:
                self._pending = 0
                self._thread = threading.Thread(target=self._sync, name="early-sync", daemon=True)
                self._thread.start()

    def _sync(self) -> None:
        try:
            os.fdatasync(self._handle)
        except OSError as error:
            # Final: the kernel may have dropped what it could not write, and will not say so again.
            self._failure = error

    def finish(self) -> None:
        """Wait until nobody uses the handle; raise OSError if a sync failed."""
        if self._thread is not None:
            self._thread.join()
        if self._failure is not None:
            raise self._failure


def require_absent(path: Path) -> None:
    """Raise UsageError if there is something at ``path`` already."""
    if path.exists() or path.is_symlink():
        raise UsageError(f"{path} is there already.", hint="Choose another name.")


def require_outside(path: Path, archive: Path, hint: str) -> None:
    """Raise UsageError if ``path`` lies in ``archive``, where it would be one more file to ask about."""
    if path.resolve().is_relative_to(archive.resolve()):
        raise UsageError(f"{path} lies in the archive.", hint=hint)


def require_place(path: Path) -> None:
    """Check that ``path`` can be written later, as far as can be told now: for what takes long to make.

    Raises:
        UsageError: There is something already, or no folder for it.
        DeniedError: The folder may not be written to.
    """
    require_absent(path)
    if not path.parent.is_dir():
        raise UsageError(f"There is no folder for {path}.", hint="Make it first.")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise DeniedError(
            f"{path.parent} may not be written to.", hint="Name a file in another folder."
        )


def write_new(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write ``data`` to ``path`` durably: the whole of it is there, or nothing.

    Raise UsageError if there is something already, or no folder for it.
    """
    require_absent(path)
    try:
        _write_beside(path, data, mode, lambda new: name_new(new, path))
    except FileExistsError:
        raise UsageError(f"{path} is there already.", hint="Choose another name.") from None


def write_over(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` in the place of a file before, durably: one of the two is there whole.

    A link is followed. Raise UsageError if something else than a file is there, or no folder for it.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise UsageError(f"{path} is no file.", hint="Choose another name.")
    _write_beside(target, data, 0o666, lambda new: new.replace(target))


def name_new(temporary: Path, path: Path) -> None:
    """Give a whole file its name; raise FileExistsError if that is taken, and leave what is there."""
    try:
        os.link(temporary, path)
    except OSError:
        # Taken, or no hard links on this filesystem: then rename, after a last look.
        if os.path.lexists(path):
            raise FileExistsError from None
        temporary.rename(path)
    else:
        temporary.unlink()


def _write_beside(path: Path, data: bytes, mode: int, name: Callable[[Path], object]) -> None:
    """Write a file beside ``path``, make it durable, and have ``name`` give it its own name."""
    prefix = f".{path.name[:200]}-"
    try:
        _remove_abandoned(path.parent, prefix)
        new, handle = _begin_locked(path.parent, prefix, mode)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(handle)
                # Before the lock is let go of: until then nobody takes it for abandoned.
                name(new)
            sync_folder(path.parent)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
    except FileExistsError:
        raise
    except FileNotFoundError:
        raise UsageError(f"There is no folder for {path}.", hint="Make it first.") from None
    except OSError as error:
        raise explain_system_error(error, f"{path} was written") from error


def _remove_abandoned(folder: Path, prefix: str) -> None:
    """Delete what runs that were killed had begun: a lock that is free says that nobody writes there."""
    for path in folder.glob(f"{glob.escape(prefix)}{'[0-9a-f]' * (2 * _TOKEN)}"):
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(handle)


def _begin_locked(folder: Path, prefix: str, mode: int) -> tuple[Path, int]:
    """Return a new file and its handle, locked where the filesystem has locks."""
    for left in reversed(range(_TRIES)):
        path = folder / f"{prefix}{secrets.token_hex(_TOKEN)}"
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode)
        held = True
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held = False
        except OSError:
            break  # no locks here, for nobody
        # Before it was locked it looked abandoned: it may be deleted.
        if (held and os.fstat(handle).st_nlink) or not left:
            break
        os.close(handle)
    return path, handle
