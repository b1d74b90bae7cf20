"""The facts of a report: one record of how an archive stands and what happened to it.

``archiver report --json`` prints it, the page shows it, and nothing else knows more. No pack is read. What
grows with the archive or its journal is counted, and listed as far as a bound goes.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from archiver.archive.check.proofs import readable_events, was_at
from archiver.archive.copies import PlaceHistory, PlaceState
from archiver.archive.events import (
    TOOL,
    AcknowledgedFact,
    Audited,
    CopyLost,
    DamageMet,
    Forgotten,
    Gone,
    NightRun,
    Outcome,
    Planned,
    PlannedEntry,
    Repaired,
    Sealed,
    Sighted,
    SmokeTested,
    Synced,
    UpstreamChange,
    UpstreamChanged,
    UpstreamUnseen,
)
from archiver.archive.findings import Finding
from archiver.archive.places import own_place
from archiver.archive.plans import PlanStatus, Upstreams
from archiver.archive.policy import Policy
from archiver.archive.watch import is_news
from archiver.catalogue.cards import add_cards
from archiver.catalogue.queries import licences
from archiver.catalogue.rebuild import open_catalogue
from archiver.catalogue.stats import Stats, stats
from archiver.errors import skip_damaged
from archiver.operations.status.report import Coverage, LastAudit, LostUpstream, Shortfall, Status
from archiver.operations.status.run import status
from archiver.text import seconds_of, utc_before, utc_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from archiver.archive.archive import Archive
    from archiver.archive.events import Event
    from archiver.archive.places import Place
    from archiver.archive.seals import Snapshot
    from archiver.progress import Progress

FORMAT: Final = 1
"""Raised when a key changes its meaning; new keys come without."""
_DAY: Final = 86400
WEEKS: Final = 53
"""A calendar goes back a year, to the Monday of the week that is so many weeks ago, this one included."""
AGES: Final = (7, 30, 90, 180, 365)
"""Days: the classes by which ages of proofs are counted."""
PERIODS: Final = (7, 30, 365, 0)
"""Days back from now over which events are counted; 0: all."""

REPOSITORIES_MAX: Final = 500
CHANGES_MAX: Final = 40
FAILURES_MAX: Final = 60
PLACES_MAX: Final = 64
ENTRIES_MAX: Final = 200
"""Of any other list."""

_FORECAST_DAYS: Final = 180
"""So far back the growth is looked at."""
_FORECAST_POINTS: Final = 3
_FORECAST_SPAN: Final = 14
"""So many days of growth, over so many days, are the least that a forecast rests on."""
_FAR: Final = 100 * 365
"""Days; what lasts longer has no date."""
_WORST: Final = (20, 21, 22, 24, 25, 23, 31, 30, 3)
_FAILED: Final = frozenset[Outcome](
    {"mismatch", "failed", "no-space", "unreachable", "interrupted"}
)
"""What upstream has no more, or refuses, is no failure of a run."""


class Amount(msgspec.Struct, frozen=True):
    """So many packs, and their bytes."""

    packs: int
    bytes: int


class Week(msgspec.Struct, frozen=True):
    """The packs whose newest proof is of the week that begins on the Monday ``day`` (YYYY-MM-DD)."""

    day: str
    packs: int
    bytes: int


class Age(msgspec.Struct, frozen=True):
    """The packs whose newest proof is at most ``days`` old, and older than the class before."""

    days: int
    packs: int
    bytes: int


class PlaceProofs(msgspec.Struct, frozen=True):
    """When the packs at one place were last proven there, their bytes read and hashed.

    Of all packs that the snapshots there need: ``weeks`` are those of the calendar that have any, oldest
    first, ``ages`` the same by age, ``older`` what is older than both, ``never`` what was never proven.
    """

    state: PlaceState
    packs: int
    bytes: int
    weeks: tuple[Week, ...]
    ages: tuple[Age, ...]
    older: Amount
    never: Amount


class RepositoryFacts(msgspec.Struct, frozen=True):
    """One repository that is held.

    ``revision``, ``files``, ``bytes``, ``tensors`` and ``vouched`` are of the snapshot that was sealed
    last, at ``sealed``; ``first`` is when the first one was. ``licence`` is as upstream or the card
    calls it.
    """

    repository: str
    revisions: int
    snapshots: int
    revision: str
    first: str
    sealed: str
    files: int
    bytes: int
    tensors: int
    whole: bool
    vouched: str
    licence: str
    gone: str


class Held(msgspec.Struct, frozen=True):
    """What is held; ``bytes`` are of packs. ``list`` has the largest repositories, by name."""

    repositories: int
    snapshots: int
    packs: int
    missing: int
    bytes: int
    with_parity: int
    bytes_with_parity: int
    vouched: dict[str, int]
    list: tuple[RepositoryFacts, ...]


ChangeKind = Literal[
    "new",
    "revision",
    "gone",
    "back",
    "upstream",
    "unseen",
    "damaged",
    "repairs",
    "forgotten",
    "copy-lost",
    "smoke-failed",
]
"""``new`` is a repository of which nothing was held, ``revision`` a further revision of one, ``upstream``
what a look at upstream found changed, ``unseen`` a repository that it did not show."""


class Change(msgspec.Struct, frozen=True):
    """Something that happened: to a repository, or to a place, or to ``count`` things."""

    time: str
    what: ChangeKind
    repository: str = ""
    revision: str = ""
    place: str = ""
    count: int = 0
    upstream: UpstreamChange | None = None


class Period(msgspec.Struct, frozen=True):
    """How often each kind of change happened in the last ``days`` (0: ever), and how runs of plans ended.

    ``failed_entries`` counts repositories that a run did not bring, once for each run.
    """

    days: int
    changes: dict[str, int]
    runs: int
    failed_runs: int
    failed_entries: int


class RunDay(msgspec.Struct, frozen=True):
    """The runs of plans, and the nights, that ended on a day (YYYY-MM-DD, UTC).

    ``exit_code`` is that of the worst of them. A night in which nothing was done is not journalled.
    """

    day: str
    runs: int
    nights: int
    exit_code: int
    fetched: int
    stored: int


class Failure(msgspec.Struct, frozen=True):
    """A repository that runs of a plan did not bring, at least once.

    ``runs`` counts those that tried it, ``outcomes`` how those that failed did, ``in_row`` the newest ones
    that all failed. ``last`` is the time of the newest failure, ``brought`` of the newest
    run that did not fail.
    """

    plan: str
    repository: str
    revision: str
    runs: int
    outcomes: dict[str, int]
    in_row: int
    last: str
    brought: str


class Runs(msgspec.Struct, frozen=True):
    """What became of the plans that feed this place: their runs day by day, and what failed."""

    plans: tuple[PlanStatus, ...]
    days: tuple[RunDay, ...]
    failures: tuple[Failure, ...]
    failing: int
    """How many entries failed ever; ``failures`` lists the newest."""


class RoomPoint(msgspec.Struct, frozen=True):
    """Bytes of packs that the snapshots need which were sealed by the end of this day, and are held."""

    day: str
    bytes: int


class Forecast(msgspec.Struct, frozen=True):
    """When the room ends, if it goes on as it did.

    It rests on ``points`` days on which the archive grew, over ``days`` days since ``since``. ``until`` is
    the day when only ``min_free`` is left; ``""`` if that is more than a hundred years away.
    """

    points: int
    days: int
    since: str
    bytes_per_day: int
    until: str


class Room(msgspec.Struct, frozen=True):
    """Room on the archive's disk, in bytes: what packs take, what is free (-1: not known)."""

    used: int
    free: int
    min_free: int
    points: tuple[RoomPoint, ...]
    forecast: Forecast | None


