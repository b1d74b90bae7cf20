"""``archiver init``."""

from __future__ import annotations

import click

from archiver.cli import output
from archiver.cli.options import archive_folder, common, remark_limits
from archiver.progress import Progress


@click.command(epilog="Example: archiver init -C /srv/weights")
@common
def command() -> None:
    """Create an empty archive in the folder that -C names.

    The folder must be empty or absent. The archive explains itself: it holds its own format's
    description and a decoder that needs nothing but Python.
    """
    from archiver.archive.archive import Archive
    from archiver.archive.place_look import require_answer
    from archiver.catalogue.rebuild import open_catalogue

    folder = archive_folder()
    require_answer(folder)
    archive = Archive.create(folder)
    # Only an index, and made anew if it is lost; made here, it does not slow the first run.
    open_catalogue(archive, Progress()).close()
    output.record("archive", folder=str(folder), archive=archive.info.archive)
    output.line(f"Created an archive in {folder}.")
    remark_limits(archive.store)
    output.remark(f"Next: archiver mirror -C {folder} Qwen/Qwen3.5-0.8B")
