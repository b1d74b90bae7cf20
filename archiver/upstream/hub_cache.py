"""The layout of a hub client's cache: ``models--org--name/{blobs,refs,snapshots,trees}``.

A snapshot's files are links to blobs, and a blob is named by its ETag: 64 hex digits are the
SHA-256 of an LFS file, 40 hex digits the git object id of any other. ``trees/<commit>.json``, where
there is one, is upstream's whole listing of that commit.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archiver.digest import is_git_oid, is_sha256
from archiver.errors import UpstreamGoneError, UsageError
from archiver.names import as_repo_id
from archiver.text import printable
from archiver.upstream.folder import walk
from archiver.upstream.protocol import RemoteFile

_PREFIX = "models--"
_MAIN = "main"
_LARGEST_TREE = 256 * 1024 * 1024
_LARGEST_REF = 200


@dataclass(frozen=True)
class CacheEntry:
    """One repository in a cache; ``only`` is the commit if a single snapshot was pointed at."""

    folder: Path
    repository: str
    only: str = ""

    def snapshot(self, commit: str) -> Path:
        """The folder of a commit's files."""
        return self.folder / "snapshots" / commit

    def roots(self, commit: str) -> tuple[Path, ...]:
        """Where a snapshot's links may lead."""
        return (self.folder / "blobs", self.snapshot(commit))

    def commit(self, revision: str | None) -> str:
        """The commit that ``revision`` names here; raises UpstreamGoneError if none is held."""
        name = revision or self.only or _MAIN
        commit = name if is_git_oid(name) else self._ref(name)
        held = self._commits()
        if not commit and revision is None and len(held) == 1:
            commit = held[0]
        if commit not in held or commit != (self.only or commit):
            raise UpstreamGoneError(
                f"The cache of {self.repository} holds no revision {printable(name)}.",
                hint=f"It holds {', '.join(held[:5]) or 'none'}.",
            )
        return commit

    def files(self, commit: str) -> list[RemoteFile]:
        """The files of a commit: those that lie here, and those that the kept tree names."""
        found = walk(self.snapshot(commit), self.roots(commit))
        held = [_remote(path, where, size) for path, (where, size) in found.items()]
        told = self._tree(commit)
        return [told.pop(file.path, file) for file in held] + list(told.values())

    def _commits(self) -> list[str]:
        folder = self.folder / "snapshots"
        return sorted(entry.name for entry in folder.iterdir() if is_git_oid(entry.name))

    def _ref(self, name: str) -> str:
        refs = self.folder / "refs"
        try:
            path = Path(os.path.realpath(refs / name, strict=True))
            if path.is_relative_to(refs) and path.stat().st_size <= _LARGEST_REF:
                return path.read_text("ascii", "replace").strip()
        except (OSError, ValueError):
            pass  # No such file, a folder, or a name that cannot be a file's.
        return ""

    def _tree(self, commit: str) -> dict[str, RemoteFile]:
        path = self.folder / "trees" / f"{commit}.json"
        if not path.is_file() or path.stat().st_size > _LARGEST_TREE:
            return {}
        try:
            listed = json.loads(path.read_bytes())["files"]
            return {name: _listed(name, info) for name, info in listed.items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            # The hub's client ignores a tree that it cannot read, and so do we: it is a hint.
            return {}


def entry_of(folder: Path) -> CacheEntry | None:
    """The cache entry that ``folder`` is, or a snapshot of; None if it is neither."""
    if folder.parent.name == "snapshots" and is_git_oid(folder.name):
        entry = entry_of(folder.parent.parent)
        return entry and CacheEntry(entry.folder, entry.repository, folder.name)
    if not folder.name.startswith(_PREFIX) or not (folder / "snapshots").is_dir():
        return None
    repository = folder.name.removeprefix(_PREFIX).replace("--", "/")
    try:
        return CacheEntry(folder, as_repo_id(repository))
    except UsageError:
        return None


def entries(folder: Path) -> list[CacheEntry]:
    """The repositories of a whole hub cache, by name; none if ``folder`` is no cache."""
    candidates = sorted(folder.glob(_PREFIX + "*"))
    return [found for path in candidates if (found := entry_of(path)) is not None]


def _remote(path: str, where: Path, size: int) -> RemoteFile:
    name = where.name if where.parent.name == "blobs" else ""
    if is_sha256(name):
        return RemoteFile(path, size, sha256=name, lfs=True)
    return RemoteFile(path, size, oid=name if is_git_oid(name) else "")


def _listed(path: str, info: dict[str, Any]) -> RemoteFile:
    sha256 = str(info.get("lfs_sha256") or "")
    size = int(info["lfs_size"] if sha256 else info["size"])
    if (sha256 and not is_sha256(sha256)) or not is_git_oid(info["blob_id"]):
        raise ValueError
    return RemoteFile(path, size, sha256, info["blob_id"], lfs=bool(sha256))
