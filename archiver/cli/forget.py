"""``archiver forget``."""

from __future__ import annotations

import click

from archiver.cli import output
from archiver.cli.options import advised, common, open_archive, split_reference
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
    prune' has taken them, weeks later. The policy append-only forbids it.
    """
    from archiver.operations.forget import forget, remember  # noqa: PLC0415 - start-up stays light

    repository, revision = split_reference(reference)
    act = remember if undo else forget
    done = act(open_archive(), repository, revision, every=every, dry_run=dry_run)
    kind = "remembered" if undo else "forgotten"
    for one in done:
        seal = one.seal
        output.record(
            kind,
            snapshot=one.id,
            repository=seal.repository,
            revision=seal.revision,
            dry_run=dry_run,
        )
        output.line(f"{'would be ' if dry_run else ''}{kind}  {printable(one.title)}")
    output.line(f"{plural(len(done), 'snapshot')}.")
    if not undo and not dry_run:
        output.remark(f"{advised('forget', '--undo', reference)} takes it back.")
