"""``archiver head``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from archiver.cli import output
from archiver.cli.findings import record_all, show_all
from archiver.cli.options import common, open_archive
from archiver.errors import ExitCode
from archiver.text import plural, printable

if TYPE_CHECKING:
    from archiver.archive.check.heads import HeadCheck

_COVERS = ("archive", "place", "scope")


@click.command(epilog="Example: archiver head -C weights > ~/heads.txt")
@click.option(
    "--check",
    "texts",
    multiple=True,
    metavar="ID|FILE",
    help="Check that a head that was kept outside the archive still holds; repeatable.",
)
@common
def command(texts: tuple[str, ...]) -> None:
    """Print or check what vouches for the archive's whole history: the ids of its newest events.

    Keep them in another place. Each line says what it covers: the archive, at which place, and whether
    all of it or chosen snapshots. With --check, each of them, every event before it and every seal that
    those tell of must be there and whole; so an archive that was set back, or from which something was
    taken away, is noticed.
    """
    from archiver.operations.head import check, heads

    archive = open_archive()
    if texts:
        _show(check(archive, texts))
        return
    for head in heads(archive):
        output.record("head", **msgspec.to_builtins(head))
        when = f"{printable(head.time)}  {printable(head.event)}" if head.time else "damaged"
        covers = " ".join(f"{name}={printable(getattr(head, name))}" for name in _COVERS)
        output.line(f"{head.id}  {when}  vouches for {plural(head.events, 'event')}  {covers}")


def _show(result: HeadCheck) -> None:
    from archiver.archive.findings import UNKNOWN

    record_all(result.findings)
    output.record(
        "head-check", intact=not result.findings, events=result.events, seals=result.seals
    )
    seen = f"{plural(result.events, 'event')}, {plural(result.seals, 'seal')}"
    if not result.findings:
        output.line(f"All is there: {seen}.")
        return
    skipped = all(finding.code in UNKNOWN for finding in result.findings)
    word = "NOT CHECKED" if skipped else "DAMAGE"
    output.line(f"{word}: {plural(len(result.findings), 'finding')} among {seen}.")
    show_all(result.findings)
    output.exit_with(ExitCode.SKIPPED if skipped else ExitCode.DAMAGE)
