"""The steps of a night: each calls an operation, and says what came of it as a ``StepResult``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from archiver.archive.archive import Archive, KnownDocuments
from archiver.archive.check.proofs import proofs_of, standing_proofs
from archiver.archive.check.schedule import Limits
from archiver.archive.copies import own_history
from archiver.archive.events import Audited
from archiver.archive.findings import FILES
from archiver.archive.journal import Journal
from archiver.archive.layout import pack_name
from archiver.archive.parity.coverage import files_of_snapshots, without_sidecar
from archiver.archive.place_look import look_at
from archiver.archive.places import own_place
from archiver.archive.signing.keys import read_secret_key
from archiver.archive.signing.signatures import unsigned
from archiver.errors import (
    ArchiverError,
    ExitCode,
    NoArchiveError,
    SkippedError,
    explain_system_error,
    skip_damaged,
)
from archiver.night.facts import Fact, ringing_code, worst
from archiver.night.result import ERRORS_MAX, Outcome, StepError, StepResult
from archiver.operations.audit.run import AuditRequest, audit
from archiver.operations.copy.journals import fetch_copies_and_proofs
from archiver.operations.copy.run import CopyRequest, copy
from archiver.operations.parity import ParityRequest, add_parity
from archiver.operations.sign import SignRequest, sign
from archiver.storage.local import LocalStore
from archiver.text import utc_before, utc_now

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from archiver.archive.findings import Finding
    from archiver.archive.policy import Level
    from archiver.memory import MemoryBudget
    from archiver.operations.copy.run import CopyReport
    from archiver.plan.document import NightAudit
    from archiver.progress import Progress

_DAY: Final = 86400
_UNCHANGED_COPY_DAYS: Final = 7
"""A copy that lacks nothing gets the journal, and is noted as seen, this often."""
_DOCUMENTS_DAYS: Final = 7
"""Seals, manifests, events and sidecars are looked at this often."""


# ---- the archive's own disk


def parity_step(
    archive: Archive,
    memory: MemoryBudget,
    meter: Callable[[str, str], AbstractContextManager[Progress]],
) -> StepResult:
    """Make the parity that the policy wants; nothing where it wants none."""
    snapshots = archive.snapshots(skip_damaged)
    # Events come with every night: their sidecars are made with the next ones that snapshots need.
    if not archive.policy().parity or not without_sidecar(
        archive.store, files_of_snapshots(snapshots)
    ):
        return StepResult("parity", "idle")
    with meter("Protecting", "files") as progress:
        report = add_parity(archive, ParityRequest(memory=memory), progress)
    codes = [ringing_code(failure.exit_code) for failure in report.failures]
    facts = tuple(
        Fact("damaged", failure.file, int(ExitCode.DAMAGE), "parity")
        if failure.exit_code == ExitCode.DAMAGE
        else Fact("step", f"parity of {failure.file}", ringing_code(failure.exit_code), "parity")
        for failure in report.failures
    )
    errors = tuple(
        StepError(failure.reason, failure.hint, failure.exit_code, failure.file)
        for failure in report.failures[:ERRORS_MAX]
    )
    counts = {
        "made": len(report.made),
        "kept": len(report.kept),
        "parity_bytes": report.parity_bytes,
    }
    outcome: Outcome = "failed" if codes else "done" if report.made else "idle"
    return StepResult("parity", outcome, worst(codes), facts, errors, counts)


# ---- copies


def copies_step(
    archive: Archive,
    folders: Mapping[str, KnownDocuments],
    memory: MemoryBudget,
    meter: Callable[[str, str], AbstractContextManager[Progress]],
) -> StepResult:
    """Copy to each of the folders where an archive is; one that is away is told, and no failure.

    ``folders`` are given with what this night has read of their archives.
    """
    counts = {"places": len(folders), "away": 0, "brought": 0, "brought_bytes": 0}
    facts: list[Fact] = []
    errors: list[StepError] = []
    done = False
    for folder, known in folders.items():
        request = CopyRequest(Path(folder), memory=memory, known_documents=known)
        try:
            report = _copied(archive, request, meter)
        except _AwayError as away:
            counts["away"] += 1
            errors.append(StepError(away.error.message, away.error.hint, 0, folder))
            facts.append(Fact("place", folder, 0, "copies"))
        except ArchiverError as error:
            code = ringing_code(int(error.exit_code))
            facts.append(Fact("place", folder, code, "copies"))
            errors.append(StepError(error.message, error.hint, int(error.exit_code), folder))
        else:
            # Where nothing is to be brought nothing is journalled either.
            Journal(LocalStore(Path(folder)), known.events, known.summary).write_summary()
            if report is None:
                continue
            done = True
            counts["brought"] += len(report.copied)
            counts["brought_bytes"] += report.bytes
            facts += map(_of_finding, report.damage)
            errors += [
                StepError(finding.message, finding.hint, code_of(finding), folder)
                for finding in report.damage[:ERRORS_MAX]
            ]
    codes = [fact.exit_code for fact in facts]
    outcome: Outcome = "done" if done else "idle"
    if counts["away"] == len(folders) and folders:
        outcome = "away"
    if any(codes):
        outcome = "failed"
    return StepResult("copies", outcome, worst(codes), tuple(facts), tuple(errors), counts)


class _AwayError(Exception):
    """The disk of a place is not there, or gives no answer."""

    def __init__(self, error: ArchiverError) -> None:
        super().__init__(error.message)
        self.error = error


def _copied(
    archive: Archive,
    request: CopyRequest,
    meter: Callable[[str, str], AbstractContextManager[Progress]],
) -> CopyReport | None:
    """Return the report of a copy; None if the place lacks nothing and was brought up to date lately.

    Raise _AwayError if nothing is there, else as the operation does. Nothing is ever begun there.
    """
    look = look_at(request.target)
    try:
        with meter("Copying", "packs") as progress:
            foreseen = copy(archive, msgspec.structs.replace(request, dry_run=True), progress)
            if not foreseen.copied and not foreseen.packs and _is_up_to_date(archive, look.place):
                return None
            return copy(archive, request, progress)
    except NoArchiveError as error:
        if not look.archive and not set(look.names) - {"lost+found"}:
            raise _AwayError(error) from error
        raise
    except (ArchiverError, OSError) as failure:
        cause = explain_system_error(failure) if isinstance(failure, OSError) else failure
        # Also where the disk went away in the middle of it.
        later = look_at(request.target)
        if not look.answered or not later.answered or (look.archive and not later.archive):
            raise _AwayError(cause) from failure
        raise cause from failure


def _is_up_to_date(archive: Archive, place: str) -> bool:
    """Return whether the journal has known the place to be there, and the same, for some days."""
    history = own_history(archive, utc_now())
    return bool(place) and history.seen([place]) >= utc_before(_UNCHANGED_COPY_DAYS * _DAY)


def code_of(finding: Finding) -> int:
    """Return the exit code that a finding rings with."""
    if finding.code in {"file-unreadable", "not-understood", "head-elsewhere"}:
        return int(ExitCode.SKIPPED)
    if finding.code == "signature-missing":
        return int(ExitCode.POLICY_UNMET)
    return int(ExitCode.DAMAGE)


def _of_finding(finding: Finding, step: str = "copies") -> Fact:
    """Return the fact that a finding is: a stored file is named as the look in the end names it."""
    name = pack_name(finding.pack) if finding.pack else ""
    if finding.code in FILES:
        name = finding.path
    if name and code_of(finding) == ExitCode.DAMAGE:
        return Fact("damaged", name, code_of(finding), step)
    where = finding.snapshots[0] if finding.snapshots else ""
    subject = " ".join(filter(None, (where, finding.path or finding.object)))
    return Fact("finding", f"{finding.code} {subject}".strip(), code_of(finding), step)


# ---- proofs


def audit_step(
    archive: Archive,
    budget: NightAudit,
    memory: MemoryBudget,
    meter: Callable[[str, str], AbstractContextManager[Progress]],
    step: str = "audit",
) -> StepResult:
    """Prove what was proven longest ago, as far as the budget goes."""
    days = archive.policy().audit_days
    age = days * _DAY // 2 or _DAY // 2
    packs = {
        pack: size
        for snapshot in archive.snapshots(skip_damaged)
        for pack, size in snapshot.seal.packs
    }
    due = _due(archive, packs, budget.level, age)
    if not any(due):
        return StepResult(step, "idle")
    size = min(filter(None, (budget.bytes, int(budget.share * sum(packs.values())))), default=0)
    limits = Limits(seconds=budget.seconds or None, size=size or None, age=age)
    if budget.level == "structure":
        limits = Limits()
    request = AuditRequest(
        level=budget.level, limits=limits, memory=memory, documents=due.documents
    )
    with meter("Auditing", "packs") as progress:
        report = audit(archive, request, progress)
    facts = tuple(dict.fromkeys(_of_finding(finding, step) for finding in report.damage))
    errors = tuple(
        StepError(finding.message, finding.hint, code_of(finding), finding.path)
        for finding in report.damage[:ERRORS_MAX]
    )
    counts = {
        "proven": report.proven,
        "remaining": report.remaining,
        "read_bytes": report.bytes,
        "findings": len(report.damage),
    }
    code = worst(fact.exit_code for fact in facts)
    return StepResult(step, "failed" if code else "done", code, facts, errors, counts)


def place_audit_step(
    archive: Archive,
    folder: str,
    known: KnownDocuments,
    budget: NightAudit,
    memory: MemoryBudget,
    meter: Callable[[str, str], AbstractContextManager[Progress]],
    step: str,
) -> StepResult:
    """Prove a copy where it lies, if it is there, and journal the proofs here too.

    A copy that is away has nothing to tell: what was known of it stands. ``known`` is what this night has
    read of it.
    """
    look = look_at(folder)
    if not look.answered or not look.archive:
        return StepResult(step, "skipped")
    place = Archive.open(Path(folder), known=known)
    result = audit_step(place, budget, memory, meter, step)
    if result.outcome != "idle":
        fetch_copies_and_proofs(archive, place, own_place(place))
    facts = tuple(
        fact._replace(subject=f"{folder}/{fact.subject}") if fact.kind == "damaged" else fact
        for fact in result.facts
    )
    return msgspec.structs.replace(result, facts=facts)


class _Due(NamedTuple):
    """What is to be proven: packs, all documents, or nothing."""

    packs: bool
    documents: bool


def _due(archive: Archive, packs: dict[str, int], level: Level, age: int) -> _Due:
    """Return what has no proof: a pack, within so many seconds; the documents, for days.

    Documents are not looked at with every pack, since each night makes some more of them. But what an audit
    found of them stands until another one finds it mended.
    """
    place, since = own_place(archive), utc_before(age)
    proofs = proofs_of(standing_proofs(archive.journal), utc_now(), place)
    newest, damaged = "", False
    for _, event in archive.standing_events():
        match event.detail:
            case Audited() as audited if place.is_named(audited.place):
                if "documents" in audited.checked:
                    newest, damaged = event.time, False
                damaged |= bool(audited.damaged)
    recent = utc_before(_DOCUMENTS_DAYS * _DAY) <= newest <= utc_now()
    return _Due(
        packs=any(proofs.pack(pack, level) < since for pack in packs),
        documents=damaged or bool(proofs.broken) or not recent,
    )


# ---- signatures


def sign_step(archive: Archive, file: Path, *, changed: bool) -> StepResult:
    """Sign what has no signature, and the journal's heads if this night changed something.

    Raise SkippedError if the key has a password and nobody gives it.
    """
    secret = read_secret_key(file)
    if secret.needs_password and not os.environ.get("ARCHIVER_KEY_PASSWORD"):
        raise SkippedError(
            f"{file} needs a password, and a night has nobody to ask.",
            hint="Set ARCHIVER_KEY_PASSWORD, or use a key without one that only this user can read.",
        )
    key = secret.unlock(
        os.environ.get("ARCHIVER_KEY_PASSWORD", "") if secret.needs_password else ""
    )
    snapshots = list(archive.snapshots(skip_damaged))
    bare = unsigned(archive.store, snapshots, (key.public.text,))
    if not changed and next(bare, None) is None:
        return StepResult("sign", "idle")
    report = sign(archive, SignRequest(key))
    facts = tuple(_of_finding(finding, "sign") for finding in report.findings)
    errors = tuple(
        StepError(finding.message, finding.hint, code_of(finding), finding.path)
        for finding in report.findings[:ERRORS_MAX]
    )
    counts = {"new_signatures": report.signed, "kept": report.kept, "heads": len(report.heads)}
    code = worst(fact.exit_code for fact in facts)
    outcome: Outcome = "failed" if code else "done" if report.signed or report.heads else "idle"
    return StepResult("sign", outcome, code, facts, errors, counts)
