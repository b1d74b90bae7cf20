"""New packs of objects in whatever order they come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.archive.packs.writer import PackWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from archiver.archive.archive import Archive
    from archiver.codec.segment import EncodedObject
    from archiver.digest import Blake3Hex
    from archiver.storage.store import Staged


class LoosePacks:
    """Writes such packs; ``approve`` is told of each before it is visible."""

    def __init__(self, archive: Archive, approve: Callable[[Blake3Hex, Staged], None]) -> None:
        self._archive = archive
        self._approve = approve
        self._writer: PackWriter | None = None
        self._made: list[str] = []

    def add(self, item: EncodedObject) -> None:
        """Store an object."""
        if self._writer is None:
            self._writer = PackWriter(self._archive.store, self._archive.info)
        self._writer.append(item)
        if self._writer.full:
            self.finish()

    def finish(self) -> list[str]:
        """Publish; all the packs that were made."""
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                self._made.append(writer.finish(self._approve)[0])
            finally:
                writer.abort()
        return self._made

    def abort(self) -> None:
        """Throw away what was not published; harmless after ``finish``."""
        if self._writer is not None:
            self._writer.abort()
