"""Journalling what upstream's names (``main``, tags) point at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.archive.archive import TOOL
from archiver.archive.records import Event
from archiver.catalogue import queries
from archiver.text import utc_after

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.catalogue.database import Catalogue
    from archiver.upstream.protocol import Listing


def record_sighting(archive: Archive, catalogue: Catalogue, listing: Listing) -> None:
    """Journal that upstream points a name at this revision, once for each name and revision."""
    if not listing.revision or listing.name == listing.revision:
        return
    detail = {"name": listing.name, "upstream": listing.endpoint or listing.upstream}
    known = queries.events(catalogue, repository=listing.repository)
    latest = [
        event
        for _, event in known
        if event.event == "sighted" and event.detail.get("name") == listing.name
    ]
    if latest and latest[-1].revision == listing.revision:
        return
    archive.record(
        # In a second of its own, so that "sighted last" is one.
        Event(
            "sighted",
            utc_after(latest[-1].time if latest else ""),
            TOOL,
            listing.repository,
            listing.revision,
            detail,
        )
    )
