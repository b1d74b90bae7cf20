"""What a run of a plan would do: each entry's new and changed files, bytes to fetch, room and time."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import msgspec

from archiver.archive.events import Synced
from archiver.archive.pins import published_pins
from archiver.archive.places import own_place
from archiver.archive.plans import Plans, outcome_of, planned_entry
from archiver.errors import (
    ArchiverError,
    ExitCode,
    RenamedError,
    UpstreamGoneError,
    explain_system_error,
    skip_damaged,
)
from archiver.night.plan_mirror import NarrowedError, as_planned
from archiver.operations.mirror.lookups import Lookups
from archiver.operations.mirror.repositories import MirrorSettings, RepositoryMirror
from archiver.operations.sync import LEAST_RATIO
from archiver.operations.upstream import chosen_files, preview_of
from archiver.text import utc_now, wall_clock
from archiver.upstream.failover import Hubs
from archiver.upstream.resolution import HubFinder, resolve, spelled_upstream

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from archiver.archive.archive import Archive
    from archiver.archive.events import Event
    from archiver.archive.plans import KnownPlan
    from archiver.catalogue.database import Catalogue
    from archiver.operations.mirror.report import MirrorReport
    from archiver.plan.document import Plan, PlannedRepository
    from archiver.progress import Progress
    from archiver.upstream.protocol import ByteStream, Upstream
    from archiver.upstream.remote_file import Listing, RemoteFile
    from archiver.upstream.resolution import Finder

EntryNews = Literal["held", "new", "changed", "failed", "known"]
"""What an entry would bring: nothing; a repository of which nothing is held; another revision, or other
files; nothing, for a reason that is told; likewise, and its owner knows of it."""
RateSource = Literal["", "given", "plan", "last-run"]
"""Where a rate is from: nowhere, the command, the plan, or what the last run of it came to."""
_LEAST_MEASURED: Final = 10_000_000
"""Bytes that a run must have fetched for its rate to mean something."""


class EntryFile(msgspec.Struct, frozen=True):
    """A file that an entry stands for; ``held``: its bytes are in the archive, under whatever name."""

    path: str
    size: int
    held: bool


class EntryPreview(msgspec.Struct, frozen=True):
    """What one entry would bring; counts are of files, the rest in bytes.

    ``of`` is the pattern, author or collection that stands for it, ``appeared``: it did not before.
    ``fetch_bytes`` is what is neither held under any name nor was stored by an unfinished run; that is
    ``resumed_bytes``. ``exit_code``, ``message`` and ``hint`` are of an entry that failed.
    ``spelled`` is what was most likely meant by a name that upstream has not. ``listed`` are the files,
    where upstream listed them.
    """

    repository: str
    revision: str
    news: EntryNews
    commit: str = ""
    of: str = ""
    appeared: bool = False
    files: int = 0
    bytes: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0
    fetch_bytes: int = 0
    resumed_bytes: int = 0
    exit_code: int = 0
    message: str = ""
    hint: str = ""
    spelled: str = ""
    listed: tuple[EntryFile, ...] = ()

    @property
    def title(self) -> str:
        """``Org/Name`` or ``Org/Name@revision``."""
        return f"{self.repository}@{self.revision}" if self.revision else self.repository


class PlanPreview(msgspec.Struct, frozen=True):
    """What a run of a plan would do.

    ``free`` is the room on the disk (-1: not known), of which ``min_free`` must stay. ``rate`` is in bytes
    per second (0: not known), ``seconds`` the time that fetching takes at it, ``runs`` how many the plan's
    budget and window make of that (0: not known).
    """

    plan: str
    entries: tuple[EntryPreview, ...]
    fetch_bytes: int
    free: int
    min_free: int
    room: Literal["enough", "unsure", "too-little"]
    rate: int = 0
    rate_source: RateSource = ""
    seconds: int = 0
    runs: int = 0

    def entries_with(self, news: EntryNews) -> tuple[EntryPreview, ...]:
        """Return the entries of which this is said."""
        return tuple(entry for entry in self.entries if entry.news == news)

    @property
    def exit_code(self) -> int:
        """31 if it cannot fit; what `sync` would end with if entries fail; 24 if there is news; else 0."""
        codes = [entry.exit_code for entry in self.entries if entry.exit_code]
        if self.room == "too-little":
            return int(ExitCode.NO_SPACE)
        if codes:
            same = len(codes) == len(self.entries) and len(set(codes)) == 1
            return codes[0] if same else int(ExitCode.PARTIAL)
        news = self.entries_with("new") or self.entries_with("changed")
        return int(ExitCode.POLICY_UNMET) if news else 0


class PlanPreviewRequest(NamedTuple):
    """Which plan, and where from.

    Attributes:
        plan: What would be mirrored.
        upstream: Where from.
        settings: How; nothing is fetched, whatever they say.
        open_catalogue: How the archive's catalogue is opened, where it is needed.
        meter: What receives the progress of each entry.
        rate: Bytes per second that are to be reckoned with; 0: the plan's, or those of its last run.
    """

    plan: Plan
    upstream: Upstream
    settings: MirrorSettings
    open_catalogue: Callable[[Archive], Catalogue]
    meter: Callable[[], AbstractContextManager[Progress]]
    rate: int = 0


def preview_plan(archive: Archive, request: PlanPreviewRequest) -> PlanPreview:
    """Return what a run of a plan would do. Upstream is asked for listings only, and nothing is written."""
    plan, upstream = request.plan, request.upstream
    events = list(archive.events(on_damage=skip_damaged))
    plans = Plans(events, own_place(archive))
    known = plans.find(plan.name)
    finder = HubFinder(upstream.hub if isinstance(upstream, Hubs) else lambda _: upstream)
    before = known.planned.entries if known else ()
    resolution = resolve(plan, before, finder if plan.is_open else None)
    previews = _Previews(archive, request, plans, known, finder)
    entries: list[EntryPreview] = []
    unresolved = {written.title: error for written, error in resolution.unresolved}
    appeared = {planned.title for planned in resolution.appeared}
    with Lookups(archive, request.open_catalogue) as lookups:
        settings = request.settings._replace(dry_run=True)
        mirror = RepositoryMirror(archive, lookups, settings)
        for planned in resolution.entries:
            error = unresolved.pop(planned.title, None)
            entry = previews.failed(planned, error) if error else previews.of(planned, mirror)
            entries.append(
                msgspec.structs.replace(entry, of=planned.of, appeared=planned.title in appeared)
            )
    written = {entry.title: entry for entry in plan.repositories}
    entries += [previews.failed(written[title], error) for title, error in unresolved.items()]
    return _added_up(archive, request, events, entries)


class _Previews:
    """Previews one entry after the other."""

    def __init__(
        self,
        archive: Archive,
        request: PlanPreviewRequest,
        plans: Plans,
        known: KnownPlan | None,
        finder: Finder,
    ) -> None:
        self._archive = archive
        self._finder = finder
        self._request = request
        self._plans = plans
        self._known = known

    def of(self, planned: PlannedRepository, mirror: RepositoryMirror) -> EntryPreview:
        """Return what an entry would bring."""
        upstream = self._request.upstream
        if isinstance(upstream, Hubs):
            upstream = upstream.of(planned.name, planned.sources)
        remembered = _Remembered(upstream)
        try:
            report = self._mirrored(planned, mirror, remembered)
        except NarrowedError as error:
            failed = self.failed(planned, error)
            return self._told(planned, error.report, remembered, failed)
        except ArchiverError as error:
            return self.failed(planned, error)
        return self._told(planned, report, remembered)

    def _mirrored(
        self, planned: PlannedRepository, mirror: RepositoryMirror, upstream: Upstream
    ) -> MirrorReport:
        patterns = (planned.include, planned.exclude)
        try:
            with self._request.meter() as meter:
                report = mirror(upstream, planned.name, planned.revision, meter, patterns)
        except OSError as error:
            raise explain_system_error(error, f"{planned.title} was looked at") from error
        return as_planned(report, planned)

    def _told(
        self,
        planned: PlannedRepository,
        report: MirrorReport,
        upstream: _Remembered,
        failed: EntryPreview | None = None,
    ) -> EntryPreview:
        assert upstream.listing is not None, "a report is of a listing"
        missing = set(report.to_fetch_paths)
        chosen = chosen_files(upstream.listing.files, planned.include, planned.exclude)
        preview = preview_of(self._archive, upstream.listing, planned.include, planned.exclude)
        news: EntryNews = "changed" if preview.against else "new"
        if report.outcome == "held":
            news = "held"
        return EntryPreview(
            repository=report.repository,
            revision=planned.revision or "",
            news=failed.news if failed else news,
            commit=report.revision,
            files=report.files,
            bytes=report.bytes,
            added=len(preview.added),
            changed=len(preview.changed),
            removed=len(preview.removed),
            fetch_bytes=0 if news == "held" else report.to_fetch_bytes,
            resumed_bytes=report.resumed_bytes,
            exit_code=failed.exit_code if failed else 0,
            message=failed.message if failed else "",
            hint=failed.hint if failed else "",
            listed=tuple(
                EntryFile(file.path, file.size, file.path not in missing) for file in chosen
            ),
        )

    def failed(self, planned: PlannedRepository, error: ArchiverError) -> EntryPreview:
        """Return why an entry would bring nothing."""
        outcome = outcome_of(error)
        known = self._is_known(planned, outcome)
        meant = ""
        if isinstance(error, UpstreamGoneError) and not isinstance(error, RenamedError):
            meant = self._spelled(planned)
        return EntryPreview(
            repository=planned.selector,
            revision=planned.revision or ",".join(planned.revisions),
            news="known" if known else "failed",
            exit_code=0 if known else int(error.exit_code),
            message=error.message,
            hint=error.hint,
            spelled=meant,
        )

    def _spelled(self, planned: PlannedRepository) -> str:
        """Return the name that is most likely meant by one that upstream has not, and that is not held."""
        if planned.is_open or self._archive.snapshots_of(planned.name, on_damage=skip_damaged):
            return ""
        names = [snapshot.seal.repository for snapshot in self._archive.snapshots(skip_damaged)]
        names += [pin.repository for pin in published_pins()]
        return spelled_upstream(planned.name, self._finder, names)

    def _is_known(self, planned: PlannedRepository, outcome: str) -> bool:
        if self._known is None:
            return False
        entry = planned_entry(planned)
        if not self._plans.acknowledged(self._known, entry, outcome, utc_now()):
            return False
        held = self._archive.snapshots_of(entry.repository, on_damage=skip_damaged)
        return self._plans.covering(entry, held) is not None


class _Remembered:
    """An upstream whose last listing is kept, so that it is asked for once."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self.listing: Listing | None = None

    @property
    def endpoint(self) -> str:
        """That upstream's."""
        return self._upstream.endpoint

    @property
    def read_ahead(self) -> int:
        """Likewise."""
        return self._upstream.read_ahead

    def list(self, repository: str, revision: str | None = None) -> Listing:
        """Keep what upstream lists."""
        self.listing = self._upstream.list(repository, revision)
        return self.listing

    def open(
        self, listing: Listing, file: RemoteFile, offset: int = 0
    ) -> AbstractContextManager[ByteStream]:
        """Hand on."""
        return self._upstream.open(listing, file, offset)


