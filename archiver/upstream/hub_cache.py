"""The layout of a hub client's cache, for reading and for restoring, which is known here and nowhere else.

::

    blobs/<2 hex>/<hash>                          bytes that repositories share (huggingface_hub 2.4)
    models--org--name/blobs/<etag>                a file's bytes, or a link to the shared ones
    models--org--name/refs/main                   the commit that a name stood for
    models--org--name/snapshots/<commit>/<path>   a link to a blob; a plain file where links do not work
    models--org--name/trees/<commit>.json         upstream's listing of that commit, if it was kept

``datasets--``, ``spaces--`` and ``kernels--`` look the same; archiver keeps models only. A blob of a
repository is named by its ETag: 64 hex digits are the SHA-256 of an LFS file, 40 hex digits the git
object id of any other. A shared blob is named by another hash (Xet's), so the link in the repository
tells the digest.
"""

from __future__ import annotations

import errno
import json
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, NamedTuple

import msgspec

from archiver.archive.destination import (
    ExistingFileError,
    name_error,
    require_replaceable,
    unfinished_name,
    writing,
)
from archiver.archive.records import FILES_MAX
from archiver.digest import is_git_oid, is_sha256
from archiver.errors import (
    ArchiverError,
    DamageError,
    UpstreamGoneError,
    UsageError,
    explain_system_error,
)
from archiver.names import TYPES, RepositoryName, repo_id_of
from archiver.text import printable
from archiver.upstream.directory import DirectoryScan, scan_directory
from archiver.upstream.remote_file import RemoteFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from archiver.archive.records import FileEntry

RepositoryType = Literal["model", "dataset", "space", "kernel"]
_BLOBS: Final = "blobs"
_SNAPSHOTS: Final = "snapshots"
_REPOSITORY: Final = re.compile(r"(model|dataset|space|kernel)s--(.+)\Z")
_INNER: Final = re.compile(r"(?:.*/)?(?:model|dataset|space|kernel)s--[^/]+/(?:snapshots|blobs)/")
_SHARED: Final = re.compile(r"([0-9a-f]{2})/(\1[0-9a-f]{62})\Z")
_MAIN: Final = "main"
_RECORD_VERSION: Final = 1
_LARGEST_TREE: Final = 40 << 20
"""Bytes; that of 100,000 files has about 35 MB."""
_LARGEST_REF: Final = 200
_LFS_FROM: Final = 10 << 20
"""Files of unknown kind from this size on get the blob name of an LFS file, as the hub would."""
_NO_SYMLINKS: Final = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}
"""What a filesystem answers that has no symbolic links, such as exFAT, or a mount that forbids them."""


# --- what lies in a cache


def scan_snapshot(folder: Path) -> DirectoryScan:
    """Return what lies in a plain folder, or in a snapshot of a cache.

    Of a snapshot, links may also lead to the blobs of its repository and to the cache's shared ones.
    """
    return scan_directory(folder, blobs_of(folder))


def blobs_of(folder: Path) -> Callable[[str], bool] | None:
    """Return whether a path is a blob that a snapshot may link to; None if ``folder`` is no snapshot."""
    repository = repository_of(folder)
    if repository is None:
        return None
    own, shared = f"{repository / _BLOBS}/", f"{repository.parent / _BLOBS}/"

    def is_blob(target: str) -> bool:
        if target.startswith(own):
            return "/" not in target[len(own) :]
        return target.startswith(shared) and bool(_SHARED.match(target[len(shared) :]))

    return is_blob


def repository_of(snapshot: Path) -> Path | None:
    """Return the repository's folder in the cache whose snapshot ``snapshot`` is, or None."""
    where = Path(os.path.realpath(snapshot))
    return where.parent.parent if where.parent.name == _SNAPSHOTS else None


def snapshots_below(folder: Path) -> list[Path]:
    """Return every snapshot in a cache, or in one repository of it; empty if ``folder`` is neither."""
    return sorted(folder.glob(f"*--*/{_SNAPSHOTS}/*")) + sorted(folder.glob(f"{_SNAPSHOTS}/*"))


def cache_folder(repository: str) -> str:
    """Return the name of a repository's folder in a cache."""
    _, kind, name = RepositoryName.parse(repository)
    return f"{kind}s--{name.replace('/', '--')}"


def cache_inside(path: str) -> str | None:
    """Return the folder of a cache's repository that the path of a plain folder leads into, or None."""
    inner = _INNER.match(path)
    return inner[0].rsplit("/", 2)[0] if inner else None


class _TreeFile(msgspec.Struct, frozen=True):
    """What is needed of a file in a record."""

    size: int
    blob_id: str
    lfs_sha256: str | None = None
    lfs_size: int | None = None


class _Tree(msgspec.Struct, frozen=True):
    """A record, ``trees/<commit>.json``."""

    files: Annotated[dict[str, _TreeFile], msgspec.Meta(max_length=FILES_MAX)]
    format_version: int = _RECORD_VERSION


