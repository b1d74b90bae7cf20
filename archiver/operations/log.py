"""Log: the events of a journal that somebody asks for, each read as its kind says."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from archiver.archive.events import Planned, Sealed, UpstreamUnseen
from archiver.archive.seals import ID_DIGITS, is_seal_id

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.archive.events import Event
    from archiver.errors import OnDamage


class LogRequest(NamedTuple):
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


def log(archive: Archive, request: LogRequest, on_damage: OnDamage) -> list[tuple[str, Event]]:
    """Return the events, with their ids, that were asked for, by time; damaged ones go to ``on_damage``.

    The journal's own order, in which each comes after those that it names, tells within a second: what came
    from another journal names what was there when it came, however old it is.
    """
    entries = sorted(archive.events(on_damage), key=lambda entry: entry[1].time)
    if request.repository:
        subject = _subject([event for _, event in entries], request.repository, request.revision)
        entries = [(digest, event) for digest, event in entries if _concerns(event, subject)]
    entries = [
        (digest, event)
        for digest, event in entries
        if not request.kinds or event.event in request.kinds
        if event.time >= request.since and (not request.until or event.time < request.until)
    ]
    return entries if request.last is None else entries[-request.last :]


class _Subject(NamedTuple):
    """What a reference names: a repository without case, the beginning of a revision, and its seals.

    ``""`` as repository: the seals alone.
    """

    repository: str
    digits: str
    seals: frozenset[str]


def _subject(events: list[Event], repository: str, revision: str) -> _Subject:
    """Return what a reference names, by what was ever sealed: it need not be held any more."""
    name = repository.casefold()
    sealed = [event for event in events if isinstance(event.detail, Sealed)]
    own = [event for event in sealed if event.repository.casefold() == name]
    if not own and is_seal_id(repository, revision):
        by_id = {event.snapshot for event in sealed if event.snapshot.startswith(repository)}
        return _Subject("", "", frozenset(by_id))
    of_revision = {event.snapshot for event in own if event.revision.startswith(revision)}
    if revision and not of_revision and len(revision) >= ID_DIGITS:
        by_id = {event.snapshot for event in own if event.snapshot.startswith(revision)}
        if by_id:
            return _Subject("", "", frozenset(by_id))
    return _Subject(name, revision, frozenset(of_revision))


def _concerns(event: Event, subject: _Subject) -> bool:
    """Return whether an event is about this, or about what was sealed of it."""
    detail = event.detail
    named = not subject.seals.isdisjoint(event.snapshots)
    if not subject.repository:
        return named
    if event.repository:
        same = event.repository.casefold() == subject.repository
        return same and (named or event.revision.startswith(subject.digits))
    if isinstance(detail, UpstreamUnseen) and not subject.digits:
        names = (*(entry.repository for entry in detail.unseen), *detail.seen)
        return any(name.casefold() == subject.repository for name in names)
    if isinstance(detail, Planned) and not subject.digits:
        return any(planned.key[0] == subject.repository for planned in detail.entries)
    return named
