"""Head: what vouches for an archive's whole history, and whether what was kept of it still does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from archiver.archive.check.heads import (
    Chain,
    Cover,
    HeadCheck,
    check_heads,
    cover_of,
    trusted_heads,
)
from archiver.archive.layout import event_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from archiver.archive.archive import Archive
    from archiver.archive.events import Event
    from archiver.errors import DamageError


class Head(msgspec.Struct, frozen=True):
    """An event that no other lists.

    ``time`` is ``""`` if it is damaged; ``events`` counts what it vouches for, itself included. The rest
    is what it covers, as in ``trusted_heads.Cover``.
    """

    id: str
    time: str
    event: str
    events: int
    archive: str
    place: str
    scope: str


def heads(archive: Archive) -> list[Head]:
    """Return the heads of the archive's journal, by id; usually one, none if nothing was ever written."""
    chain, events = Chain(), dict[str, "Event"]()

    def damaged(name: str, _error: DamageError) -> None:
        chain.add(event_of(name) or "", None)

    for digest, event in archive.events(on_damage=damaged):
        chain.add(digest, event)
        events[digest] = event
    covers = cover_of(archive)
    return [_head(chain, digest, events.get(digest), covers) for digest in archive.journal.heads()]


def _head(chain: Chain, digest: str, event: Event | None, covers: Cover) -> Head:
    count = len(chain.vouched([digest]))
    known = (event.time, event.event) if event else ("", "")
    return Head(digest, *known, count, covers.archive, covers.place, covers.scope)


def check(archive: Archive, kept: Iterable[str]) -> HeadCheck:
    """Look for the heads that were kept elsewhere: ids, or names of files that ``head`` wrote.

    Raise UsageError if one is neither.
    """
    return check_heads(archive, [one for text in kept for one in trusted_heads(text)])