class CodecUse(msgspec.Struct, frozen=True):
    """Objects that a codec stored: their plain and their stored bytes."""

    codec: str
    objects: int
    bytes: int
    stored: int


class Savings(msgspec.Struct, frozen=True):
    """What storing saved, each step from the one before, in bytes.

    ``files`` are all files of all revisions, ``distinct_files`` the same with equal ones counted once,
    ``objects`` with equal segments counted once, ``stored`` what these take once they are encoded (some
    twice, if they lie in several packs), ``packs`` the packs with their indexes.
    """

    files: int
    distinct_files: int
    objects: int
    stored: int
    packs: int
    codecs: tuple[CodecUse, ...]


class Acknowledgement(msgspec.Struct, frozen=True):
    """A fact that the owner knows of, ``until`` then (``""``: for good); by ``plan``, or else a command."""

    fact: AcknowledgedFact
    repository: str
    name: str
    since: str
    until: str
    note: str
    plan: str = ""


class Verdict(msgspec.Struct, frozen=True):
    """Whether all is as it is wanted, as ``archiver status`` says it.

    ``met``: nothing falls short, and everything could be read.
    """

    met: bool
    shortfalls: tuple[Shortfall, ...]
    remarks: tuple[Shortfall, ...]
    findings: tuple[Finding, ...]
    short: int
    """How many things fall short; ``shortfalls`` lists the first."""


