"""What a disk may hold after the power failed: replays a log, and tells every state it may be in.

A file's bytes last once the file is synced, a name once its folder is; until then each may be there or
not, whatever the order. Of bytes that are not synced all, none, the first half, or zeros may be there.
A rename is one step: on a filesystem where it is not, nothing here says what happens.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, NamedTuple

from syscalls import FOLDER, NOT_NEEDED, Cut, Entries, Event, Sync, SyncFolder, Write, parent

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator
    from pathlib import Path

_ALL_UP_TO = 64
"""Up to so many combinations all are tried; beyond that a choice."""
_RANDOM = 12

Tree = dict[str, bytes | None]
"""Path -> bytes; None for a folder."""


class _Pending(NamedTuple):
    """A change of names that may be lost yet."""

    at: int
    changes: dict[str, int | None]
    folder: str


class _File:
    """One file's bytes: those that last, and those that are only written."""

    def __init__(self, data: bytes = b"") -> None:
        self.lasting = self.now = data
        self._middle = data
        self._versions: tuple[bytes, ...] | None = None

    def write(self, offset: int, data: bytes) -> None:
        self._versions = None
        self._middle = _written(self.now, offset, data[: len(data) // 2])
        self.now = _written(self.now, offset, data)

    def cut(self, size: int) -> None:
        self._versions = None
        self.now = self._middle = self.now[:size].ljust(size, b"\0")

    def sync(self) -> None:
        self._versions = None
        self.lasting = self._middle = self.now

    def versions(self) -> tuple[bytes, ...]:
        """The contents that may be found; the first is what was written."""
        if self._versions is None:
            half = self.now[: (len(self.lasting) + len(self.now)) // 2]
            zeros = self.lasting[: len(self.now)].ljust(len(self.now), b"\0")
            every = (self.now, self.lasting, half, self._middle, zeros)
            same = self.now == self.lasting
            self._versions = (self.now,) if same else tuple(dict.fromkeys(every))
        return self._versions


def _written(data: bytes, offset: int, new: bytes) -> bytes:
    return data[:offset].ljust(offset, b"\0") + new + data[offset + len(new) :]


Choice = tuple[tuple[int, ...], tuple[int, ...]]
"""For each pending change of names 0 (there) or 1 (lost); for each unsynced file its version."""


class Disk:
    """A disk while a log is replayed on it, event by event."""

    def __init__(self, tree: Tree) -> None:
        """Begin with what is in ``tree``, all of it lasting."""
        self.names: dict[str, int | None] = {}
        self._settled: dict[str, int] = {}
        self._pending: list[_Pending] = []
        self._files: dict[int, _File] = {}
        self._clock = 0
        for number, (path, data) in enumerate(sorted(tree.items()), 1):
            self.names[path] = FOLDER if data is None else number
            if data is not None:
                self._files[number] = _File(data)

    def apply(self, event: Event) -> None:
        """One event more."""
        self._clock += 1
        match event:
            case Entries(changes, folder):
                for inode in changes.values():
                    if inode is not None and inode != FOLDER:
                        self._files.setdefault(inode, _File())
                self._pending.append(_Pending(self._clock, changes, folder))
            case Write(inode, offset, data):
                self._files[inode].write(offset, data)
            case Cut(inode, size):
                self._files[inode].cut(size)
            case Sync(inode):
                self._files[inode].sync()
            case SyncFolder(folder):
                self._settle(folder)

    def _settle(self, folder: str) -> None:
        for one in self._pending:
            if one.folder == folder:
                self._enter(self.names, one)
                self._settled |= {
                    path: max(one.at, self._settled.get(path, 0)) for path in one.changes
                }
        self._pending = [one for one in self._pending if one.folder != folder and self._open(one)]

    def _enter(self, names: dict[str, int | None], one: _Pending) -> None:
        names |= {
            path: inode
            for path, inode in one.changes.items()
            if one.at > self._settled.get(path, 0)
        }

    def _open(self, one: _Pending) -> bool:
        """Whether it still matters: a later change of the same names may last already."""
        return any(one.at > self._settled.get(path, 0) for path in one.changes)

    # ---- states

    def _uncertain(self, outside: str | tuple[str, ...]) -> tuple[list[_Pending], list[int]]:
        """The pending changes and the unsynced files that matter to names not below ``outside``."""
        changes = [
            one
            for one in self._pending
            if not outside or not all(path.startswith(outside) for path in one.changes)
        ]
        inodes = {
            inode
            for names in (self.names, *(one.changes for one in self._pending))
            for path, inode in names.items()
            if inode is not None and not (outside and path.startswith(outside))
        }
        files = [one for one in sorted(inodes - {FOLDER}) if len(self._files[one].versions()) > 1]
        return changes, files

    def states(self, rng: random.Random, outside: str | tuple[str, ...] = "") -> Iterator[Tree]:
        """The states that a power failure now may leave; what lies below ``outside`` is left out."""
        changes, files = self._uncertain(outside)
        ways = [2] * len(changes) + [len(self._files[one].versions()) for one in files]
        for choice in _choices(ways, rng):
            lost = {one.at for one, way in zip(changes, choice, strict=False) if way}
            versions = dict(zip(files, choice[len(changes) :], strict=True))
            tree = self._tree(lost, versions)
            yield {
                path: data
                for path, data in tree.items()
                if not (outside and f"{path}/".startswith(outside))
            }

    def whole(self) -> Tree:
        """Everything that was asked for: what a killed process leaves."""
        return self._tree(set(), {})

    def some(self, rng: random.Random) -> Tree:
        """Any state."""
        lost = {one.at for one in self._pending if rng.random() < rng.choice((0.1, 0.5, 0.9))}
        versions = {
            inode: rng.randrange(len(file.versions())) for inode, file in self._files.items()
        }
        return self._tree(lost, versions)

    def _tree(self, lost: set[int], versions: dict[int, int]) -> Tree:
        names = dict(self.names)
        for one in self._pending:
            if one.at not in lost:
                self._enter(names, one)
        tree: Tree = {}
        for path in sorted(path for path, inode in names.items() if inode is not None):
            above = parent(path)
            if above and tree.get(above, b"") is not None:
                continue  # its folder did not last
            inode = names[path]
            if inode is not None and inode != FOLDER:
                tree[path] = self._files[inode].versions()[versions.get(inode, 0)]
            else:
                tree[path] = None
        return tree

    def live(self) -> dict[str, int]:
        """The inode of each name that is there for a process."""
        names = dict(self.names)
        for one in self._pending:
            self._enter(names, one)
        return {path: inode for path, inode in names.items() if inode is not None}


def _choices(ways: list[int], rng: random.Random) -> Iterator[tuple[int, ...]]:
    """Every combination, or: nothing lost, all lost, each alone, all but each, and some by chance."""
    if math.prod(ways) <= _ALL_UP_TO:
        yield from itertools.product(*map(range, ways))
        return
    none, lost = tuple(0 for _ in ways), tuple(1 for _ in ways)
    yield from (none, lost)
    for at, count in enumerate(ways):
        for way in range(count):
            yield (*none[:at], way, *none[at + 1 :])
            yield (*lost[:at], way, *lost[at + 1 :])
    for _ in range(_RANDOM):
        yield tuple(rng.randrange(count) for count in ways)


def tree_of(root: Path) -> Tree:
    """What lies below ``root``, without what nobody needs: the catalogue, and room that is put by."""
    return {
        path.relative_to(root).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in sorted(root.rglob("*"))
        if not path.relative_to(root).as_posix().startswith(NOT_NEEDED)
    }


def lay_out(tree: Tree, root: Path) -> Path:
    """Write ``tree`` as files below ``root``."""
    root.mkdir(parents=True, exist_ok=True)
    for path, data in tree.items():
        if data is None:
            (root / path).mkdir()
        else:
            (root / path).write_bytes(data)
            if not path.startswith("tmp/"):
                (root / path).chmod(0o444)
    return root
