"""Folders whose entries survive a crash, and what a system error is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.errors import ArchiverError, LinkedFolderError, explain_system_error
from archiver.storage.filesystem import follow_folder, sync_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def explain(error: OSError, place: Path, what: str) -> ArchiverError:
    """The domain error that a system error stands for; ``what`` says what was being done."""
    return explain_system_error(
        OSError(error.errno, error.strerror or str(error), str(place)), what
    )


def folders_above(path: Path, root: Path) -> Sequence[Path]:
    """The folders that ``path`` lies in, from its own up to ``root``."""
    return path.parents[: len(path.parents) - len(root.parents)]


def require_no_links(path: Path, root: Path) -> None:
    """Raise LinkedFolderError if a folder below ``root`` that ``path`` lies in is a symbolic link.

    What is written or deleted through one lands outside the archive, or on a disk to which nothing
    can be renamed. The root itself may be a link: that is how its owner names it.
    """
    for folder in folders_above(path, root)[:-1]:
        if folder.is_symlink():
            raise LinkedFolderError(folder)


def require_same_disk(folder: Path, root: Path) -> None:
    """Raise LinkedFolderError if ``folder`` lies on another disk than ``root``, the archive's own folder.

    Files are made in one folder and get their names in another, by a rename, which no two disks allow.
    """
    try:
        elsewhere = folder.stat().st_dev != root.stat().st_dev
    except OSError:
        return  # not there yet, or told by whoever needs it
    if elsewhere:
        raise LinkedFolderError(folder)


def sync_up(path: Path, root: Path) -> None:
    """Make the name ``path`` durable, with all folders up to the root.

    A run that was killed may have made a folder and not synced it.
    """
    for folder in folders_above(path, root):
        sync_folder(folder)


def make_folder(folder: Path, root: Path) -> None:
    """Create ``folder`` and its missing parents so that they survive a crash.

    Those below ``root``, the archive's own folder, get its owner, group and access.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent, root)
    try:
        folder.mkdir()
    except FileExistsError:
        pass  # another run made it, or is about to say why it cannot
    else:
        if root in folder.parents:
            follow_folder(folder, root)
    sync_folder(folder.parent)


__all__ = [
    "explain",
    "folders_above",
    "make_folder",
    "require_no_links",
    "require_same_disk",
    "sync_folder",
    "sync_up",
]