class Proven(msgspec.Struct, frozen=True):
    """What audits have proven here, level by level, and of snapshots."""

    coverage: tuple[Coverage, ...]
    files_proven: int
    audit: LastAudit | None
    smoke_tested: int
    """How many snapshots last held a smoke test,"""
    smoke_wanted: int
    """of so many that should run."""


class Facts(msgspec.Struct, frozen=True):
    """All that a report says; the keys are documented in ``docs/report.md``."""

    time: str
    tool: str
    archive: str
    place: str
    address: str
    policy: Policy
    verdict: Verdict
    held: Held
    proven: Proven
    places: tuple[PlaceProofs, ...]
    copies: int
    copy_days: int
    periods: tuple[Period, ...]
    changes: tuple[Change, ...]
    runs: Runs
    room: Room
    savings: Savings
    lost_upstream: tuple[LostUpstream, ...]
    acknowledged: tuple[Acknowledgement, ...]
    format: int = FORMAT


def collect(archive: Archive, progress: Progress, *, keys: Iterable[str] = ()) -> Facts:
    """Return the facts of an archive, which may be read-only.

    ``keys`` are those of ``status``, and so are the errors; ``progress`` is told if the catalogue is
    written anew.
    """
    state = status(archive, keys=keys)
    with open_catalogue(archive, progress) as catalogue:
        add_cards(archive, catalogue)
        licence_of, totals = licences(catalogue), stats(catalogue)
    now, here = utc_now(), own_place(archive)
    history = PlaceHistory(here, now, archive.store.address)
    events = list(history.noted(readable_events(archive.journal)))
    snapshots = list(archive.snapshots(skip_damaged))
    log = History(events, here, now)
    upstreams = Upstreams(events)
    return Facts(
        time=now,
        tool=TOOL,
        archive=archive.info.archive,
        place=here.name,
        address=archive.store.address,
        policy=state.policy,
        verdict=_verdict(state),
        held=_held(archive, snapshots, state, licence_of),
        proven=_proven(state),
        places=tuple(place_proofs(history, snapshots, state, now)),
        copies=state.copies,
        copy_days=state.copy_days,
        periods=tuple(log.period(days) for days in PERIODS),
        changes=tuple(reversed(log.changes[-CHANGES_MAX:])),
        runs=log.runs(state.plans),
        room=_room(snapshots, state, now),
        savings=_savings(totals),
        lost_upstream=state.lost_upstream[:ENTRIES_MAX],
        acknowledged=tuple(_acknowledged(upstreams, state.plans, now))[:ENTRIES_MAX],
    )


def _verdict(state: Status) -> Verdict:
    return Verdict(
        met=not state.shortfalls and not state.findings,
        shortfalls=state.shortfalls[:ENTRIES_MAX],
        remarks=state.remarks,
        findings=state.findings[:ENTRIES_MAX],
        short=len(state.shortfalls),
    )


