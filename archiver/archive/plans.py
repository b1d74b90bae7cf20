"""Plans as the journal knows them: what is wanted at a place, and whether that is held.

``sync`` journals the plan that it runs and what came of it (``docs/format.md``, annex A.6). What is judged
here is a plan's own place: a replica holds the events, and is not fed by them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import msgspec

from archiver.archive.clock import AHEAD
from archiver.archive.events import (
    Acknowledged,
    AcknowledgedFact,
    Gone,
    Outcome,
    Planned,
    PlannedEntry,
    PlanRetired,
    Sighted,
    Synced,
    UpstreamChanged,
    new_event,
)
from archiver.archive.places import own_place
from archiver.archive.seals import Snapshot, preference
from archiver.archive.vouching import Voucher
from archiver.archive.watch import awaits_verdict
from archiver.errors import (
    AccessError,
    ArchiverError,
    ExitCode,
    TokenError,
    UpstreamGoneError,
    skip_damaged,
)
from archiver.text import seconds_of, utc_after, utc_before

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from archiver.archive.archive import Archive
    from archiver.archive.events import Event
    from archiver.archive.places import Place
    from archiver.plan.document import Plan, PlannedRepository

MAX_AGE: Final = 7 * 86400
"""Upstream should have answered for each entry of a plan within so many seconds, unless it says."""
_ANSWERS: Final = frozenset[Outcome]({"sealed", "held", "gone", "refused", "mismatch"})
"""The outcomes of entries about which upstream has answered."""
_NO_RESULT: Final = frozenset[Outcome]({"unreachable", "interrupted", "not-tried"})
_COMMIT: Final = re.compile(r"[0-9a-f]{7,64}")
"""A commit, or the beginning of one."""
_BROUGHT: Final = frozenset[Outcome]({"sealed", "held"})
_FACTS: Final[dict[str, AcknowledgedFact]] = {"gone": "gone", "refused": "refused"}

State = Literal["held", "missing", "gone", "refused", "failed", "unvouched", "late"]
"""How an entry stands: ``failed`` is held, but what upstream has by now could not be brought; of
``unvouched`` bytes are held that nobody vouched for, and it was upstream's that were wanted."""
IsVouched = Callable[[Snapshot], bool]
"""Whether somebody vouched for every file of a snapshot."""
Key = tuple[str, str]
"""A repository, without case, and the branch, tag or commit that is asked for."""


class EntryStatus(msgspec.Struct, frozen=True):
    """One entry of a plan.

    ``snapshot`` is the id of what is held of it, ``asked`` when a run last got to it and ``outcome``
    what came of that, ``answered`` when upstream last answered; each ``""`` if there is none.
    ``acknowledged`` says that its owner knows of its state.
    """

    repository: str
    revision: str
    state: State
    snapshot: str = ""
    asked: str = ""
    outcome: Outcome | Literal[""] = ""
    answered: str = ""
    acknowledged: bool = False

    @property
    def title(self) -> str:
        """``Org/Name`` or ``Org/Name@revision``."""
        return f"{self.repository}@{self.revision}" if self.revision else self.repository

    @property
    def met(self) -> bool:
        """Whether nothing falls short, or only what the owner knows of."""
        return self.state == "held" or self.acknowledged


class PlanStatus(msgspec.Struct, frozen=True):
    """One plan that feeds this place: when it last ran, with which exit code (-1: not to an end).

    ``max_age`` is in seconds.
    """

    plan: str
    source: str
    planned: str
    ran: str
    exit_code: int
    max_age: int
    entries: tuple[EntryStatus, ...]

    def entries_in(self, state: State) -> tuple[EntryStatus, ...]:
        """Return the entries that stand so and that nobody has acknowledged."""
        return tuple(
            entry for entry in self.entries if entry.state == state and not entry.acknowledged
        )


class _EntryRuns(NamedTuple):
    """What is known of one entry from the runs of its plan.

    ``ran`` is when the last run got to it, and ``outcome`` what came of that. ``result`` is the last
    outcome that says anything of upstream or the archive: a night without a network, or a run that was
    interrupted, makes nothing better. ``answered`` is when upstream last answered, ``brought`` when a run
    last held it.
    """

    ran: str = ""
    outcome: Outcome | Literal[""] = ""
    result: Outcome | Literal[""] = ""
    answered: str = ""
    brought: str = ""


