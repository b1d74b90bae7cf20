"""Log: the events of a journal that somebody asks for, each read as its kind says."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from archiver.archive.events import Detail, Planned, Sealed, detail_of, kinds
from archiver.archive.policy import EVENT as POLICY
from archiver.archive.policy import Policy

if TYPE_CHECKING:
    from archiver.archive.archive import Archive, OnDamage
    from archiver.archive.records import Event


class Query(NamedTuple):
    """Which events are asked for; empty and None: no matter.

    ``since`` is a time that is included, ``until`` one that is not; ``last`` counts the newest ones.
    """

    repository: str = ""
    since: str = ""
    until: str = ""
    kinds: frozenset[str] = frozenset()
    last: int | None = None


class Entry(NamedTuple):
    """An event; ``detail`` is None if its kind, or its form, is not known."""

    id: str
    event: Event
    detail: Detail | Policy | None


def log(archive: Archive, query: Query, on_damage: OnDamage) -> list[Entry]:
    """Return the events that were asked for, oldest first; damaged ones go to ``on_damage``."""
    known = kinds()
    found: list[Entry] = []
    sealed: set[str] = set()
    wanted = query.repository.casefold()
    for digest, event in archive.events(on_damage):
        detail = _detail(event, known)
        if wanted and isinstance(detail, Sealed) and event.repository.casefold() == wanted:
            sealed.add(detail.snapshot)
        if _fits(event, query) and (not wanted or _concerns(event, detail, wanted, sealed)):
            found.append(Entry(digest, event, detail))
    return found if query.last is None else found[-query.last :]


def _detail(event: Event, known: dict[str, type[Detail]]) -> Detail | Policy | None:
    if event.event == POLICY:
        with suppress(msgspec.ValidationError):
            return msgspec.convert(event.detail, Policy)
    kind = known.get(event.event)
    return detail_of(event, kind) if kind else None


def _fits(event: Event, query: Query) -> bool:
    if query.kinds and event.event not in query.kinds:
        return False
    return event.time >= query.since and (not query.until or event.time < query.until)


def _concerns(
    event: Event, detail: Detail | Policy | None, repository: str, sealed: set[str]
) -> bool:
    """Whether an event is about a repository, given without case, or about what was sealed of it."""
    if event.repository:
        return event.repository.casefold() == repository
    if isinstance(detail, Planned):
        return any(one.key[0] == repository for one in detail.entries)
    return not sealed.isdisjoint({event.snapshot, *event.listed("snapshots")})
