"""Where restored files go: how one is written, and a plain folder of them.

The layout of a hub client's cache is another destination (``upstream/hub_cache.py``).

A file is written under a temporary name, checked, made durable, and only then given its name. A file that
is there already and right is kept. A wrong one is refused; or, if that was asked for, replaced once the new
one is whole, in one step. A folder is never replaced, nor anything that lies behind a link.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import stat
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from archiver.errors import (
    ArchiverError,
    DamageError,
    DeniedError,
    NoSpaceError,
    UnportableNameError,
    UsageError,
    explain_system_error,
)
from archiver.names import unportable
from archiver.storage.direct import BLOCK_ALIGN, DirectFile
from archiver.storage.files import EarlySync, name_new
from archiver.storage.filesystem import sync_folder, try_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from archiver.archive.records import FileEntry

_READ = 4 << 20
_NOT_A_NAME = {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ}
"""What a filesystem answers to a name that it cannot hold."""
_ELSEWHERE = (
    "The other files were restored. Restore this one with --file to another filesystem, such as ext4 or "
    "XFS, or to a folder with a shorter path; or into a plain folder under another name, with --rename."
)
_UNFINISHED: Final = re.compile(r"\.(?:archiver-)?[0-9a-f]{16}\.part")
"""The name of an unfinished file; without the word in the middle, that of a version before."""


def unfinished_name() -> str:
    """Return a name for an unfinished file, which no other has."""
    return f".archiver-{secrets.token_hex(8)}.part"


def is_unfinished(name: str) -> bool:
    """Return whether a restore that is running, or was killed, left a file of this name."""
    return _UNFINISHED.fullmatch(name) is not None


def remove_unfinished(folder: Path) -> None:
    """Remove what restores that were killed left in a folder; what one is writing is locked, and stays."""
    try:
        left = [entry.path for entry in os.scandir(folder) if is_unfinished(entry.name)]
    except OSError:
        return  # it is not there yet; whoever writes into it says what else is wrong
    for path in left:
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if stat.S_ISREG(os.fstat(handle).st_mode) and try_lock(handle):
                    os.unlink(path)  # noqa: PTH108 - a text from the folder's own listing
            finally:
                os.close(handle)


def _address_of(data: memoryview) -> int:
    import numpy as np  # noqa: PLC0415 - lists and other quick commands do without

    return int(np.frombuffer(data, np.uint8).ctypes.data)


class Writer:
    """An unfinished file. ``accept`` gives it its name; otherwise nothing is left of it."""

    def __init__(self, path: Path, *, replace: bool = False) -> None:
        """``replace``: whatever file or link has the name by then loses it."""
        self.path = path
        self._replace = replace
        self._end = 0
        # The system lets one thread at a time write to a file; the others spin, which costs more than
        # the write: 2.0 against 0.5 s of processor time a GB with four threads on ext4.
        self._writing = threading.Lock()
        while not self._begin():
            os.close(self._handle)
        self._early = EarlySync(self._handle)
        self._direct = DirectFile(self._handle)

    def _begin(self) -> bool:
        """Create and lock the file; return False if a run that removes unfinished ones was quicker."""
        # Not built from the file's name, which may be as long as a name can be.
        self._temporary = self.path.with_name(unfinished_name())
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW
        self._handle = os.open(self._temporary, flags, 0o666)
        try:
            if not try_lock(self._handle):
                return True  # no locks here: then nobody takes it for one that was left
        except BlockingIOError:
            return False
        return os.fstat(self._handle).st_nlink > 0

    def write(self, data: memoryview) -> None:
        """Append; raise NoSpaceError when the disk is full."""
        self.write_at(self._end, data)
        self._end += len(data)

    def write_at(self, offset: int, data: memoryview) -> None:
        """Write a stretch; threads may do so at once. Raise NoSpaceError when the disk is full."""
        try:
            body = self._direct.blocks(offset, len(data))
            if (_address_of(data) - offset) % BLOCK_ALIGN:
                body = slice(0, 0)
            end = body.start
            if body.stop > body.start:
                end += self._direct.write(offset + body.start, data[body])
            self._write_cached(offset, data[: body.start])
            self._write_cached(offset + end, data[end:])
        except OSError as error:
            error.filename = str(self.path)
            raise explain_system_error(error, "it was being restored") from error

    def _write_cached(self, offset: int, data: memoryview) -> None:
        with self._writing:
            self._early.wrote(len(data))
            while data:
                written = os.pwrite(self._handle, data, offset)
                data, offset = data[written:], offset + written

    def accept(self) -> None:
        """Make the file durable and give it its name; raise ExistingFileError if that is taken."""
        try:
            self._early.finish()
            os.fsync(self._handle)
            self._name()
            sync_folder(self.path.parent)
        except (FileExistsError, IsADirectoryError):
            raise ExistingFileError(self.path) from None
        except OSError as error:
            raise name_error(error, self.path, "it was being restored") from error

    def _name(self) -> None:
        if self._replace:
            self._temporary.rename(self.path)
            return
        name_new(self._temporary, self.path)

    def close(self) -> None:
        """Let go; an unaccepted file vanishes."""
        with contextlib.suppress(OSError):
            self._early.finish()
        self._direct.close()
        os.close(self._handle)
        with contextlib.suppress(FileNotFoundError):
            self._temporary.unlink()


class ExistingFileError(UsageError):
    """Something is there already, and is not the file to restore."""

    def __init__(self, path: Path, why: str = "is there already with other content") -> None:
        super().__init__(
            f"{path} {why}; it was not overwritten.",
            hint="Restore into another folder, move the file away, or let restore replace what is wrong "
            "with --overwrite.",
        )
        self.path = path


def require_replaceable(path: Path, root: Path) -> None:
    """Raise ExistingFileError unless a file or a link lies at ``path``, in folders below ``root``."""
    # Which links lead to the root is for whoever named it to judge.
    below = [folder for folder in path.parents if folder != root and folder.is_relative_to(root)]
    linked = next((folder for folder in below if folder.is_symlink()), None)
    if linked is not None:
        error = ExistingFileError(path, f"has other content, and lies behind the link {linked}")
    elif path.is_symlink() or path.is_file():
        return
    else:
        error = ExistingFileError(path, "is a folder, or no file")
    error.hint = "Move it away, or restore into another folder."
    raise error


def begin_file(path: Path, *, replace: bool = False) -> Writer:
    """Return a writer for ``path``, whose folders are created; it is to be closed."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return Writer(path, replace=replace)
    except OSError as error:
        raise name_error(error, path, f"{path} was to be restored") from error


