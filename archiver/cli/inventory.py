"""``archiver inventory``."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import click

from archiver.cli import output
from archiver.cli.options import common, open_archive
from archiver.errors import explain_system_error
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
    from archiver.storage.filesystem import sync_folder

    held = inventory(open_archive())
    data = file_of(held)
    partial = target.with_name(f"{target.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise explain_system_error(error, "the inventory was written") from error
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
