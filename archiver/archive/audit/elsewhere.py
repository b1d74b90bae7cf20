"""Objects that are whole in some pack of the archive, though not in the one where they should be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.archive.packs.map import PackMap
from archiver.codec.workspace import workspace
from archiver.errors import ArchiverError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from archiver.archive.archive import Archive


class Elsewhere:
    """Reads single objects from whatever pack has them; no pack is opened before the first one."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._packs: PackMap | None = None
        self._known: dict[str, bool] = {}

    def whole(self, digests: Iterable[str]) -> set[str]:
        """Those of the objects that come out whole of some pack."""
        return {digest for digest in digests if self._comes_out(digest)}

    def _comes_out(self, digest: str) -> bool:
        if digest not in self._known:
            self._known[digest] = self._read(digest)
        return self._known[digest]

    def _read(self, digest: str) -> bool:
        if self._packs is None:
            self._packs = PackMap(self._archive, self._archive.packs())
        found = self._packs.find(digest)
        if found is None:
            return False
        size = found[1].size
        try:
            self._packs.read(digest, size, workspace().take("check", size))
        except (ArchiverError, ValueError):
            return False
        return True