@dataclass(frozen=True)
class CachedRepository:
    """One repository in a cache, by its spelling (of a space: by its name).

    ``only`` is the commit if a single snapshot was pointed at.
    """

    folder: Path
    repository: str
    only: str = ""
    type: RepositoryType = "model"

    @property
    def blobs(self) -> Path:
        """The folder of all files' bytes."""
        return self.folder / _BLOBS

    @property
    def refs(self) -> Path:
        """The folder of the names that stand for a commit."""
        return self.folder / "refs"

    def snapshot(self, commit: str) -> Path:
        """Return the folder of a commit's files."""
        return self.folder / _SNAPSHOTS / commit

    def tree(self, commit: str) -> Path:
        """Return the file that says what upstream listed at a commit."""
        return self.folder / "trees" / f"{commit}.json"

    def commit(self, revision: str | None) -> str:
        """Return the commit that ``revision`` names here; raise UpstreamGoneError if none is held."""
        name = revision or self.only or _MAIN
        commit = name if is_git_oid(name) else self._ref(name)
        held = self.commits
        if not commit and revision is None and len(held) == 1:
            commit = held[0]
        if commit not in held or commit != (self.only or commit):
            raise UpstreamGoneError(
                f"The cache of {self.repository} holds no revision {printable(name)}.",
                hint=f"It holds {', '.join(held[:5]) or 'none'}.",
            )
        return commit

    def _ref(self, name: str) -> str:
        try:
            path = Path(os.path.realpath(self.refs / name, strict=True))
            if path.is_relative_to(self.refs) and path.stat().st_size <= _LARGEST_REF:
                return path.read_text("ascii", "replace").strip()
        except (OSError, ValueError):
            pass  # No such file, a folder, or a name that cannot be a file's.
        return ""

    @cached_property
    def commits(self) -> list[str]:
        """The commits that have a snapshot."""
        folder = self.folder / _SNAPSHOTS
        if not folder.is_dir():
            return []
        return sorted(entry.name for entry in folder.iterdir() if is_git_oid(entry.name))

    def claim(self, commit: str, path: str, size: int) -> RemoteFile:
        """Return a file of a snapshot, with the digest that the name of its blob is, if it is a link."""
        name = self._blob_name(self.snapshot(commit) / path)
        if is_sha256(name):
            return RemoteFile(path, size, sha256=name, lfs=True)
        return RemoteFile(path, size, oid=name if is_git_oid(name) else "")

    def _blob_name(self, link: Path) -> str:
        """Return the name under which ``blobs`` has a file, ``""`` if it has not."""
        try:
            target = Path(os.path.realpath(link.parent)) / link.readlink()
        except OSError:
            return ""
        # The link itself is read, and not where it ends: a blob may be a link to a shared one.
        below = os.path.realpath(target.parent)
        return target.name if below == os.path.realpath(self.blobs) else ""

    def record(self, commit: str) -> Mapping[str, RemoteFile] | None:
        """Return the cache's own record of what upstream listed at a commit, or None."""
        path = self.tree(commit)
        try:
            if not path.is_file() or path.stat().st_size > _LARGEST_TREE:
                return None
            tree = msgspec.json.decode(path.read_bytes(), type=_Tree)
            if tree.format_version != _RECORD_VERSION:
                return None
            return {name: _listed(name, info) for name, info in tree.files.items()}
        except (OSError, ValueError, msgspec.DecodeError, RecursionError):
            # The hub's client ignores a tree that it cannot read, and so do we: it is a hint.
            return None


def cached_repository(folder: Path) -> CachedRepository | None:
    """Return the repository that ``folder`` is, or is a snapshot of, of whatever type; None if neither."""
    if folder.parent.name == _SNAPSHOTS and is_git_oid(folder.name):
        whole = cached_repository(folder.parent.parent)
        return whole and CachedRepository(whole.folder, whole.repository, folder.name, whole.type)
    named = _REPOSITORY.match(folder.name)
    if not named or not ((folder / _SNAPSHOTS).is_dir() or (folder / _BLOBS).is_dir()):
        return None
    kind: RepositoryType = named[1]  # type: ignore[assignment] # the pattern has no other
    name = named[2].replace("--", "/")
    try:
        spelled = repo_id_of(name, kind=kind) if kind in TYPES else name
        return CachedRepository(folder, spelled, type=kind)
    except UsageError:
        return None


def cached_repositories(folder: Path) -> list[CachedRepository]:
    """Return the repositories of a whole cache, of all types, by name; empty if it is no cache."""
    candidates = (cached_repository(path) for path in sorted(folder.glob("*s--*")))
    return [repository for repository in candidates if repository is not None]


def _listed(path: str, info: _TreeFile) -> RemoteFile:
    sha256 = info.lfs_sha256 or ""
    size = info.lfs_size if sha256 else info.size
    if size is None or size < 0 or not is_git_oid(info.blob_id):
        raise ValueError
    if sha256 and not is_sha256(sha256):
        raise ValueError
    return RemoteFile(path, size, sha256, info.blob_id, lfs=bool(sha256))


# --- restoring into a cache


class RefSkipped(NamedTuple):
    """A name (``main``, a tag) that does not point at the revision in a hub cache, and why."""

    name: str
    reason: Literal["another-revision", "in-the-way"]
    """It points elsewhere already; or a file lies where a folder must be, or the other way round."""


