"""Reindex: write the catalogue anew from the archive's own files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from archiver.catalogue.rebuild import rebuild_catalogue

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.errors import DamageError
    from archiver.progress import Progress


class ReindexReport(msgspec.Struct, frozen=True):
    """How many records the new catalogue holds, and which names could not be read, and why."""

    file: str
    packs: int
    snapshots: int
    events: int
    damaged: dict[str, str]


def reindex(archive: Archive, progress: Progress) -> ReindexReport:
    """Rebuild the catalogue; what is damaged is left out and told."""
    damaged: dict[str, str] = {}

    def note(name: str, error: DamageError) -> None:
        damaged[name] = error.message

    path, counts = rebuild_catalogue(archive, progress, note)
    return ReindexReport(str(path), counts.packs, counts.snapshots, counts.events, damaged)
