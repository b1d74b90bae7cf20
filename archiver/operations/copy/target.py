"""Where to copy to: an archive that is there, or a new one that begins as the same archive."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from archiver.archive import carried, layout
from archiver.archive.archive import Archive
from archiver.archive.info import info_file, parse_info
from archiver.archive.place_file import place_file
from archiver.archive.transfer import PURPOSE
from archiver.errors import (
    ArchiverError,
    DamageError,
    NoArchiveError,
    NoSpaceError,
    UnknownFormatError,
    UsageError,
    explain_system_error,
)
from archiver.storage.local import LocalStore
from archiver.text import human_bytes

if TYPE_CHECKING:
    from archiver.storage.store import Store

_SMALL_MAX: Final = 1 << 20
_BEGUN: Final = {*carried.NAMES, layout.PLACE, layout.TMP, "lost+found"}
"""What a run that died before ``archive.json`` leaves, and what a new disk has from the start."""
_OWN: Final = (PURPOSE, "put", "intent")


def open_target(source: Archive, root: Path) -> tuple[Archive, bool]:
    """The archive in ``root``, and whether it is still to be begun there.

    Raises:
        UsageError: It is the source, lies in it, or is neither an archive nor an empty folder.
        UnknownFormatError: It is of a format, or needs a writer, that this version does not know.
    """
    _require_apart(Path(source.store.describe()), root)
    if _is_empty(root):
        return Archive(LocalStore(root), source.info), True
    try:
        archive = Archive.open(root)
    except UnknownFormatError:
        raise
    except NoArchiveError:
        raise UsageError(
            f"{root} is neither an archive nor an empty folder.",
            hint="Choose a new folder, or the archive to add to.",
        ) from None
    archive.require_writable()
    return archive, False


def _require_apart(source: Path, root: Path) -> None:
    target = Path(os.path.realpath(root))
    for folder in (target, *target.parents):
        if folder.exists() and folder.samefile(source):
            where = "is" if folder == target else "lies in"
            raise UsageError(
                f"{root} {where} the archive {source} itself.", hint="Copy it to another folder."
            )


def _is_empty(root: Path) -> bool:
    try:
        return set(os.listdir(root)) <= _BEGUN  # noqa: PTH208 - only the names
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        raise UsageError(f"{root} is not a folder.", hint="Choose a new folder.") from None
    except OSError as error:
        raise explain_system_error(error, "the folder to copy to was looked at") from error


def begin(source: Archive, target: Archive, *, new: bool) -> None:
    """Make the target ready: what dead runs left in ``tmp/`` is removed, a new archive is begun."""
    if not new:
        target.store.require_writable()
    for purpose in _OWN:
        for leftover in target.store.leftovers(purpose):
            leftover.discard()
    if new:
        for name, data in carried.files():
            target.store.put_new(name, _small(source.store, name) or data)
        target.store.put_new(layout.PLACE, place_file())
        # Last, so that a folder with archive.json is always a whole archive.
        target.store.put_new(layout.INFO, _info(source))


def _small(store: Store, name: str) -> bytes | None:
    try:
        return store.get(name, _SMALL_MAX)
    except (ArchiverError, FileNotFoundError):
        return None


def _info(source: Archive) -> bytes:
    """``archive.json`` as the source has it; made anew if it is damaged there."""
    data = _small(source.store, layout.INFO) or b""
    try:
        if parse_info(data) == source.info:
            return data
    except DamageError:
        pass
    return info_file(source.info)


def require_room(store: Store, needed: int) -> None:
    """Raise NoSpaceError unless ``needed`` bytes fit on the disk where the store is, or will be."""
    folder = Path(os.path.realpath(store.describe()))
    while not folder.is_dir():
        folder = folder.parent
    free = LocalStore(folder).free_bytes()
    if free is not None and free < needed:
        raise NoSpaceError(
            f"{human_bytes(needed)} are to be copied; {human_bytes(free)} are free on the disk of "
            f"{store.describe()}.",
            hint="Free some room, copy to a larger disk, or choose some with --snapshot.",
        )
