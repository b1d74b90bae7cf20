"""What can be wrong with a catalogue file, apart from anything being wrong with the archive."""

from __future__ import annotations

from archiver.errors import ArchiverError


class CatalogueUnusable(ArchiverError):  # noqa: N818 - a state that an operation answers by a rebuild
    """The file is damaged, foreign, missing, or written by a newer version: rebuild it."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(
            f"The catalogue {path} cannot be used: {reason}.",
            hint="It is only an index: run `archiver catalogue rebuild` to write it anew.",
        )


class CatalogueReadOnlyError(ArchiverError):
    """The catalogue's file or folder may not be written by this user."""

    def __init__(self, path: object) -> None:
        super().__init__(
            f"The catalogue {path} may only be read.",
            hint="Run as a user who may write the archive's folder.",
        )
