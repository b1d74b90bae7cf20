"""Audit: prove that an archive holds what its seals say, or list everything that it does not.

Nothing but events is written to it, or nothing at all; a statement goes where it is asked for.
"""

from __future__ import annotations

import secrets
import time
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from archiver.archive import layout
from archiver.archive.advice import Advice
from archiver.archive.check.heads import split_heads, trusted_heads
from archiver.archive.check.result import CheckRequest
from archiver.archive.check.run import check_archive
from archiver.archive.check.schedule import UNLIMITED, Limits
from archiver.archive.check.sidecars import missing_findings
from archiver.archive.events import Audited, AuditLimits, Sample, new_event
from archiver.archive.findings import UNKNOWN, Finding
from archiver.archive.places import settled_place
from archiver.archive.policy import Level, proves
from archiver.archive.signing.keys import public_keys
from archiver.catalogue.sqlite_file import damage_of
from archiver.errors import ArchiverError, UsageError
from archiver.operations.audit.statement import (
    AuditedSeal,
    Counts,
    Outcome,
    ReportFile,
    Run,
    statement,
)
from archiver.text import utc_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType

    from archiver.archive.archive import Archive
    from archiver.archive.check.packs import PackResult
    from archiver.archive.check.result import CheckResult
    from archiver.operations.audit.statement import Statement
    from archiver.progress import Progress


# ---- One audit: what is examined, journalled and asked beside it.


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
        return tuple(one for one in self.findings if not one.remark)

    @property
    def unchecked(self) -> bool:
        """Whether something could not be checked, and all that could be is whole."""
        return bool(self.damage) and all(one.code in UNKNOWN for one in self.damage)

    @property
    def unsigned(self) -> bool:
        """Whether signatures are missing, and nothing else is wrong."""
        return bool(self.damage) and all(one.code == "signature-missing" for one in self.damage)

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
        titles = {title for one in self.damage for title in one.snapshots}
        return tuple(sorted(titles))


def audit(
    archive: Archive,
    *,
    repository: str | None = None,
    revision: str | None = None,
    workers: int,
    progress: Progress,
    level: Level = "content",
    limits: Limits = UNLIMITED,
    heads: Iterable[str] = (),
    keys: Sequence[str] = (),
    read_only: bool = False,
    file: ReportFile | None = None,
) -> AuditReport:
    """Check the whole archive, or the snapshots of one repository and (beginning of a) revision.

    What was proven is journalled, also when the run is interrupted. ``heads`` are ids of events that
    were kept elsewhere, or names of files that list some. ``keys`` are public keys, or files of one:
    they are trusted instead of the policy's, and must have signed every seal and manifest. With
    ``read_only`` nothing is written, not even to the journal. ``file`` gets a statement of it all, whatever
    was found.

    Raises:
        UsageError: There is no such snapshot, head or key, or limits are set on an audit that reads next
            to nothing.
    """
    if level == "structure" and limits != UNLIMITED:
        raise UsageError(
            "An audit of the level structure reads next to nothing: it takes no limits.",
            hint="Choose a deeper --level, or leave the limits out.",
        )
    trusted = [one.text for one in public_keys(keys)]
    kept = [one for text in heads for one in trusted_heads(text)]
    if file:
        file.require_place(archive)
    if limits.share is not None and not limits.seed:
        limits = msgspec.structs.replace(limits, seed=secrets.token_hex(8))
    archive.store.pass_over_unreadable()
    started, terms = utc_now(), _terms(level, limits)
    subject = repository or "", revision or ""
    with Ledger(archive, level, *subject, terms, read_only=read_only) as ledger:
        found = check_archive(
            archive,
            CheckRequest(repository, revision, level, limits, tuple(kept), tuple(trusted), workers),
            progress,
            ledger.note,
        )
        checked = trusted or list(found.policy.keys)
        judged = [one.id for one in split_heads(archive, kept)[0]]
        ledger.close(found, judged, checked)
    more = (
        *_unsigned(archive, found, trusted),
        *(() if repository else _catalogue(archive, untouched=read_only)),
    )
    report = _report(found, level, more, ledger)
    sample = None if isinstance(terms.sample, msgspec.UnsetType) else terms.sample
    report = msgspec.structs.replace(report, read_only=read_only, sample=sample)
    if file is None:
        return report
    run = Run(started, utc_now(), *subject, terms, tuple(judged), tuple(checked))
    findings = tuple(map(file.describe, report.findings))
    file.write(_statement(archive, run, report, found, ledger, findings))
    signature = str(file.signature) if file.signature else ""
    return msgspec.structs.replace(report, report=str(file.path), signature=signature)


