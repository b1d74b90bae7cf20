"""The layout of a hub client's cache, which is known here and nowhere else.

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

import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from archiver.archive.records import FILES_MAX
from archiver.digest import is_git_oid, is_sha256
from archiver.errors import UpstreamGoneError, UsageError
from archiver.names import as_repo_id
from archiver.text import printable
from archiver.upstream.folder import FolderScan, scan_folder
from archiver.upstream.protocol import RemoteFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

EntryType = Literal["model", "dataset", "space", "kernel"]
_ENTRY: Final = re.compile(r"(model|dataset|space|kernel)s--(.+)\Z")
_INNER: Final = re.compile(r"(?:.*/)?(?:model|dataset|space|kernel)s--[^/]+/(?:snapshots|blobs)/")
_SHARED: Final = re.compile(r"([0-9a-f]{2})/(\1[0-9a-f]{62})\Z")
_MAIN: Final = "main"
_VERSION: Final = 1
"""Of a record."""
_LARGEST_TREE: Final = 40 << 20
"""Bytes; that of 100,000 files has about 35 MB."""
_LARGEST_REF: Final = 200


def scan_snapshot(folder: Path) -> FolderScan:
    """Return what lies in a plain folder, or in a snapshot of a cache.

    Of a snapshot, links may also lead to the blobs of its repository and to the cache's shared ones.
    """
    return scan_folder(folder, blobs_of(folder))


def blobs_of(folder: Path) -> Callable[[str], bool] | None:
    """Return whether a place is a blob that a snapshot may link to; None if ``folder`` is no snapshot."""
    where = Path(os.path.realpath(folder))
    if where.parent.name != "snapshots":
        return None
    entry = where.parent.parent
    own, shared = f"{entry / 'blobs'}/", f"{entry.parent / 'blobs'}/"

    def is_blob(target: str) -> bool:
        if target.startswith(own):
            return "/" not in target[len(own) :]
        return target.startswith(shared) and bool(_SHARED.match(target[len(shared) :]))

    return is_blob


def snapshots_below(folder: Path) -> list[Path]:
    """Return every snapshot in a cache, or in one repository of it; none if ``folder`` is neither."""
    return sorted(folder.glob("*--*/snapshots/*")) + sorted(folder.glob("snapshots/*"))


def repository_of(snapshot: Path) -> Path | None:
    """Return the repository's folder in the cache whose snapshot ``snapshot`` is, or None."""
    where = Path(os.path.realpath(snapshot))
    return where.parent.parent if where.parent.name == "snapshots" else None


def cache_inside(path: str) -> str | None:
    """Return the folder of a cache's repository that the path of a plain folder leads into, or None."""
    found = _INNER.match(path)
    return found[0].rsplit("/", 2)[0] if found else None


class _TreeFile(msgspec.Struct, frozen=True):
    """What is needed of a file in a record."""

    size: int
    blob_id: str
    lfs_sha256: str | None = None
    lfs_size: int | None = None


class _Tree(msgspec.Struct, frozen=True):
    """A record, ``trees/<commit>.json``."""

    files: Annotated[dict[str, _TreeFile], msgspec.Meta(max_length=FILES_MAX)]
    format_version: int = _VERSION


@dataclass(frozen=True)
class CacheEntry:
    """One repository in a cache; ``only`` is the commit if a single snapshot was pointed at."""

    folder: Path
    repository: str
    only: str = ""
    type: EntryType = "model"

    def snapshot(self, commit: str) -> Path:
        """The folder of a commit's files."""
        return self.folder / "snapshots" / commit

    def commit(self, revision: str | None) -> str:
        """The commit that ``revision`` names here; raises UpstreamGoneError if none is held."""
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

    @cached_property
    def commits(self) -> list[str]:
        """The commits that have a snapshot."""
        folder = self.folder / "snapshots"
        if not folder.is_dir():
            return []
        return sorted(entry.name for entry in folder.iterdir() if is_git_oid(entry.name))

    def claim(self, commit: str, path: str, size: int) -> RemoteFile:
        """What the name of its blob says of a file of a snapshot; nothing where it is no link."""
        name = self._blob_name(self.snapshot(commit) / path)
        if is_sha256(name):
            return RemoteFile(path, size, sha256=name, lfs=True)
        return RemoteFile(path, size, oid=name if is_git_oid(name) else "")

    def _blob_name(self, link: Path) -> str:
        """The name under which the repository's ``blobs`` has a file, ``""`` if it has not."""
        try:
            target = Path(os.path.realpath(link.parent)) / link.readlink()
        except OSError:
            return ""
        below = os.path.realpath(target.parent)
        return target.name if below == os.path.realpath(self.folder / "blobs") else ""

    def _ref(self, name: str) -> str:
        refs = self.folder / "refs"
        try:
            path = Path(os.path.realpath(refs / name, strict=True))
            if path.is_relative_to(refs) and path.stat().st_size <= _LARGEST_REF:
                return path.read_text("ascii", "replace").strip()
        except (OSError, ValueError):
            pass  # No such file, a folder, or a name that cannot be a file's.
        return ""

    def record(self, commit: str) -> Mapping[str, RemoteFile] | None:
        """The cache's own record of what upstream listed at a commit; None if there is none."""
        path = self.folder / "trees" / f"{commit}.json"
        try:
            if not path.is_file() or path.stat().st_size > _LARGEST_TREE:
                return None
            tree = msgspec.json.decode(path.read_bytes(), type=_Tree)
            if tree.format_version != _VERSION:
                return None
            return {name: _listed(name, info) for name, info in tree.files.items()}
        except (OSError, ValueError, msgspec.DecodeError, RecursionError):
            # The hub's client ignores a tree that it cannot read, and so do we: it is a hint.
            return None


def entry_of(folder: Path) -> CacheEntry | None:
    """Return the cache entry that ``folder`` is, or a snapshot of, of whatever type; None if neither."""
    if folder.parent.name == "snapshots" and is_git_oid(folder.name):
        entry = entry_of(folder.parent.parent)
        return entry and CacheEntry(entry.folder, entry.repository, folder.name, entry.type)
    named = _ENTRY.match(folder.name)
    if not named or not ((folder / "snapshots").is_dir() or (folder / "blobs").is_dir()):
        return None
    kind: EntryType = named[1]  # type: ignore[assignment] # the pattern has no other
    repository = named[2].replace("--", "/")
    try:
        return CacheEntry(
            folder, as_repo_id(repository) if kind == "model" else repository, type=kind
        )
    except UsageError:
        return None


def entries(folder: Path) -> list[CacheEntry]:
    """Return the repositories of a whole cache, of all types, by name; none if it is no cache."""
    candidates = sorted(folder.glob("*s--*"))
    return [found for path in candidates if (found := entry_of(path)) is not None]


def _listed(path: str, info: _TreeFile) -> RemoteFile:
    sha256 = info.lfs_sha256 or ""
    size = info.lfs_size if sha256 else info.size
    if size is None or size < 0 or not is_git_oid(info.blob_id):
        raise ValueError
    if sha256 and not is_sha256(sha256):
        raise ValueError
    return RemoteFile(path, size, sha256, info.blob_id, lfs=bool(sha256))
