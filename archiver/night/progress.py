"""How a night tells its course; whoever receives it decides what to show."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from archiver.progress import Progress

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from archiver.errors import ArchiverError
    from archiver.night.result import StepResult
    from archiver.operations.mirror.report import MirrorReport
    from archiver.plan.document import PlannedRepository


class NightProgress:
    """Receives the course of a night, and shows nothing; what shows it is a kind of it."""

    def meter(self, verb: str, unit: str) -> AbstractContextManager[Progress]:
        """Return what receives the progress of a part, such as ``Auditing`` of ``packs``."""
        del verb, unit
        return nullcontext(Progress())

    def began(self, step: str) -> None:
        """A step begins."""

    def ended(self, result: StepResult) -> None:
        """A step ended."""

    def mirrored(self, report: MirrorReport) -> None:
        """An entry of the plan was mirrored, or was held already."""

    def failed(self, planned: PlannedRepository, error: ArchiverError) -> None:
        """One was not."""

    def acknowledged(self, planned: PlannedRepository, error: ArchiverError) -> None:
        """Upstream does not give one, as its owner knows."""
