"""Whether a file, read past the system's cache, is what a stored name demands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.archive.identity import require_named
from archiver.errors import ArchiverError

if TYPE_CHECKING:
    from archiver.storage.store import Reader, Staged, Store


def reader_right(reader: Reader, name: str) -> bool:
    """Whether an open file holds what ``name`` (of a pack or document) demands; it is closed then."""
    try:
        reader.fresh()
        require_named(reader, name)
    except ArchiverError:
        return False
    finally:
        reader.close()
    return True


def staged_right(staged: Staged, name: str) -> bool:
    """Whether what was staged, read back, is what ``name`` demands."""
    return reader_right(staged.reader(), name)


def stored_right(store: Store, where: str, name: str) -> bool:
    """Whether the stored file ``where`` holds what ``name`` demands."""
    try:
        reader = store.open(where)
    except (ArchiverError, FileNotFoundError):
        return False
    return reader_right(reader, name)
