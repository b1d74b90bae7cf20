"""``archiver catalogue``."""

from __future__ import annotations

import click
import msgspec

from archiver.cli import output
from archiver.cli.options import common, exit_damaged, open_archive
from archiver.cli.progress import IndexMeter
from archiver.text import plural, printable


@click.group(epilog="Example: archiver catalogue rebuild -C weights")
def command() -> None:
    """Rebuild the SQL index. It is only an index: losing it costs time, never knowledge."""


@command.command(epilog="Example: archiver catalogue rebuild -C weights")
@common
def rebuild() -> None:
    """Write the SQL index anew from the archive's own files.

    Others may go on using the archive meanwhile. Exits with 20 if some files could not be read; the
    index then lacks them, and 'archiver audit' tells more.
    """
    from archiver.operations.reindex import reindex

    archive = open_archive()
    with IndexMeter() as meter:
        report = reindex(archive, meter)
    output.record("catalogue", **msgspec.to_builtins(report))
    parts = [plural(report.packs, "pack"), plural(report.snapshots, "snapshot")]
    counts = ", ".join([*parts, plural(report.events, "event")])
    output.line(f"Wrote {printable(report.file, 4096)}: {counts}.")
    for message in report.damaged.values():
        output.line(f"  damaged: {printable(message, 2000)}")
    if report.damaged:
        exit_damaged()
