"""A file that the user asked for, outside any store: whole and durable, or not there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from archiver.errors import DeniedError, UsageError, explain_system_error
from archiver.storage.folders import sync_folder

if TYPE_CHECKING:
    from pathlib import Path


def require_absent(path: Path) -> None:
    """Raise UsageError if there is something at ``path`` already."""
    if path.exists() or path.is_symlink():
        raise UsageError(f"{path} is there already.", hint="Choose another name.")


def require_place(path: Path) -> None:
    """That ``path`` can be written later, as far as can be told now: for what takes long to make.

    Raises:
        UsageError: There is something already, or no folder for it.
        DeniedError: The folder may not be written to.
    """
    require_absent(path)
    if not path.parent.is_dir():
        raise UsageError(f"There is no folder for {path}.", hint="Make it first.")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise DeniedError(
            f"{path.parent} may not be written to.", hint="Name a file in another folder."
        )


def write_new(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write ``data`` to ``path`` and make it durable; UsageError if there is something already."""
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(handle)
            sync_folder(path.parent)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    except FileExistsError:
        raise UsageError(f"{path} is there already.", hint="Choose another name.") from None
    except FileNotFoundError:
        raise UsageError(f"There is no folder for {path}.", hint="Make it first.") from None
    except OSError as error:
        raise explain_system_error(error, f"{path} was written") from error