def _added_up(
    archive: Archive,
    request: PlanPreviewRequest,
    events: list[tuple[str, Event]],
    entries: list[EntryPreview],
) -> PlanPreview:
    fetch = sum(entry.fetch_bytes for entry in entries)
    try:
        free = archive.store.free_bytes()
    except OSError:
        free = None
    min_free = request.settings.min_free
    room: Literal["enough", "unsure", "too-little"] = "unsure"
    if free is not None:
        left = free - min_free
        room = "too-little" if left < fetch * LEAST_RATIO else "unsure"
        room = "enough" if left >= fetch else room
    rate, source = _rate(request, events)
    seconds = math.ceil(fetch / rate) if rate else 0
    return PlanPreview(
        plan=request.plan.name,
        entries=tuple(entries),
        fetch_bytes=fetch,
        free=-1 if free is None else free,
        min_free=min_free,
        room=room,
        rate=rate,
        rate_source=source,
        seconds=seconds,
        runs=_runs(request.plan, fetch, rate),
    )


def _rate(request: PlanPreviewRequest, events: list[tuple[str, Event]]) -> tuple[int, RateSource]:
    if request.rate:
        return request.rate, "given"
    if request.plan.max_rate:
        return request.plan.max_rate, "plan"
    runs = [
        (event.time, detail.fetched // detail.seconds)
        for _, event in events
        if isinstance(detail := event.detail, Synced)
        and detail.plan == request.plan.name
        and detail.seconds
        and detail.fetched >= _LEAST_MEASURED
    ]
    rate = max(runs)[1] if runs else 0
    return (rate, "last-run") if rate else (0, "")


def _runs(plan: Plan, fetch: int, rate: int) -> int:
    """Return how many runs that takes, one for each opening of the window; 0 if that is not known."""
    if not fetch:
        return 0
    limits = [plan.budget.bytes] if plan.budget.bytes else []
    if rate:
        seconds = [plan.budget.seconds] if plan.budget.seconds else []
        if plan.window is not None:
            opens = plan.window.opens_at(wall_clock())
            ends = plan.window.ends_at(opens) or opens
            seconds.append(int((ends - opens) / timedelta(seconds=1)))
        limits += [rate * min(seconds)] if seconds else []
    return math.ceil(fetch / max(min(limits), 1)) if limits else 0
