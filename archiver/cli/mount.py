"""``archiver mount``."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from archiver.cli import output
from archiver.cli.options import Size, common, exit_damaged, open_archive, packs_option
from archiver.errors import DamageError, ExitCode
from archiver.text import printable

if TYPE_CHECKING:
    from archiver.errors import ArchiverError
    from archiver.mount.filesystem import ReadFailure

_CACHE = 256 << 20


@click.command(epilog="Example: archiver mount -C weights /mnt/weights")
@click.argument("folder", metavar="DIR", type=Path)
@click.option(
    "--cache",
    type=Size(64 << 20),
    default=_CACHE,
    metavar="SIZE",
    help="Keep so much of what was decoded in memory. [default: 256 MiB]",
)
@click.option(
    "--allow-other",
    is_flag=True,
    help="Let every user of this machine read it. [default: only who mounts it]",
)
@packs_option
@common
def command(folder: Path, cache: int, allow_other: bool, pack_folders: tuple[Path, ...]) -> None:
    """Show every snapshot as plain read-only files in a folder.

    DIR/Org/Name/REVISION has the files of a revision, DIR/Org/Name/main leads to the one that the name
    alone means, and DIR/.hub is the same as a hub client's cache. Nothing is written to disk: bytes are
    decoded and proven as they are read. A file that is damaged, and cannot be healed, gives an
    input/output error and is named here.

    It runs until DIR is unmounted ('fusermount -u DIR') or SIGTERM comes, and then ends with 0; after
    Ctrl-C with 130; in any case with 20 if it came upon damage that it could not heal.
    """
    from archiver.archive.advice import audit_hint
    from archiver.archive.serving.healing import Healer
    from archiver.archive.serving.segment_cache import SegmentCache
    from archiver.mount.contents import Contents
    from archiver.mount.filesystem import ArchiveFilesystem
    from archiver.mount.mountpoint import (
        read_far_ahead,
        require_free,
        require_fuse,
        serve,
        unmounting,
    )
    from archiver.mount.tree import Tree

    require_fuse()
    archive = open_archive(reading=True, pack_folders=pack_folders)
    place = require_free(folder, archive)
    damaged = threading.Event()

    def warn(title: str, error: ArchiverError) -> None:
        if isinstance(error, DamageError):
            damaged.set()
        output.print_error(f"{printable(title)}: {error.message}", error.hint, error.exit_code)

    def report(failure: ReadFailure) -> None:
        error, snapshot = failure.error, failure.snapshot
        if isinstance(error, DamageError):
            damaged.set()
        output.print_error(
            f"{snapshot.title}: {printable(failure.path)} cannot be read: {error.message}",
            error.hint or audit_hint(error, archive.store.address, snapshot.title),
            error.exit_code,
            path=failure.path,
        )

    def remark_unwritten(error: ArchiverError) -> None:
        output.remark(f"note: damage that is met cannot be journalled: {error.message}")

    def ready() -> None:
        read_far_ahead(place)
        totals = tree.totals
        output.record("mounted", folder=str(place), snapshots=totals.snapshots, files=totals.files)
        output.line(
            f"Mounted at {place}: {totals.snapshots:,} snapshots, {totals.files:,} files. "
            f"End with Ctrl-C or {unmounting(place)}."
        )
        output.flush()

    tree = Tree(archive, warn)
    healer = Healer(archive, on_unwritten=remark_unwritten)
    with closing(healer), SegmentCache(cache) as segments:
        contents = Contents(archive, segments, healer)
        filesystem = ArchiveFilesystem(tree, contents, ready=ready, report=report, warn=warn)
        interrupted = serve(place, filesystem, allow_other=allow_other)
    output.record("unmounted", folder=str(place), damaged=damaged.is_set())
    output.line("Unmounted.")
    if damaged.is_set():
        exit_damaged()
    if interrupted:
        output.exit_with(ExitCode.INTERRUPTED)
