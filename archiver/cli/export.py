"""``archiver export``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec

from archiver.cli import output
from archiver.cli.findings import shortened
from archiver.cli.options import (
    Size,
    advised,
    common,
    memory_budget,
    open_archive,
    packs_option,
)
from archiver.cli.progress import Meter
from archiver.cli.snapshots import compared, described, given, snapshot_of, title_of
from archiver.errors import DamageError, ExitCode
from archiver.text import human_bytes, human_rate, plural, printable

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.archive.seals import Snapshot
    from archiver.operations.oci import OciReport

_MANIFEST_LIMIT: Final = "4 MiB"


@click.command(epilog="Example: archiver export -C weights Qwen/Qwen3.5-0.8B --oci /srv/layout")
@click.argument("reference", metavar="REPO[@REVISION]")
@click.option(
    "--oci",
    "folder",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="An OCI image layout, to which the model is added as an artifact (ModelPack).",
)
@click.option("--bom", is_flag=True, help="A bill of materials of the model (CycloneDX 1.6, JSON).")
@click.option(
    "-o",
    "--output",
    "target",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Of --bom: a new file. [default: stdout]",
)
@click.option(
    "--tag", metavar="NAME", help="Of --oci: what the layout calls it. [default: the revision]"
)
@click.option(
    "--memory", type=Size(1), help="Stay below this much memory in all. [default: 400 MB]"
)
@packs_option
@common
def command(
    reference: str,
    folder: Path | None,
    bom: bool,
    target: Path | None,
    tag: str | None,
    memory: int | None,
    pack_folders: tuple[Path, ...],
) -> None:
    """Write a snapshot in a form that other tools read.

    --oci writes each file as a blob, compared with its manifest's digests before it gets its name, and
    names the artifact in the layout's index last. Blobs that are there and right are kept, and so is what
    else the layout holds. --bom lists the files with the digests that the manifest has.
    """
    if bom == (folder is not None):
        raise click.UsageError("Say what to write, one of --oci DIR and --bom.")
    if bom and tag:
        raise click.UsageError("--tag goes with --oci only.")
    if target and not bom:
        raise click.UsageError("--output goes with --bom only.")
    budget = memory_budget(memory)
    archive = open_archive(reading=True, pack_folders=pack_folders)
    snapshot = snapshot_of(archive, reference)
    try:
        if folder is None:
            _write_bom(archive, snapshot, target)
            return
        from archiver.operations.oci import OciRequest, export_oci

        request = OciRequest(snapshot, folder, tag or "", budget)
        started = time.monotonic()
        with Meter("Exporting") as meter:
            report = export_oci(archive, request, meter)
    except DamageError as error:
        audit = advised("audit", "--snapshot", snapshot.title)
        error.hint = error.hint or f"Run {audit} to see all that is damaged."
        raise
    _show_oci(report, snapshot, time.monotonic() - started)


def _write_bom(archive: Archive, snapshot: Snapshot, target: Path | None) -> None:
    from archiver.operations.bom import bom_file, export_bom

    if target is None:
        output.write_data(bom_file(archive, snapshot)[0])
        return
    report = export_bom(archive, snapshot, target)
    fields = msgspec.to_builtins(report) | given(snapshot)
    output.record("bom", **fields | {"vouched": described(report.vouched)})
    output.line(
        f"Wrote {target}: the bill of materials of {snapshot.title}, "
        f"{plural(report.files, 'file')}, {report.serial}."
    )


def _show_oci(report: OciReport, snapshot: Snapshot, seconds: float) -> None:
    fields = msgspec.to_builtins(report) | given(snapshot)
    output.record("oci", **fields | {"vouched": described(report.vouched)})
    title = title_of(report.repository, report.revision)
    if report.failures:
        output.line(
            f"{title}: {plural(len(report.failures), 'file')} could not be exported; "
            f"{report.folder} does not name the artifact."
        )
        for failure in report.failures:
            output.line(f"  {printable(failure.path)}: {shortened(failure.reason)}")
        for hint in sorted({failure.hint for failure in report.failures if failure.hint}):
            output.hint(hint, 2)
        output.exit_with(_code(report))
    there = (
        f"; {report.kept} of {plural(report.blobs, 'blob')} there already" if report.kept else ""
    )
    output.line(
        f"{title}: exported {plural(report.files, 'file')}, {human_bytes(report.bytes)}, "
        f"{human_rate(report.bytes, seconds)}{there}; every byte {compared(report.vouched)}."
    )
    verb = "calls it" if report.added else "called it before"
    output.line(f"{report.folder} {verb} {report.name}: {report.digest}")
    if report.oversized:
        output.remark(
            f"Its manifest has {human_bytes(report.manifest_bytes)}: some registries take no more than "
            f"{_MANIFEST_LIMIT}."
        )


def _code(report: OciReport) -> int:
    """Return the exit code: damage comes first, else the one reason that all have."""
    codes = {failure.exit_code for failure in report.failures}
    if int(ExitCode.DAMAGE) in codes:
        return int(ExitCode.DAMAGE)
    return codes.pop() if len(codes) == 1 else int(ExitCode.FAILURE)
