"""From the stored files of a listing to the seal of a snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from archiver.archive.pin import Pin, check_pin
from archiver.archive.publish import publish
from archiver.archive.records import Manifest, Source
from archiver.digest import blake3_hex

if TYPE_CHECKING:
    from archiver.archive.archive import Archive, Snapshot
    from archiver.archive.publish import Placement
    from archiver.archive.records import FileEntry, Selection
    from archiver.upstream.protocol import Listing


def publish_listing(
    archive: Archive,
    listing: Listing,
    entries: list[FileEntry],
    place: Placement,
    selection: Selection,
    pins: tuple[Pin, ...],
) -> tuple[Snapshot, Manifest]:
    """Seal what was taken in; MismatchError if a pinned digest is another."""
    revision = listing.revision or derived_revision(entries)
    facts = {entry.path: (entry.size, entry.sha256) for entry in entries}
    for pin in pins:
        check_pin(pin, listing.repository, revision, facts)
    source = Source(
        upstream=listing.upstream,
        endpoint=listing.endpoint,
        repository=listing.repository,
        revision=revision,
        id=listing.id,
        committed=listing.committed,
        licence=listing.licence,
        card=listing.card,
    )
    manifest = Manifest(source, tuple(sorted(entries, key=lambda entry: entry.path)))
    snapshot = publish(archive, manifest, place, selection)
    return snapshot, manifest


def derived_revision(entries: list[FileEntry]) -> str:
    """The revision of files that have no commit (``docs/format.md``, 6.1)."""
    rows = [[e.path, e.size, e.sha256] for e in sorted(entries, key=lambda entry: entry.path)]
    return blake3_hex(msgspec.json.encode(rows))[:40]
