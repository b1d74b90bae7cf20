"""Checking what stands beside the archive proper: parity sidecars and signatures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.archive.fixity.parity_check import parity_findings
from archiver.archive.fixity.signature_check import signature_findings
from archiver.archive.policy import policy_of
from archiver.errors import ArchiverError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.archive.archive import Archive
    from archiver.archive.finding import Finding
    from archiver.archive.records import Event
    from archiver.progress import Progress


def extra_findings(
    archive: Archive, events: Iterable[tuple[str, Event]], *, deep: bool, progress: Progress
) -> Iterator[Finding]:
    """What is wrong with sidecars, read whole if ``deep``, and with signatures by keys of the policy."""
    yield from parity_findings(archive, deep=deep, progress=progress)
    yield from signature_findings(archive, _trusted(events))


def _trusted(events: Iterable[tuple[str, Event]]) -> tuple[str, ...]:
    """The keys of the policy; none if it cannot be understood: whoever asks for it is told."""
    try:
        return policy_of(events).keys
    except ArchiverError:
        return ()
