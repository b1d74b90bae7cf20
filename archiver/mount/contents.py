"""The bytes of what is mounted, and what is known of them: each snapshot opened once, and shared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from archiver.archive.serving.proof import ProofBook
from archiver.archive.serving.served_file import OpenSnapshots
from archiver.errors import DamageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.archive.archive import Archive
    from archiver.archive.seals import Snapshot
    from archiver.archive.serving.segment_cache import SegmentCache
    from archiver.archive.serving.served_file import Healer, ServedFile

OPEN_SNAPSHOTS: Final = 8
"""So many snapshots are kept open, beside those of which a file is open."""
_NEAR: Final = 4 << 20
"""The kernel reads ahead in requests that overtake each other by no more than this."""
_STEADY: Final = 8
"""After so many reads that go on near the one before, a reader goes from front to back."""


class OpenedFile:
    """An open file, of one reader or of several that share it."""

    def __init__(self, file: ServedFile) -> None:
        self._file = file
        self._last = 0
        self._steady = 0

    def read(self, start: int, stop: int) -> Iterator[memoryview]:
        """Yield the bytes from ``start`` to ``stop``; a steady reader's next ones are decoded meanwhile."""
        # Counted without a lock: a wrong count costs a segment that is decoded too early, or too late.
        self._steady = self._steady + 1 if abs(start - self._last) <= _NEAR else 0
        self._last = stop
        return self._file.read(start, stop, sequential=self._steady >= _STEADY)


class Contents:
    """All files of an archive; threads may share it."""

    def __init__(self, archive: Archive, cache: SegmentCache, healer: Healer | None = None) -> None:
        self._proofs = ProofBook(archive)
        self._snapshots = OpenSnapshots(archive, cache, healer, OPEN_SNAPSHOTS)

    def open(self, snapshot: Snapshot, path: str) -> OpenedFile:
        """Return a file of a snapshot; raise ArchiverError if its manifest cannot be read."""
        return OpenedFile(self._file(snapshot, path))

    def attribute(self, snapshot: Snapshot, path: str, name: str) -> str:
        """Return one of a file's digests; who vouched for it; when all of its snapshot was last proven."""
        if name == "proven":
            proof = self._proofs.snapshot(snapshot).proven
            return proof.time if proof else "never"
        opened = self._snapshots.get(snapshot)
        file = self._proofs.file(snapshot, opened.manifest, self._file(snapshot, path).entry)
        return {"blake3": file.blake3, "sha256": file.sha256, "vouched": file.vouched}[name]

    def _file(self, snapshot: Snapshot, path: str) -> ServedFile:
        try:
            return self._snapshots.get(snapshot).file(path)
        except KeyError:
            raise DamageError(f"The manifest of {snapshot.title} has no such file.") from None
