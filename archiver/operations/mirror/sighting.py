"""Journalling what upstream's names (``main``, tags) point at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.archive.events import Gone, Sighted, detail_of, new_event
from archiver.catalogue import queries
from archiver.text import utc_after

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.catalogue.database import Catalogue
    from archiver.upstream.protocol import Listing


def record_sighting(archive: Archive, catalogue: Catalogue, listing: Listing) -> None:
    """Journal that upstream points a name at this revision, once for each name and revision.

    Again if it was gone meanwhile.
    """
    if not listing.revision or listing.name == listing.revision:
        return
    latest = None
    for _, event in queries.events(catalogue, repository=listing.repository):
        told = detail_of(event, Sighted) or detail_of(event, Gone)
        if told and told.name == listing.name and (latest is None or event.time >= latest.time):
            latest = event
    if latest and latest.event == Sighted.EVENT and latest.revision == listing.revision:
        return
    detail = Sighted(listing.name, listing.endpoint or listing.upstream)
    # In a second of its own, so that "sighted last" is one.
    time = utc_after(latest.time if latest else "")
    archive.record(new_event(detail, listing.repository, listing.revision, time=time))
