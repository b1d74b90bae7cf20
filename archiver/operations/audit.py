"""Audit: prove that an archive holds what its seals say, or list everything that it does not.

Nothing but an event is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from archiver.archive.archive import TOOL, Archive
from archiver.archive.finding import UNKNOWN, Finding
from archiver.archive.fixity.examination import examine
from archiver.archive.records import Event
from archiver.errors import ArchiverError
from archiver.text import utc_now

if TYPE_CHECKING:
    from archiver.progress import Progress


class AuditReport(msgspec.Struct, frozen=True):
    """What an audit read and found.

    ``snapshots`` are those that are known to belong here, ``packs`` those that could be read, ``bytes``
    were read from packs, ``hit`` are titles of snapshots.
    """

    snapshots: int
    packs: int
    objects: int
    bytes: int
    findings: tuple[Finding, ...]
    journalled: bool

    @property
    def damage(self) -> tuple[Finding, ...]:
        """The findings that are more than a remark."""
        return tuple(one for one in self.findings if not one.remark)

    @property
    def unchecked(self) -> bool:
        """Whether something could not be checked, and all that could be is whole."""
        return bool(self.damage) and all(one.code in UNKNOWN for one in self.damage)

    @property
    def intact(self) -> bool:
        """Whether everything was checked and is as it should be."""
        return not self.damage

    @property
    def hit(self) -> tuple[str, ...]:
        """The snapshots that some damage hits."""
        titles = {title for one in self.damage for title in one.snapshot.split(", ") if title}
        return tuple(sorted(titles))


def audit(
    archive: Archive,
    *,
    repository: str | None = None,
    revision: str | None = None,
    workers: int,
    progress: Progress,
) -> AuditReport:
    """Check the whole archive, or the snapshots of one repository and (beginning of a) revision.

    Raises UsageError if there is no such snapshot.
    """
    found = examine(
        archive, repository=repository, revision=revision, workers=workers, progress=progress
    )
    damaged = sum(not one.remark for one in found.findings)
    detail = {"level": "content", "objects": found.objects, "damaged": damaged}
    event = Event("audited", utc_now(), TOOL, repository or "", revision or "", detail)
    return AuditReport(
        snapshots=found.snapshots,
        packs=found.packs,
        objects=found.objects,
        bytes=found.bytes,
        findings=found.findings,
        journalled=_journal(archive, event),
    )


def _journal(archive: Archive, event: Event) -> bool:
    """Record the audit; False where the archive cannot be written to."""
    try:
        archive.require_writable()
        archive.record(event)
    except ArchiverError:
        return False
    return True
