"""A repository of the hub: its files, which of them lie in LFS, its commits, and the names of those."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

from archiver.digest import git_blob_hasher
from archiver.errors import UsageError

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Mapping
    from pathlib import Path

LfsRule = Callable[[str, int], bool]
"""Says, of a path and a size, whether the file is kept in LFS."""

DATASETS = "datasets/"
"""How the id of a dataset begins, as in the addresses of the Hub."""

_SAMPLE = 64 * 1024
_BLOCK = 1024 * 1024
_FIRST_COMMIT = datetime(2026, 1, 1, tzinfo=UTC)
_LARGEST_PLAIN = 10 * 1024 * 1024
_PATTERNS = (
    # The .gitattributes that the Hub writes into a new model repository, and tokenizer.json, which
    # its clients add to it.
    *("*.7z", "*.arrow", "*.bin", "*.bz2", "*.ckpt", "*.ftz", "*.gguf", "*.gz", "*.h5", "*.joblib"),
    *("*.lfs.*", "*.mlmodel", "*.model", "*.msgpack", "*.npy", "*.npz", "*.onnx", "*.ot", "*.tar"),
    *("*.parquet", "*.pb", "*.pickle", "*.pkl", "*.pt", "*.pth", "*.rar", "*.safetensors"),
    *("*.tar.*", "*.tflite", "*.tgz", "*.wasm", "*.xz", "*.zip", "*.zst", "*tfevents*"),
    *("tokenizer.json", "*/tokenizer.json"),
)


class Content:
    """A file's bytes, from memory or from a path.

    A path is never loaded as a whole, so that repositories of many gigabytes can be served; its
    digest is computed at the first listing that names it and remembered.
    """

    def __init__(self, source: bytes | Path) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._sha256 = ""
        self._git_oid = ""
        self.size = len(source) if isinstance(source, bytes) else source.stat().st_size

    @property
    def sha256(self) -> str:
        """The SHA-256 of the bytes, as an LFS pointer names them."""
        with self._lock:
            if not self._sha256:
                self._sha256 = self._digest(hashlib.sha256())
            return self._sha256

    @property
    def git_oid(self) -> str:
        """The git object id of the bytes, as a plain blob."""
        with self._lock:
            if not self._git_oid:
                self._git_oid = self._digest(git_blob_hasher(self.size))
            return self._git_oid

    def fingerprint(self) -> bytes:
        """Return a digest for commit ids: of everything when short, else of the size and both ends.

        A commit id must be known when a repository is created, and reading gigabytes to get it
        would make creation slow.
        """
        tail = max(0, self.size - _SAMPLE)
        hasher = hashlib.sha256(b"%d\x00" % self.size)
        hasher.update(self.read(0, min(self.size, _SAMPLE)))
        hasher.update(self.read(tail, self.size - tail))
        return hasher.digest()

    def read(self, start: int, length: int) -> bytes:
        """Return ``length`` bytes from ``start``."""
        if isinstance(self._source, bytes):
            return self._source[start : start + length]
        with self._source.open("rb") as file:
            file.seek(start)
            return file.read(length)

    def send(self, to: socket.socket, start: int, lengths: Iterator[int]) -> Iterator[int]:
        """Send consecutive chunks of the given lengths from ``start``, and yield what went out.

        Raises:
            ConnectionError: The file on disk has become shorter than it was.
        """
        if isinstance(self._source, bytes):
            data = memoryview(self._source)
            for length in lengths:
                to.sendall(data[start : start + length])
                start += length
                yield length
            return
        with self._source.open("rb") as file:
            for length in lengths:
                end = start + length
                while start < end:
                    count = os.sendfile(to.fileno(), file.fileno(), start, end - start)
                    if not count:
                        raise ConnectionError("The served file is shorter than it was listed.")
                    start += count
                    yield count

    def _digest(self, hasher: hashlib._Hash) -> str:
        if isinstance(self._source, bytes):
            hasher.update(self._source)
            return hasher.hexdigest()
        with self._source.open("rb") as file:
            while block := file.read(_BLOCK):
                hasher.update(block)
        return hasher.hexdigest()


def default_lfs_rule(path: str, size: int) -> bool:
    """Return whether the Hub would keep ``path`` in LFS: by its name, or because it is above 10 MiB."""
    return size > _LARGEST_PLAIN or any(fnmatch(path, pattern) for pattern in _PATTERNS)


def lfs_pointer(content: Content) -> bytes:
    """Return the pointer file that git holds in place of ``content`` (LFS specification, version 1)."""
    return (
        "version https://git-lfs.github.com/spec/v1\n"
        f"oid sha256:{content.sha256}\n"
        f"size {content.size}\n"
    ).encode()


def lfs_pointer_oid(content: Content) -> str:
    """Return the git object id of ``content``'s pointer."""
    text = lfs_pointer(content)
    hasher = git_blob_hasher(len(text))
    hasher.update(text)
    return hasher.hexdigest()


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
    gated: bool | str = False
    disabled: bool = False
    masked: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    claims: dict[str, dict[str, Any]] = field(default_factory=dict)
    extra_entries: list[dict[str, Any]] = field(default_factory=list)
    written: int = 0

    @property
    def kind(self) -> str:
        """``dataset`` if its id begins with ``datasets/``, else ``model``."""
        return "dataset" if self.id.startswith(DATASETS) else "model"

    @property
    def name(self) -> str:
        """Its name in the hub's JSON, which does not say what it is."""
        return self.id.removeprefix(DATASETS)

    def find(self, revision: str) -> Commit | None:
        """Return the commit that a branch, a tag, a full ref or a commit id names; None if none does."""
        name = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
        target = self.branches.get(name) or self.tags.get(name) or revision
        return self.commits.get(target)

    def head(self, branch: str = "main") -> Commit:
        """Return the newest commit of ``branch``; raise UsageError if there is none."""
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
                content = Content(source)
                files[path] = Entry(content, self.is_lfs(path, content.size))
        commit = self._commit(files, parent, title)
        self.commits[commit.id] = commit
        self.branches[branch] = commit.id
        return commit

    def forget_unreachable(self) -> None:
        """Drop every commit that no branch and no tag leads to, as a squashed history does."""
        reachable: dict[str, Commit] = {}
        for name in (*self.branches.values(), *self.tags.values()):
            commit = self.commits.get(name)
            while commit is not None and commit.id not in reachable:
                reachable[commit.id] = commit
                commit = commit.parent
        self.commits = reachable

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
