"""Copies that may go: what they hold is proven elsewhere first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from archiver.archive.audit.objects import absent
from archiver.codec.segment import SEGMENT_MAX
from archiver.codec.workspace import workspace
from archiver.errors import ArchiverError, DamageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from archiver.archive.archive import Archive, Snapshot
    from archiver.archive.audit.objects import Digests
    from archiver.archive.packs.records import IndexEntry


class LiveObjects:
    """The objects that the manifests of snapshots name, and the packs of their seals."""

    def __init__(self, archive: Archive, snapshots: Iterable[Snapshot]) -> None:
        """Read every manifest; DamageError at the first that cannot be read."""
        self._archive = archive
        self._named: Digests = np.empty(0, "S32")
        packs: set[str] = set()
        for one in snapshots:
            packs.update(pack for pack, _ in one.seal.packs)
            files = archive.manifest(one.seal).files
            digests = {digest for entry in files for _, digest in entry.segments}
            if digests:
                new = np.frombuffer(bytes.fromhex("".join(digests)), "S32")
                self._named = np.union1d(self._named, new)
        self._packs = sorted(packs)

    def _unnamed(self, entries: Iterable[IndexEntry]) -> set[str]:
        return absent({entry.blake3 for entry in entries}, self._named)

    def unneeded_bytes(self) -> int:
        """Stored bytes in the packs that stay and that no manifest names."""
        total = 0
        for pack in self._packs:
            entries = _entries(self._archive, pack)
            unnamed = self._unnamed(entries)
            total += sum(entry.stored for entry in entries if entry.blake3 in unnamed)
        return total

    def only_in(self, pack: str) -> set[str]:
        """Named objects of a pack that come out whole of none of the packs that seals name."""
        entries = _entries(self._archive, pack)
        left = {entry.blake3 for entry in entries} - self._unnamed(entries)
        for other in self._packs:
            for entry in _entries(self._archive, other) if left and other != pack else ():
                if entry.blake3 in left and self._comes_out(other, entry):
                    left.discard(entry.blake3)
        return left

    def _comes_out(self, pack: str, entry: IndexEntry) -> bool:
        if not 0 < entry.size <= SEGMENT_MAX:
            return False
        try:
            self._archive.pack(pack).read(entry, workspace().take("check", entry.size))
        except ArchiverError:
            return False
        return True


def _entries(archive: Archive, pack: str) -> list[IndexEntry]:
    """What a pack lists, or what its frames hold; nothing if it cannot be read."""
    try:
        reader = archive.pack(pack)
        try:
            return list(reader.index())
        except DamageError:
            return list(reader.walk())
    except ArchiverError:
        return []
