"""A disk that refuses a call: the n-th change below a folder fails, once or from then on."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Self

_BY_HANDLE = ("write", "pwrite", "fsync", "fdatasync", "ftruncate")
_BY_PATH = ("open", "rename", "link", "mkdir", "unlink")


class FailingDisk:
    """Use as a context manager; ``count`` tells how many calls there were."""

    def __init__(self, root: Path, nth: int, number: int, *, lasting: bool) -> None:
        """Fail call ``nth`` (0: none) with the error ``number``; if ``lasting`` all after it too.

        A full disk still lets files be deleted and read.
        """
        self.count = 0
        self.failed: list[str] = []
        self.synced_again: list[str] = []
        """Files that were synced, or got a name, after a sync of them had failed."""
        self._spoilt: set[str] = set()
        self._root = str(root)
        self._nth, self._number, self._lasting = nth, number, lasting
        self._lock = threading.Lock()
        self._honest = {name: getattr(os, name) for name in (*_BY_HANDLE, *_BY_PATH)}

    def __enter__(self) -> Self:
        for name in _BY_HANDLE:
            setattr(os, name, self._by_handle(name))
        for name in _BY_PATH:
            setattr(os, name, self._by_path(name))
        return self

    def __exit__(self, *_: object) -> None:
        for name, honest in self._honest.items():
            setattr(os, name, honest)

    def _by_handle(self, call: str):
        def guarded(handle, *rest):
            place = str(Path(f"/proc/self/fd/{handle}").readlink())
            if "sync" in call and place in self._spoilt:
                self.synced_again.append(place)
            try:
                self._pass(call, place)
            except OSError:
                if "sync" in call and Path(place).is_file():
                    self._spoilt.add(place)
                raise
            return self._honest[call](handle, *rest)

        return guarded

    def _by_path(self, call: str):
        def guarded(path, *rest, **named):
            if call != "open" or (rest and rest[0] & os.O_CREAT):
                self._pass(call, str(path))
            if call in {"rename", "link"} and str(path) in self._spoilt:
                self.synced_again.append(str(path))
            return self._honest[call](path, *rest, **named)

        return guarded

    def _pass(self, call: str, place: str) -> None:
        """Raise OSError if this call is to fail."""
        inside = place.startswith(self._root + "/") or place == self._root
        if not inside or "/catalogue" in place:
            return
        with self._lock:
            self.count += 1
            spared = self._number == errno.ENOSPC and call == "unlink"
            later = self._lasting and 0 < self._nth <= self.count
            if (self.count == self._nth or later) and not spared:
                self.failed.append(f"{call} {place.removeprefix(self._root)}")
                raise OSError(self._number, os.strerror(self._number))


class LostMedium:
    """A medium that is pulled out while it is read: the n-th look below a folder fails, and all after.

    Use as a context manager; ``count`` tells how many looks there were.
    """

    _BY_PATH = ("open", "stat", "lstat", "scandir", "listdir")

    def __init__(self, root: Path, nth: int, number: int) -> None:
        """Fail from look ``nth`` on (0: never) with the error ``number``."""
        self.count = 0
        self._root = str(root)
        self._nth, self._number = nth, number
        self._lock = threading.Lock()
        self._honest = {name: getattr(os, name) for name in (*self._BY_PATH, "preadv")}

    def __enter__(self) -> Self:
        for name in self._BY_PATH:
            setattr(os, name, self._guarded(name))
        os.preadv = self._preadv
        return self

    def __exit__(self, *_: object) -> None:
        for name, honest in self._honest.items():
            setattr(os, name, honest)

    def _guarded(self, call: str):
        def guarded(path=".", *rest, **named):
            if isinstance(path, str | os.PathLike):
                self._look(os.fspath(path))
            return self._honest[call](path, *rest, **named)

        return guarded

    def _preadv(self, handle, *rest):
        self._look(os.readlink(f"/proc/self/fd/{handle}"))  # noqa: PTH115 - Path would look itself
        return self._honest["preadv"](handle, *rest)

    def _look(self, place: str) -> None:
        if not f"{place}/".startswith(self._root + "/"):
            return
        with self._lock:
            self.count += 1
            if 0 < self._nth <= self.count:
                raise OSError(self._number, os.strerror(self._number), place)
