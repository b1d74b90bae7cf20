"""``archiver demo``."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from archiver.cli import output
from archiver.cli.options import common
from archiver.errors import UsageError


@click.command(epilog="Example: archiver demo --keep /tmp/archiver-demo")
@click.option(
    "--keep",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Work in this new folder and keep it.",
)
@common
def command(keep: Path | None) -> None:
    """Run the whole job on a small hub of its own, and report.

    Serves a real trained model and two small ones of the Qwen3.5 layout on this machine, mirrors them,
    audits, restores, compares every byte, restores once more without archiver, runs one of them
    straight from the archive, and carries one across an air gap.
    """
    from archiver.demo.story import Story

    if keep is not None:
        if keep.exists() and any(keep.iterdir()):
            raise UsageError(f"{keep} is not empty.", hint="Choose a new folder.")
        keep.mkdir(parents=True, exist_ok=True)
        Story(keep, output.line).tell()
        output.line(f"All of it is in {keep}; try: archiver -C {keep}/archive list")
        return
    with tempfile.TemporaryDirectory(prefix="archiver-demo-") as folder:
        Story(Path(folder), output.line).tell()
