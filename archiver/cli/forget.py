"""``archiver forget``."""

from __future__ import annotations

import shlex

import click

from archiver.cli import output
from archiver.cli.options import advised, common, open_archive, split_reference
from archiver.cli.snapshots import title_of
from archiver.errors import ExitCode
from archiver.text import plural, printable


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
    from archiver.operations.forget import ForgetRequest, forget, remember

    repository, revision = split_reference(reference)
    archive = open_archive()
    kind, operation = ("remembered", remember) if undo else ("forgotten", forget)
    report = operation(archive, ForgetRequest(repository, revision, every, dry_run))
    would = "would be " if dry_run else ""
    for snapshot in report.snapshots:
        seal = snapshot.seal
        _record(kind, snapshot.id, seal.repository, seal.revision, gone=False, dry_run=dry_run)
        output.line(f"{would}{kind}  {printable(snapshot.title)}")
    if report.snapshots:
        output.line(f"{plural(len(report.snapshots), 'snapshot')}.")
    fate = "but its seal is gone from here" if undo else "which was pruned"
    for event in report.pruned:
        _record(kind, event.snapshot, event.repository, event.revision, gone=True, dry_run=dry_run)
        output.line(
            f"{would}{kind}  {printable(title_of(event.repository, event.revision))}, {fate}"
        )
    if not undo and not dry_run:
        output.remark(f"{advised('forget', '--undo', reference)} takes it back.")
    if undo and report.pruned:
        last = report.pruned[-1]
        undo_words = advised("forget", title_of(last.repository, last.revision))
        back = shlex.join(["archiver", "copy", "-C", "REPLICA", archive.store.address])
        output.remark(
            f"It has to come from another place now: '{back}', {advised('repair', '--from', 'REPLICA')} "
            f"or {advised('mirror', last.repository)} brings it. Until then it counts as lost, and "
            f"nothing can be pruned; {undo_words} takes that back."
        )
        output.exit_with(ExitCode.PARTIAL)


def _record(
    kind: str, snapshot: str, repository: str, revision: str, *, gone: bool, dry_run: bool
) -> None:
    """Write the JSON line of a snapshot; ``gone``: prune deleted its seal."""
    output.record(
        kind,
        snapshot=snapshot,
        repository=repository,
        revision=revision,
        dry_run=dry_run,
        gone=gone,
    )
