"""``archiver bundle``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec

from archiver.cli import output
from archiver.cli.options import (
    Size,
    archive_folder,
    common,
    memory_budget,
    memory_option,
    open_archive,
    split_reference,
)
from archiver.cli.progress import Meter
from archiver.cli.receipt import request_of, show_written
from archiver.cli.restoring import (
    CACHE,
    RestoreOptions,
    Restoring,
    restore_options,
    show_cache,
    show_plan,
    show_restored,
)
from archiver.errors import ExitCode, NoArchiveError, UnknownFormatError
from archiver.text import human_bytes, human_rate, plural, printable

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.archive.bundles.volume_check import VolumeFault
    from archiver.operations.bundle.export import ExportReport
    from archiver.operations.bundle.intake import ImportReport, TakenVolume
    from archiver.operations.bundle.publication import WaitingSnapshot
    from archiver.operations.bundle.verify import VerifiedBundle
    from archiver.progress import Progress

_SHOWN: Final = 40
"""Faults that are named one by one; --json names them all."""


@click.group(epilog="Example: archiver bundle export -C weights Qwen/Qwen3.5-4B --to /mnt/stick")
def command() -> None:
    """Carry snapshots on volumes to where no network reaches, and take them in there."""


@command.command(
    epilog="Example: archiver bundle export -C weights Qwen/Qwen3.5-4B --to /mnt/out --volume-size 25GB"
)
@click.argument("references", metavar="REPO[@REVISION]...", nargs=-1, required=True)
@click.option(
    "--to", required=True, metavar="DIR", type=Path, help="Where the volumes' folders are made."
)
@click.option(
    "--volume-size",
    type=Size(1),
    default="25GB",
    show_default=True,
    help="Bytes that a volume may take; at least 32 MiB.",
)
@click.option(
    "--volume",
    type=click.IntRange(1),
    metavar="N",
    help="Only this volume, such as onto a medium that holds one.",
)
@click.option(
    "--not-in",
    "not_in",
    metavar="FILE|PLACE",
    help="Leave out the packs that the far side has: by an inventory or a receipt from there, or by the "
    "newest receipt that was accepted of this place.",
)
@click.option(
    "--parity",
    type=click.IntRange(1, 128),
    metavar="P",
    help="Add parity: so many blocks of each group may be lost. [default: none]",
)
@click.option(
    "--group",
    type=click.IntRange(1, 255),
    metavar="K",
    default=32,
    show_default=True,
    help="Data blocks of a group, at most.",
)
@click.option(
    "--with-tool",
    "tools",
    metavar="TARGET",
    multiple=True,
    help="Bring archiver itself for such a machine: linux-x86_64,py311 or linux-aarch64,py312; with "
    ",smoke models can run there. May be repeated.",
)
@click.option(
    "--tool-wheels",
    metavar="DIR",
    type=Path,
    help="Where the wheels for --with-tool are. [default: pip fetches them]",
)
@memory_option
@click.option("-n", "--dry-run", is_flag=True, help="Only say which volumes there would be.")
@common
def export(
    references: tuple[str, ...],
    to: Path,
    volume_size: int,
    volume: int | None,
    not_in: str | None,
    parity: int | None,
    group: int,
    tools: tuple[str, ...],
    tool_wheels: Path | None,
    memory: int | None,
    dry_run: bool,
) -> None:
    """Write snapshots to volumes, each of which explains itself and can be checked alone.

    Each volume is a folder in DIR. What is there already is kept, so that an export that was
    interrupted goes on. Every byte is proven on its way and read back.
    """
    from archiver.operations.bundle.export import ExportRequest
    from archiver.operations.bundle.export import export as run

    request = ExportRequest(
        references=tuple(map(split_reference, references)),
        to=to,
        volume_size=volume_size,
        volume=volume,
        not_in=not_in,
        parity=None if parity is None else (parity, group),
        tools=tools,
        tool_wheels=tool_wheels,
        dry_run=dry_run,
        memory=memory_budget(memory),
    )
    started = time.monotonic()
    archive = open_archive()
    with Meter("Exporting") as meter:
        report = run(archive, request, meter)
    _show_exported(report, to, time.monotonic() - started)


def _show_exported(report: ExportReport, to: Path, seconds: float) -> None:
    output.record("bundle-export", **msgspec.to_builtins(report))
    held = (
        f"; {plural(report.left_out, 'pack')} left out, which the far side has"
        if report.left_out
        else ""
    )
    what = (
        f"{plural(len(report.snapshots), 'snapshot')} in {plural(report.packs, 'pack')}, "
        f"{human_bytes(report.bytes)}{held}"
    )
    output.line(f"Bundle {report.bundle[:16]}…: {what}, on {plural(report.volumes, 'volume')}.")
    for title in report.snapshots:
        output.line(f"  {printable(title)}")
    if report.tools:
        output.line(
            f"  archiver itself, in {plural(len(report.tools), 'wheel')}: "
            f"{human_bytes(report.tool_bytes)} of volume 1"
        )
    if report.dry_run:
        for number, size in enumerate(report.sizes, 1):
            output.line(f"  volume {number}: {human_bytes(size)}")
        output.line("Nothing was written.")
        return
    for volume in report.written:
        kept = f", {plural(volume.kept, 'file')} kept" if volume.kept else ""
        output.line(
            f"  volume {volume.number} of {report.volumes}: {printable(volume.path)}, "
            f"{plural(volume.files, 'file')}, {human_bytes(volume.bytes)}{kept}"
        )
    total = sum(volume.bytes for volume in report.written)
    output.line(
        f"Every file was read back ({human_rate(total, seconds)}). Read and sign MANIFEST.md; "
        f"'archiver bundle verify {printable(str(to))}' checks the medium."
    )


@command.command(epilog="Example: archiver bundle verify /media/stick /media/disc")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=Path)
@click.option(
    "--part", is_flag=True, help="Only these volumes: that others are missing is no failure."
)
@common
def verify(paths: tuple[Path, ...], part: bool) -> None:
    """Read volumes, and say which are whole, damaged or missing, and what parity would mend.

    PATH is a volume, or a folder with volumes in it. No archive is needed, and nothing is written.
    """
    from archiver.operations.bundle.verify import verify_volumes

    with Meter("Verifying", "volumes") as meter:
        report = verify_volumes(paths, meter)
    output.record("bundle-verify", **msgspec.to_builtins(report), incomplete=report.incomplete)
    for bundle in report.bundles:
        _show_verified(bundle)
    if len(report.bundles) > 1:
        output.remark(
            f"These volumes are of {len(report.bundles)} bundles, and do not belong together."
        )
    if report.faults:
        output.exit_with(ExitCode.DAMAGE)
    if report.incomplete and (not part or any(bundle.unfinished for bundle in report.bundles)):
        output.exit_with(ExitCode.PARTIAL)


def _show_verified(bundle: VerifiedBundle) -> None:
    output.line(
        f"Bundle {bundle.bundle[:16] or 'not known'}…, from archive {printable(bundle.archive) or '?'}:"
    )
    for volume in bundle.present:
        state = "was not written to its end" if volume.unfinished else "is whole"
        if not volume.whole and not volume.unfinished:
            state = "is NOT whole"
        of = f" of {bundle.volumes}" if bundle.volumes else ""
        output.line(f"  volume {volume.number or '?'}{of}: {printable(volume.path)} {state}")
    if bundle.missing:
        output.line(f"  not looked at: {_numbers(bundle.missing)}")
    _show_faults(bundle.faults)
    for snapshot in bundle.snapshots:
        here = "all of it is here" if snapshot.here else "NOT all of it is here"
        if bundle.base and not snapshot.here:
            here += (
                f"; this bundle leaves out what the inventory or receipt {bundle.base[:16]}… has"
            )
        output.line(f"  {printable(snapshot.title)}: {here}")
    _advise(bundle)


def _advise(bundle: VerifiedBundle) -> None:
    """Say what to do next."""
    if bundle.unfinished:
        output.hint("Run the export again with the same words: it goes on where it stopped.")
    elif any(not fault.healed and fault.kind != "unlisted" for fault in bundle.faults):
        output.hint(
            "Write the damaged volumes anew: run the export again with --volume and their numbers; it "
            "replaces what is not right."
        )
    elif any(fault.healed for fault in bundle.faults):
        output.hint(
            "An import or a restore of these volumes together gets past that. Have the damaged ones "
            "written anew before they rot further: export again with --volume and their numbers."
        )
    if any(fault.kind == "unlisted" for fault in bundle.faults):
        output.hint("Find out who put files there that the bundle does not have, before you go on.")
    if bundle.missing:
        output.hint("Name the folders of the missing volumes too, to check all of the bundle.")


def _numbers(volumes: tuple[int, ...], most: int = 20) -> str:
    """Return the numbers of volumes, for people."""
    more = f" and {len(volumes) - most} more" if len(volumes) > most else ""
    return f"{'volume' if len(volumes) == 1 else 'volumes'} {', '.join(map(str, volumes[:most]))}{more}"


def _show_faults(faults: tuple[VolumeFault, ...]) -> None:
    for fault in faults[:_SHOWN]:
        mend = " Parity makes it whole." if fault.healed else ""
        output.line(
            f"  {fault.kind}: volume {fault.volume or '?'}, {printable(fault.name)}: "
            f"{printable(fault.message, 600)}{mend}"
        )
    if len(faults) > _SHOWN:
        output.line(f"  … and {len(faults) - _SHOWN} more, which --json names.")


@command.command("import", epilog="Example: archiver bundle import -C weights /media/stick")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=Path)
@click.option(
    "--min-free",
    type=Size(),
    default="1GiB",
    show_default=True,
    help="Room that must stay free on the archive's disk.",
)
@click.option(
    "--new", is_flag=True, help="Begin the archive: a replica of the one that the volumes are from."
)
@click.option(
    "--receipt",
    type=Path,
    metavar="FILE",
    help="Then write a receipt of what is whole here, for whoever sent it; see 'archiver receipt'.",
)
@click.option(
    "--sign",
    "secret",
    type=Path,
    metavar="FILE",
    help="Sign the receipt with this secret key; the signature lies beside it.",
)
@memory_option
@common
def import_(
    paths: tuple[Path, ...],
    min_free: int,
    new: bool,
    receipt: Path | None,
    secret: Path | None,
    memory: int | None,
) -> None:
    """Take volumes into the archive: any of them, in any order, one at a time or all at once.

    A snapshot becomes visible once all that it needs is here and every file of it was decoded and
    hashed. What came in before is not read again; what is damaged is left out and named.
    """
    from archiver.operations.bundle.intake import ImportRequest, begin_archive, import_volumes
    from archiver.operations.receipt import write

    if secret and not receipt:
        raise click.UsageError("--sign goes with --receipt only.")
    wanted = request_of(receipt, secret) if receipt else None
    if wanted:
        wanted.require_place(archive_folder())
    try:
        archive = begin_archive(archive_folder(), paths) if new else open_archive()
    except NoArchiveError as error:
        if not isinstance(error, UnknownFormatError):
            error.hint = "Begin it with --new, or name yours with -C or ARCHIVER_ARCHIVE."
        raise
    request = ImportRequest(paths, min_free, memory_budget(memory))
    with Meter("Importing", "volumes") as meter:
        report = import_volumes(archive, request, meter)
    output.record("bundle-import", **msgspec.to_builtins(report))
    _show_imported(report)
    if wanted:
        show_written(write(archive, wanted))
    elif report.published:
        output.hint(
            "Whoever sent it can count this copy: 'archiver receipt write --sign FILE' tells them of it."
        )
    if any(fault.kind == "contradicts" for fault in report.faults) or report.refused:
        output.exit_with(ExitCode.MISMATCH)
    if any(not fault.healed for fault in report.faults):
        output.exit_with(ExitCode.DAMAGE)
    if report.waiting:
        output.exit_with(ExitCode.PARTIAL)


def _show_imported(report: ImportReport) -> None:
    for volume in report.volumes:
        output.line(_taken(volume))
    _show_faults(report.faults)
    if any(fault.kind == "contradicts" for fault in report.faults):
        output.hint(
            "Nothing of that volume was taken in. Find out who changed it, and have it written anew."
        )
    elif any(not fault.healed for fault in report.faults):
        output.hint(
            "Clean or read that medium again, or have those volumes written anew ('archiver bundle export "
            "--volume N'), and run the same command: what came in is kept."
        )
    for title in report.published:
        output.line(
            f"{printable(title)}: is in the archive now; every file was decoded and hashed."
        )
    for title in report.present:
        output.remark(f"{printable(title)} was in the archive before.")
    for title in report.forgotten:
        output.remark(f"{printable(title)} was forgotten here on purpose, and is not brought back.")
    for title, reason in report.refused:
        output.line(f"REFUSED {printable(title)}: {printable(reason, 600)}")
    if report.refused:
        output.hint("Nothing that was here is changed. Ask whoever made the bundle.")
    _show_open(report)


def _show_open(report: ImportReport) -> None:
    """Print what each side still has to learn, or to get, of the other."""
    if report.acknowledged:
        output.line(
            f"Whoever sent it had the receipt that was written here at {report.acknowledged}."
        )
    for waiting in report.waiting:
        output.line(f"Waiting: {printable(waiting.title)} {_lacks(waiting)}.")


def _taken(volume: TakenVolume) -> str:
    of = f"volume {volume.number or '?'} of {volume.volumes or '?'} ({printable(volume.path)})"
    match volume.state:
        case "before":
            return f"{of}: came in before; nothing to do."
        case "refused":
            return f"{of}: REFUSED, nothing of it was taken in."
        case "damaged":
            return f"{of}: taken in as far as it is whole, {human_bytes(volume.bytes)}."
        case _:
            return f"{of}: taken in, {plural(volume.files, 'file')}, {human_bytes(volume.bytes)}."


def _lacks(waiting: WaitingSnapshot) -> str:
    needs = []
    if waiting.volumes:
        needs.append(f"{_numbers(waiting.volumes)} of bundle {waiting.bundle[:16]}…")
    if waiting.elsewhere:
        needs.append(
            f"{plural(waiting.elsewhere, 'pack')} that this bundle leaves out, since the inventory or "
            f"receipt {waiting.base[:16]}… has {'it' if waiting.elsewhere == 1 else 'them'}: import the "
            "bundle before it, or have one made without --not-in"
        )
    return f"needs {' and '.join(needs) or 'its documents, which no volume that came in has whole'}"


@command.command(epilog="Example: archiver bundle restore /media/stick /models/qwen")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=Path)
@restore_options
@click.option(
    "--snapshot",
    "reference",
    metavar="REPO[@REVISION]",
    help="Which one, if the bundle carries several.",
)
@memory_option
@common
def restore(paths: tuple[Path, ...], reference: str | None, options: RestoreOptions) -> None:
    """Write the files of a snapshot to disk from its volumes, without an archive.

    Every file is compared with its manifest's digests before it gets its name. What is damaged is read
    by parity, where there is some.
    """
    from archiver.operations.bundle.reading import opened_volumes

    options.require_sense()
    budget = memory_budget(options.memory)
    started = time.monotonic()
    with opened_volumes(paths) as volumes:
        for problem in volumes.problems:
            output.remark(f"note: {printable(problem, 600)} It is done without.")
        snapshot = volumes.find(*split_reference(reference)) if reference else volumes.only()

        def mend(progress: Progress) -> Archive | None:
            return volumes.archive if volumes.mend(snapshot, progress) else None

        restoring = Restoring(volumes.archive, snapshot, options, budget, mend)
        plan = restoring.plan()
        if options.dry_run:
            show_plan(plan, snapshot, volumes.carriers(pack.pack for pack in plan.packs))
            return
        volumes.require(snapshot, [pack.pack for pack in plan.packs if not pack.there])
        report = restoring.run()
        for name in volumes.mended:
            output.remark(f"{printable(name)} is damaged; it was read by its parity.")
        if report is not None:
            show_restored(report, snapshot, time.monotonic() - started)
            if options.layout == CACHE:
                show_cache(report)