def _proven(state: Status) -> Proven:
    held = [test for test in state.smoke_tests if test.held and test.held == test.tried]
    return Proven(
        coverage=state.coverage,
        files_proven=state.files_proven,
        audit=state.audit,
        smoke_tested=len(held),
        smoke_wanted=len(state.smoke_tests),
    )


# ---- what is held


def _held(
    archive: Archive,
    snapshots: Sequence[Snapshot],
    state: Status,
    licence_of: Mapping[str, str],
) -> Held:
    of: dict[str, list[Snapshot]] = {}
    for snapshot in snapshots:
        of.setdefault(snapshot.seal.repository.casefold(), []).append(snapshot)
    gone = {fact.repository.casefold(): fact.since for fact in reversed(state.lost_upstream)}
    rows = [
        _repository(archive, held, gone.get(repository, ""), licence_of)
        for repository, held in of.items()
    ]
    largest = sorted(rows, key=lambda row: (-row.bytes, row.repository))[:REPOSITORIES_MAX]
    return Held(
        repositories=len(of),
        snapshots=state.snapshots,
        packs=state.packs,
        missing=state.missing,
        bytes=state.bytes,
        with_parity=state.with_parity,
        bytes_with_parity=state.bytes_with_parity,
        vouched=state.vouched,
        list=tuple(sorted(largest, key=lambda row: row.repository.casefold())),
    )


def _repository(
    archive: Archive, held: Sequence[Snapshot], gone: str, licence_of: Mapping[str, str]
) -> RepositoryFacts:
    newest = max(held, key=lambda snapshot: (snapshot.seal.sealed, snapshot.id))
    seal = newest.seal
    vouching = archive.vouching(newest)
    return RepositoryFacts(
        repository=seal.repository,
        revisions=len({snapshot.seal.revision for snapshot in held}),
        snapshots=len(held),
        revision=seal.revision,
        first=min(snapshot.seal.sealed for snapshot in held),
        sealed=seal.sealed,
        files=seal.totals.files,
        bytes=seal.totals.bytes,
        tensors=seal.totals.tensors,
        whole=seal.selection.whole,
        vouched=vouching.least.word if vouching else "unknown",
        licence=licence_of.get(newest.id, ""),
        gone=gone,
    )


# ---- proofs


def monday(time: str, *, weeks: int = 0) -> str:
    """Return the Monday (YYYY-MM-DD) of the week of a time, or of so many weeks before."""
    moment = datetime.fromtimestamp(seconds_of(time) or 0, UTC)
    return f"{moment - timedelta(days=moment.weekday(), weeks=weeks):%Y-%m-%d}"


def place_proofs(
    history: PlaceHistory, snapshots: Sequence[Snapshot], state: Status, now: str
) -> Iterator[PlaceProofs]:
    """Yield when the packs at each place were proven, in the order of a status: this one comes first.

    ``history`` has seen all events of the journal, and ``snapshots`` are those that are held.
    """
    by_receipt = history.weigh_receipts(state.policy.keys, snapshots)
    contents = history.copies()
    at = contents.places()
    known: dict[str, Snapshot] = {snapshot.id: snapshot for snapshot in snapshots}
    sizes = {pack: size for snapshot in snapshots for pack, size in snapshot.seal.packs}
    there = {pack.pack for pack in state.pack_list if pack.there}
    for place in state.places[:PLACES_MAX]:
        key = place.id or place.place
        listed = set(at.get(key, ()))
        if place.signer:
            listed = (listed - by_receipt[key].troubled.keys()) | by_receipt[key].held.keys()
        held = [known[name] for name in sorted(listed) if name in known]
        names = [key, *contents.names(key)]
        here = place.standing == "here"
        proofs = history.pack_proofs(names, snapshots if here else held)
        yield _proofs_at(
            place,
            {pack: (time, sizes[pack]) for pack, time in proofs.items()},
            now,
            present=there if here else None,
        )


