"""``archiver copy``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from archiver.cli import output
from archiver.cli.findings import (
    described,
    hint_of,
    message_of,
    placed,
    record_report,
    shortened,
    show_all,
)
from archiver.cli.options import (
    Size,
    common,
    max_rate_option,
    memory_budget,
    memory_option,
    open_archive,
    packs_option,
    remark_limits,
    split_reference,
)
from archiver.cli.progress import Meter
from archiver.errors import ExitCode
from archiver.text import human_bytes, human_rate, plural, printable

if TYPE_CHECKING:
    from archiver.operations.copy.run import CopyReport


@click.command(epilog="Example: archiver copy -C weights --new /mnt/usb/weights")
# No click.Path: it looks at the path, and a look at a dead mount never ends.
@click.argument("to", metavar="[TO]", required=False)
@click.option(
    "--snapshot",
    "references",
    multiple=True,
    metavar="REPO[@REVISION]",
    help="Only these snapshots; repeatable.",
)
@click.option(
    "--as", "target_place", metavar="PLACE", help="The name that the journals give TO's place."
)
@click.option(
    "--from-as",
    "source_place",
    metavar="PLACE",
    help="The name that they give this archive's place.",
)
@click.option("--new", is_flag=True, help="Make a replica in TO, where there is no archive yet.")
@click.option(
    "--min-free",
    type=Size(),
    default="1GiB",
    show_default=True,
    help="Room that must stay free on TO's disk.",
)
@max_rate_option
@memory_option
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be copied, and copy nothing.")
@click.option(
    "--lost", metavar="PLACE", help="Record in the journal that the copies at a place are lost."
)
@packs_option
@common
def command(
    to: str | None,
    pack_folders: tuple[Path, ...],
    references: tuple[str, ...],
    target_place: str | None,
    source_place: str | None,
    new: bool,
    min_free: int,
    max_rate: int | None,
    memory: int | None,
    dry_run: bool,
    lost: str | None,
) -> None:
    """Copy the archive, or some of its snapshots, to another folder.

    TO is an archive: a replica of this one, or another that gets its snapshots too. With --new a replica
    is made in TO; without it nothing is copied where no archive is, so that a disk that is not mounted
    is noticed. A copy counts if it lies on a disk of its own ('archiver status').

    Every byte is hashed on the way. What TO has is not copied again, and an interrupted copy goes on
    where it stopped. What is damaged here is left out and named; everything else is copied.
    """
    if lost is not None:
        if (
            to
            or references
            or target_place
            or source_place
            or max_rate
            or dry_run
            or new
            or pack_folders
        ):
            raise click.UsageError("--lost goes with no other option and without TO.")
        _lose(lost)
        return
    if to is None:
        raise click.UsageError("Missing argument 'TO', the folder to copy to.")
    from archiver.archive.places import as_place_name
    from archiver.operations.copy.run import CopyRequest, copy

    request = CopyRequest(
        target=Path(to),
        references=tuple(map(split_reference, references)),
        source_place="" if source_place is None else as_place_name(source_place),
        target_place="" if target_place is None else as_place_name(target_place),
        memory=memory_budget(memory),
        dry_run=dry_run,
        new=new,
        min_free=min_free,
        max_rate=max_rate,
    )
    started = time.monotonic()
    archive = open_archive(pack_folders=pack_folders)
    with Meter("Copying", "packs") as meter:
        report = copy(archive, request, meter)
    _show(report, time.monotonic() - started)
    if not dry_run:
        from archiver.storage.local import LocalStore

        remark_limits(LocalStore(Path(report.target)))
    if report.damage:
        output.exit_with(ExitCode.PARTIAL if report.unreadable else ExitCode.DAMAGE)


def _lose(place: str) -> None:
    from archiver.operations.copy.journals import record_lost

    count = record_lost(open_archive(), place)
    output.record("copy-lost", place=place, snapshots=count)
    output.line(f"{printable(place)} no longer counts: it had {plural(count, 'snapshot')}.")


def _show(report: CopyReport, seconds: float) -> None:
    from archiver.archive.advice import command as command_of

    contradictions = [described(finding) for finding in report.contradictions]
    record_report("copy", report, contradictions=contradictions)
    _verdict(report, seconds)
    show_all(report.findings)
    for title in report.left:
        output.line(f"Not copied: {printable(title)}")
    for title in report.forgotten:
        output.remark(
            f"{printable(title)} was forgotten there on purpose, and is not brought back. "
            f"{command_of('forget', report.target, '--undo', printable(title))} lets a copy bring it."
        )
    for finding in report.contradictions:
        message = printable(shortened(message_of(finding)), 2000)
        output.remark(f"{printable(placed(finding))}: {message}")
        output.remark(f"    → {printable(shortened(hint_of(finding)), 2000)}")
    if report.same_device:
        output.remark(
            f"{printable(report.target)} lies on the same disk or server as this archive "
            f"({printable(report.device)}): it does not count as another copy."
        )
    if report.policy == "kept":
        output.remark(
            "The policy of TO is another one, and stays: a policy goes along only with a copy of the "
            "whole archive to a replica of it."
        )
    if not report.journalled_source and not report.dry_run:
        output.remark("This archive cannot be written to: only the copy's journal tells of it.")


def _verdict(report: CopyReport, seconds: float) -> None:
    held = report.snapshots - len(report.copied)
    there = f"; {held:,} {'was' if held == 1 else 'were'} there already" if held else ""
    if not report.copied and not report.packs:
        output.line(f"{report.target}: nothing to copy{there}.")
        return
    packs = f"{plural(report.packs, 'pack')}, {human_bytes(report.bytes)}"
    what = f"{plural(len(report.copied), 'snapshot')} in {packs}"
    if report.dry_run:
        output.line(f"{report.target}: {what} would be copied{there}.")
        return
    rate = human_rate(report.bytes, seconds)
    output.line(
        f"{report.target}: copied {what} ({rate}){there}; every file is what its name's digest says."
    )
