"""Where restored files go: a plain folder, or the layout of a hub client's cache.

A file is written under a temporary name, checked, made durable, and only then given its name. Nothing
that is there is overwritten: a file that is there already and right is kept, a wrong one is refused.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import stat
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol

from archiver.digest import git_blob_hasher, is_git_oid, is_sha256
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
from archiver.storage.early_sync import EarlySync
from archiver.storage.filesystem import try_lock
from archiver.storage.folders import sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from archiver.archive.records import FileEntry

_READ = 4 << 20
_NOT_A_NAME = {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ}
"""What a filesystem answers to a name that it cannot hold."""
_ELSEWHERE = (
    "The other files were restored. Restore this one with --file to another filesystem, such as ext4 or "
    "XFS, or to a folder with a shorter path."
)
_LFS_FROM = 10 << 20
"""Files of unknown kind from this size on get the blob name of an LFS file, as the hub would."""


_UNFINISHED: Final = re.compile(r"\.(?:archiver-)?[0-9a-f]{16}\.part")
"""The name of an unfinished file; without the word in the middle, that of a version before."""
_NO_SYMLINKS: Final = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}
"""What a filesystem answers that has no symbolic links, such as exFAT, or a mount that forbids them."""


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


class Writer:
    """An unfinished file. ``accept`` gives it its name; otherwise nothing is left of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        while not self._begin():
            os.close(self._handle)
        self._early = EarlySync(self._handle)

    def _begin(self) -> bool:
        """Create and lock the file; False if a run that removes unfinished ones was quicker."""
        # Not built from the file's name, which may be as long as a name can be.
        self._temporary = self.path.with_name(f".archiver-{secrets.token_hex(8)}.part")
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW
        self._handle = os.open(self._temporary, flags, 0o666)
        try:
            if not try_lock(self._handle):
                return True  # no locks here: then nobody takes it for one that was left
        except BlockingIOError:
            return False
        return os.fstat(self._handle).st_nlink > 0

    def write(self, data: memoryview) -> None:
        """Append; NoSpaceError when the disk is full."""
        try:
            self._early.wrote(len(data))
            while data:
                data = data[os.write(self._handle, data) :]
        except OSError as error:
            error.filename = str(self.path)
            raise explain_system_error(error, "it was being restored") from error

    def accept(self) -> None:
        """Make the file durable and give it its name; never replaces a file."""
        try:
            self._early.finish()
            os.fsync(self._handle)
            self._name()
            sync_folder(self.path.parent)
        except FileExistsError:
            raise _refused(self.path) from None
        except OSError as error:
            raise _explained(error, self.path, "it was being restored") from error

    def _name(self) -> None:
        try:
            os.link(self._temporary, self.path)
        except OSError:
            # Taken, or no hard links on this filesystem: then rename, after a last look.
            if os.path.lexists(self.path):
                raise FileExistsError from None
            self._temporary.rename(self.path)

    def close(self) -> None:
        """Let go; an unaccepted file vanishes."""
        with contextlib.suppress(OSError):
            self._early.finish()
        os.close(self._handle)
        with contextlib.suppress(FileNotFoundError):
            self._temporary.unlink()


def _refused(path: Path) -> UsageError:
    return UsageError(
        f"{path} is there already with other content; it was not overwritten.",
        hint="Restore into another folder, or move the file away.",
    )


@contextmanager
def writing(path: Path) -> Iterator[Writer]:
    """A writer for ``path``, whose folders are created."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = Writer(path)
    except OSError as error:
        raise _explained(error, path, f"{path} was to be restored") from error
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
    """Whether there is a file of this size; UsageError if there is something else."""
    try:
        if not path.is_symlink() and not path.exists():
            return False
    except OSError as error:
        raise _explained(error, path, "it was looked for") from error
    if path.is_symlink() or not path.is_file() or path.stat().st_size != size:
        raise _refused(path)
    return True


def holds_pieces(path: Path, size: int, pieces: Iterator[memoryview]) -> bool:
    """Whether ``path`` is already a file of these pieces; UsageError if it is something else."""
    if not _is_there(path, size):
        return False
    with path.open("rb") as file:
        if any(file.read(len(piece)) != piece for piece in pieces):
            raise _refused(path)
    return True


def holds(path: Path, entry: FileEntry) -> bool:
    """Whether ``path`` is already the file; UsageError if it is there and something else."""
    if not _is_there(path, entry.size):
        return False
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while data := file.read(_READ):
            digest.update(data)
    if digest.hexdigest() != entry.sha256:
        raise _refused(path)
    return True


class Destination(Protocol):
    """Where a snapshot's files are put."""

    def path(self, entry: FileEntry, oid: str) -> Path:
        """Where the bytes of ``entry`` go; ``oid`` is its git blob id if that is known."""

    def folders(self, entries: Iterable[FileEntry]) -> set[Path]:
        """The folders that files are written in."""

    def visible(self, entry: FileEntry) -> Path:
        """The name under which a reader finds the file."""

    def finish(self, entry: FileEntry, path: Path) -> None:
        """Called when the bytes of ``entry`` are at ``path``."""


class PlainFolder:
    """Files under their own paths."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, entry: FileEntry, oid: str) -> Path:
        """The file's own path below the root."""
        del oid
        return self.visible(entry)

    def visible(self, entry: FileEntry) -> Path:
        """The same."""
        return self.root / entry.path

    def folders(self, entries: Iterable[FileEntry]) -> set[Path]:
        """Those of the files."""
        return {(self.root / entry.path).parent for entry in entries}

    def finish(self, entry: FileEntry, path: Path) -> None:
        """Nothing to do."""