class KnownPlan(NamedTuple):
    """A plan of this place, as it was last journalled, and its runs."""

    id: str
    time: str
    planned: Planned
    ran: str
    exit_code: int
    runs: dict[Key, _EntryRuns]
    min_free: int = 0
    """Bytes that its last run was to leave free."""


class FactKey(NamedTuple):
    """What can be acknowledged: a fact of a repository's branch, tag or commit."""

    fact: AcknowledgedFact
    repository: str
    name: str


class Upstreams:
    """What the journal's events (id and event, oldest first) tell of upstream, and who knows of it."""

    def __init__(self, events: Iterable[tuple[str, Event]]) -> None:
        self.sighted: dict[Key, dict[str, str]] = {}
        """Repository and name -> revision -> when upstream was last seen to point the name at it."""
        self.gone: dict[Key, str] = {}
        """Repository and name -> since when upstream is known to have it no more."""
        self.last = ""
        """The time of the newest of them: an acknowledgement must be later."""
        self._acknowledged: dict[FactKey, tuple[str, Acknowledged]] = {}
        self.spellings: dict[str, str] = {}
        """Repository, without case -> as the newest event spells it."""
        for _, event in events:
            self._add(event)

    def _add(self, event: Event) -> None:
        repository = event.repository.casefold()
        match event.detail:
            case Sighted(name) as sighted if not sighted.hearsay:
                self.sighted.setdefault((repository, name), {})[event.revision] = event.time
                self.gone.pop((repository, name), None)
            case Gone(name):
                self.gone[repository, name] = event.time
            case UpstreamChanged() as changed:
                self._add_verdict(repository, event.time, changed)
            case Acknowledged(fact, name) as known:
                self._acknowledged[FactKey(fact, repository, name)] = event.time, known
            case _:
                return
        self.spellings[repository] = event.repository
        self.last = max(self.last, event.time)

    def _add_verdict(self, repository: str, time: str, changed: UpstreamChanged) -> None:
        """Take in that a repository as a whole is called gone, or is shown again."""
        names = {name for known, name in self.sighted if known == repository} or {"main"}
        for change in changed.changes:
            for name in names:
                if change.what == "gone":
                    self.gone.setdefault((repository, name), time)
                elif change.what == "back":
                    self.gone.pop((repository, name), None)

    def acknowledgements(self, now: str) -> dict[FactKey, tuple[str, Acknowledged]]:
        """Return those that hold at this time, each with when it was made."""
        return {
            key: (time, known)
            for key, (time, known) in self._acknowledged.items()
            if not known.withdrawn and (not known.until or now < known.until)
        }

    def knows(self, fact: AcknowledgedFact, key: Key, now: str, *, since: str = "") -> bool:
        """Return whether the owner acknowledged a fact, which was last not so at the time ``since``."""
        made, _ = self.acknowledgements(now).get(FactKey(fact, *key), ("", None))
        seen = max(self.sighted.get(key, {}).values(), default="")
        return bool(made) and made >= max(seen, since)


