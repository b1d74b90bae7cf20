"""Journalling what upstream's names (``main``, tags) point at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.archive.events import Gone, Sighted, new_event
from archiver.catalogue import queries
from archiver.text import utc_after

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.catalogue.database import Catalogue
    from archiver.upstream.remote_file import Listing


def record_sighting(archive: Archive, catalogue: Catalogue, listing: Listing) -> None:
    """Journal that upstream points a name at this revision, once for each name and revision.

    Again if it was gone meanwhile. What a cache says is journalled only of names that upstream was never
    asked for.
    """
    if not listing.revision or listing.name == listing.revision:
        return
    detail = Sighted(listing.name, listing.endpoint or listing.upstream)
    latest, last = None, ""
    for _, event in queries.events(catalogue, repository=listing.repository):
        told = event.detail
        if not isinstance(told, Sighted | Gone) or told.name != listing.name:
            continue
        last = max(last, event.time)
        hearsay = isinstance(told, Sighted) and told.hearsay
        if detail.hearsay and not hearsay:
            return
        if hearsay == detail.hearsay and (latest is None or event.time >= latest.time):
            latest = event
    if latest and isinstance(latest.detail, Sighted) and latest.revision == listing.revision:
        return
    # In a second of its own, so that "sighted last" is one.
    time = utc_after(last)
    archive.record(new_event(detail, listing.repository, listing.revision, time=time))
