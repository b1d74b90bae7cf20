"""``archiver list``."""

from __future__ import annotations

import click

from archiver.cli import output
from archiver.cli.options import advised, common, open_archive
from archiver.text import human_bytes, plural


@click.command(epilog="Example: archiver list -C weights Qwen/Qwen3.5-0.8B")
@click.argument("repository", required=False)
@common
def command(repository: str | None) -> None:
    """List the snapshots the archive holds, or those of one repository."""
    archive = open_archive()
    damaged: list[str] = []
    found = archive.snapshots(lambda _name, error: damaged.append(error.message))
    rows, total = [], 0
    for snapshot in found:
        seal = snapshot.seal
        if repository and seal.repository.casefold() != repository.casefold():
            continue
        ratio = seal.totals.stored / max(seal.totals.bytes, 1)
        output.record(
            "snapshot",
            snapshot=snapshot.id,
            repository=seal.repository,
            revision=seal.revision,
            sealed=seal.sealed,
            files=seal.totals.files,
            bytes=seal.totals.bytes,
            stored=seal.totals.stored,
            whole=seal.selection.whole,
            completeness="known" if seal.selection.known else "unknown",
        )
        total += seal.totals.bytes
        part = "part" if seal.selection.chosen else "" if seal.selection.known else "part?"
        size, percent = human_bytes(seal.totals.bytes), f"{ratio:.3f}"
        files = str(seal.totals.files)
        rows.append((seal.repository, seal.revision[:12], seal.sealed, files, size, percent, part))
    if repository and not rows and not damaged:
        archive.find(repository)  # says what is held instead
    if rows:
        output.table(
            ("REPOSITORY", "REVISION", "SEALED", "FILES", "SIZE", "RATIO", ""),
            rows,
            right=(3, 4, 5),
        )
    output.line(f"{plural(len(rows), 'snapshot')}, {human_bytes(total)}.")
    for message in damaged:
        output.remark(f"damaged: {message}")
    if damaged:
        output.remark(f"Run {advised('audit')} to see all that is damaged.")
        raise click.exceptions.Exit(20)
