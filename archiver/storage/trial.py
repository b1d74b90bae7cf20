"""What a filesystem does when it is tried out, in a folder that is made for that and taken away."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from archiver.storage.filesystem import has_range_locks, limits_of, sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable

_REFUSED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM, errno.EMLINK}


class Trial(NamedTuple):
    """What works.

    Attributes:
        file_sync: The bytes of a file can be made durable.
        folder_sync: Names can be.
        renames: A file takes the place of another in one step.
        cases: Names that differ in case are two.
        links: A file may have two names.
        symlinks: A name may stand for another.
        locks: ``flock``.
        range_locks: ``fcntl`` locks, which SQLite needs.
    """

    file_sync: bool
    folder_sync: bool
    renames: bool
    cases: bool
    links: bool
    symlinks: bool
    locks: bool
    range_locks: bool


def try_out(folder: Path) -> Trial:
    """Return what the filesystem of ``folder`` does; raise OSError if nothing can be written there."""
    work = Path(tempfile.mkdtemp(prefix="trial-", dir=folder))
    try:
        limits = limits_of(work)
        file = work / "file"
        return Trial(
            file_sync=_works(lambda: _write_durably(file)),
            folder_sync="folder-sync" not in limits and _works(lambda: sync_folder(work)),
            renames=_works(lambda: _replace(work)),
            cases=not (work / "FILE").exists(),
            links=_works(lambda: os.link(file, work / "link")),
            symlinks=_works(lambda: (work / "symlink").symlink_to("file")),
            locks="locks" not in limits,
            range_locks=has_range_locks(file),
        )
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _works(attempt: Callable[[], None]) -> bool:
    """Return whether it is done; raise what the medium says of itself, such as EIO or ENOSPC."""
    try:
        attempt()
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        return False
    return True


def _write_durably(file: Path) -> None:
    with file.open("wb") as opened:
        opened.write(b"archiver")
        opened.flush()
        os.fsync(opened.fileno())


def _replace(work: Path) -> None:
    old, new = work / "old", work / "new"
    old.write_bytes(b"old")
    new.write_bytes(b"new")
    new.replace(old)
    if old.read_bytes() != b"new" or new.exists():
        raise OSError(errno.ENOTSUP, "the old file stayed")