def _proofs_at(
    place: PlaceState,
    packs: dict[str, tuple[str, int]],
    now: str,
    *,
    present: set[str] | None,
) -> PlaceProofs:
    """Sort packs, with the time of their proof and their size, by weeks and by ages.

    What is not among those ``present`` is not proven, whatever was once.
    """
    first = monday(now, weeks=WEEKS - 1)
    since = [utc_before(days * _DAY) for days in AGES]
    weeks: dict[str, list[int]] = {}
    ages: dict[int, list[int]] = {days: [] for days in AGES}
    older: list[int] = []
    never: list[int] = []
    mondays: dict[str, str] = {}
    for pack, (time, size) in packs.items():
        if not time or (present is not None and pack not in present):
            never.append(size)
            continue
        day = time[:10]
        week = mondays.get(day) or mondays.setdefault(day, monday(time))
        if week >= first:
            weeks.setdefault(week, []).append(size)
        age = next((days for days, begin in zip(AGES, since, strict=True) if time >= begin), None)
        (older if age is None else ages[age]).append(size)
    return PlaceProofs(
        state=place,
        packs=len(packs),
        bytes=sum(size for _, size in packs.values()),
        weeks=tuple(Week(week, len(each), sum(each)) for week, each in sorted(weeks.items())),
        ages=tuple(Age(days, len(each), sum(each)) for days, each in ages.items()),
        older=Amount(len(older), sum(older)),
        never=Amount(len(never), sum(never)),
    )


# ---- what happened