@contextmanager
def writing(path: Path, *, replace: bool = False) -> Iterator[Writer]:
    """Yield a writer for ``path``, whose folders are created."""
    writer = begin_file(path, replace=replace)
    try:
        yield writer
    finally:
        writer.close()


def open_folder(folder: Path) -> None:
    """Make the folder to restore into; UsageError if it, or what it lies in, is a file."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UsageError(
            f"{folder} is not a folder, or lies below a file.",
            hint="Name a new or an existing folder.",
        ) from None
    except OSError as error:
        raise explain_system_error(error, f"{folder} was to be restored into") from error


def _is_there(path: Path, size: int) -> bool:
    """Return whether there is a file of this size; ExistingFileError if there is something else."""
    try:
        if not path.is_symlink() and not path.exists():
            return False
    except OSError as error:
        raise name_error(error, path, "it was looked for") from error
    if path.is_symlink() or not path.is_file() or path.stat().st_size != size:
        raise ExistingFileError(path)
    return True


def holds_pieces(path: Path, size: int, pieces: Iterator[memoryview]) -> bool:
    """Return whether ``path`` is already a file of these pieces; ExistingFileError if it is another."""
    if not _is_there(path, size):
        return False
    with path.open("rb") as file:
        if any(file.read(len(piece)) != piece for piece in pieces):
            raise ExistingFileError(path)
    return True


def holds(path: Path, entry: FileEntry, advance: Callable[[int], None]) -> bool:
    """Return whether ``path`` is already the file; ExistingFileError if it is there and something else.

    ``advance`` is told how many bytes were compared, and may raise to stop.
    """
    if not _is_there(path, entry.size):
        return False
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while data := file.read(_READ):
            digest.update(data)
            advance(len(data))
    if digest.hexdigest() != entry.sha256:
        raise ExistingFileError(path)
    return True


class Destination(Protocol):
    """Where a snapshot's files are put."""

    def path(self, entry: FileEntry, oid: str) -> Path:
        """Return where the bytes of ``entry`` go; ``oid`` is its git blob id if that is known."""

    def folders(self, entries: Iterable[FileEntry]) -> set[Path]:
        """Return the folders that files are written in."""

    def visible(self, entry: FileEntry) -> Path:
        """Return the name under which a reader finds the file."""

    def finish(self, entry: FileEntry, path: Path) -> None:
        """Do what is left to do once the bytes of ``entry`` are at ``path``."""


