"""A Store on a local filesystem."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import stat as stat_module
import time
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.errors import ArchiverError, DamageError, LinkedFolderError, UnreadableError
from archiver.storage.files import (
    LocalReader,
    explain,
    folders_above,
    make_folder,
    require_no_links,
    require_same_disk,
    sync_up,
)
from archiver.storage.filesystem import (
    Limit,
    free_bytes,
    is_of_one_machine,
    limits_of,
    mounts_below,
    sync_folder,
)
from archiver.storage.reserve import hold_reserve, lacks_room, release_reserve
from archiver.storage.staging import TMP, LocalLeftover, LocalStaged, host, leftovers
from archiver.storage.store import FileStamp, check_name

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

_log = logging.getLogger(__name__)

_PIECE: Final = 4 << 20
_SETTLED: Final = 86_400_000_000_000
"""Nanoseconds after which a folder that was not changed is not listed twice."""
_LISTED_MAX: Final = 1 << 18
"""So many names are kept of such folders."""
_DENIED: Final = {errno.EACCES, errno.EPERM}
_NO_LINKS: Final = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
"""What a filesystem answers that has no hard links, or not so many."""


def _read_error(error: OSError, path: Path, what: str) -> ArchiverError:
    """Return the domain error for a stored file or folder that cannot be read."""
    explained = explain(error, path, what)
    if error.errno in _DENIED:
        return UnreadableError(explained.message, hint=explained.hint)
    return explained


def _is_name(name: str) -> bool:
    try:
        check_name(name)
    except ArchiverError:
        return False
    return True


_FolderStamp = tuple[int, int, int, int]
"""Of a folder: its device and number, when it was modified and changed, in nanoseconds."""


class _Listed(NamedTuple):
    """The names of the regular files and of the folders in a folder, sorted; and which are folders."""

    names: tuple[str, ...] = ()
    folders: frozenset[str] = frozenset()


def _scanned(folder: Path, above: str) -> _Listed:
    """Return what is in a folder; what is neither a file nor a folder is passed over."""
    entries = sorted(os.scandir(folder), key=attrgetter("name"))
    folders = {entry.name for entry in entries if entry.is_dir(follow_symlinks=False)}
    return _Listed(
        tuple(
            f"{above}{entry.name}"
            for entry in entries
            if entry.name in folders or entry.is_file(follow_symlinks=False)
        ),
        frozenset(f"{above}{name}" for name in folders),
    )


class ListedFolders:
    """What was in folders of one store that had not changed for a day: they need not be listed again.

    Who adds a file, or takes one away, changes the times of its folder. On some systems these have steps of
    seconds, and clocks differ by more: so only what is a day old can be told from what came later.
    """

    def __init__(self) -> None:
        self._folders: dict[str, tuple[_FolderStamp, _Listed]] = {}
        self._count = 0

    def known(self, prefix: str, stamp: _FolderStamp) -> _Listed | None:
        """Return what is in a folder with these times; None if it must be listed."""
        before, listed = self._folders.get(prefix, (None, None))
        return listed if before == stamp else None

    def add(self, prefix: str, stamp: _FolderStamp, listed: _Listed) -> None:
        """Note what was in a folder, which had these times before it was listed."""
        settled = max(stamp[2:]) < time.time_ns() - _SETTLED
        if settled and self._count + len(listed.names) <= _LISTED_MAX:
            before = self._folders.pop(prefix, None)
            self._count += len(listed.names) - (len(before[1].names) if before else 0)
            self._folders[prefix] = stamp, listed


class LocalStore:
    """The Store in the folder ``path`` of this machine."""

    def __init__(self, path: Path, *, deferred: bool = False) -> None:
        """Where names are ``deferred``, they become durable with the next ``barrier``, all at once.

        What a file holds is always durable before it has its name.
        """
        self.path = path
        self._listed = ListedFolders()
        self._unsynced: set[Path] | None = set() if deferred else None
        self._unreadable: dict[str, str] | None = None

    @property
    def address(self) -> str:
        """The folder's path."""
        return str(self.path)

    @property
    def folder(self) -> LocalStore:
        """This store: it is a folder of this machine."""
        return self

    def stage(self, purpose: str) -> LocalStaged:
        """Begin a new file in ``tmp/``."""
        return LocalStaged.begin(self.path, purpose, self._unsynced)

    def leftovers(self, purpose: str) -> Iterator[LocalLeftover]:
        """Give the files in ``tmp/`` that a dead process began."""
        return leftovers(self.path, purpose)

    def is_of_one_machine(self) -> bool:
        """Answer by the type of its filesystem."""
        return is_of_one_machine(self.path)

    def scratch(self, name: str) -> Path:
        """Return the path of a working file in ``tmp/``; its folder exists."""
        path = self.path / check_name(f"{TMP}/{name}")
        require_no_links(path, self.path)
        try:
            make_folder(path.parent, self.path)
        except OSError as error:
            raise explain(error, path, "a working file was begun") from error
        return path

    def replace_scratch(self, name: str, content: Callable[[int], bytes]) -> None:
        """Write a working file and give it the name."""
        path = self.path / check_name(name)
        staged = self.stage(path.name)
        try:
            staged.write(content(staged.path.lstat().st_mtime_ns))
            staged.path.replace(path)
            staged.keep()
        except OSError as error:
            raise explain(error, path, "a working file was being written") from error
        finally:
            staged.abort()

    def put_new(self, name: str, data: bytes) -> bool:
        """Publish a small file; False if it was there."""
        if self.stat(name) is not None:
            self._sync_name(self.path / name)
            return False
        staged = self.stage("put")
        try:
            staged.write(data)
            staged.publish(name)
        finally:
            staged.abort()
        return True

    def take_over(self, other: LocalStore, name: str) -> bool:
        """Give a durable file of another store on the same disk its name here; False if it was there."""
        final = self.path / check_name(name)
        there = self.stat(name) is not None
        require_no_links(final, self.path)
        try:
            if not there:
                make_folder(final.parent, self.path)
                (other.path / name).rename(final)
        except OSError as error:
            raise explain(error, final, "it was to get its name") from error
        self._sync_name(final)
        return not there

    def _sync_name(self, final: Path) -> None:
        if self._unsynced is None:
            self.barrier((final.relative_to(self.path).as_posix(),))
        else:
            self._unsynced.update(folders_above(final, self.path))

    def get(self, name: str, limit: int) -> bytes:
        """Return a whole file of at most ``limit`` bytes."""
        reader = self.open(name)
        try:
            if reader.size > limit:
                raise DamageError(
                    f"{self.path / name} is {reader.size} bytes long; at most {limit} can be right.",
                    path=name,
                )
            buffer = bytearray(reader.size)
            got = reader.read_into(0, memoryview(buffer))
            return bytes(memoryview(buffer)[:got])
        finally:
            reader.close()

    def open(self, name: str) -> LocalReader:
        """Open a file for ranged reads; FileNotFoundError if there is none."""
        _log.debug("reading %s", name)
        try:
            return LocalReader(self.path / check_name(name))
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(errno.ENOENT, "no such stored file", name) from None
        except OSError as error:
            raise _read_error(error, self.path / name, "it was being opened") from error

    def link(self, name: str, other: str) -> None:
        """Give a stored file a second, durable name."""
        path, second = self.path / check_name(name), self.path / check_name(other)
        require_no_links(second, self.path)
        reader = self.open(name)
        try:
            make_folder(second.parent, self.path)
            self._link(path, second, reader, other)
            sync_up(second, self.path)
            _log.info("linked %s as %s", name, other)
        except FileExistsError:
            raise FileExistsError(errno.EEXIST, "there is such a file", other) from None
        except OSError as error:
            raise explain(error, path, f"it was to be kept as {other}") from error
        finally:
            reader.close()

    def _link(self, path: Path, second: Path, reader: LocalReader, other: str) -> None:
        try:
            os.link(path, second, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if os.path.lexists(second):
                raise FileExistsError from None
            self._copy(reader, other)

    def _copy(self, reader: LocalReader, other: str) -> None:
        """Write a second file, whole before it has its name: what a filesystem without hard links allows.

        No rename either: there, a crash may take both names.
        """
        for leftover in self.leftovers("link"):
            leftover.discard()
        staged = self.stage("link")
        piece = memoryview(bytearray(min(_PIECE, reader.size)))
        try:
            for at in range(0, reader.size, _PIECE):
                staged.write(piece[: reader.read_into(at, piece)])
            staged.publish(other)
        finally:
            staged.abort()

    def move(self, name: str, other: str) -> None:
        """Give a stored file another name."""
        require_no_links(self.path / check_name(name), self.path)
        self.link(name, other)
        self.remove(name)

    def remove(self, name: str) -> None:
        """Delete a stored file."""
        path = self.path / check_name(name)
        require_no_links(path, self.path)
        try:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                path.unlink()
                sync_folder(path.parent)
                _log.info("removed %s", name)
        except OSError as error:
            raise explain(error, path, "it was being deleted") from error

    def tidy(self, prefix: str) -> None:
        """Remove empty folders."""
        require_no_links(self.path / check_name(prefix) / "any", self.path)
        for path in sorted((self.path / check_name(prefix)).rglob("*"), reverse=True):
            with contextlib.suppress(OSError):
                path.rmdir()  # refused for a file, and for a folder with something in it

    def stat(self, name: str) -> int | None:
        """Return the size in bytes, or None."""
        info = self._stat(name)
        return info and info.st_size

    def stamp(self, name: str) -> FileStamp | None:
        """Return size and times, or None."""
        info = self._stat(name)
        return info and FileStamp(info.st_size, info.st_mtime_ns, info.st_ctime_ns)

    def _stat(self, name: str) -> os.stat_result | None:
        """Return what the system says of a regular file, or None."""
        try:
            # No Path of each: a night looks at every event of the journal.
            info = os.lstat(f"{self.path}/{check_name(name)}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _read_error(error, self.path / name, "it was looked for") from error
        return info if stat_module.S_ISREG(info.st_mode) else None

    def list(self, prefix: str) -> Iterator[str]:
        """Give the names of regular files below ``prefix``, sorted; foreign folders are passed over."""
        # A list of whole folders: an archive's journal is listed dozens of times a night.
        names: builtins.list[str] = []
        self._list(prefix, names)
        return iter(names)

    def _list(self, prefix: str, names: builtins.list[str]) -> None:
        """Append the names of the files below a folder."""
        listed = self._entries(prefix)
        if not listed.folders:
            names += listed.names
            return
        for name in listed.names:
            if name not in listed.folders:
                names.append(name)
            elif _is_name(name):
                self._list(name, names)

    def _entries(self, prefix: str) -> _Listed:
        """Return the files and folders in a folder, sorted by name; nothing if there is none."""
        folder = self.path / check_name(prefix) if prefix else self.path
        try:
            info = folder.stat()
            stamp = info.st_dev, info.st_ino, info.st_mtime_ns, info.st_ctime_ns
            listed = self._listed.known(prefix, stamp)
            if listed is None:
                listed = _scanned(folder, f"{prefix}/" if prefix else "")
                self._listed.add(prefix, stamp, listed)
        except (FileNotFoundError, NotADirectoryError):
            return _Listed()
        except OSError as error:
            if prefix and self._unreadable is not None and error.errno in _DENIED:
                self._unreadable[prefix] = error.strerror or str(error)
                return _Listed()
            raise _read_error(error, folder, "it was being listed") from error
        return listed

    def pass_over_unreadable(self) -> None:
        """From now on, folders that may not be listed are noted instead of raised."""
        self._unreadable = {}

    def passed_over(self) -> Mapping[str, str]:
        """Return the folders that were passed over, each with the reason."""
        return dict(sorted((self._unreadable or {}).items()))

    def barrier(self, names: Iterable[str] = ()) -> None:
        """Sync the folders of ``names``: who published them may have died before it did so.

        For others there is nothing to do, unless names are deferred: ``publish`` returns only when file and
        folder are durable.
        """
        folders = {
            folder
            for name in names
            for folder in folders_above(self.path / check_name(name), self.path)
        }
        try:
            for folder in folders.union(self._unsynced or ()):
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    sync_folder(folder)
        except OSError as error:
            raise explain(error, self.path, "its folders were being synced") from error
        if self._unsynced is not None:
            self._unsynced.clear()

    def require_no_links(self, folders: Iterable[str]) -> None:
        """Raise LinkedFolderError if one of these folders is a link or on another disk."""
        names = set(folders)
        for name in sorted(names):
            require_no_links(self.path / check_name(name) / "any", self.path)
            require_same_disk(self.path / name, self.path)
        for mounted in mounts_below(self.path):
            if mounted.partition("/")[0] in names:
                raise LinkedFolderError(self.path / mounted)

    def require_writable(self) -> None:
        """Begin a file and throw it away; ArchiverError that says why that cannot be done."""
        folder = self.path / TMP
        path = folder / f"probe-{host()}-{os.getpid()}-{secrets.token_hex(4)}"
        try:
            make_folder(folder, self.path)
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            path.unlink()
        except OSError as error:
            if error.errno not in {errno.EROFS, errno.EACCES, errno.EPERM}:
                raise explain(error, path, "a working file was begun") from error
            raise ArchiverError(
                f"The archive {self.path} cannot be written to ({os.strerror(error.errno)}).",
                hint="Nothing was done. Check the permissions, or whether the medium is mounted "
                "read-only.",
            ) from error
        hold_reserve(self.path)

    def make_room(self, working: Iterable[str]) -> None:
        """Delete the reserve and these files, if the disk is full."""
        if lacks_room(self.path):
            release_reserve(self.path)
            for name in working:
                with contextlib.suppress(OSError):
                    (self.path / check_name(name)).unlink()

    def free_bytes(self) -> int | None:
        """Return the room left on the disk, in bytes; None if the disk does not tell."""
        return free_bytes(self.path)

    def limits(self) -> frozenset[Limit]:
        """Return what the filesystem has not."""
        try:
            return limits_of(self.path)
        except OSError as error:
            raise explain(error, self.path, "its filesystem was asked what it can do") from error
