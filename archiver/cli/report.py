"""``archiver report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from archiver.cli import output
from archiver.cli.options import common, key_option, open_archive
from archiver.cli.progress import IndexMeter
from archiver.errors import ArchiverError

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.report.facts import Facts


@click.command(epilog="Example: archiver report -C weights --to /var/www/weights.html")
@click.option("--to", metavar="FILE", type=Path, help="Also write the page to this file.")
@key_option
@common
def command(to: Path | None, keys: tuple[str, ...]) -> None:
    """Write a page of how the archive stands and what happened.

    The page is one file that runs no script and loads nothing. It lies in the archive as report.html,
    beside report.json with the same facts, in the place of those before. Exits with 0 if it was written,
    whatever it says: 'archiver status' has exit codes for that.
    """
    from archiver.report.facts import collect

    archive = open_archive(reading=True)
    if to is not None:
        archive.require_outside(to, "The page lies there anyway: leave --to away.")
    with IndexMeter() as meter:
        facts = collect(archive, meter, keys=keys)
    output.record("report", **msgspec.to_builtins(facts))
    _write(archive, facts, to)


def _write(archive: Archive, facts: Facts, to: Path | None) -> None:
    """Write the page to both places; where only the one outside can be written to, that is enough."""
    from archiver.report.page import PAGE, page, store
    from archiver.storage.files import write_over

    text = page(facts)
    if to is not None:
        write_over(to, text.encode())
        output.line(f"Written: {to}")
    try:
        store(archive, facts, text)
    except ArchiverError as error:
        if to is None:
            raise
        output.remark(f"It was not put into the archive: {error.message}")
    else:
        output.line(f"Written: {archive.store.address}/{PAGE}")
