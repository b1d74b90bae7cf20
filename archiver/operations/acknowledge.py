"""Acknowledge: the owner knows that upstream no longer gives what the archive holds.

Runs go on reporting such a fact, and none fails for it. Damage and missing copies are mended, never
acknowledged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, get_args

import msgspec

from archiver.archive.events import Acknowledged, AcknowledgedFact, PlannedEntry, new_event
from archiver.archive.places import own_place
from archiver.archive.plans import FactKey, Plans
from archiver.errors import UsageError, skip_damaged
from archiver.names import as_repo_id
from archiver.text import plural, printable, utc_now

if TYPE_CHECKING:
    from archiver.archive.archive import Archive

FACTS: Final[tuple[AcknowledgedFact, ...]] = get_args(AcknowledgedFact)
_NOTE_MAX: Final = 500


class KnownFact(msgspec.Struct, frozen=True):
    """A fact that was acknowledged, when, and until when (``""``: for good)."""

    fact: AcknowledgedFact
    repository: str
    name: str
    since: str
    until: str
    note: str


def acknowledged(archive: Archive) -> list[KnownFact]:
    """Return every acknowledgement that holds now, by repository."""
    plans = _plans(archive)
    known = plans.upstreams.acknowledgements(utc_now())
    spellings = plans.upstreams.spellings
    return [
        KnownFact(
            key.fact,
            spellings[key.repository],
            key.name,
            time,
            acknowledgement.until,
            acknowledgement.note,
        )
        for key, (time, acknowledgement) in sorted(known.items(), key=lambda pair: pair[0][1:])
    ]


def parse_fact(text: str) -> AcknowledgedFact:
    """Return the fact that ``text`` names; raise UsageError that says why if it cannot be acknowledged."""
    for fact in FACTS:
        if text == fact:
            return fact
    raise UsageError(
        f"{printable(text, 80)!r} cannot be acknowledged.",
        hint=f"What can be is: {', '.join(FACTS)}. Damage, missing copies and missing proofs are "
        "mended, not acknowledged: 'archiver status' names the command for each. What upstream "
        "published wrong is accepted with 'archiver policy set --accept'.",
    )


class AcknowledgeRequest(NamedTuple):
    """A fact about a repository, or a branch, tag or commit of it, and until when it is known.

    ``withdraw``: it is a failure again.
    """

    fact: AcknowledgedFact
    repository: str
    revision: str = ""
    until: str = ""
    note: str = ""
    withdraw: bool = False


def acknowledge(archive: Archive, request: AcknowledgeRequest) -> KnownFact:
    """Journal that a fact is known.

    Raise UsageError if nothing is held of the repository, if the journal does not say that fact, or if
    what is withdrawn was not acknowledged.
    """
    archive.require_writable()
    fact, note = request.fact, request.note
    if len(note) > _NOTE_MAX or not note.isprintable():
        raise UsageError(f"A note has at most {_NOTE_MAX} printable characters.")
    plans = _plans(archive)
    entry = PlannedEntry(as_repo_id(request.repository), request.revision)
    key = FactKey(fact, *entry.key)
    if not request.withdraw:
        _require_known(archive, plans, key, entry)
    elif key not in plans.upstreams.acknowledgements(utc_now()):
        raise UsageError(f"That {fact} {printable(entry.title)} is known was not said.")
    detail = Acknowledged(fact, entry.name, request.until, note, request.withdraw)
    event = new_event(detail, entry.repository, time=plans.next_time())
    archive.record(event)
    return KnownFact(fact, entry.repository, entry.name, event.time, request.until, note)


def _require_known(archive: Archive, plans: Plans, key: FactKey, entry: PlannedEntry) -> None:
    """Raise UsageError for what nobody has seen, which is perhaps mistyped, or what is not held."""
    held = archive.snapshots_of(entry.repository, on_damage=skip_damaged)
    title = printable(entry.title)
    if not held:
        raise UsageError(
            f"Nothing of {title} is held, so its loss upstream is no known fact of this archive.",
            hint="If it will never come, take it out of the plan and run the plan again.",
        )
    reported = {planned.key for planned in plans.entries_with(key.fact)}
    if key.fact == "gone":
        reported |= plans.upstreams.gone.keys()
    if entry.key not in reported:
        titles = sorted({f"{repository}@{name}" for repository, name in reported})
        known = f"; it does of {', '.join(map(printable, titles[:8]))}" if titles else ""
        raise UsageError(
            f"The journal does not say {key.fact} of {title}{known}.",
            hint=f"{plural(len(held), 'snapshot is', 'snapshots are')} held of it. A 'sync' tells it when "
            f"upstream answers so; 'archiver log {printable(entry.repository)}' shows what is told.",
        )


def _plans(archive: Archive) -> Plans:
    return Plans(list(archive.events(skip_damaged)), own_place(archive))