class Plans:
    """The plans that the journal's events (id and event, oldest first) tell of at ``place``."""

    def __init__(self, events: Sequence[tuple[str, Event]], place: Place) -> None:
        self.upstreams = Upstreams(events)
        self.last = ""
        """The time of the newest event of a plan: what is journalled next must be later."""
        self._active: dict[str, KnownPlan] = {}
        plans: dict[str, Planned] = {}
        for digest, event in events:
            match event.detail:
                case Planned() as planned if place.is_named(planned.place):
                    plans[digest] = planned
                    self._begin(digest, event.time, planned)
                case PlanRetired() as retired if place.is_named(retired.place):
                    self._active.pop(retired.plan, None)
                    self.last = max(self.last, event.time)
                case Synced() as synced if place.is_named(synced.place):
                    self._end(event.time, synced, plans.get(synced.planned))

    def _begin(self, digest: str, time: str, planned: Planned) -> None:
        before = self._active.get(planned.plan)
        new = KnownPlan(digest, time, planned, "", -1, {})
        if before:  # what was asked before is still known
            new = before._replace(id=digest, time=time, planned=planned)
        self._active[planned.plan] = new
        self.last = max(self.last, time)

    def _end(self, time: str, synced: Synced, planned: Planned | None) -> None:
        self.last = max(self.last, time)
        plan = self._active.get(synced.plan)
        if plan is None or planned is None:
            return
        for entry, outcome in zip(planned.entries, synced.outcomes, strict=False):
            if outcome != "not-tried":
                known = plan.runs.get(entry.key, _EntryRuns())
                plan.runs[entry.key] = _EntryRuns(
                    time,
                    outcome,
                    known.result if outcome in _NO_RESULT else outcome,
                    time if outcome in _ANSWERS else known.answered,
                    time if outcome in _BROUGHT else known.brought,
                )
        self._active[synced.plan] = plan._replace(
            ran=time, exit_code=synced.exit_code, min_free=synced.min_free
        )

    @property
    def active(self) -> list[KnownPlan]:
        """Those that were not retired, by name."""
        return [self._active[name] for name in sorted(self._active)]

    def find(self, name: str) -> KnownPlan | None:
        """Return the plan of this name that feeds this place, or None."""
        return self._active.get(name)

    def entries_with(self, outcome: str) -> list[PlannedEntry]:
        """Return the entries of which the last run that came to a result had this one."""
        return [
            entry
            for plan in self.active
            for entry in plan.planned.entries
            if plan.runs.get(entry.key, _EntryRuns()).result == outcome
        ]

    def next_time(self) -> str:
        """Return the time for an event that must count as later than all of these."""
        return utc_after(max(self.last, self.upstreams.last))

    def judge(
        self, plan: KnownPlan, snapshots: Iterable[Snapshot], now: str, is_vouched: IsVouched
    ) -> PlanStatus:
        """Return how each entry of a plan stands, given the snapshots that are held."""
        held: dict[str, list[Snapshot]] = {}
        for snapshot in snapshots:
            held.setdefault(snapshot.seal.repository.casefold(), []).append(snapshot)
        max_age = plan.planned.max_age or MAX_AGE
        since = utc_before(max_age)
        entries = tuple(
            self._judge(plan, entry, held.get(entry.key[0], ()), since, now, is_vouched)
            for entry in plan.planned.entries
        )
        source = plan.planned.source
        return PlanStatus(
            plan.planned.plan, source, plan.time, plan.ran, plan.exit_code, max_age, entries
        )

    def _judge(
        self,
        plan: KnownPlan,
        entry: PlannedEntry,
        held: Collection[Snapshot],
        since: str,
        now: str,
        is_vouched: IsVouched,
    ) -> EntryStatus:
        runs = plan.runs.get(entry.key, _EntryRuns())
        snapshot = self.covering(entry, filter(is_vouched, held))
        vouched = snapshot is not None
        snapshot = snapshot or self.covering(entry, held)
        state: State = "held"
        if snapshot is None:
            state = "missing"
        elif runs.result in _FACTS:
            state = _FACTS[runs.result]
        elif runs.result in {"mismatch", "failed", "no-space"}:
            state = "failed"
        elif not vouched:
            state = "unvouched"
        elif not any(_is_recent(time, since, now) for time in (runs.answered, plan.time)):
            state = "late"
        return EntryStatus(
            repository=entry.repository,
            revision=entry.revision,
            state=state,
            snapshot=snapshot.id if snapshot else "",
            asked=runs.ran,
            outcome=runs.outcome,
            answered=runs.answered,
            acknowledged=self.acknowledged(plan, entry, state, now),
        )

    def acknowledged(self, plan: KnownPlan, entry: PlannedEntry, fact: str, now: str) -> bool:
        """Return whether the owner knows of this fact about an entry, by an event or by the plan itself."""
        known = _FACTS.get(fact)
        if known is None or known in entry.acknowledge:
            return known is not None
        brought = plan.runs.get(entry.key, _EntryRuns()).brought
        if known == "gone" and entry.gone and entry.gone <= now:
            seen = max(self.upstreams.sighted.get(entry.key, {}).values(), default="")
            if max(seen, brought) <= f"{entry.gone}T23:59:59Z":
                return True
        return self.upstreams.knows(known, entry.key, now, since=brought)

    def covering(self, entry: PlannedEntry, held: Iterable[Snapshot]) -> Snapshot | None:
        """Return the one of its repository's snapshots that holds all that an entry wants, or None.

        For a branch or tag that upstream was seen to point somewhere it must be one of those
        revisions; of a name that was never seen any revision will do, unless it is a commit.
        """
        fitting = [
            snapshot
            for snapshot in held
            if covers(entry, snapshot) and self._is_of(entry, snapshot)
        ]
        pointed = self.upstreams.sighted.get(entry.key, {})
        return max(
            fitting,
            key=lambda snapshot: (pointed.get(snapshot.seal.revision, ""), preference(snapshot)),
            default=None,
        )

    def _is_of(self, entry: PlannedEntry, snapshot: Snapshot) -> bool:
        revision = snapshot.seal.revision
        if _COMMIT.fullmatch(entry.revision) and revision.startswith(entry.revision):
            return True
        pointed = self.upstreams.sighted.get(entry.key)
        return entry.is_main if pointed is None else revision in pointed


