"""Records what a run changes below a folder, call by call, as the operating system was asked to."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from pathlib import Path

NOT_NEEDED = ("catalogue", "tmp/reserve")
"""What nobody reads that cannot do without."""
FOLDER = -1
"""Stands for a folder where a file has the number of its inode."""


class Entries(NamedTuple):
    """Names that come or go at once (None: gone); lasting once ``folder`` is synced."""

    changes: dict[str, int | None]
    folder: str


class Write(NamedTuple):
    """Bytes of a file."""

    inode: int
    offset: int
    data: bytes


class Cut(NamedTuple):
    """A file's new size."""

    inode: int
    size: int


class Sync(NamedTuple):
    """A file's bytes are on the disk."""

    inode: int


class SyncFolder(NamedTuple):
    """The names in a folder are on the disk."""

    folder: str


Event = Entries | Write | Cut | Sync | SyncFolder


def parent(path: str) -> str:
    return path.rpartition("/")[0]


class Recorder:
    """Use as a context manager; ``log`` then holds what happened below ``root``.

    The catalogue is left out: it is an index, and any state of it must do no harm. So is the reserve.
    """

    CALLS = (
        *("open", "write", "pwrite", "ftruncate", "fsync", "fdatasync", "rename", "replace"),
        *("link", "unlink", "remove", "mkdir", "rmdir", "close"),
    )

    def __init__(self, root: Path, known: dict[str, int]) -> None:
        """Take ``known`` as the inode (or FOLDER) of each path that is there, relative to the root."""
        self.log: list[Event] = []
        self._root = str(root)
        self._names = dict(known)
        self._next = max((0, *known.values())) + 1
        self._handles: dict[int, int | str] = {}
        self._lock = threading.RLock()
        self._honest = {name: getattr(os, name) for name in self.CALLS}

    def __enter__(self) -> Self:
        for name in self.CALLS:
            setattr(os, name, self._serialised(getattr(self, f"_{name}")))
        return self

    def __exit__(self, *_: object) -> None:
        for name, honest in self._honest.items():
            setattr(os, name, honest)

    def _serialised(self, call):
        def locked(*arguments, **named):
            with self._lock:
                return call(*arguments, **named)

        return locked

    # ---- names

    def _below(self, path: object, folder: int | None = None) -> str | None:
        """The path relative to the root; None if it lies elsewhere or belongs to the catalogue."""
        if isinstance(path, int):
            return None
        text = os.fspath(path)
        if folder is not None:
            above = self._handles.get(folder)
            return None if not isinstance(above, str) else f"{above}/{text}".lstrip("/")
        text = os.path.abspath(text)  # noqa: PTH100 - links are kept
        if text == self._root:
            return ""
        name = text.removeprefix(self._root + "/")
        return None if name == text or name.startswith(NOT_NEEDED) else name

    def _enter(self, changes: dict[str, int | None], folder: str) -> None:
        for path, node in changes.items():
            if node is None:
                self._names.pop(path, None)
            else:
                self._names[path] = node
        self.log.append(Entries(changes, folder))

    def _open(self, path, flags, mode=0o777, *, dir_fd=None):
        name = self._below(path, dir_fd)
        new = name is not None and flags & os.O_CREAT and not os.path.lexists(path)
        handle = self._honest["open"](path, flags, mode, dir_fd=dir_fd)
        self._handles.pop(handle, None)
        if name is None:
            return handle
        if new:
            self._enter({name: self._next}, parent(name))
            self._next += 1
        node = self._names.get(name, FOLDER if name == "" else None)
        if node is not None:
            self._handles[handle] = name if node == FOLDER else node
        if flags & os.O_TRUNC and not new:
            self.log.append(Cut(self._names[name], 0))
        return handle

    def _close(self, handle):
        self._handles.pop(handle, None)
        self._honest["close"](handle)

    def _rename(self, old, new, **named):
        self._honest["rename"](old, new, **named)
        was, now = self._below(old), self._below(new)
        if was is None and now is None:
            return
        assert was is not None, f"{old} came from elsewhere"
        assert now is not None, f"{new} went elsewhere"
        assert self._names[was] != FOLDER, "folders keep their names"
        self._enter({was: None, now: self._names[was]}, parent(now))

    _replace = _rename

    def _link(self, old, new, **named):
        self._honest["link"](old, new, **named)
        name = self._below(new)
        if name is not None:
            self._enter({name: self._names[self._below(old)]}, parent(name))

    def _unlink(self, path, *, dir_fd=None):
        self._honest["unlink"](path, dir_fd=dir_fd)
        name = self._below(path, dir_fd)
        if name is not None:
            self._enter({name: None}, parent(name))

    _remove = _unlink

    def _rmdir(self, path, *, dir_fd=None):
        self._honest["rmdir"](path, dir_fd=dir_fd)
        name = self._below(path, dir_fd)
        if name is not None:
            self._enter({name: None}, parent(name))

    def _mkdir(self, path, mode=0o777, *, dir_fd=None):
        self._honest["mkdir"](path, mode, dir_fd=dir_fd)
        name = self._below(path, dir_fd)
        if name:
            self._enter({name: FOLDER}, parent(name))

    # ---- bytes

    def _write(self, handle, data):
        inode = self._handles.get(handle)
        if not isinstance(inode, int):
            return self._honest["write"](handle, data)
        count = self._honest["write"](handle, data)
        offset = os.lseek(handle, 0, os.SEEK_CUR) - count
        self.log.append(Write(inode, offset, bytes(data[:count])))
        return count

    def _pwrite(self, handle, data, offset):
        count = self._honest["pwrite"](handle, data, offset)
        inode = self._handles.get(handle)
        if isinstance(inode, int):
            self.log.append(Write(inode, offset, bytes(data[:count])))
        return count

    def _ftruncate(self, handle, size):
        self._honest["ftruncate"](handle, size)
        inode = self._handles.get(handle)
        if isinstance(inode, int):
            self.log.append(Cut(inode, size))

    def _fsync(self, handle):
        # Not done: nothing loses its power here, and the log is what counts.
        node = self._handles.get(handle)
        if isinstance(node, int):
            self.log.append(Sync(node))
        elif isinstance(node, str):
            self.log.append(SyncFolder(node))

    _fdatasync = _fsync
