"""Standing events: those of a journal that later ones have not made meaningless.

Each night says much of what the night before said. What decides how an archive stands now - policy, plans,
places, proofs - is the same whether an earlier event is counted that a later one says anew in full: that
one is **superseded**, and the others stand. So a journal of years has hardly more standing events than one
of a month.

This is for whoever asks how things stand now. Whoever asks how they came about (``log``, the report's
days, ``prune``, an audit of the documents) reads all of them.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import msgspec

from archiver.archive.clock import effective_times
from archiver.archive.events import (
    Audited,
    Copied,
    NightRun,
    PlacesSeen,
    Repaired,
    Synced,
    UpstreamUnseen,
)
from archiver.archive.policy import LEVELS

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Sequence

    from archiver.archive.events import Detail, Event

    _Claim = tuple[Hashable, ...]

_BROUGHT: Final = frozenset({"sealed", "held"})
"""The outcomes of an entry after which it does not matter what came of it before:"""
_ANY: Final = ("any",)
"""whoever claims this claims every outcome. Nothing in an event is equal to it."""


def standing_events(events: Sequence[tuple[str, Event]]) -> list[tuple[str, Event]]:
    """Return the events (id and event, each after those that it names) that stand, in the same order.

    Of events that stand, and more that come after all of them, those stand that would of all: so what
    stood may be kept, and the others need not be read again. Not where a clock was confirmed, which tells
    of times before.
    """
    stays = _needed_for_times(events)
    crowded = _crowded_seconds(events)
    later = _Later()
    standing = []
    for at in range(len(events) - 1, -1, -1):
        digest, event = events[at]
        may_go = at >= stays and event.time not in crowded
        if not (may_go and later.supersede(event)):
            standing.append((digest, event))
            later.add(event)
    standing.reverse()
    return standing


def _needed_for_times(events: Sequence[tuple[str, Event]]) -> int:
    """Return how many of the first events all stand, for they tell when something was not shown upstream.

    That counts by its effective time, which comes from all before it where a clock ran ahead of it.
    """
    if not any(event.type is UpstreamUnseen for _, event in events):
        return 0
    times = effective_times(events)
    return max(
        (
            at + 1
            for at, (digest, event) in enumerate(events)
            if event.type is UpstreamUnseen and times[digest] != event.time
        ),
        default=0,
    )


def _crowded_seconds(events: Iterable[tuple[str, Event]]) -> set[str]:
    """Return the seconds with several audits or repairs of one place.

    Which of them was the last is told by what each names, so that none between may be left out.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for _, event in events:
        if event.type is Audited or event.type is Repaired:
            detail = event.detail
            if isinstance(detail, Audited | Repaired):
                counts[event.time, detail.place] += 1
    return {time for (time, _), count in counts.items() if count > 1}


class _Later:
    """What events say that come later, each claim with the latest time at which it is made."""

    def __init__(self) -> None:
        self._times: dict[Hashable, str] = {}

    def add(self, event: Event) -> None:
        """Note what an event says."""
        for claim in _claims(event.detail, event):
            self._times[claim] = max(event.time, self._times.get(claim, ""))

    def supersede(self, event: Event) -> bool:
        """Return whether all that counts of an event is said later, and as of no earlier time."""
        claims = list(_claims(event.detail, event)) if _can_be_superseded(event.detail) else []
        return bool(claims) and all(
            self._times.get(claim, "") >= event.time
            or self._times.get((*claim[:-1], _ANY), "") >= event.time
            for claim in claims
        )


def _can_be_superseded(detail: Detail) -> bool:
    """Return whether an event of such a kind may be; damage that was found, and what is old, stays."""
    match detail:
        case NightRun() | Synced() | PlacesSeen():
            return True
        case Copied() as copied:
            return bool(copied.from_id and copied.to_id)
        case Audited() as audited:
            return not (audited.damaged or audited.damaged_files or audited.damaged_packs)
        case _:
            return False


def _claims(detail: Detail, event: Event) -> Iterator[_Claim]:
    """Give all that counts of an event, each claim by itself; nothing for most kinds.

    Claims are so cut that it does not matter whether one later event makes them all or each another one.
    """
    match detail:
        case NightRun(plan, place):  # the last night of a plan at a place counts, whatever it says
            yield NightRun, plan, place, ""
        case Synced() as synced:
            yield from _claims_of_run(synced)
        case PlacesSeen(places):
            for seen in places:
                yield PlacesSeen, seen
        case Copied() as copied if not isinstance(copied.packs, msgspec.UnsetType):
            ends = Copied, copied.from_, copied.from_id, copied.to, copied.to_id, copied.part
            for name in ("", *copied.snapshots, *copied.packs):
                yield *ends, name
        case Audited() as audited if audited.place and audited.level in LEVELS:
            yield from _claims_of_audit(audited, event)


def _claims_of_run(synced: Synced) -> Iterator[_Claim]:
    run = Synced, synced.plan, synced.place, synced.planned
    yield *run, -1, ""
    for entry, outcome in enumerate(synced.outcomes):
        if outcome in _BROUGHT:
            yield *run, entry, _ANY
        if outcome != "not-tried":
            yield *run, entry, outcome


def _claims_of_audit(audited: Audited, event: Event) -> Iterator[_Claim]:
    yield Audited, audited.place, event.repository, event.revision
    for what in audited.checked:
        yield "checked", audited.place, what
    for pack in audited.packs:
        yield "pack", audited.place, audited.level, pack
    for snapshot in audited.snapshots:
        yield "files", audited.place, snapshot
