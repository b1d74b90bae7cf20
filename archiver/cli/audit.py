"""``archiver audit``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from archiver.cli import output
from archiver.cli.findings import described, record_report, show_all, show_remarks
from archiver.cli.options import (
    Duration,
    Share,
    Size,
    common,
    key_option,
    memory_budget,
    open_archive,
    packs_option,
    snapshot_option,
    split_reference,
    unlocked,
)
from archiver.cli.progress import Meter
from archiver.errors import ExitCode
from archiver.text import human_bytes, human_duration, human_rate, plural, printable

if TYPE_CHECKING:
    from archiver.archive.policy import Level
    from archiver.archive.seals import Snapshot
    from archiver.operations.audit.run import AuditReport
    from archiver.operations.audit.statement import ReportFile

_SEED_MAX = 100


@click.command(epilog="Example: archiver audit -C weights --max-duration 2h --max-age 30d")
@click.option(
    "--level",
    type=click.Choice(["structure", "stored", "content", "files", "smoke"]),
    default="content",
    show_default=True,
    help="How deep: names and sizes; digests of packs; every object; every file. "
    "smoke: run the model of the snapshot whose last smoke test is oldest.",
)
@snapshot_option
@click.option(
    "--max-duration",
    "seconds",
    type=Duration(1),
    help="Begin nothing more after this time, such as 2h.",
)
@click.option("--max-bytes", "size", type=Size(1), help="Read at most this much, such as 500GB.")
@click.option(
    "--max-age",
    "age",
    type=Duration(),
    help="Only what was not proven within this time, such as 30d.",
)
@click.option(
    "--memory",
    type=Size(1),
    help="Stay below this much memory in all. [default: 400 MB; for level smoke: what there is]",
)
@click.option("--sample", "share", type=Share(), help="Only a random part, such as 5%.")
@click.option(
    "--seed", metavar="TEXT", help="The seed that --sample is drawn with. [default: random]"
)
@click.option(
    "--head",
    "heads",
    metavar="ID|FILE",
    multiple=True,
    help="The id of an event, kept outside the archive, that must be in the journal; or a file of ids; "
    "repeatable.",
)
@key_option
@click.option(
    "--read-only", is_flag=True, help="Write nothing to the archive, not even to its journal."
)
@click.option(
    "--report",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write a statement of what was proven and what is damaged, for others to keep.",
)
@click.option(
    "--sign",
    "secret",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Sign the report with this secret key; the signature lies beside it.",
)
@click.option(
    "--rehash",
    is_flag=True,
    help="Also take the SHA-256 of every pack that is read, and journal it. Level files always does.",
)
@packs_option
@click.option(
    "--explain", "code", metavar="CODE", help="Say what a finding's code means and what to do."
)
@common
def command(
    level: str,
    reference: str | None,
    pack_folders: tuple[Path, ...],
    heads: tuple[str, ...],
    keys: tuple[str, ...],
    code: str | None,
    memory: int | None,
    seed: str | None,
    *,
    rehash: bool,
    read_only: bool,
    file: Path | None,
    secret: Path | None,
    **limits: float | None,
) -> None:
    """Decode and re-hash what the archive holds, and list everything that is damaged.

    Every seal, manifest, pack, object and event is read and compared with its digest, and every file
    of every manifest must be found in the packs of its seal. What looks damaged is read a second time
    before it is called so. Each finding names what is hit and what to do next.

    With limits, what was proven longest ago comes first, and the next run goes on from there. With
    --packs nothing is written, as with --read-only: packs that lie elsewhere prove nothing of this place.
    """
    if code:
        _explain(code)
        return
    if level == "smoke":
        limited = any(limits[name] is not None for name in ("seconds", "size", "share"))
        if limited or any((heads, keys, seed, read_only, file, secret, pack_folders, rehash)):
            raise click.UsageError("Level smoke goes with --snapshot, --max-age and --memory only.")
        _smoke_test(reference, limits["age"], memory)
        return
    if seed is not None:
        _check_seed(seed, limits["share"])
    if secret and not file:
        raise click.UsageError("--sign goes with --report only.")
    from archiver.archive.check.schedule import Limits
    from archiver.operations.audit.run import AuditRequest, audit

    repository, revision = split_reference(reference) if reference else (None, None)
    archive = open_archive(pack_folders=pack_folders)
    request = AuditRequest(
        repository,
        revision,
        level=cast("Level", level),  # click has seen to it that it is one
        rehash=rehash,
        limits=Limits(**limits, seed=seed or ""),  # type: ignore[arg-type] # click has made each its type
        heads=heads,
        keys=keys,
        # What is proven of packs elsewhere is not proven of this place.
        read_only=read_only or bool(pack_folders),
        report=_report_file(file, secret),
        memory=memory_budget(memory),
    )
    started = time.monotonic()
    with Meter("Auditing", "packs") as meter:
        report = audit(archive, request, meter)
    _show(report, time.monotonic() - started)
    if report.damage:
        worst = ExitCode.SKIPPED if report.unchecked else ExitCode.DAMAGE
        output.exit_with(worst)


def _check_seed(seed: str, share: float | None) -> None:
    if share is None:
        raise click.UsageError("--seed goes with --sample only.")
    if not 1 <= len(seed) <= _SEED_MAX or not (seed.isascii() and seed.isprintable()):
        raise click.UsageError(f"A seed has 1 to {_SEED_MAX} printable ASCII characters.")


def _report_file(file: Path | None, secret: Path | None) -> ReportFile | None:
    """Return where the report goes; its key is opened before the audit, which may take hours."""
    if file is None:
        return None
    from archiver.archive.signing.keys import read_secret_key
    from archiver.operations.audit.statement import ReportFile

    if secret is None:
        return ReportFile(file, described)
    return ReportFile(file, described, unlocked(read_secret_key(secret), secret))


def _smoke_test(reference: str | None, age: float | None, memory: int | None) -> None:
    """Run the model of the snapshot whose turn it is."""
    from archiver.cli.smoke_report import SmokeMeter, print_smoke_test, smoke_options
    from archiver.operations.smoke_test import next_due, smoke_test_snapshot

    archive = open_archive()
    repository, revision = split_reference(reference) if reference else (None, None)
    snapshot = next_due(archive, repository, revision, age)
    if snapshot is None:
        output.record("nothing-due", level="smoke")
        why = "no whole snapshot is held"
        if age is not None:
            why = "every whole snapshot held its last smoke test, within --max-age"
        output.line(f"Nothing was due: {why}.")
        return
    _show_turn(snapshot)
    options = smoke_options(memory=memory)
    with SmokeMeter() as meter:
        test = smoke_test_snapshot(archive, snapshot, options, meter)
    print_smoke_test(test)


def _show_turn(snapshot: Snapshot) -> None:
    """Say at once whose turn it is: a test that is killed says nothing later."""
    seal = snapshot.seal
    output.record("turn", repository=seal.repository, revision=seal.revision, snapshot=snapshot.id)
    output.line(f"It is the turn of {printable(snapshot.title)}.")
    output.flush()


def _explain(code: str) -> None:
    from archiver.cli.findings import explanation

    text = explanation(code)
    output.record("explanation", code=code, text=text)
    for row in text.splitlines():
        output.line(row)


def _show(report: AuditReport, seconds: float) -> None:
    counts = {"damage": len(report.damage), "hit": report.hit}
    record_report("audit", report, intact=report.intact, **counts)
    _verdict(report, seconds)
    show_all(report.damage)
    show_remarks(report.findings)
    if report.sample:
        output.line(f"The sample was drawn with the seed {printable(report.sample.seed)}.")
    if report.report:
        signed = f", signed by {report.signature}" if report.signature else ""
        output.line(f"Wrote {printable(report.report, 4000)}{printable(signed, 4000)}.")
    if not report.journalled and not report.read_only:
        output.remark("The archive cannot be written to: this audit is not in its journal.")


def _verdict(report: AuditReport, seconds: float) -> None:
    rate = human_rate(report.bytes, seconds)
    snapshots = plural(report.snapshots, "snapshot")
    packs = f"{plural(report.objects, 'object')} in {plural(report.packs, 'pack')}"
    read = f"{packs}, {human_bytes(report.bytes)} in {human_duration(seconds)} ({rate})"
    word = "NOT ALL CHECKED" if report.unchecked else "DAMAGE"
    word = "NOT ALL SIGNED" if report.unsigned else word
    if report.damage:
        findings = plural(len(report.damage), "finding")
        output.line(f"{word}: {findings}, {len(report.hit)} of {snapshots} hit. Read {read}.")
    else:
        verdict = "All is well" if report.complete else "All is well so far"
        if report.complete and report.recent and not report.proven:
            verdict = "Nothing was due, and nothing wrong is known"
        output.line(f"{verdict}: {snapshots}, {read}.")
    level = "content" if report.level == "files" else report.level
    if report.recent:
        were = plural(report.recent, "pack was", "packs were")
        output.line(f"{were} proven at level {report.level} within --max-age, and not read now.")
    if not report.complete:
        made = f", files of {plural(report.files, 'snapshot')}" if report.level == "files" else ""
        proven = f"{plural(report.proven, 'pack')} proven at level {level}{made}"
        rest = f"{plural(report.remaining, 'pack')} left for the next run"
        output.line(f"{proven}; {rest}, judged by structure only.")
