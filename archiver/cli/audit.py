"""``archiver audit``."""

from __future__ import annotations

import time
from itertools import groupby
from typing import TYPE_CHECKING

import click
import msgspec

from archiver.cli import output
from archiver.cli.options import common, open_archive, split_reference, worker_count
from archiver.cli.progress import Meter
from archiver.errors import ExitCode
from archiver.text import human_bytes, human_duration, human_rate, plural, printable

if TYPE_CHECKING:
    from archiver.archive.finding import Finding
    from archiver.operations.audit import AuditReport


@click.command(epilog="Example: archiver audit -C weights --snapshot Qwen/Qwen3.5-0.8B")
@click.option(
    "--snapshot", "reference", metavar="REPO[@REVISION]", help="Only what this snapshot needs."
)
@click.option(
    "--explain", "code", metavar="CODE", help="Say what a finding's code means and what to do."
)
@common
def command(reference: str | None, code: str | None) -> None:
    """Decode and re-hash what the archive holds, and list everything that is damaged.

    Every seal, manifest, pack, object and event is read and compared with its digest, and every file
    of every manifest must be found in the packs of its seal. What looks damaged is read a second time
    before it is called so. Each finding names what is hit and what to do next.
    """
    if code:
        _explain(code)
        return
    from archiver.operations.audit import audit  # noqa: PLC0415 - start-up stays light

    repository, revision = split_reference(reference) if reference else (None, None)
    started = time.monotonic()
    archive = open_archive()
    with Meter("Auditing", "packs") as meter:
        report = audit(
            archive,
            repository=repository,
            revision=revision,
            workers=worker_count(),
            progress=meter,
        )
    _tell(report, time.monotonic() - started)
    if not report.intact:
        worst = ExitCode.SKIPPED if report.unchecked else ExitCode.DAMAGE
        raise click.exceptions.Exit(int(worst))


def _explain(code: str) -> None:
    from archiver.archive.fixity.explain import explanation  # noqa: PLC0415 - start-up stays light

    text = explanation(code)
    output.record("explanation", code=code, text=text)
    output.line(text)


def _tell(report: AuditReport, seconds: float) -> None:
    for finding in report.findings:
        output.record("finding", **finding.described())
    counts = msgspec.to_builtins(report)
    del counts["findings"]
    output.record(
        "audit", intact=report.intact, **counts, damage=len(report.damage), hit=report.hit
    )
    _verdict(report, seconds)
    for hint, group in groupby(report.damage, lambda finding: finding.hint):
        for finding in group:
            _show(finding)
        output.line(f"    → {printable(hint, 2000)}")
    for finding in report.findings:
        if finding.remark:
            output.remark(f"remark: {finding.code}: {printable(finding.message, 2000)}")
    if not report.journalled:
        output.remark("The archive cannot be written to: this audit is not in its journal.")


def _verdict(report: AuditReport, seconds: float) -> None:
    rate = human_rate(report.bytes / max(seconds, 1e-6))
    snapshots = plural(report.snapshots, "snapshot")
    packs = f"{plural(report.objects, 'object')} in {plural(report.packs, 'pack')}"
    read = f"{packs}, {human_bytes(report.bytes)} in {human_duration(seconds)} ({rate})"
    if not report.damage:
        output.line(f"All is well: {snapshots}, {read}.")
        return
    word = "NOT ALL CHECKED" if report.unchecked else "DAMAGE"
    output.line(
        f"{word}: {plural(len(report.damage), 'finding')}, "
        f"{len(report.hit)} of {snapshots} hit. Read {read}."
    )


def _show(finding: Finding) -> None:
    rows = f" rows {finding.rows[0]}..{finding.rows[1]}" if finding.rows else ""
    where = [finding.snapshot, finding.path, finding.tensor + rows]
    output.line("  ".join([finding.code, *(printable(text, 2000) for text in where if text)]))
    output.line(f"    {printable(finding.message, 2000)}")
