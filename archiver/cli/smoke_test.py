"""``archiver smoke-test``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from archiver.cli.options import Size, common, open_archive, packs_option, split_reference
from archiver.cli.smoke_report import SmokeMeter, print_smoke_test, smoke_options
from archiver.cli.snapshots import snapshot_of
from archiver.errors import (
    ArchiverError,
    DamageError,
    NoArchiveError,
    UnknownFormatError,
    UsageError,
)
from archiver.smoke.report import LEVELS
from archiver.text import printable

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.archive.seals import Snapshot

_ALWAYS_A_FOLDER: Final = ("/", "./", "../", "~")


@click.command(epilog="Example: archiver smoke-test -C weights Qwen/Qwen3.5-0.8B --memory 4GiB")
@click.argument("subject", metavar="REPO[@REVISION]|DIR")
@click.option(
    "--level",
    type=click.Choice(LEVELS),
    help="Run up to this level. [default: generate, and golden where a record is]",
)
@click.option("--all", "every", is_flag=True, help="Insist on every level that applies.")
@click.option("--record", is_flag=True, help="Run every level, and keep a golden record.")
@click.option(
    "--golden",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Compare with the record in this file; with --record, write it there.",
)
@click.option("--memory", type=Size(1), help="Stay below this much memory in all.")
@click.option(
    "--dtype",
    type=click.Choice(["bfloat16", "float32"]),
    default="bfloat16",
    show_default=True,
    help="The numbers to compute with; level golden always takes float32.",
)
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda", "mps"]),
    help="The device to compute on. [default: the best there is]",
)
@packs_option
@common
def command(subject: str, record: bool, pack_folders: tuple[Path, ...], **settings: Any) -> None:
    """Run the model of a snapshot or of a folder.

    A snapshot's model runs straight from the archive: nothing is restored, and no code of the repository
    is run. Needs the extra 'smoke' for all levels but the first. Exits with 0 only if every level that
    was to run held.

    A DIR that is a folder is taken as one, unless the archive holds a repository of that name; write
    ./DIR to mean the folder.
    """
    from archiver.operations.smoke_test import smoke_test_folder, smoke_test_snapshot

    options = smoke_options(record=record, **settings)
    held = _held(subject, pack_folders)
    with SmokeMeter() as meter:
        if held is None:
            test = smoke_test_folder(Path(subject).expanduser(), options, meter)
        else:
            test = smoke_test_snapshot(*held, options, meter)
    print_smoke_test(test, recorded=record)


def _held(subject: str, pack_folders: tuple[Path, ...]) -> tuple[Archive, Snapshot] | None:
    """Return the snapshot that is meant, and its archive; None if a folder is."""
    if subject.startswith(_ALWAYS_A_FOLDER) or subject in {".", ".."}:
        return None
    if subject and Path(subject).is_dir() and not _is_name(subject):
        return None
    try:
        archive = open_archive(pack_folders=pack_folders)
        return archive, snapshot_of(archive, subject)
    except (NoArchiveError, UsageError) as error:
        if subject and "@" not in subject and not isinstance(error, UnknownFormatError):
            error.hint = f"{error.hint} There is no folder {printable(subject)} either.".strip()
        raise


def _is_name(subject: str) -> bool:
    """Return whether the archive, if there is one, holds a repository that is called as the folder is."""
    try:
        return bool(open_archive().snapshots_of(split_reference(subject)[0]))
    except DamageError:
        return True  # of a seal of that name: to test the folder in its place would hide it
    except ArchiverError:
        return False
