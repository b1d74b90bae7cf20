"""Other archives, and plain folders, that a repair may take from."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from archiver.archive.archive import Archive
from archiver.archive.place_look import require_answer
from archiver.errors import NoArchiveError, UnknownFormatError, UsageError

if TYPE_CHECKING:
    from pathlib import Path


def open_other(folder: Path, archive: Archive) -> Archive | None:
    """The archive in ``folder``; None if it is a plain folder.

    Raises UsageError if there is no such folder or it is the archive itself, UnknownFormatError for
    an archive of an unknown format, ArchiverError if its mount is dead.
    """
    require_answer(folder)
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder.", hint="Check the path; is the disk mounted?")
    if os.path.realpath(folder) == os.path.realpath(archive.store.describe()):
        raise UsageError(
            f"{folder} is the archive itself.",
            hint="Name another copy of it, or leave --from out: what is aside in it is used anyway.",
        )
    try:
        return Archive.open(folder)
    except UnknownFormatError:
        raise
    except NoArchiveError:
        return None
