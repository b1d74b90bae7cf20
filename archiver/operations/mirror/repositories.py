"""Mirroring one repository after the other into an archive, all in the same way."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.archive.pins import published_pins
from archiver.codec.segment import Effort
from archiver.errors import skip_damaged
from archiver.memory import MemoryBudget
from archiver.operations.mirror.report import MirrorReport, MirrorRequest
from archiver.operations.mirror.run import mirror
from archiver.upstream.failover import Hubs
from archiver.upstream.local import LocalUpstream

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.archive.pins import Pin
    from archiver.operations.mirror.lookups import Lookups
    from archiver.plan.budget import RunBudget
    from archiver.progress import Progress
    from archiver.upstream.protocol import Upstream

_ABBREVIATED: Final = re.compile(r"[0-9a-f]{7,39}\Z")

Patterns = tuple[tuple[str, ...], tuple[str, ...]]
"""Those of the files to take, and of the files to leave out."""


class MirrorSettings(NamedTuple):
    """How every repository of a run is mirrored; each is as in a ``MirrorRequest``."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    effort: Effort = Effort.NORMAL
    jobs: int = 0
    memory: MemoryBudget = MemoryBudget()
    min_free: int = 0
    dry_run: bool = False

    @property
    def patterns(self) -> Patterns:
        """Those of the run, which stand in for those of a plan's entry."""
        return self.include, self.exclude


class RepositoryMirror:
    """Mirrors repositories into an archive."""

    def __init__(self, archive: Archive, lookups: Lookups, settings: MirrorSettings) -> None:
        self._archive = archive
        self._lookups = lookups
        self._settings = settings

    def __call__(
        self,
        upstream: Upstream,
        repository: str,
        revision: str | None,
        progress: Progress,
        patterns: Patterns | None = None,
        *,
        effort: Effort | None = None,
        budget: RunBudget | None = None,
    ) -> MirrorReport:
        """Mirror a repository, within a ``budget``; return and raise as the operation does.

        ``patterns`` and ``effort`` stand in for those of the settings, if given.
        """
        settings = self._settings
        include, exclude = patterns or settings.patterns
        if isinstance(upstream, Hubs):
            upstream = upstream.of(repository)
        digests = not isinstance(upstream, LocalUpstream) or upstream.lists_digests
        request = MirrorRequest(
            lookup=self._lookups.choose(digests=digests),
            upstream=upstream,
            repository=repository,
            revision=_completed(self._archive, repository, revision),
            # A plain folder has no commit, so that no pin can be of it.
            pins=self._pins if digests else (),
            include=include,
            exclude=exclude,
            effort=effort or settings.effort,
            jobs=settings.jobs,
            memory=settings.memory,
            min_free=settings.min_free,
            dry_run=settings.dry_run,
            budget=budget,
        )
        return mirror(self._archive, request, progress)

    @cached_property
    def _pins(self) -> tuple[Pin, ...]:
        return published_pins()


def _completed(archive: Archive, repository: str, revision: str | None) -> str | None:
    """Return the whole commit that an abbreviated one stands for, if the archive holds just one such."""
    if not revision or not _ABBREVIATED.match(revision):
        return revision
    held = archive.snapshots_of(repository, on_damage=skip_damaged)
    revisions = {snapshot.seal.revision for snapshot in held}
    commits = [commit for commit in revisions if commit.startswith(revision)]
    return commits[0] if len(commits) == 1 else revision