def vouched_in(archive: Archive) -> IsVouched:
    """Return what says of a snapshot of ``archive`` whether somebody vouched for every file of it.

    Where a damaged manifest would tell, that is told by itself, and not as a matter of vouchers.
    """

    def is_vouched(snapshot: Snapshot) -> bool:
        vouching = archive.vouching(snapshot)
        return vouching is None or vouching.least > Voucher.NOBODY

    return is_vouched


def covers(entry: PlannedEntry, snapshot: Snapshot) -> bool:
    """Return whether a snapshot was made of every file, or by the patterns of the entry."""
    selection = snapshot.seal.selection
    return selection.whole or (selection.include, selection.exclude) == (
        entry.include,
        entry.exclude,
    )


def planned_of(plan: Plan, place: str, source: str = "") -> Planned:
    """Return what the journal says of a plan."""
    entries = tuple(map(planned_entry, plan.repositories))
    return Planned(plan.name, place, entries, source, plan.max_age)


def planned_entry(repository: PlannedRepository) -> PlannedEntry:
    """Return what the journal says of an entry; what nobody could say yet is named as it is written."""
    return PlannedEntry(
        repository.selector,
        repository.revision or ",".join(repository.revisions),
        repository.include,
        repository.exclude,
        repository.partial,
        repository.acknowledge,
        repository.of,
        repository.gone,
        repository.smoke,
    )


def planned_entries(archive: Archive, plan: Plan) -> list[PlannedEntry]:
    """Return what a plan stands for at this place, as far as that is known without asking upstream.

    Of a pattern, an author, a collection or a pattern of revisions that is what the journal has of it from
    the last run that asked; nothing without one. Of several entries for one thing the one that names it
    counts.
    """
    known = Plans(archive.standing_events(), own_place(archive)).find(plan.name)
    resolved: dict[str, list[PlannedEntry]] = {}
    for entry in known.planned.entries if known else ():
        resolved.setdefault(entry.of, []).append(entry)
    entries: dict[Key, PlannedEntry] = {}
    for written in sorted(plan.repositories, key=lambda each: each.is_open or each.follows):
        as_written = [] if written.is_open else [planned_entry(written)]
        found = resolved.get(written.title, as_written) if _is_resolved(written) else as_written
        for entry in found:
            entries.setdefault(entry.key, entry)
    return list(entries.values())


def _is_resolved(written: PlannedRepository) -> bool:
    """Return whether an entry of a plan stands for others, which are journalled in its place."""
    return written.is_open or bool(written.revisions)


def note_gone(
    archive: Archive, repository: str, name: str, upstream: str, *, unseen: bool = False
) -> None:
    """Journal once that upstream no longer has what this archive has of a repository.

    Where all of it is ``unseen``, and it is watched, that is for whoever watches to judge: it may be
    private, or hidden from a token that expired (`archiver.archive.watch`).
    """
    held = archive.snapshots_of(repository, on_damage=skip_damaged)
    events = archive.standing_events()
    if unseen and awaits_verdict(events, repository):
        return
    known = Upstreams(events)
    key = repository.casefold(), name
    if held and key not in known.gone:
        # In a second of its own: the newest event counts.
        time = utc_after(max(known.sighted.get(key, {}).values(), default=""))
        archive.record(new_event(Gone(name, upstream), held[0].seal.repository, time=time))


_OUTCOMES: Final[dict[ExitCode, Outcome]] = {
    ExitCode.MISMATCH: "mismatch",
    ExitCode.NETWORK: "unreachable",
    ExitCode.NO_SPACE: "no-space",
}


def outcome_of(error: ArchiverError) -> Outcome:
    """Return what an error of mirroring says of upstream.

    Refused access says nothing about whether a repository is still there, and a token that is not taken
    nothing about any repository.
    """
    if isinstance(error, TokenError):
        return "unreachable"
    if isinstance(error, AccessError):
        return "refused"
    if isinstance(error, UpstreamGoneError):
        return "gone"
    return _OUTCOMES.get(ExitCode(error.exit_code), "failed")


def _is_recent(time: str, since: str, now: str) -> bool:
    """Return whether a time is not before ``since``, nor to come, as a wrong clock would have it."""
    return time >= since and (seconds_of(time) or 0) <= (seconds_of(now) or 0) + AHEAD
