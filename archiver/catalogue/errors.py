"""What can be wrong with a catalogue file, apart from anything being wrong with the archive."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

from archiver.errors import ArchiverError, LockedError, NoSpaceError


class CatalogueUnusable(ArchiverError):  # noqa: N818 - a state that an operation answers by a rebuild
    """The file is damaged, foreign, missing, or written by a newer version: rebuild it."""

    def __init__(self, path: object, reason: str) -> None:
        folder = shlex.quote(str(Path(str(path)).parent))
        super().__init__(
            f"The catalogue {path} cannot be used: {reason}.",
            hint=f"It is only an index: 'archiver catalogue rebuild -C {folder}' writes it anew.",
        )
        self.reason = reason


class CatalogueNewerError(CatalogueUnusable):
    """A newer version wrote the file: it is not damaged."""


class CatalogueReadOnlyError(ArchiverError):
    """The catalogue's file or folder may not be written by this user."""

    def __init__(self, path: object) -> None:
        super().__init__(
            f"The catalogue {path} may only be read.",
            hint="Run as a user who may write the archive's folder.",
        )


class CatalogueFullError(NoSpaceError):
    """The disk has no room for the catalogue."""


class CatalogueBusyError(LockedError):
    """Other processes had the catalogue all the time."""


CATALOGUE_FAULTS: Final = (
    CatalogueUnusable,
    CatalogueReadOnlyError,
    CatalogueFullError,
    CatalogueBusyError,
)
"""What can be wrong with a catalogue's file: each is answered by another file, or by none."""
