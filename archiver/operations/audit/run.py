"""Audit: prove that an archive holds what its seals say, or list everything that it does not.

Nothing but events is written to it, or nothing at all; a statement goes where it is asked for.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Final, Self

import msgspec

from archiver.archive import layout
from archiver.archive.advice import Advice
from archiver.archive.check.heads import split_heads, trusted_heads
from archiver.archive.check.proofs import LISTED_MAX, audited_parts
from archiver.archive.check.result import CheckRequest
from archiver.archive.check.run import check_archive
from archiver.archive.check.schedule import UNLIMITED, Limits
from archiver.archive.check.sidecars import missing_findings
from archiver.archive.events import Audited, AuditLimits, Rehashed, Sample, new_event
from archiver.archive.findings import UNKNOWN, Finding
from archiver.archive.places import settled_place
from archiver.archive.policy import Level, proves
from archiver.archive.signing.keys import public_keys
from archiver.catalogue.sqlite_file import damage_of
from archiver.errors import ArchiverError, UsageError
from archiver.memory import MemoryBudget
from archiver.operations.audit.statement import (
    AuditedSeal,
    Counts,
    Outcome,
    ReportFile,
    Statement,
    statement,
)
from archiver.text import utc_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType

    from archiver.archive.archive import Archive
    from archiver.archive.check.pack_reading import PackResult
    from archiver.archive.check.result import CheckResult
    from archiver.progress import Progress


class AuditRequest(msgspec.Struct, frozen=True):
    """What is audited, and how.

    Attributes:
        repository: Only what the snapshots of this repository need; None: the whole archive.
        revision: Only those of this (beginning of a) revision.
        level: How deep packs are read.
        rehash: Whether the SHA-256 of packs that are read whole is taken too; level ``files`` always does.
        limits: How much is read.
        heads: Ids of events that were kept elsewhere, or names of files that list some.
        keys: Public keys, or files of one: they are trusted instead of the policy's, and must have signed
            every seal and manifest.
        read_only: Nothing is written, not even to the journal.
        report: Gets a statement of it all, whatever was found.
        memory: What this may take, and so how many threads work.
        documents: Whether, of the whole archive, the files are checked that are no snapshot's alone, such
            as events and sidecars. There are the more of them the longer an archive is kept.
    """

    repository: str | None = None
    revision: str | None = None
    level: Level = "content"
    limits: Limits = UNLIMITED
    heads: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    read_only: bool = False
    report: ReportFile | None = None
    memory: MemoryBudget = MemoryBudget()
    rehash: bool = False
    documents: bool = True


class AuditReport(msgspec.Struct, frozen=True):
    """What an audit read and found.

    ``snapshots`` are those that are known to belong here, ``packs`` those that could be read or looked
    at, ``bytes`` were read from packs, ``hit`` are titles of snapshots. ``proven`` packs were read now
    and are whole; ``remaining`` ones have no recent proof and were only looked at. ``files`` counts the
    snapshots whose files were all made. ``recent`` packs were not read because they were proven within
    the age that was asked for. ``report`` and ``signature`` are the names of files that were written.
    """

    snapshots: int
    packs: int
    objects: int
    bytes: int
    findings: tuple[Finding, ...]
    journalled: bool
    level: Level
    proven: int
    remaining: int
    files: int
    complete: bool
    recent: int
    read_only: bool = False
    sample: Sample | None = None
    report: str = ""
    signature: str = ""

    @property
    def damage(self) -> tuple[Finding, ...]:
        """The findings that are more than a remark."""
        return tuple(finding for finding in self.findings if not finding.remark)

    @property
    def unchecked(self) -> bool:
        """Whether something could not be checked, and all that could be is whole."""
        return bool(self.damage) and all(finding.code in UNKNOWN for finding in self.damage)

    @property
    def unsigned(self) -> bool:
        """Whether signatures are missing, and nothing else is wrong."""
        return bool(self.damage) and all(
            finding.code == "signature-missing" for finding in self.damage
        )

    @property
    def intact(self) -> bool:
        """Whether nothing is wrong, and every pack was read now or proven within the age asked for."""
        return self.complete and not self.damage

    @property
    def outcome(self) -> Outcome:
        """All of it in a word."""
        if self.unsigned:
            return "unsigned"
        if self.damage:
            return "unchecked" if self.unchecked else "damage"
        return "intact" if self.complete else "incomplete"

    @property
    def hit(self) -> tuple[str, ...]:
        """The snapshots that some damage hits."""
        titles = {title for finding in self.damage for title in finding.snapshots}
        return tuple(sorted(titles))


def audit(archive: Archive, request: AuditRequest, progress: Progress) -> AuditReport:
    """Check an archive, or some of its snapshots; what was proven is journalled, also if interrupted.

    Raises:
        UsageError: There is no such snapshot, head or key, or limits are set on an audit that reads next
            to nothing.
    """
    limits, report_file = request.limits, request.report
    # Whatever is wrong with what was asked comes first: reading may take hours.
    if request.level == "structure" and limits != UNLIMITED:
        raise UsageError(
            "An audit of the level structure reads next to nothing: it takes no limits.",
            hint="Choose a deeper --level, or leave the limits out.",
        )
    own_keys = tuple(key.text for key in public_keys(request.keys))
    heads = tuple(head for text in request.heads for head in trusted_heads(text))
    if report_file:
        report_file.require_place(archive)
    if limits.share is not None and not limits.seed:
        limits = msgspec.structs.replace(limits, seed=secrets.token_hex(8))
    archive.store.pass_over_unreadable()
    started, terms = utc_now(), _terms(request.level, limits)
    subject = request.repository or "", request.revision or ""
    check = CheckRequest(
        request.repository,
        request.revision,
        request.level,
        limits,
        heads,
        own_keys,
        request.memory,
        rehash=request.rehash or request.level == "files",
        documents=request.documents,
    )
    with Ledger(archive, request.level, subject, terms, read_only=request.read_only) as ledger:
        result = check_archive(archive, check, progress, ledger.note)
        keys = own_keys or result.policy.keys
        judged = tuple(head.id for head in split_heads(archive, heads)[0])
        ledger.close(result, judged, keys)
    # A status sees by itself what is not signed, and the index is no part of the archive: neither is
    # journalled.
    findings = [*result.findings, *_unsigned(archive, result, own_keys)]
    if request.repository is None:
        findings += _catalogue(archive, untouched=request.read_only)
    report = AuditReport(
        snapshots=result.snapshots,
        packs=result.packs,
        objects=result.objects,
        bytes=result.bytes,
        findings=tuple(sorted(findings, key=lambda finding: finding.remark)),
        journalled=ledger.journalled,
        level=request.level,
        proven=len(ledger.whole),
        remaining=result.remaining,
        files=len(result.files),
        complete=result.complete,
        recent=result.recent,
        read_only=request.read_only,
        sample=None if isinstance(terms.sample, msgspec.UnsetType) else terms.sample,
    )
    if report_file is None:
        return report
    document = statement(
        archive,
        terms,
        subject,
        times=(started, utc_now()),
        heads=judged,
        keys=keys,
        outcome=report.outcome,
        counts=_counts(report),
        snapshots=_audited_seals(result),
        packs=tuple(sorted(ledger.whole)),
        findings=map(report_file.describe, report.findings),
        journalled=report.journalled,
    )
    return _written(report, report_file, document)


def _terms(level: Level, limits: Limits) -> Audited:
    """Return what every part of this audit says of it."""
    within = AuditLimits(
        *(
            None if limit is None else int(limit)
            for limit in (limits.seconds, limits.size, limits.age)
        )
    )
    share = None if limits.share is None else f"{limits.share:.8f}".rstrip("0").rstrip(".")
    return Audited(
        level,
        run=secrets.token_hex(8),
        sample=Sample(share, limits.seed) if share else msgspec.UNSET,
        limits=within if within != AuditLimits() else msgspec.UNSET,
    )


def _unsigned(archive: Archive, result: CheckResult, keys: Sequence[str]) -> Iterator[Finding]:
    """Return the finding of each document that should be signed and is not."""
    required = keys or (result.policy.keys if result.policy.signed else ())
    if required:
        known = {finding.path for finding in result.findings if not finding.remark}
        yield from missing_findings(archive, result.sealed, required, known)


def _catalogue(archive: Archive, *, untouched: bool) -> tuple[Finding, ...]:
    """Return the remark that the index is damaged: it slows every run down."""
    folder = archive.store.folder
    if folder is None:
        return ()
    path = folder.path / layout.CATALOGUE
    fault = damage_of(path, untouched=untouched)
    if not fault:
        return ()
    actions = Advice(archive.store.address).rebuild_catalogue()
    text = f"The SQL index {path.name} is damaged: {fault}. No stored file is concerned."
    return (Finding("catalogue-damaged", text, path=path.name, actions=actions),)


def _counts(report: AuditReport) -> Counts:
    return Counts(
        snapshots=report.snapshots,
        packs=report.packs,
        objects=report.objects,
        bytes=report.bytes,
        proven=report.proven,
        remaining=report.remaining,
        recent=report.recent,
        damage=len(report.damage),
        remarks=len(report.findings) - len(report.damage),
    )


def _audited_seals(result: CheckResult) -> tuple[AuditedSeal, ...]:
    made = frozenset(result.files)
    return tuple(
        AuditedSeal(
            snapshot.id,
            snapshot.seal.repository,
            snapshot.seal.revision,
            snapshot.seal.manifest.blake3,
            files=snapshot.id in made,
        )
        for snapshot in result.sealed
    )


def _written(report: AuditReport, file: ReportFile, document: Statement) -> AuditReport:
    """Write the statement; return the report that says where it is."""
    file.write(document)
    signature = str(file.signature) if file.signature else ""
    return msgspec.structs.replace(report, report=str(file.path), signature=signature)


# ---- what was proven goes into the journal

_FLUSH_SECONDS: Final = 300
"""What was proven is journalled at least so often: a power cut costs no more."""
_REHASHED: Final = 5_000
"""Packs with two digests each that one event lists."""
_CHECKED_AGAINST: Final = 256
"""Heads, and keys, that one event lists."""


class Ledger:
    """Journals what was proven, in parts, also when a run is cut short.

    Use as a context manager: on the way out, the rest is journalled, whatever happened. ``terms`` are
    what every part of the audit says of it. With ``read_only`` nothing is written.
    """

    def __init__(
        self,
        archive: Archive,
        level: Level,
        subject: tuple[str, str],
        terms: Audited,
        *,
        read_only: bool,
    ) -> None:
        self._archive = archive
        self._level = level
        # Where files are made as well, packs are proven with them, and before that only as packs.
        self._pack_level: Level = "content" if level == "files" else level
        self._terms = terms
        self._read_only = read_only
        self._ended = False
        self._against: tuple[tuple[str, ...], tuple[str, ...]] = (), ()
        self._complete = False
        self._subject = subject
        self._last = time.monotonic()
        self._packs: list[str] = []
        self._broken: list[str] = []
        self._objects = self._damaged = 0
        self._files: list[str] = []
        self._checked: tuple[str, ...] = ()
        self._closed = False
        self.whole: set[str] = set()
        """The packs that were proven at the level at which packs are read."""
        self.journalled = not read_only
        """Whether all of it could be written."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if (self._packs or self._broken) and not self._closed:
            self._flush()

    def note(self, result: PackResult) -> None:
        """Take in a pack that was read."""
        read = proves(result.level, self._pack_level)
        if read:
            self._objects += result.objects
        if read and result.whole and not result.unstable:
            self.whole.add(result.pack)
            self._packs.append(result.pack)
        elif not result.whole:
            self._damaged += 1
            self._broken.append(result.pack)
        listed = len(self._packs) + len(self._broken)
        if listed >= LISTED_MAX or time.monotonic() - self._last > _FLUSH_SECONDS:
            self._flush()

    def _flush(self) -> None:
        self._last = time.monotonic()
        self._write(self._pack_level, self._packs, (), self._damaged)
        self._packs = []

    def close(self, result: CheckResult, heads: Sequence[str], keys: Sequence[str]) -> None:
        """Journal that the run came to its end, checked against these heads and keys."""
        self._closed = True
        self._write_rehashed(result)
        self._against = tuple(heads[:_CHECKED_AGAINST]), tuple(keys[:_CHECKED_AGAINST])
        self._complete = result.complete
        damaged = sum(
            not finding.remark and finding.code != "head-elsewhere" for finding in result.findings
        )
        files = self._level == "files"
        if files and self._packs:
            self._flush()
        self._files, self._checked = result.damaged_files, result.checked
        self._ended = True
        if not files:
            self._write(self._level, self._packs, (), damaged)
            return
        made = frozenset(result.files)
        unmade = (snapshot.seal for snapshot in result.sealed if snapshot.id not in made)
        # A pack is proven at this level with all the files that stand on it.
        unproven = {pack for seal in unmade for pack, _ in seal.packs}
        self._write(self._level, sorted(self.whole - unproven), sorted(made), damaged)

    def _write(
        self, level: Level, packs: Iterable[str], snapshots: Iterable[str], damaged: int
    ) -> None:
        """Journal what one audit proved; more than fits into an event goes into further ones."""
        if self._read_only:
            return
        detail = msgspec.structs.replace(
            self._terms,
            level=level,
            objects=self._objects,
            checked=self._checked,
            damaged=damaged,
            damaged_files=tuple(self._files),
            damaged_packs=tuple(self._broken),
            packs=tuple(packs),
            place=settled_place(self._archive).key,
            snapshots=tuple(snapshots),
        )
        self._objects, self._broken, self._checked, self._files = 0, [], (), []
        parts = list(audited_parts(detail))
        if self._ended:
            heads, keys = self._against
            parts[-1] = msgspec.structs.replace(
                parts[-1], complete=self._complete, heads=heads, keys=keys
            )
        for part in parts:
            self._record(part)

    def _write_rehashed(self, result: CheckResult) -> None:
        """Journal the SHA-256 of the packs that are whole and of which the journal knows none."""
        new = sorted(
            (pack.pack, pack.sha256)
            for pack in result.pack_results
            if pack.sha256 and pack.whole and not pack.unstable and pack.pack not in result.rehashed
        )
        if self._read_only or not new:
            return
        place = settled_place(self._archive).key
        for at in range(0, len(new), _REHASHED):
            self._record(Rehashed(tuple(new[at : at + _REHASHED]), place))

    def _record(self, detail: Audited | Rehashed) -> None:
        try:
            self._archive.require_writable()
            self._archive.record(new_event(detail, *self._subject))
        except ArchiverError:
            self.journalled = False
