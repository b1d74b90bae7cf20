"""``archiver restore``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from archiver.cli import output
from archiver.cli.options import Size, common, memory_budget, open_archive, packs_option
from archiver.cli.restoring import (
    CACHE,
    PLAIN,
    TAR,
    RestoreOptions,
    Restoring,
    restore_options,
    show_cache,
    show_plan,
    show_restored,
)
from archiver.cli.snapshots import snapshot_of, summary
from archiver.errors import skip_damaged
from archiver.memory import BUDGET_MIN

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.archive.seals import Snapshot
    from archiver.operations.restore.report import RestoreReport


@click.command(
    epilog="Example: archiver restore -C weights Qwen/Qwen3.5-0.8B /models/qwen --file '*.json'"
)
@click.argument("reference", metavar="REPO[@REVISION]")
@restore_options
@click.option("--smoke-test", "tested", is_flag=True, help="Then run the model that was restored.")
@click.option(
    "--memory",
    type=Size(1),
    help="Stay below this much memory in all. [default: 400 MB; for --smoke-test: what there is]",
)
@packs_option
@common
def command(
    reference: str, pack_folders: tuple[Path, ...], tested: bool, options: RestoreOptions
) -> None:
    """Write a snapshot, a file or a tensor back to disk, bit for bit.

    Every file is compared with its manifest's digests before it gets its name; the last line says who
    vouched for these. A file that is there already and right is kept; one that differs is refused, unless
    you say --overwrite. A damaged file is left out and named, with the tensors that are hit.
    """
    options.require_sense()
    if tested and (options.tensor or options.files):
        raise click.UsageError(
            "--smoke-test needs all files: it goes with neither --file nor --tensor."
        )
    if tested and (options.rename or options.dry_run or options.layout == TAR):
        raise click.UsageError(
            "--smoke-test goes with none of --rename, --dry-run and --layout tar: it runs the files that "
            "were restored, by their own names."
        )
    budget = memory_budget(options.memory, least=1 if tested else BUDGET_MIN)
    archive = open_archive(reading=True, pack_folders=pack_folders)
    snapshot = snapshot_of(archive, reference)
    if tested:
        from archiver.operations.smoke_test import require_model

        require_model(snapshot)
    restoring = Restoring(archive, snapshot, options, budget)
    if options.dry_run:
        show_plan(restoring.plan(), snapshot)
        return
    started = time.monotonic()
    report = restoring.run()
    if report is None:
        return
    _remark_selection(archive, snapshot)
    show_restored(report, snapshot, time.monotonic() - started)
    if options.layout == CACHE:
        show_cache(report)
    if tested:
        _smoke_test(_folder(report, options.layout), archive, snapshot, options.memory)


def _remark_selection(archive: Archive, snapshot: Snapshot) -> None:
    """Remark a snapshot of more files, where chosen ones come first since their voucher is higher."""
    seal = snapshot.seal
    if not seal.selection.chosen:
        return
    held = archive.snapshots_of(seal.repository, on_damage=skip_damaged)
    unchosen = [
        other
        for other in held
        if other.seal.revision == seal.revision and not other.seal.selection.chosen
    ]
    if unchosen:
        best = archive.preferred(unchosen)
        output.remark(
            f"One without a choice is {seal.repository}@{best.id[:12]}, vouched for by "
            f"{summary(archive.vouching(best))}."
        )


def _folder(report: RestoreReport, layout: str) -> Path:
    """Return where the files lie that were restored."""
    if layout == PLAIN:
        return Path(report.destination)
    from archiver.upstream.hub_cache import CacheDestination

    cache = CacheDestination(Path(report.destination), report.repository, report.revision, ())
    return cache.snapshot


def _smoke_test(folder: Path, archive: Archive, snapshot: Snapshot, memory: int | None) -> None:
    from archiver.cli.smoke_report import SmokeMeter, print_smoke_test, smoke_options
    from archiver.operations.smoke_test import smoke_test_restored

    options = smoke_options(memory=memory)
    with SmokeMeter() as meter:
        test = smoke_test_restored(folder, archive, snapshot, options, meter)
    print_smoke_test(test)
