"""Files of a snapshot, read in pieces; a stand-in for ``archive/serving``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from archiver.archive.quarantine import manifest_for, packs_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.archive.archive import Archive
    from archiver.archive.records import FileEntry
    from archiver.archive.seals import Snapshot

_PIECE: Final = 1 << 20


class SegmentCache:
    """Keeps nothing."""

    def __init__(self, budget_bytes: int) -> None:
        self.budget = budget_bytes


class ServedSnapshot:
    """A snapshot that is opened for reading."""

    def __init__(self, archive: Archive, cache: SegmentCache, snapshot: Snapshot) -> None:
        del cache
        self.snapshot = snapshot
        self.manifest = manifest_for(archive, snapshot)
        self._packs = packs_for(archive, snapshot)
        self._entries = {entry.path: entry for entry in self.manifest.files}

    def read(self, entry: FileEntry, start: int, stop: int) -> Iterator[memoryview]:
        """Yield the bytes from ``start`` and before ``stop``."""
        at = 0
        for size, digest in entry.segments:
            begin, end = max(start, at), min(stop, at + size)
            if begin < end:
                out = np.empty(size, np.uint8)
                self._packs.read(digest, size, out)
                for first in range(begin - at, end - at, _PIECE):
                    yield memoryview(out[first : min(first + _PIECE, end - at)].tobytes())
            at += size
            if at >= stop:
                return

    def entry(self, path: str) -> FileEntry | None:
        """Return the entry of a file; None if there is no such file."""
        return self._entries.get(path)