class History:
    """What the journal's events (id and event, oldest first) tell of changes and runs at ``place``."""

    def __init__(self, events: Sequence[tuple[str, Event]], place: Place, now: str) -> None:
        self._place = place
        self._now = now
        self.changes: list[Change] = []
        self._held: dict[str, set[str]] = {}
        """Repository, without case -> the revisions of which a seal was published."""
        self._gone: dict[tuple[str, str], bool] = {}
        """What a run found gone, and whether that was told: a look may have told it before."""
        self._gone_repositories: set[str] = set()
        """Those that a look called gone, without case."""
        self._planned: dict[str, Planned] = {}
        self._synced: list[tuple[str, Synced]] = []
        self._nights: list[tuple[str, NightRun]] = []
        for digest, event in events:
            self._add(digest, event)

    def _add(self, digest: str, event: Event) -> None:  # noqa: C901, PLR0912 - one branch a kind
        key = event.repository.casefold()
        about = {"repository": event.repository, "revision": event.revision}
        match event.detail:
            case Sealed():
                revisions = self._held.setdefault(key, set())
                if event.revision not in revisions:
                    self._note(event, "revision" if revisions else "new", **about)
                revisions.add(event.revision)
            case Gone(name):
                new = key not in self._gone_repositories
                self._gone[key, name] = new
                if new:
                    self._note(event, "gone", repository=event.repository, revision=name)
            case Sighted(name) as seen if not seen.hearsay and (key, name) in self._gone:
                if self._gone.pop((key, name)):
                    self._note(event, "back", **about)
            case Audited() as audited if audited.damaged and was_at(audited, self._place):
                self._note(event, "damaged", count=audited.damaged)
            case DamageMet(objects) as met if was_at(met, self._place):
                self._note(event, "damaged", count=len(objects))
            case Repaired() as repaired if was_at(repaired, self._place):
                self._note(event, "repairs", count=len(repaired.files))
            case Forgotten(snapshots):
                self._note(event, "forgotten", count=len(snapshots))
            case CopyLost(place):
                self._note(event, "copy-lost", place=place)
            case SmokeTested() as tested if "failed" in tested.levels.values():
                self._note(event, "smoke-failed", **about)
            case Planned() as planned if self._place.is_named(planned.place):
                self._planned[digest] = planned
            case Synced() as synced if self._place.is_named(synced.place):
                self._synced.append((event.time, synced))
            case NightRun() as night if self._place.is_named(night.place):
                self._nights.append((event.time, night))
            case UpstreamChanged() as changed:
                self._add_upstream(event, changed)
            case UpstreamUnseen(unseen=unseen):
                for repository in unseen:
                    self._note(event, "unseen", repository=repository.repository)

    def _add_upstream(self, event: Event, changed: UpstreamChanged) -> None:
        """Take in what a look found changed; at a first look most is only how it was found."""
        for change in changed.changes:
            kind: ChangeKind = "upstream"
            if change.what == "gone":
                kind = "gone"
                self._gone_repositories.add(event.repository.casefold())
            elif change.what == "back":
                kind = "back"
                self._gone_repositories.discard(event.repository.casefold())
            if is_news(change, first=changed.first):
                new = Change(event.time, kind, event.repository, upstream=change)
                self.changes.append(new)

    def _note(self, event: Event, what: ChangeKind, **about: str | int) -> None:
        self.changes.append(Change(event.time, what, **about))  # type: ignore[arg-type] # its own keys

    def period(self, days: int) -> Period:
        """Return what happened in the last days; 0: ever."""
        since = utc_before(days * _DAY) if days else ""
        runs = [synced for time, synced in self._synced if time >= since]
        counts = Counter[str](change.what for change in self.changes if change.time >= since)
        return Period(
            days=days,
            changes=dict(counts),
            runs=len(runs),
            failed_runs=sum(bool(synced.exit_code) for synced in runs),
            failed_entries=sum(_failed(outcome) for each in runs for outcome in each.outcomes),
        )

    def runs(self, plans: tuple[PlanStatus, ...]) -> Runs:
        """Return the runs of the plans, by day, and which entries failed."""
        first = monday(self._now, weeks=WEEKS - 1)
        days: dict[str, list[Synced | NightRun]] = {}
        ended: list[tuple[str, Synced | NightRun]] = [*self._synced, *self._nights]
        for time, run in ended:
            if first <= time[:10] <= self._now[:10]:
                days.setdefault(time[:10], []).append(run)
        failures = sorted(self._failures(), key=lambda failure: failure.last, reverse=True)
        return Runs(
            plans=tuple(_without_entries(plan) for plan in plans),
            days=tuple(
                RunDay(
                    day=day,
                    runs=sum(isinstance(run, Synced) for run in runs),
                    nights=sum(isinstance(run, NightRun) for run in runs),
                    exit_code=min((run.exit_code for run in runs), key=_severity),
                    fetched=sum(run.fetched for run in runs if isinstance(run, Synced)),
                    stored=sum(run.stored for run in runs if isinstance(run, Synced)),
                )
                for day, runs in sorted(days.items())
            ),
            failures=tuple(failures[:FAILURES_MAX]),
            failing=len(failures),
        )

    def _failures(self) -> Iterator[Failure]:
        tried: dict[tuple[str, str, str], list[tuple[str, Outcome]]] = {}
        entries: dict[tuple[str, str, str], tuple[str, PlannedEntry]] = {}
        for time, synced in self._synced:
            planned = self._planned.get(synced.planned)
            for entry, outcome in zip(
                planned.entries if planned else (), synced.outcomes, strict=False
            ):
                if outcome != "not-tried":
                    key = (synced.plan, *entry.key)
                    tried.setdefault(key, []).append((time, outcome))
                    entries[key] = synced.plan, entry
        for key, runs in tried.items():
            failed = [(time, outcome) for time, outcome in runs if _failed(outcome)]
            if failed:
                plan, entry = entries[key]
                brought = max((time for time, outcome in runs if not _failed(outcome)), default="")
                yield Failure(
                    plan=plan,
                    repository=entry.repository,
                    revision=entry.revision,
                    runs=len(runs),
                    outcomes=dict(Counter(outcome for _, outcome in failed)),
                    in_row=sum(time > brought for time, _ in failed),
                    last=max(time for time, _ in failed),
                    brought=brought,
                )


def _failed(outcome: Outcome) -> bool:
    return outcome in _FAILED


def _severity(code: int) -> int:
    """Return where an exit code stands among all, the worst first."""
    return _WORST.index(code) if code in _WORST else len(_WORST) if code else len(_WORST) + 1


