"""Documents of an archive that this process has read and found whole: none of them is read twice.

Events and seals never change, and their names prove them. What a process knows of one stays true, also
if its file rots meanwhile: to find that is an audit's task, which reads every file itself. Which documents
there are is looked up each time. Nothing is kept beyond the process.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

KEPT_BYTES_MAX: Final = 16 << 20
"""Documents of so many bytes are kept, as files: with what is read out of them, several times as much in
memory. That is the journal of about ten years of nights. What comes after is read each time."""
Document = TypeVar("Document")


class DocumentCache(Generic[Document]):
    """The documents of one kind in one archive, by name. Several threads may use it."""

    def __init__(self) -> None:
        self._kept: dict[str, Document] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def kept(self, name: str) -> Document | None:
        """Return the document ``name`` if it is kept."""
        return self._kept.get(name)

    def get(self, name: str, read: Callable[[str], tuple[Document, int]]) -> Document:
        """Return the document ``name``; unless it is kept, ``read`` gives it, with the size of its file.

        What ``read`` raises goes on, and nothing is kept.
        """
        kept = self._kept.get(name)
        if kept is not None:
            return kept
        document, size = read(name)
        with self._lock:
            if self._bytes + size <= KEPT_BYTES_MAX and name not in self._kept:
                self._bytes += size
                self._kept[name] = document
        return document
