"""Where a run looks up what is held: in the archive's files while they are few, then in its catalogue."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from archiver.archive.lookup import FilesLookup

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from archiver.archive.archive import Archive
    from archiver.archive.lookup import Lookup
    from archiver.catalogue.database import Catalogue


class Lookups:
    """Gives what is quicker before each repository, as the archive grows. Use as a context manager.

    Args:
        archive: Where what is held is looked up.
        open_catalogue: How its catalogue is opened, if that is needed; it is closed in the end.
    """

    def __init__(self, archive: Archive, open_catalogue: Callable[[Archive], Catalogue]) -> None:
        self._archive = archive
        self._open_catalogue = open_catalogue
        self._stack = ExitStack()
        self._files = FilesLookup(archive)
        self._opened: Lookup | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def choose(self, *, digests: bool = True) -> Lookup:
        """Return where to look; say by ``digests`` whether upstream lists any, to look up files by."""
        if self._opened is not None:
            return self._opened
        if self._files.is_quick(manifests=digests):
            return self._files
        # Who asks a small archive need not wait for SQL.
        from archiver.catalogue.lookup import CatalogueLookup  # noqa: PLC0415

        catalogue = self._stack.enter_context(self._open_catalogue(self._archive))
        self._opened = CatalogueLookup(catalogue)
        return self._opened
