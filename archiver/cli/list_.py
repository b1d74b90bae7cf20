"""``archiver list``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from archiver.cli import output
from archiver.cli.options import common, exit_damaged, open_archive, unlisted
from archiver.cli.snapshots import described
from archiver.errors import ExitCode, UnreadableError
from archiver.text import human_bytes, plural

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.archive.seals import Snapshot
    from archiver.errors import DamageError


@click.command(epilog="Example: archiver list -C weights Qwen/Qwen3.5-0.8B")
@click.argument("repository", required=False)
@common
def command(repository: str | None) -> None:
    """List the snapshots the archive holds, or those of one repository, oldest first.

    The one with a star is what the repository's name alone means. BY is the least of those who vouched
    for its files: upstream, a pin, a cache's own record, or nobody.
    """
    archive = open_archive(reading=True)
    left_out = _LeftOut()
    held: dict[str, list[Snapshot]] = {}
    for snapshot in archive.snapshots(left_out.note):
        if not repository or snapshot.seal.repository.casefold() == repository.casefold():
            held.setdefault(snapshot.seal.repository.casefold(), []).append(snapshot)
    rows, total = [], 0
    for _, snapshots in sorted(held.items()):
        default = archive.preferred(snapshots)
        for snapshot in sorted(snapshots, key=lambda snapshot: (snapshot.seal.sealed, snapshot.id)):
            total += snapshot.seal.totals.bytes
            rows.append(_row(archive, snapshot, default=snapshot == default))
    left_out.unreadable += unlisted(archive)
    if repository and not rows and not left_out:
        archive.find(repository)  # says what is held instead
    if rows:
        output.table(
            ("", "REPOSITORY", "REVISION", "SEAL", "SEALED", "FILES", "SIZE", "RATIO", "BY", ""),
            rows,
            right=(5, 6, 7),
        )
    output.line(f"{plural(len(rows), 'snapshot')}, {human_bytes(total)}.")
    left_out.report()


class _LeftOut:
    """Why some snapshots are not in the list."""

    def __init__(self) -> None:
        self.damaged: list[str] = []
        self.unreadable: list[str] = []

    def __bool__(self) -> bool:
        return bool(self.damaged or self.unreadable)

    def note(self, _name: str, error: DamageError) -> None:
        """Note a seal that was left out."""
        (self.unreadable if isinstance(error, UnreadableError) else self.damaged).append(
            error.message
        )

    def report(self) -> None:
        """Print them, and exit with what they mean; nothing if there are none."""
        for message in self.damaged:
            output.remark(f"damaged: {message}")
        for message in self.unreadable:
            output.remark(f"unreadable: {message}")
        if self.damaged:
            exit_damaged()
        if self.unreadable:
            output.remark("What may not be read is not in this list. Check the permissions.")
            output.exit_with(ExitCode.SKIPPED)


def _row(archive: Archive, snapshot: Snapshot, *, default: bool) -> tuple[str, ...]:
    """Return a snapshot's line; ``default`` if the repository's name alone means it."""
    seal, vouching = snapshot.seal, archive.vouching(snapshot)
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
