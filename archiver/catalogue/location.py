"""Where an archive's catalogue lies: inside it, or in a folder of this user's where it cannot."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from archiver.archive.layout import CATALOGUE, INFO
from archiver.digest import blake3_hex
from archiver.storage.filesystem import free_bytes, has_range_locks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.archive.archive import Archive

_PLACE_DIGITS: Final = 16
_ROOM_MIN: Final = 8 << 20
"""With less room in bytes an index that is not there is made elsewhere."""


def catalogue_path(archive: Archive) -> Path:
    """Return where the archive's catalogue lies: inside it, or in a folder of this user's if it cannot."""
    usable = next(usable_paths(archive), None)
    if usable is not None:
        return usable
    own = archive.store.folder
    return own.path / CATALOGUE if own else next(_private_folders()) / _private_name(archive)


def usable_paths(archive: Archive) -> Iterator[Path]:
    """Yield where an index can be, the best first: SQLite needs a folder to write to, and locks."""
    own = archive.store.folder
    root = own.path if own else None
    # Nobody locks this file, so that it may be asked.
    if root and os.access(root, os.W_OK) and has_range_locks(root / INFO) and _has_room(root):
        yield root / CATALOGUE
    for folder in _private_folders():
        if _is_private(folder):
            yield folder / _private_name(archive)


def _private_name(archive: Archive) -> str:
    """Return the name of the index in a folder of this user's.

    A copy of an archive has the same id, and may hold other packs: so the place is in the name too.
    """
    own = archive.store.folder
    place = os.path.realpath(own.path) if own else archive.store.address
    return f"{archive.info.archive}-{blake3_hex(os.fsencode(place))[:_PLACE_DIGITS]}.sqlite"


def _has_room(root: Path) -> bool:
    """Return whether an index is there, or making one does not take the last room of a disk."""
    if (root / CATALOGUE).exists():
        return True
    free = free_bytes(root)
    return free is None or free >= _ROOM_MIN


def _private_folders() -> Iterator[Path]:
    """Give folders for files of this user, who may have no home."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    # Not Path.home, which fails for a user whom the system does not know.
    home = os.path.expanduser("~")  # noqa: PTH111
    if Path(cache or home).is_absolute():
        yield (Path(cache) if cache else Path(home) / ".cache") / "archiver"
    yield Path(tempfile.gettempdir()) / f"archiver-{os.geteuid()}"


def _is_private(folder: Path) -> bool:
    """Return whether nobody else can put files into the folder, which is made, and locks work there."""
    probe = folder / "locks"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        info = folder.lstat()
        if info.st_uid != os.geteuid() or not stat.S_ISDIR(info.st_mode) or info.st_mode & 0o022:
            return False
        probe.touch()
    except OSError:
        return False
    return has_range_locks(probe)
