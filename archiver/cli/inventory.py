"""``archiver inventory``."""

from __future__ import annotations

from pathlib import Path

import click

from archiver.cli import output
from archiver.cli.options import common, open_archive
from archiver.text import human_bytes, plural, printable


@click.command(epilog="Example: archiver inventory -C weights -o /mnt/stick/inventory.json")
@click.option(
    "-o",
    "--output",
    "target",
    metavar="FILE",
    type=Path,
    default="inventory.json",
    show_default=True,
    help="The file to write; one that is there is replaced.",
)
@common
def command(target: Path) -> None:
    """Write what the archive has to a small file, for a bundle.

    Carry FILE to where bundles are made: 'archiver bundle export --not-in FILE' leaves out what is
    listed in it. No pack is read.
    """
    from archiver.archive.bundles.records import file_of
    from archiver.operations.inventory import inventory
    from archiver.storage.files import write_over

    held = inventory(open_archive())
    data = file_of(held)
    write_over(target, data)
    output.record(
        "inventory",
        file=str(target),
        id=held.id,
        archive=held.archive,
        snapshots=len(held.snapshots),
        packs=len(held.packs),
        bundles=len(held.bundles),
        heads=list(held.heads),
        bytes=len(data),
    )
    output.line(
        f"Wrote {printable(str(target))}: {plural(len(held.snapshots), 'snapshot')} in "
        f"{plural(len(held.packs), 'pack')}, {human_bytes(len(data))}."
    )