def _terms(level: Level, limits: Limits) -> Audited:
    """What every part of this audit says of it."""
    within = AuditLimits(
        *(None if one is None else int(one) for one in (limits.seconds, limits.size, limits.age))
    )
    share = None if limits.share is None else f"{limits.share:.8f}".rstrip("0").rstrip(".")
    return Audited(
        level,
        run=secrets.token_hex(8),
        sample=Sample(share, limits.seed) if share else msgspec.UNSET,
        limits=within if within != AuditLimits() else msgspec.UNSET,
    )


def _statement(
    archive: Archive,
    run: Run,
    report: AuditReport,
    found: CheckResult,
    ledger: Ledger,
    findings: tuple[dict[str, Any], ...],
) -> Statement:
    made = frozenset(found.files)
    snapshots = tuple(
        AuditedSeal(
            one.id,
            one.seal.repository,
            one.seal.revision,
            one.seal.manifest.blake3,
            files=one.id in made,
        )
        for one in found.sealed
    )
    counts = Counts(
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
    return statement(
        archive,
        run,
        report.outcome,
        counts,
        snapshots=snapshots,
        packs=tuple(ledger.whole),
        findings=findings,
        journalled=report.journalled,
    )


def _unsigned(archive: Archive, found: CheckResult, keys: Sequence[str]) -> Iterator[Finding]:
    """What should be signed and is not; a status tells of it by itself, so it is not journalled."""
    wanted = keys or (found.policy.keys if found.policy.signed else ())
    if wanted:
        told = {one.path for one in found.findings if not one.remark}
        yield from missing_findings(archive, found.sealed, wanted, told)


def _catalogue(archive: Archive, *, untouched: bool) -> tuple[Finding, ...]:
    """The index is no part of the archive, but a damaged one slows every run down."""
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


def _report(
    found: CheckResult, level: Level, more: tuple[Finding, ...], ledger: Ledger
) -> AuditReport:
    return AuditReport(
        snapshots=found.snapshots,
        packs=found.packs,
        objects=found.objects,
        bytes=found.bytes,
        findings=tuple(sorted((*found.findings, *more), key=lambda one: one.remark)),
        journalled=ledger.journalled,
        level=level,
        proven=ledger.proven,
        remaining=found.remaining,
        files=len(found.files),
        complete=found.complete,
        recent=found.recent,
    )


# ---- The ledger of an audit: what was proven goes into the journal, in parts, also when a run is
# cut short.


_SECONDS: Final = 300
"""What was proven is journalled at least so often: a power cut costs no more."""
_LISTED: Final = 10_000
"""Digests that one event lists: it has at most 1 MiB."""
_NAMED: Final = 1_000
"""Names of files that one event lists beside them."""
_CHECKED_AGAINST: Final = 256
"""Heads, and keys, that one event lists."""


class Ledger:
    """Use as a context manager: on the way out, the rest is journalled, whatever happened.

    ``terms`` are what every part of the audit says of it. With ``read_only`` nothing is written.
    """

    def __init__(
        self,
        archive: Archive,
        level: Level,
        repository: str,
        revision: str,
        terms: Audited,
        *,
        read_only: bool = False,
    ) -> None:
        self._archive = archive
        self._level = level
        self._of_packs: Level = "content" if level == "files" else level
        self._terms = terms
        self._read_only = read_only
        self._ended = False
        self._against: tuple[tuple[str, ...], tuple[str, ...]] = (), ()
        self._complete = False
        self._subject = repository, revision
        self._last = time.monotonic()
        self._whole: set[str] = set()
        self._packs: list[str] = []
        self._broken: list[str] = []
        self._objects = self._damaged = 0
        self._files: list[str] = []
        self._checked: tuple[str, ...] = ()
        self._closed = False
        self.journalled = not read_only
        """Whether all of it could be written."""

    @property
    def proven(self) -> int:
        """How many packs were proven at the level at which packs are read."""
        return len(self._whole)

    @property
    def whole(self) -> list[str]:
        """Those packs, in order."""
        return sorted(self._whole)

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

    def note(self, examined: PackResult) -> None:
        """Take in a pack that was read."""
        read = proves(examined.level, self._of_packs)
        if read and examined.state is not None:
            self._objects += examined.state.objects
        if read and examined.whole and not examined.unstable:
            self._whole.add(examined.wanted.pack)
            self._packs.append(examined.wanted.pack)
        elif not examined.whole:
            self._damaged += 1
            self._broken.append(examined.wanted.pack)
        if (
            len(self._packs) + len(self._broken) >= _LISTED
            or time.monotonic() - self._last > _SECONDS
        ):
            self._flush()

    def _flush(self) -> None:
        self._last = time.monotonic()
        self._write(self._of_packs, self._packs, (), self._damaged)
        self._packs = []

    def close(self, found: CheckResult, heads: Sequence[str], keys: Sequence[str]) -> None:
        """The run came to its end with these findings, checked against these heads and keys."""
        self._closed = True
        self._against = tuple(heads[:_CHECKED_AGAINST]), tuple(keys[:_CHECKED_AGAINST])
        self._complete = found.complete
        damaged = sum(not one.remark and one.code != "head-elsewhere" for one in found.findings)
        files = self._level == "files"
        if files and self._packs:
            self._flush()
        self._files, self._checked = found.damaged_files, found.checked
        self._ended = True
        if not files:
            self._write(self._level, self._packs, (), damaged)
            return
        made = frozenset(found.files)
        open_ = {pack for one in found.sealed if one.id not in made for pack, _ in one.seal.packs}
        # A pack is proven at this level with all the files that stand on it.
        self._write(self._level, sorted(self._whole - open_), sorted(made), damaged)

    def _write(
        self, level: Level, packs: Iterable[str], snapshots: Iterable[str], damaged: int
    ) -> None:
        """Journal what one audit proved; more than fits into an event goes into further ones."""
        if self._read_only:
            return
        left, told = iter(packs), iter(snapshots)
        place = settled_place(self._archive).key
        while True:
            some, others = list(islice(left, _LISTED)), []
            if len(some) < _LISTED:
                others = list(islice(told, _LISTED - len(some)))
            last = len(some) + len(others) < _LISTED and len(self._files) <= _NAMED
            detail = msgspec.structs.replace(
                self._terms,
                level=level,
                objects=self._objects,
                checked=self._checked,
                damaged=damaged,
                damaged_files=tuple(self._files[:_NAMED]),
                damaged_packs=tuple(self._broken),
                packs=tuple(some),
                place=place,
                snapshots=tuple(others),
            )
            if self._ended and last:
                heads, keys = self._against
                detail = msgspec.structs.replace(
                    detail, complete=self._complete, heads=heads, keys=keys
                )
            self._objects, self._broken, self._checked = 0, [], ()
            self._files = self._files[_NAMED:]
            self._record(detail)
            if last:
                return

    def _record(self, detail: Audited) -> None:
        try:
            self._archive.require_writable()
            self._archive.record(new_event(detail, *self._subject))
        except ArchiverError:
            self.journalled = False
