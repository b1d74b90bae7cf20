"""Mirrors the entries of a plan: what ``sync`` and a night hand to the operation."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

import msgspec

from archiver.codec.segment import Effort
from archiver.errors import ArchiverError, PartialError
from archiver.operations.mirror.lookups import Lookups
from archiver.operations.mirror.remarks import NARROWER
from archiver.operations.mirror.repositories import MirrorSettings, RepositoryMirror
from archiver.progress import Progress
from archiver.upstream.failover import Hubs
from archiver.upstream.resolution import HubFinder

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from types import TracebackType

    from archiver.archive.archive import Archive
    from archiver.catalogue.database import Catalogue
    from archiver.operations.mirror.remarks import Remark
    from archiver.operations.mirror.report import MirrorReport
    from archiver.plan.budget import RunBudget
    from archiver.plan.document import PlannedRepository
    from archiver.upstream.protocol import Upstream
    from archiver.upstream.resolution import Finder


class NarrowedError(PartialError):
    """The patterns of a plan's entry take less than they can mean, and it does not say that this is meant.

    Args:
        planned: The entry.
        report: What was mirrored all the same.
        remarks: How its patterns miss.
    """

    def __init__(
        self, planned: PlannedRepository, report: MirrorReport, remarks: tuple[Remark, ...]
    ) -> None:
        super().__init__(
            f"{planned.title} is not held as its entry can mean it.",
            hint="Correct include or exclude in the plan, or write 'partial = true' there if it is "
            "meant so.",
            subject=planned.title,
        )
        self.report = report
        self.remarks = remarks


class PlanMirror:
    """Mirrors the entries of a plan into an archive. Use as a context manager.

    Args:
        archive: Where to.
        upstream: Where from.
        settings: How. Their patterns, if there are some, stand in for those of each entry.
        open_catalogue: How the catalogue is opened, where it is needed.
        meter: What receives the progress of each entry.
        effort: How hard to compress, whatever the entries say.

    Attributes:
        open_error: Why what is held cannot be looked up; None if it could.
    """

    def __init__(
        self,
        archive: Archive,
        upstream: Upstream,
        settings: MirrorSettings,
        open_catalogue: Callable[[Archive], Catalogue],
        meter: Callable[[], AbstractContextManager[Progress]],
        effort: Effort | None = None,
    ) -> None:
        self._archive = archive
        self._upstream = upstream
        self._settings = settings
        self._open_catalogue = open_catalogue
        self._meter = meter
        self._effort = effort
        self._stack = ExitStack()
        self._mirror: RepositoryMirror | None = None
        self._tally = _Tally(Progress())
        self.open_error: ArchiverError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def open(self) -> None:
        """Open what is held; raise ArchiverError if that fails, or nothing may be written."""
        try:
            self._archive.require_writable()
            lookups = self._stack.enter_context(Lookups(self._archive, self._open_catalogue))
            lookups.choose()
        except ArchiverError as error:
            self.open_error = error
            raise
        self._mirror = RepositoryMirror(self._archive, lookups, self._settings)

    def finder(self) -> Finder:
        """Return what says which repositories there are."""
        upstream = self._upstream
        return HubFinder(upstream.hub if isinstance(upstream, Hubs) else lambda _: upstream)

    def mirror(self, planned: PlannedRepository, budget: RunBudget | None = None) -> MirrorReport:
        """Mirror an entry, by its own patterns unless the run has some; return the report.

        Raise NarrowedError if its patterns miss what they must mean, else as the operation does.
        """
        assert self._mirror is not None, "opened before anything is mirrored"
        own_patterns = any(self._settings.patterns)
        patterns = self._settings.patterns if own_patterns else (planned.include, planned.exclude)
        upstream = self._upstream
        if isinstance(upstream, Hubs):
            upstream = upstream.of(planned.name, planned.sources)
        with self._meter() as meter:
            self._tally = _Tally(meter)
            report = self._mirror(
                upstream,
                planned.name,
                planned.revision,
                self._tally,
                patterns,
                effort=self._effort or (Effort(planned.effort) if planned.effort else None),
                budget=budget,
            )
        return report if own_patterns else as_planned(report, planned)

    def partial_bytes(self) -> tuple[int, int]:
        """Return what was fetched and stored of the last entry."""
        return self._tally.fetched, self._tally.stored_bytes


def as_planned(report: MirrorReport, planned: PlannedRepository) -> MirrorReport:
    """Return the report as an entry of a plan asked for it; raise NarrowedError if its patterns miss."""
    narrower = tuple(remark for remark in report.remarks if remark.kind in NARROWER)
    dropped = {*NARROWER, "exclude-fits-nothing"} if planned.partial else NARROWER
    rest = tuple(remark for remark in report.remarks if remark.kind not in dropped)
    report = msgspec.structs.replace(report, remarks=rest)
    if planned.partial or not narrower:
        return report
    raise NarrowedError(planned, report, narrower)


class _Tally(Progress):
    """Counts what is fetched and stored, by several threads, and hands everything on."""

    def __init__(self, inner: Progress) -> None:
        self._inner = inner
        self._lock = threading.Lock()
        self.fetched = 0
        self.stored_bytes = 0

    def phase(self, verb: str) -> None:
        """Hand on."""
        self._inner.phase(verb)

    def expect(self, files: int, size: int) -> None:
        """Hand on."""
        self._inner.expect(files, size)

    def begin(self, path: str, size: int) -> None:
        """Hand on."""
        self._inner.begin(path, size)

    def advance(self, count: int, *, fetched: bool) -> None:
        """Count the bytes that were fetched."""
        with self._lock:
            self.fetched += count if fetched else 0
        self._inner.advance(count, fetched=fetched)

    def rewind(self, count: int) -> None:
        """Hand on."""
        self._inner.rewind(count)

    def stored(self, plain: int, stored: int) -> None:
        """Count the bytes that were stored."""
        with self._lock:
            self.stored_bytes += stored
        self._inner.stored(plain, stored)

    def end(self, path: str) -> None:
        """Hand on."""
        self._inner.end(path)