def _without_entries(plan: PlanStatus) -> PlanStatus:
    """Return a plan's status with those of its entries that are not as they are wanted."""
    short = tuple(entry for entry in plan.entries if not entry.met)
    return msgspec.structs.replace(plan, entries=short[:ENTRIES_MAX])


def _acknowledged(
    upstreams: Upstreams, plans: Iterable[PlanStatus], now: str
) -> Iterator[Acknowledgement]:
    for key, (time, known) in sorted(upstreams.acknowledgements(now).items()):
        spelled = upstreams.spellings.get(key.repository, key.repository)
        yield Acknowledgement(key.fact, spelled, key.name, time, known.until, known.note)
    known_by_event = {(key.repository, key.name) for key in upstreams.acknowledgements(now)}
    for plan in plans:
        for entry in plan.entries:
            name = entry.revision or "main"
            fact: AcknowledgedFact = "refused" if entry.state == "refused" else "gone"
            if entry.acknowledged and (entry.repository.casefold(), name) not in known_by_event:
                yield Acknowledgement(fact, entry.repository, name, "", "", "", plan.plan)


# ---- room


def _room(snapshots: Iterable[Snapshot], state: Status, now: str) -> Room:
    points = _growth(snapshots, now)
    return Room(
        used=state.bytes,
        free=state.free,
        min_free=state.min_free,
        points=tuple(_thinned(points)),
        forecast=_forecast(points, state.free - state.min_free, now) if state.free >= 0 else None,
    )


def _growth(snapshots: Iterable[Snapshot], now: str) -> list[RoomPoint]:
    """Return how many bytes were held at the end of each day on which that changed."""
    total, packs = 0, set[str]()
    days: dict[str, int] = {}
    for snapshot in sorted(snapshots, key=lambda snapshot: snapshot.seal.sealed):
        if seconds_of(snapshot.seal.sealed) is None or snapshot.seal.sealed > now:
            continue  # a clock that was wrong
        total += sum(size for pack, size in snapshot.seal.packs if pack not in packs)
        packs.update(pack for pack, _ in snapshot.seal.packs)
        days[snapshot.seal.sealed[:10]] = total
    return [
        RoomPoint(day, size)
        for (day, size), before in zip(days.items(), [0, *days.values()], strict=False)
        if size != before
    ]


def _thinned(points: list[RoomPoint]) -> list[RoomPoint]:
    """Return at most some 370 of the points, the last one too: the last of each stretch of days."""
    step = len(points) // 370 + 1
    return points[::-1][::step][::-1]


def _forecast(points: list[RoomPoint], left: int, now: str) -> Forecast | None:
    """Return when so many bytes are used up, at the pace of the last months; None: nobody can tell.

    What came in on the first day is no growth, but what there is to grow from.
    """
    begin = utc_before(_FORECAST_DAYS * _DAY)[:10]
    before = [point for point in points if point.day <= begin][-1:] or points[:1]
    if not before:
        return None
    since = max(begin, before[0].day)
    grown = [point for point in points if point.day > since]
    days = ((seconds_of(now) or 0) - (seconds_of(f"{since}T00:00:00Z") or 0)) // _DAY
    if len(grown) < _FORECAST_POINTS or days < _FORECAST_SPAN:
        return None
    pace = (grown[-1].bytes - before[0].bytes) // days
    if pace <= 0:
        return None
    last = max(left, 0) // pace
    until = utc_before(-last * _DAY)[:10] if last < _FAR else ""
    return Forecast(len(grown), days, since, pace, until)


def _savings(totals: Stats) -> Savings:
    from archiver.codec.transforms import CODECS  # noqa: PLC0415 - numpy, which nothing else here needs

    return Savings(
        files=totals.logical_bytes,
        distinct_files=totals.distinct_file_bytes,
        objects=totals.object_bytes,
        stored=totals.stored_bytes,
        packs=totals.pack_bytes,
        codecs=tuple(
            CodecUse(CODECS[number].name, use.objects, use.size, use.stored)
            for number, use in totals.codecs.items()
            if number in CODECS
        ),
    )