class PlainFolder:
    """Files under their own paths, or under others where they were renamed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._renamed: dict[str, str] = {}

    def rename(self, path: str, name: str) -> None:
        """Have the file ``path`` under another name from now on, also a path below the root."""
        self._renamed[path] = name
        remove_unfinished((self.root / name).parent)

    def path(self, entry: FileEntry, oid: str) -> Path:
        """Return the file's path below the root."""
        del oid
        return self.visible(entry)

    def visible(self, entry: FileEntry) -> Path:
        """Return the same."""
        return self.root / self._renamed.get(entry.path, entry.path)

    def folders(self, entries: Iterable[FileEntry]) -> set[Path]:
        """Return those of the files."""
        return {(self.root / entry.path).parent for entry in entries}

    def finish(self, entry: FileEntry, path: Path) -> None:
        """Do nothing: the file has its name."""


class NamesTaken:
    """Which names the files of one restore took: some filesystems give two paths the same one."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._unportable = unportable(paths)
        self._taken: dict[tuple[int, int], str] = {}

    @contextmanager
    def by(self, entry: FileEntry, target: Destination) -> Iterator[None]:
        """Restore a file in this; UnportableNameError if it cannot be there beside the others."""
        name = target.visible(entry)
        self._require_free(entry, name)
        try:
            yield
        except (NoSpaceError, DamageError, UnportableNameError):
            raise
        except ArchiverError as error:
            why = self._unportable.get(entry.path)
            if why is None or isinstance(error, DeniedError):
                raise
            raise UnportableNameError(f"{entry.path} {why}.", hint=_ELSEWHERE) from error
        self.take(entry, target)

    def may_clash(self, entry: FileEntry) -> bool:
        """Return whether a file must come after all others, because of its name."""
        return entry.path in self._unportable

    def take(self, entry: FileEntry, target: Destination) -> None:
        """Note that a file has its name."""
        place = _identity(target.visible(entry))
        if place is not None:
            self._taken[place] = entry.path

    def _require_free(self, entry: FileEntry, name: Path) -> None:
        place = _identity(name)
        other = self._taken.get(place) if place else None
        # Two names of one file may also be a person's hard links.
        if other is not None and not {entry.path, other}.isdisjoint(self._unportable):
            raise UnportableNameError(
                f"{entry.path} is the same name as {other} on this filesystem.", hint=_ELSEWHERE
            )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        info = path.lstat()
    except OSError:
        return None
    return info.st_dev, info.st_ino


def name_error(error: OSError, path: Path, what: str) -> ArchiverError:
    """Return the domain error of a name that could not be made."""
    if error.errno in _NOT_A_NAME:
        return UnportableNameError(
            f"This filesystem cannot hold the name {path} ({os.strerror(error.errno)}).",
            hint=_ELSEWHERE,
        )
    error.filename = str(path)
    return explain_system_error(error, what)
