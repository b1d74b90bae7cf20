"""Head: what vouches for an archive's whole history, and whether what was kept of it still does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from archiver.archive.chain import Chain
from archiver.archive.check.heads import (
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
    is what it covers, as in ``check.heads.Cover``.
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
    cover = cover_of(archive)
    return [
        Head(
            id=digest,
            time=events[digest].time if digest in events else "",
            event=events[digest].event if digest in events else "",
            events=len(chain.vouched([digest])),
            archive=cover.archive,
            place=cover.place,
            scope=cover.scope,
        )
        for digest in archive.journal.heads()
    ]


def check(archive: Archive, texts: Iterable[str]) -> HeadCheck:
    """Look for the heads that were kept elsewhere: ids, or names of files that ``head`` wrote.

    Raise UsageError if one is neither.
    """
    return check_heads(archive, [head for text in texts for head in trusted_heads(text)])
