"""One repository: its commits, the names that point at them, and who may see it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from archiver.errors import UsageError
from archiver.loopback.content import Content

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LfsRule = Callable[[str, int], bool]
"""Says, of a path and a size, whether the file is kept in LFS."""

_FIRST_COMMIT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Entry:
    """A file in a commit: its bytes, and whether LFS holds them."""

    content: Content
    lfs: bool


@dataclass(frozen=True)
class Commit:
    """One state of the repository; ``files`` is never changed once the commit exists."""

    id: str
    parent: Commit | None
    files: Mapping[str, Entry]
    title: str
    date: str


@dataclass
class Repository:
    """A repository as the hub keeps it."""

    id: str
    internal_id: str
    is_lfs: LfsRule
    card: dict[str, Any] = field(default_factory=dict)
    private: bool = False
    gated: bool = False
    disabled: bool = False
    masked: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    claims: dict[str, dict[str, Any]] = field(default_factory=dict)
    extra_entries: list[dict[str, Any]] = field(default_factory=list)
    written: int = 0

    def find(self, revision: str) -> Commit | None:
        """The commit that a branch, a tag, a full ref or a commit id names."""
        name = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
        target = self.branches.get(name) or self.tags.get(name) or revision
        return self.commits.get(target)

    def head(self, branch: str = "main") -> Commit:
        """The newest commit of ``branch``."""
        commit = self.find(branch)
        if commit is None:
            raise UsageError(f"{self.id} has no revision {branch!r}.")
        return commit

    def write(
        self, changes: Mapping[str, bytes | Path | None], branch: str, title: str, *, root: bool
    ) -> Commit:
        """Commit ``changes`` (None deletes) on top of ``branch``, or on nothing when ``root``."""
        parent = None if root else self.find(branch)
        files = dict(parent.files) if parent else {}
        for path, source in changes.items():
            if source is None:
                del files[path]
            else:
                files[path] = self._entry(path, source)
        commit = self._commit(files, parent, title)
        self.commits[commit.id] = commit
        self.branches[branch] = commit.id
        return commit

    def forget_unreachable(self) -> None:
        """Drop every commit that no branch and no tag leads to, as a squashed history does."""
        kept: dict[str, Commit] = {}
        for name in (*self.branches.values(), *self.tags.values()):
            commit = self.commits.get(name)
            while commit is not None and commit.id not in kept:
                kept[commit.id] = commit
                commit = commit.parent
        self.commits = kept

    def _entry(self, path: str, source: bytes | Path) -> Entry:
        content = Content(source)
        return Entry(content, self.is_lfs(path, content.size))

    def _commit(self, files: dict[str, Entry], parent: Commit | None, title: str) -> Commit:
        # A running number stands in for the clock, so that ids are the same in every run.
        self.written += 1
        hasher = hashlib.sha1(f"{self.internal_id} {self.written} {title}".encode())  # noqa: S324 - git's
        hasher.update(parent.id.encode() if parent else b"")
        for path in sorted(files):
            hasher.update(path.encode("utf-8", "surrogatepass") + b"\x00")
            hasher.update(files[path].content.fingerprint())
        date = _FIRST_COMMIT + timedelta(seconds=self.written)
        stamp = date.strftime("%Y-%m-%dT%H:%M:%S.000Z")
        return Commit(hasher.hexdigest(), parent, files, title, stamp)
