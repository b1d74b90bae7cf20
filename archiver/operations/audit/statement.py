"""An audit's report as a document: what was proven, when, where and by whom, for a third party.

``docs/format.md``, annex A.7. It can be read without the archive, and signed; it is no part of the archive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeVar

import msgspec

from archiver.archive.events import TOOL, AuditLimits, Sample
from archiver.archive.places import own_place
from archiver.archive.records import canonical
from archiver.archive.signing.signatures import beside
from archiver.storage.files import require_place, write_new

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from archiver.archive.archive import Archive
    from archiver.archive.events import Audited
    from archiver.archive.findings import Finding
    from archiver.archive.signing.keys import SecretKey

KIND: Final = "audit-report"
FORMAT: Final = 1
Outcome = Literal["intact", "incomplete", "unsigned", "unchecked", "damage"]


class PlaceNamed(msgspec.Struct, frozen=True):
    """Where the audited bytes lay: its identity, ``""`` if it has none, and its name."""

    id: str
    name: str


class AuditedSeal(msgspec.Struct, frozen=True):
    """A snapshot that was audited; ``files`` says whether all of its files were made and hashed."""

    id: str
    repository: str
    revision: str
    manifest: str
    files: bool


class Counts(msgspec.Struct, frozen=True):
    """What was read: ``proven`` packs are whole at the level, ``remaining`` ones were due and not read.

    ``recent`` ones were proven before, within the age asked for. ``bytes`` were read from packs.
    """

    snapshots: int
    packs: int
    objects: int
    bytes: int
    proven: int
    remaining: int
    recent: int
    damage: int
    remarks: int


class Statement(msgspec.Struct, frozen=True):
    """The document; ``repository`` and ``revision`` are ``""`` where the whole archive was audited."""

    archive: str
    place: PlaceNamed
    started: str
    ended: str
    tool: str
    level: str
    repository: str
    revision: str
    run: str
    journalled: bool
    outcome: Outcome
    counts: Counts
    sample: Sample | None
    limits: AuditLimits
    heads_checked: tuple[str, ...]
    keys: tuple[str, ...]
    journal_heads: tuple[str, ...]
    snapshots: tuple[AuditedSeal, ...]
    packs: tuple[str, ...]
    findings: tuple[dict[str, Any], ...]
    kind: str = KIND
    format: int = FORMAT


def statement(
    archive: Archive,
    terms: Audited,
    subject: tuple[str, str],
    *,
    times: tuple[str, str],
    heads: tuple[str, ...],
    keys: tuple[str, ...],
    outcome: Outcome,
    counts: Counts,
    snapshots: tuple[AuditedSeal, ...],
    packs: tuple[str, ...],
    findings: Iterable[dict[str, Any]],
    journalled: bool,
) -> Statement:
    """Return what can be said of an audit, which began and ended at these ``times``.

    ``subject``: the repository and the revision that were audited, ``""`` each for the whole archive.
    """
    place = own_place(archive)
    return Statement(
        archive=archive.info.archive,
        place=PlaceNamed(place.id, _clean(place.name)),
        started=times[0],
        ended=times[1],
        tool=TOOL,
        level=terms.level,
        repository=subject[0],
        revision=subject[1],
        run=_given(terms.run, ""),
        journalled=journalled,
        outcome=outcome,
        counts=counts,
        sample=_given(terms.sample, None),
        limits=_given(terms.limits, AuditLimits()),
        heads_checked=heads,
        keys=keys,
        journal_heads=archive.journal.heads(),
        snapshots=snapshots,
        packs=packs,
        findings=tuple(_clean(finding) for finding in findings),
    )


T = TypeVar("T")


def _given(value: T | msgspec.UnsetType, default: T) -> T:
    return default if isinstance(value, msgspec.UnsetType) else value


def _clean(value: Any) -> Any:
    """Return the value with what is no text (a name of a file that is none) escaped."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    return value


class ReportFile(NamedTuple):
    """Where a statement goes, how it tells a finding, and the key that signs it, if any."""

    path: Path
    describe: Callable[[Finding], dict[str, Any]]
    key: SecretKey | None = None

    @property
    def signature(self) -> Path | None:
        """Where its signature goes."""
        return beside(self.path) if self.key else None

    def require_place(self, archive: Archive) -> None:
        """Raise UsageError or DeniedError now if it could not be written later.

        A report is about an archive; in it, it would be one more file to ask about.
        """
        archive.require_outside(self.path, "Name a file in another folder.")
        for path in (self.path, self.signature):
            if path is not None:
                require_place(path)

    def write(self, document: Statement) -> None:
        """Write the statement, and its signature beside it."""
        data = canonical(document)
        write_new(self.path, data)
        if self.key is not None and self.signature is not None:
            comment = f"audit of archive {document.archive}, {document.ended}, {document.outcome}"
            write_new(self.signature, self.key.signature(data, comment))