class CacheDestination:
    """A :class:`~archiver.archive.destination.Destination` that hub clients read offline.

    Files are blobs, and links to them by revision and path. Where there are no symbolic links, files
    lie in the place of the links, as the hub's client does.
    """

    def __init__(
        self,
        root: Path,
        repository: str,
        revision: str,
        names: tuple[str, ...],
        *,
        overwrite: bool = False,
    ) -> None:
        """``overwrite``: a link in the place of a file that leads elsewhere is replaced."""
        folder = root / cache_folder(repository)
        self._cached = CachedRepository(folder, repository)
        self.snapshot = self._cached.snapshot(revision)
        self._root = root
        self._revision = revision
        self._names = names
        self._overwrite = overwrite

    @cached_property
    def has_links(self) -> bool:
        """Whether symbolic links can be made here; tried once."""
        folder = self._cached.folder
        probe = folder / unfinished_name()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe.symlink_to(_BLOBS)
            probe.unlink()
        except OSError as error:
            if error.errno in _NO_SYMLINKS:
                return False
            raise explain_system_error(error, f"{folder} was to be restored into") from error
        return True

    def folders(self, entries: Iterable[FileEntry]) -> set[Path]:
        """Return the folder of the blobs, that of the names, and the files' own."""
        own = {(self.snapshot / entry.path).parent for entry in entries}
        return {self._cached.blobs, self._cached.refs, *own}

    def path(self, entry: FileEntry, oid: str) -> Path:
        """Return the blob: named by SHA-256 for LFS files, by git blob id for others.

        Or the file in the snapshot, where there are no links, or it lies there already.
        """
        place = self.snapshot / entry.path
        if not self.has_links or (place.is_file() and not place.is_symlink()):
            return place
        name = oid if oid and not entry.lfs else entry.sha256
        if not is_git_oid(name) and not is_sha256(name):
            raise DamageError(f"The manifest gives {entry.path} a digest that is none.")
        return self._cached.blobs / name

    def visible(self, entry: FileEntry) -> Path:
        """Return the file's path in the snapshot."""
        return self.snapshot / entry.path

    def finish(self, entry: FileEntry, path: Path) -> None:
        """Link the file's path in the snapshot to the blob."""
        link = self.visible(entry)
        if path == link:
            return
        target = os.path.relpath(path, link.parent)
        try:
            link.parent.mkdir(parents=True, exist_ok=True)
            if not _leads_to(link, target):
                link.symlink_to(target)
        except FileExistsError:
            if _leads_to(link, target):
                return  # a run beside this one was quicker
            if not self._overwrite:
                raise ExistingFileError(link) from None
            require_replaceable(link, self._root)
            temporary = link.with_name(unfinished_name())
            temporary.symlink_to(target)
            temporary.rename(link)
        except OSError as error:
            raise name_error(error, link, f"{entry.path} was being linked") from error

    def publish(self) -> list[RefSkipped]:
        """Point the names (``main``, …) at the revision, once every file is there.

        Return those that could not be: nothing is overwritten, and a name may begin like another.
        """
        skipped = []
        for name in sorted(self._names):
            ref = self._cached.refs / name
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
                if not _in_the_way(ref, self._cached.refs):
                    raise
                skipped.append(RefSkipped(name, "in-the-way"))
        return skipped

    def record(self, entries: Iterable[FileEntry]) -> None:
        """Write the client's own record of which files the revision has, as upstream listed them.

        With it a cache that is carried elsewhere is known to be whole. A record that is there already
        stays; none is written where upstream's git ids are not known, so that it says nothing new.
        """
        listed = sorted(entries, key=lambda entry: entry.path)
        path = self._cached.tree(self._revision)
        if path.exists() or not all(is_git_oid(entry.oid) for entry in listed):
            return
        files = {entry.path: _recorded(entry) for entry in listed}
        record = {"format_version": _RECORD_VERSION, "files": files}
        with writing(path) as writer:
            writer.write(memoryview(json.dumps(record, indent=1).encode()))
            writer.accept()


def _leads_to(link: Path, target: str) -> bool:
    """Return whether a link with exactly this text is there."""
    return link.is_symlink() and os.readlink(link) == target  # noqa: PTH115 - as text


def _recorded(entry: FileEntry) -> dict[str, str | int]:
    info: dict[str, str | int] = {"size": entry.size, "blob_id": entry.oid}
    return info | ({"lfs_sha256": entry.sha256, "lfs_size": entry.size} if entry.lfs else {})


def _in_the_way(ref: Path, refs: Path) -> bool:
    """Return whether a name has a folder in its place, or a file in the place of a folder above it."""
    above = ref.parents[: len(ref.parents) - len(refs.parents) - 1]
    return ref.is_dir() or any(folder.is_file() for folder in above)


def blob_oid(entry: FileEntry) -> str | None:
    """Return the git blob id that names a file's blob: ``""`` if none does, None if unknown."""
    if entry.lfs or (not entry.oid and entry.size >= _LFS_FROM):
        return ""
    return entry.oid or None
