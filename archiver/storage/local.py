"""A Store on a local filesystem.

A file is published by the sequence: exclusive temporary file on the same filesystem, write, fsync,
read-only mode, rename, fsync of the folder. What this cannot promise: a disk that acknowledges a flush
which it has not done, and filesystems where rename is not atomic.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import socket
import stat as stat_module
from typing import TYPE_CHECKING

from archiver.errors import ArchiverError, DamageError, explain_system_error
from archiver.storage.early_sync import EarlySync
from archiver.storage.store import check_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TMP = "tmp"
_PIECE = 4 << 20
_UNREADABLE = {errno.EIO, errno.EBADMSG, errno.EUCLEAN}
"""What a medium answers that has lost bytes."""
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
"""What a filesystem answers that has no hard links, or not so many."""


def explain(error: OSError, place: Path, what: str) -> ArchiverError:
    """The domain error that a system error stands for; ``what`` says what was being done."""
    return explain_system_error(
        OSError(error.errno, error.strerror or str(error), str(place)), what
    )


def sync_folder(folder: Path) -> None:
    """Make the entries of ``folder`` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Create ``folder`` and its missing parents so that they survive a crash."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
    sync_folder(folder.parent)


def _sync_up(path: Path, root: Path) -> None:
    """Make the name ``path`` durable, with all folders up to the root.

    A run that was killed may have made a folder and not synced it.
    """
    for folder in path.parents[: len(path.parents) - len(root.parents)]:
        sync_folder(folder)


def _host() -> str:
    return "".join(c for c in socket.gethostname().lower() if c.isalnum()) or "host"


