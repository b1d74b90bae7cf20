"""``archiver repair``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from archiver.cli import output
from archiver.cli.findings import record_all, show_all
from archiver.cli.mirroring import open_upstream
from archiver.cli.options import (
    advised,
    common,
    memory_budget,
    memory_option,
    open_archive,
    snapshot_option,
    split_reference,
)
from archiver.cli.progress import Meter
from archiver.errors import ExitCode
from archiver.text import plural, printable

if TYPE_CHECKING:
    from archiver.operations.repair.run import RepairReport


@click.command(epilog="Example: archiver repair -C weights --from /mnt/usb/weights --dry-run")
@click.option(
    "--from",
    "sources",
    metavar="DIR",
    multiple=True,
    type=Path,  # no click.Path: it looks at the path, and a look at a dead mount never ends
    help="Another archive, a restored folder, a hub cache or a folder of packs to take from; "
    "repeatable.",
)
@snapshot_option
@click.option("--no-upstream", is_flag=True, help="Never ask the hub.")
@memory_option
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be done, and write nothing.")
@common
def command(
    sources: tuple[Path, ...],
    reference: str | None,
    no_upstream: bool,
    memory: int | None,
    dry_run: bool,
) -> None:
    """Bring back what is damaged or missing, from any good copy.

    Copies are sought in this order: files of this archive that are out of use, other archives, parity,
    plain folders, the hub. A copy counts once it was read back and has the digest that it must have.
    What it replaces stays in quarantine/. What cannot be brought back stays as it is, and is named.
    """
    from archiver.operations.repair.run import RepairRequest, repair

    repository, revision = split_reference(reference) if reference else (None, None)
    request = RepairRequest(
        folders=sources,
        connect=None if no_upstream else lambda: open_upstream(connections=1),
        repository=repository,
        revision=revision,
        dry_run=dry_run,
        memory=memory_budget(memory),
    )
    with Meter("Repairing", "packs") as meter:
        report = repair(open_archive(), request, meter)
    _show(report)
    if not report.whole:
        output.exit_with(ExitCode.DAMAGE_UNREPAIRED)
    if dry_run and report.damage:
        output.exit_with(ExitCode.DAMAGE)


def _show(report: RepairReport) -> None:
    for file in report.repaired:
        output.record("mended", **msgspec.to_builtins(file))
    for seal in report.resealed:
        output.record("resealed", **msgspec.to_builtins(seal))
    record_all(report.remaining)
    output.record(
        "repair",
        whole=report.whole,
        dry_run=report.dry_run,
        damage=report.damage,
        mended=len(report.repaired),
        remaining=len(report.remaining),
        cleared=report.cleared,
        aside=report.quarantined,
        notes=report.notes,
    )
    _verdict(report)
    for file in report.repaired:
        stand_ins = len(file.replaced_by)
        into = f", into {plural(stand_ins, 'new pack')}" if stand_ins else ""
        output.line(file.name)
        output.line(f"    from {printable(file.source, 2000)}{into}")
    for seal in report.resealed:
        output.line(f"new seal  {seal.snapshot}: {seal.new[:16]} stands in for {seal.old[:16]}")
    if report.cleared:
        what = plural(len(report.cleared), "stored file")
        noted = "A run without --dry-run notes it." if report.dry_run else "The journal says so."
        output.line(f"Called damaged in the journal, and whole when read: {what}. {noted}")
    for name in report.cleared:
        output.line(f"    {printable(name, 2000)}")
    for note in report.notes:
        output.remark(f"note: {note}")
    show_all(report.remaining)


def _verdict(report: RepairReport) -> None:
    would = "could be " if report.dry_run else ""
    if not report.damage:
        output.line("All is well: there was nothing to repair.")
    elif report.whole:
        output.line(f"{would}repaired: all of {plural(report.damage, 'finding')}.".capitalize())
    else:
        remaining = plural(len(report.remaining), "finding")
        output.line(
            f"NOT ALL {would.upper()}REPAIRED: {remaining} of damage would stay."
            if report.dry_run
            else f"NOT ALL REPAIRED: {remaining} of damage remain."
        )
    if report.dry_run and report.damage:
        output.line("Nothing was written.")
        output.line(
            f"The journal knows of none of it either: {advised('repair')} notes there what it mends, "
            f"{advised('audit')} what is damaged."
        )
