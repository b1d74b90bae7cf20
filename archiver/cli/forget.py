"""``archiver forget``."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from archiver.cli import output
from archiver.cli.options import advised, common, open_archive, split_reference
from archiver.errors import ExitCode
from archiver.text import plural, printable

if TYPE_CHECKING:
    from archiver.archive.events import Event
    from archiver.archive.seals import Snapshot


@click.command(epilog="Example: archiver forget -C weights Qwen/Qwen3.5-0.8B@2fc06364")
@click.argument("reference", metavar="REPO[@REVISION]")
@click.option("--all", "every", is_flag=True, help="Every snapshot of REPO, if it has several.")
@click.option("--undo", is_flag=True, help="Put forgotten snapshots back.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@common
def command(reference: str, *, every: bool, undo: bool, dry_run: bool) -> None:
    """Take snapshots out of use. This is never needed in normal use.

    Their seals go to the trash, from where --undo brings them back; their bytes stay until 'archiver
    prune' has taken them, weeks later. The policy append-only forbids it. --undo of what is pruned
    already lets a copy, a mirror or a repair bring it back.
    """
    from archiver.operations.forget import forget, remember

    repository, revision = split_reference(reference)
    archive = open_archive()
    if undo:
        again = remember(archive, repository, revision, every=every, dry_run=dry_run)
        _tell("remembered", again.snapshots, dry_run=dry_run)
        _tell_gone(again.gone, archive.store.address, dry_run=dry_run)
        return
    done = forget(archive, repository, revision, every=every, dry_run=dry_run)
    _tell("forgotten", done.snapshots, dry_run=dry_run)
    for event in done.gone:
        title = f"{event.repository}@{event.revision[:12]}"
        _record("forgotten", event, dry_run=dry_run)
        output.line(
            f"{'would be ' if dry_run else ''}forgotten  {printable(title)}, which was pruned"
        )
    if not dry_run:
        output.remark(f"{advised('forget', '--undo', reference)} takes it back.")


def _tell(kind: str, done: list[Snapshot], *, dry_run: bool) -> None:
    for one in done:
        seal = one.seal
        output.record(
            kind,
            snapshot=one.id,
            repository=seal.repository,
            revision=seal.revision,
            dry_run=dry_run,
            gone=False,
        )
        output.line(f"{'would be ' if dry_run else ''}{kind}  {printable(one.title)}")
    if done:
        output.line(f"{plural(len(done), 'snapshot')}.")


def _record(kind: str, event: Event, *, dry_run: bool) -> None:
    """One JSON line for a snapshot whose seal prune deleted."""
    output.record(
        kind,
        snapshot=event.snapshot,
        repository=event.repository,
        revision=event.revision,
        dry_run=dry_run,
        gone=True,
    )


def _tell_gone(gone: list[Event], place: str, *, dry_run: bool) -> None:
    """Snapshots that are wanted again, and have to come from elsewhere."""
    for one in gone:
        _record("remembered", one, dry_run=dry_run)
        title = f"{one.repository}@{one.revision[:12]}"
        would = "would be " if dry_run else ""
        output.line(f"{would}remembered  {printable(title)}, but its seal is gone from here")
    if gone:
        back = shlex.join(["archiver", "copy", "-C", "REPLICA", place])
        output.remark(
            f"It has to come from elsewhere now: '{back}', {advised('repair', '--from', 'REPLICA')} "
            f"or {advised('mirror', gone[0].repository)} brings it. Until then it counts as lost, and "
            f"nothing can be pruned; {advised('forget', title)} takes that back."
        )
        raise click.exceptions.Exit(int(ExitCode.PARTIAL))
