"""Log: the events of a journal that somebody asks for, each read as its kind says."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from archiver.archive.events import Detail, Planned, Sealed, detail_of, kinds
from archiver.archive.policy import EVENT as POLICY
from archiver.archive.policy import Policy
from archiver.archive.seals import ID_DIGITS, is_seal_id

if TYPE_CHECKING:
    from archiver.archive.archive import Archive, OnDamage
    from archiver.archive.records import Event


class Query(NamedTuple):
    """Which events are asked for; empty and None: no matter.

    ``revision`` is the beginning of one, or of a seal's id, which may stand as ``repository`` too.
    ``since`` is a time that is included, ``until`` one that is not; ``last`` counts the newest ones.
    """

    repository: str = ""
    revision: str = ""
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
    events = archive.events(on_damage)
    entries = [Entry(digest, event, _detail(event, known)) for digest, event in events]
    if query.repository:
        subject = _subject(entries, query.repository, query.revision)
        entries = [entry for entry in entries if _concerns(entry, subject)]
    entries = [entry for entry in entries if _fits(entry.event, query)]
    return entries if query.last is None else entries[-query.last :]


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


class _Subject(NamedTuple):
    """What a reference names: a repository without case, the beginning of a revision, and its seals.

    ``""`` as repository: the seals alone.
    """

    repository: str
    digits: str
    seals: frozenset[str]


def _subject(entries: list[Entry], repository: str, revision: str) -> _Subject:
    """What a reference names, by what was ever sealed: it need not be held any more."""
    name = repository.casefold()
    sealed = [
        (entry.event, entry.detail.snapshot)
        for entry in entries
        if isinstance(entry.detail, Sealed)
    ]
    own = [pair for pair in sealed if pair[0].repository.casefold() == name]
    if not own and is_seal_id(repository, revision):
        return _Subject(
            "", "", frozenset(seal for _, seal in sealed if seal.startswith(repository))
        )
    of_revision = frozenset(seal for event, seal in own if event.revision.startswith(revision))
    if revision and not of_revision and len(revision) >= ID_DIGITS:
        by_id = frozenset(seal for _, seal in own if seal.startswith(revision))
        if by_id:
            return _Subject("", "", by_id)
    return _Subject(name, revision, of_revision)


def _concerns(entry: Entry, subject: _Subject) -> bool:
    """Whether an event is about this, or about what was sealed of it."""
    event, detail = entry.event, entry.detail
    named = not subject.seals.isdisjoint({event.snapshot, *event.listed("snapshots")})
    if not subject.repository:
        return named
    if event.repository:
        same = event.repository.casefold() == subject.repository
        return same and (named or event.revision.startswith(subject.digits))
    if isinstance(detail, Planned) and not subject.digits:
        return any(planned.key[0] == subject.repository for planned in detail.entries)
    return named
