"""A private folder for the small files that the libraries read; what killed tests left goes too."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from archiver.errors import explain_system_error

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX: Final = "archiver-smoke-"
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder of this process alone, which vanishes in the end; abandoned ones are removed first.

    A folder is locked (``flock``) as long as the process lives that made it, however that ends.

    Raises:
        ArchiverError: No folder for temporary files can be written to.
    """
    folder, handle = _made()
    try:
        _remove_abandoned(folder.parent)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # if something stays, the next test removes it
        os.close(handle)


def _made() -> tuple[Path, int]:
    """A new folder that is locked, and the handle that holds the lock."""
    while True:
        folder = _new()
        try:
            handle = os.open(folder, _FOLDER)
        except FileNotFoundError:  # another test took it for an abandoned one
            continue
        if _locked(handle) is not False and folder.exists():
            return folder, handle
        os.close(handle)


def _new() -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix=_PREFIX))
    except OSError as error:
        told = explain_system_error(error, "a folder for temporary files was made")
        message = told.message if error.filename else "No folder for temporary files is writable."
        told_as = type(told)(message, hint="Set TMPDIR to a folder that can be written to.")
        raise told_as from error


def _locked(handle: int) -> bool | None:
    """Whether the lock is ours now; None if this filesystem knows no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _remove_abandoned(below: Path) -> None:
    with suppress(OSError), os.scandir(below) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX):
                with suppress(OSError):
                    _remove_if_abandoned(entry.path)


def _remove_if_abandoned(path: str) -> None:
    """Remove a folder, never a link to one, that is this user's and that no process holds."""
    handle = os.open(path, _FOLDER)
    try:
        if os.fstat(handle).st_uid == os.geteuid() and _locked(handle):
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(handle)
