"""``archiver prune``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from archiver.cli import output
from archiver.cli.options import Duration, common, open_archive
from archiver.cli.progress import IndexMeter
from archiver.errors import ExitCode
from archiver.text import human_bytes, plural

if TYPE_CHECKING:
    from archiver.archive.prune.pruner import PruneReport

_DONE = {
    "rescued": "brought back from the trash, because something needs them",
    "deleted": "deleted for good, after the grace in the trash",
    "swept": "moved to the trash, after the grace since they were condemned",
    "condemned": "condemned: no snapshot needs them",
    "kept": "kept, though no seal names them: the only good copy of what a snapshot needs",
}


@click.command(epilog="Example: archiver prune -C weights --dry-run")
@click.option(
    "--grace",
    type=Duration(),
    default="14d",
    show_default=True,
    help="How long a file stays condemned, and then in the trash.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option(
    "--trust-clock",
    is_flag=True,
    help="The journal has come to a later time than this machine's clock, and the clock is right: "
    "note that in the journal, and prune.",
)
@common
def command(grace: int, *, dry_run: bool, trust_clock: bool) -> None:
    """Delete what no snapshot needs, in two steps. This is never needed in normal use.

    A run condemns files that nothing needs; a later one, after the grace, moves them to the trash; a
    third, after the grace again, deletes them. Others may add to the archive meanwhile. Refused
    unless the archive's structure is whole, and with the policy append-only.

    The grace is measured by the journal, not by the clock alone: where the clock leaps beyond it, what
    is due goes a day later.
    """
    from archiver.operations.prune import PruneRequest, prune

    if dry_run and trust_clock:
        raise click.UsageError("--trust-clock writes into the journal: not with --dry-run.")
    archive = open_archive()
    with IndexMeter() as meter:
        report = prune(archive, PruneRequest(grace, dry_run, trust_clock), meter)
    _show(report, dry_run=dry_run)
    if report.kept.files:
        output.exit_with(ExitCode.DAMAGE)


def _show(report: PruneReport, *, dry_run: bool) -> None:
    counts = {}
    for step, text in _DONE.items():
        part = getattr(report, step)
        counts[step] = {"files": len(part.files), "bytes": part.bytes}
        for name in part.files:
            output.record("file", step=step, file=name)
        if part.files:
            would = "would be " if dry_run else ""
            output.line(
                f"{would}{text}: {plural(len(part.files), 'file')}, {human_bytes(part.bytes)}"
            )
    unneeded = report.unneeded_bytes
    output.record(
        "prune", dry_run=dry_run, **counts, unneeded_bytes=unneeded, leapt_from=report.leapt_from
    )
    if not any(count["files"] for count in counts.values()):
        output.line("Nothing to do." if not report.leapt_from else "Nothing was due.")
    if report.leapt_from:
        output.remark(
            f"The clock has leapt from {report.leapt_from}, the last time that the journal knows of, "
            "by more than the grace. Whether that long has passed or the clock is wrong is not known: "
            "what became due meanwhile goes with a run a day from now."
        )
    if unneeded:
        output.line(f"{human_bytes(unneeded)} in packs that stay belong to no snapshot.")
    if report.kept.files:
        output.remark("Run 'archiver repair', so that the packs of the seals hold it again.")
