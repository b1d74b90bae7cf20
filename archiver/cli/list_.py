"""``archiver list``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from archiver.archive.findings import Finding
from archiver.cli import output
from archiver.cli.findings import described as described_finding
from archiver.cli.options import common, exit_damaged, open_archive, unlisted
from archiver.cli.snapshots import described, identity
from archiver.errors import ExitCode
from archiver.text import human_bytes, plural

if TYPE_CHECKING:
    from archiver.archive.seals import Snapshot
    from archiver.operations.list_ import ListedSnapshot


@click.command(epilog="Example: archiver list -C weights Qwen/Qwen3.5-0.8B")
@click.argument("repository", required=False)
@common
def command(repository: str | None) -> None:
    """List the snapshots the archive holds, or those of one repository, oldest first.

    The one with a star is what the repository's name alone means. BY is the least of those who vouched
    for its files: upstream, a pin, a cache's own record, or nobody.
    """
    from archiver.names import as_repo_id
    from archiver.operations.list_ import list_snapshots

    archive = open_archive(reading=True)
    report = list_snapshots(archive, as_repo_id(repository) if repository else "")
    rows = [_row(listed) for listed in report.snapshots]
    if rows:
        output.table(
            ("", "REPOSITORY", "REVISION", "SEAL", "SEALED", "FILES", "SIZE", "RATIO", "BY", ""),
            rows,
            right=(5, 6, 7),
        )
    size = sum(listed.snapshot.seal.totals.bytes for listed in report.snapshots)
    output.line(f"{plural(len(rows), 'snapshot')}, {human_bytes(size)}.")
    unreadable = [*(error.message for error in report.unreadable), *unlisted(archive)]
    for error in report.damaged:
        output.remark(f"damaged: {error.message}")
    for snapshot in report.unsealed:
        _remark_unsealed(snapshot)
    for sentence in unreadable:
        output.remark(f"unreadable: {sentence}")
    for newer in report.not_understood:
        finding = Finding("not-understood", newer.message, newer.path, pack=newer.pack)
        output.record("finding", **described_finding(finding))
        output.remark(f"not understood: {newer.message}")
    if report.damaged or report.unsealed:
        exit_damaged()
    if report.not_understood:
        output.remark(
            "A newer archiver wrote these. Such seals are not in this list, and of a snapshot that needs "
            "such a pack not all files can be restored."
        )
        output.exit_with(ExitCode.SKIPPED)
    if unreadable:
        output.remark("What may not be read is not in this list. Check the permissions.")
        output.exit_with(ExitCode.SKIPPED)


def _remark_unsealed(snapshot: Snapshot) -> None:
    """Print the record of a snapshot whose seal is lost, and what can be done."""
    seal = snapshot.seal
    output.record(
        "unsealed",
        manifest=seal.manifest.blake3,
        **identity(seal.repository),
        revision=seal.revision,
        files=seal.totals.files,
        bytes=seal.totals.bytes,
    )
    output.remark(
        f"without a seal: {snapshot.title}, {plural(seal.totals.files, 'file')}, "
        f"{human_bytes(seal.totals.bytes)}, by its manifest; repair makes a new seal of that."
    )


def _row(listed: ListedSnapshot) -> tuple[str, ...]:
    """Print a snapshot's record; return its line."""
    snapshot, vouching, default = listed
    seal = snapshot.seal
    output.record(
        "snapshot",
        snapshot=snapshot.id,
        **identity(seal.repository),
        revision=seal.revision,
        sealed=seal.sealed,
        files=seal.totals.files,
        bytes=seal.totals.bytes,
        stored=seal.totals.stored,
        whole=seal.selection.whole,
        completeness="known" if seal.selection.known else "unknown",
        default=default,
        vouched=described(vouching),
    )
    return (
        "*" if default else "",
        seal.repository,
        seal.revision[:12],
        snapshot.id[:12],
        seal.sealed,
        str(seal.totals.files),
        human_bytes(seal.totals.bytes),
        f"{seal.totals.stored / max(seal.totals.bytes, 1):.3f}",
        vouching.least.word if vouching else "?",
        "part" if seal.selection.chosen else "" if seal.selection.known else "part?",
    )