class LocalStaged:
    """A temporary file in ``tmp/``, locked for as long as its writer lives."""

    def __init__(self, root: Path, path: Path, handle: int | None) -> None:
        self._root = root
        self.path = path
        self._handle = handle
        self._early = None if handle is None else EarlySync(handle)

    @classmethod
    def begun(cls, root: Path, purpose: str) -> LocalStaged:
        """A new file."""
        staged = cls(root, root / TMP, None)
        try:
            make_folder(staged.path)
            while not staged._begin(purpose):
                staged.abort()
        except OSError as error:
            staged.abort()
            raise explain(error, staged.path, "a new file was begun") from error
        return staged

    def _begin(self, purpose: str) -> bool:
        """Create and lock the file; False if a run that looks for leftovers locked it first."""
        name = f"{purpose}-{_host()}-{os.getpid()}-{secrets.token_hex(4)}"
        self.path = self._root / TMP / name
        self._handle = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self._early = EarlySync(self._handle)
        # It may also have been discarded already, and the lock be free again.
        return os.fstat(self._handle).st_nlink > 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append ``data``; NoSpaceError when the disk is full."""
        view = memoryview(data).cast("B")
        assert self._handle is not None, "written after publish"
        assert self._early is not None
        try:
            self._early.wrote(len(view))
            while view:
                view = view[os.write(self._handle, view) :]
        except OSError as error:
            raise explain(error, self.path, "it was being written") from error

    def cut(self, size: int) -> None:
        """Keep the first ``size`` bytes, and write on from there."""
        assert self._handle is not None, "cut after publish"
        try:
            os.ftruncate(self._handle, size)
            os.lseek(self._handle, size, os.SEEK_SET)
        except OSError as error:
            raise explain(error, self.path, "it was being cut") from error

    def reader(self) -> LocalReader:
        """What was written so far."""
        return LocalReader(self.path)

    def publish(self, name: str) -> None:
        """Make the file durable and then visible under ``name``."""
        assert self._handle is not None, "published twice"
        final = self._root / check_name(name)
        assert self._early is not None
        try:
            self._make_durable(self._early, self._handle)
            if self._is_there(final):
                self.abort()
                return
            os.fchmod(self._handle, 0o444)
            make_folder(final.parent)
            self.path.rename(final)
            _sync_up(final, self._root)
        except OSError as error:
            raise explain(error, final, "it was being published") from error
        self._close()

    def _make_durable(self, early: EarlySync, handle: int) -> None:
        """An error here is final: the kernel may already have dropped the dirty pages."""
        try:
            early.finish()
            os.fsync(handle)
        except OSError:
            self.abort()
            raise

    def _is_there(self, final: Path) -> bool:
        """Whether ``final`` holds these very bytes; if it holds others it is damaged, and replaced."""
        assert self._handle is not None
        try:
            other = LocalReader(final)
        except FileNotFoundError:
            return False
        try:
            return _same_bytes(self._handle, other)
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
            os.fchmod(self._handle, 0o600)
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
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def _link(path: Path, second: Path) -> None:
    try:
        os.link(path, second, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _copy(path, second)


def _copy(path: Path, second: Path) -> None:
    """What a filesystem without hard links allows: a second file, whole before it has its name."""
    if os.path.lexists(second):
        raise FileExistsError(errno.EEXIST, "there is such a file", str(second))
    part = second.with_name(f"{second.name}.{secrets.token_hex(4)}.part")
    try:
        with path.open("rb") as old, part.open("xb") as new:
            shutil.copyfileobj(old, new, _PIECE)
            new.flush()
            os.fsync(new.fileno())
        part.chmod(0o444)
        part.rename(second)
    finally:
        part.unlink(missing_ok=True)


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


def _same_bytes(handle: int, other: LocalReader) -> bool:
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


class LocalStore:
    """The Store on the folder ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def describe(self) -> str:
        """The folder's path."""
        return str(self.root)

    def stage(self, purpose: str) -> LocalStaged:
        """Begin a new file in ``tmp/``."""
        return LocalStaged.begun(self.root, purpose)

    def leftovers(self, purpose: str) -> Iterator[LocalLeftover]:
        """Files in ``tmp/`` that a dead process of this machine began.

        Those of other machines are left alone: whether their writer lives cannot be known here.
        """
        for path in sorted((self.root / TMP).glob(f"{purpose}-{_host()}-*")):
            found = _claim(self.root, path)
            if found is not None:
                yield found

    def scratch(self, name: str) -> Path:
        """A working file in ``tmp/``; its folder exists."""
        path = self.root / check_name(f"{TMP}/{name}")
        try:
            make_folder(path.parent)
        except OSError as error:
            raise explain(error, path, "a working file was begun") from error
        return path

    def put_new(self, name: str, data: bytes) -> bool:
        """Publish a small file; False if it was there."""
        if self.stat(name) is not None:
            return False
        staged = self.stage("put")
        try:
            staged.write(data)
            staged.publish(name)
        finally:
            staged.abort()
        return True

    def get(self, name: str, limit: int) -> bytes:
        """A whole file of at most ``limit`` bytes."""
        reader = self.open(name)
        try:
            if reader.size > limit:
                raise DamageError(
                    f"{self.root / name} is {reader.size} bytes long; at most {limit} can be right."
                )
            buffer = bytearray(reader.size)
            got = reader.read_into(0, memoryview(buffer))
            return bytes(buffer[:got])
        finally:
            reader.close()

    def open(self, name: str) -> LocalReader:
        """Open a file for ranged reads; FileNotFoundError if there is none."""
        try:
            return LocalReader(self.root / check_name(name))
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(errno.ENOENT, "no such stored file", name) from None
        except OSError as error:
            raise explain(error, self.root / name, "it was being opened") from error

    def link(self, name: str, other: str) -> None:
        """A second, durable name for a stored file."""
        path, second = self.root / check_name(name), self.root / check_name(other)
        self.open(name).close()
        try:
            make_folder(second.parent)
            _link(path, second)
            _sync_up(second, self.root)
        except FileExistsError:
            raise FileExistsError(errno.EEXIST, "there is such a file", other) from None
        except OSError as error:
            raise explain(error, path, f"it was to be kept as {other}") from error

    def move(self, name: str, other: str) -> None:
        """Another name for a stored file."""
        self.link(name, other)
        self.remove(name)

    def remove(self, name: str) -> None:
        """Delete a stored file."""
        path = self.root / check_name(name)
        try:
            path.unlink(missing_ok=True)
            if path.parent.is_dir():
                sync_folder(path.parent)
        except OSError as error:
            raise explain(error, path, "it was being deleted") from error

    def stat(self, name: str) -> int | None:
        """Size in bytes, or None."""
        try:
            info = (self.root / check_name(name)).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise explain(error, self.root / name, "it was looked for") from error
        return info.st_size if stat_module.S_ISREG(info.st_mode) else None

    def list(self, prefix: str) -> Iterator[str]:
        """Names of regular files below ``prefix``, sorted; foreign folders are passed over."""
        folder = self.root / check_name(prefix) if prefix else self.root
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise explain(error, folder, "it was being listed") from error
        for entry in entries:
            name = f"{prefix}/{entry.name}" if prefix else entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from self._list_inside(name)
            elif entry.is_file(follow_symlinks=False):
                yield name

    def _list_inside(self, name: str) -> Iterator[str]:
        try:
            check_name(name)
        except ArchiverError:
            return
        yield from self.list(name)

    def barrier(self) -> None:
        """Nothing to do: ``publish`` returns only when file and folder are durable."""

    def require_writable(self) -> None:
        """Begin a file and throw it away; ArchiverError that says why that cannot be done."""
        folder = self.root / TMP
        path = folder / f"probe-{_host()}-{os.getpid()}-{secrets.token_hex(4)}"
        try:
            make_folder(folder)
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            path.unlink()
        except OSError as error:
            if error.errno not in {errno.EROFS, errno.EACCES, errno.EPERM}:
                raise explain(error, path, "a working file was begun") from error
            raise ArchiverError(
                f"The archive {self.root} cannot be written to ({os.strerror(error.errno)}).",
                hint="Nothing was asked of upstream. Check the permissions, or whether the medium "
                "is mounted read-only.",
            ) from error

    def free_bytes(self) -> int:
        """Room left on the disk, in bytes."""
        info = os.statvfs(self.root)
        return info.f_bavail * info.f_frsize