class RefSkipped(NamedTuple):
    """A name (``main``, a tag) that does not point at the revision in a hub cache, and why."""

    name: str
    reason: Literal["another-revision", "in-the-way"]
    """It points elsewhere already; or a file lies where a folder must be, or the other way round."""


class HubCache:
    """The layout that hub clients read offline: blobs, and links to them by revision and path.

    Where there are no symbolic links, files lie in the place of the links, as the hub's client does.
    """

    def __init__(self, root: Path, repository: str, revision: str, names: tuple[str, ...]) -> None:
        self.folder = root / ("models--" + repository.replace("/", "--"))
        self.snapshot = self.folder / "snapshots" / revision
        self._revision = revision
        self._names = names

    @cached_property
    def has_links(self) -> bool:
        """Whether symbolic links can be made here; tried once."""
        probe = self.folder / f".archiver-{secrets.token_hex(8)}.part"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe.symlink_to("blobs")
            probe.unlink()
        except OSError as error:
            if error.errno in _NO_SYMLINKS:
                return False
            raise explain_system_error(error, f"{self.folder} was to be restored into") from error
        return True

    def folders(self, entries: Iterable[FileEntry]) -> set[Path]:
        """The blobs, the files' own, and that of the names."""
        own = {(self.snapshot / entry.path).parent for entry in entries}
        return {self.folder / "blobs", self.folder / "refs", *own}

    def path(self, entry: FileEntry, oid: str) -> Path:
        """The blob: named by SHA-256 for LFS files, by git blob id for others.

        Or the file in the snapshot, where there are no links, or it lies there already.
        """
        place = self.snapshot / entry.path
        if not self.has_links or (place.is_file() and not place.is_symlink()):
            return place
        name = oid if oid and not entry.lfs else entry.sha256
        if not is_git_oid(name) and not is_sha256(name):
            raise DamageError(f"The manifest gives {entry.path} a digest that is none.")
        return self.folder / "blobs" / name

    def visible(self, entry: FileEntry) -> Path:
        """The file's path in the snapshot."""
        return self.snapshot / entry.path

    def finish(self, entry: FileEntry, path: Path) -> None:
        """Link the file's path in the snapshot to the blob."""
        link = self.visible(entry)
        if path == link:
            return
        target = os.path.relpath(path, link.parent)
        try:
            link.parent.mkdir(parents=True, exist_ok=True)
            if link.is_symlink() and os.readlink(link) == target:  # noqa: PTH115 - as text
                return
            link.symlink_to(target)
        except FileExistsError:
            raise _refused(link) from None
        except OSError as error:
            raise _explained(error, link, f"{entry.path} was being linked") from error

    def publish(self) -> list[RefSkipped]:
        """Point the names (``main``, …) at the revision, once every file is there.

        Return those that could not be: nothing is overwritten, and a name may begin like another.
        """
        skipped = []
        for name in sorted(self._names):
            ref = self.folder / "refs" / name
            try:
                if ref.is_file():
                    if ref.read_text("utf-8", "replace").strip() != self._revision:
                        skipped.append(RefSkipped(name, "another-revision"))
                    continue
                with writing(ref) as writer:
                    writer.write(memoryview(self._revision.encode()))
                    writer.accept()
            except OSError as error:
                raise explain_system_error(error, f"{ref} was being read") from error
            except ArchiverError:
                if not _in_the_way(ref, self.folder / "refs"):
                    raise
                skipped.append(RefSkipped(name, "in-the-way"))
        return skipped

    def record(self, entries: Iterable[FileEntry]) -> None:
        """Write the client's own record of which files the revision has, as upstream listed them.

        With it a cache that is carried elsewhere is known to be whole. A record that is there already
        stays; none is written where upstream's git ids are not known, so that it says nothing new.
        """
        listed = sorted(entries, key=lambda entry: entry.path)
        path = self.folder / "trees" / f"{self._revision}.json"
        if path.exists() or not all(is_git_oid(entry.oid) for entry in listed):
            return
        files = {entry.path: _recorded(entry) for entry in listed}
        data = json.dumps({"format_version": 1, "files": files}, indent=1).encode()
        with writing(path) as writer:
            writer.write(memoryview(data))
            writer.accept()


def _recorded(entry: FileEntry) -> dict[str, str | int]:
    info: dict[str, str | int] = {"size": entry.size, "blob_id": entry.oid}
    return info | ({"lfs_sha256": entry.sha256, "lfs_size": entry.size} if entry.lfs else {})


def _in_the_way(ref: Path, refs: Path) -> bool:
    """Whether a name has a folder in its place, or a file in the place of a folder above it."""
    above = ref.parents[: len(ref.parents) - len(refs.parents) - 1]
    return ref.is_dir() or any(folder.is_file() for folder in above)


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
        place = _identity(name)
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


def _explained(error: OSError, path: Path, what: str) -> ArchiverError:
    """The domain error of a name that could not be made."""
    if error.errno in _NOT_A_NAME:
        return UnportableNameError(
            f"This filesystem cannot hold the name {path} ({os.strerror(error.errno)}).",
            hint=_ELSEWHERE,
        )
    error.filename = str(path)
    return explain_system_error(error, what)


def blob_oid(entry: FileEntry) -> str | None:
    """The git blob id a hub cache names the file by: known, unneeded (""), or None if to be computed."""
    if entry.lfs or (not entry.oid and entry.size >= _LFS_FROM):
        return ""
    return entry.oid or None


__all__ = [
    "Destination",
    "HubCache",
    "NamesTaken",
    "PlainFolder",
    "RefSkipped",
    "Writer",
    "blob_oid",
    "git_blob_hasher",
    "holds",
    "holds_pieces",
    "is_unfinished",
    "open_folder",
    "remove_unfinished",
    "writing",
]
