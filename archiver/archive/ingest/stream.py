"""A file on its way in, as a stream: what upstream says of it, and its bytes in order.

Of a file that an unfinished run had begun, what is stored is read from the packs, and only the rest is
fetched.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Literal, Protocol, Self

import msgspec
import numpy as np

from archiver.digest import Blake3Hex
from archiver.errors import DamageError, MismatchError
from archiver.tensors.weight_files import HEAD

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.archive.ingest.object_store import Hints
    from archiver.buffers import Bytes


class ExpectedFile(msgspec.Struct, frozen=True):
    """What upstream says of a file; empty strings where it says nothing.

    ``by`` is who says it, for messages: upstream itself, or a cache of what it once sent.
    """

    path: str
    size: int
    sha256: str = ""
    oid: str = ""
    lfs: bool = False
    by: Literal["upstream", "the cache"] = "upstream"

    @property
    def checkable(self) -> bool:
        """Whether upstream says what the bytes are; if not, stored ones cannot stand for them."""
        return bool(self.sha256 or (self.oid and not self.lfs))


class Stream(Protocol):
    """A file's bytes in order."""

    def readinto(self, buffer: memoryview) -> int:
        """Put the next bytes into ``buffer`` and return how many; 0 at the end."""


OpenAt = Callable[[int], AbstractContextManager[Stream]]
"""Opens a file's bytes from an offset on."""


class ResumedStream:
    """A file's bytes: first those of ``segments``, which an earlier run stored, then upstream's.

    Nothing is believed because it was stored: whoever reads hashes the file from its first byte.
    """

    def __init__(
        self, archive: Archive, hints: Hints, segments: list[tuple[int, str]], open_at: OpenAt
    ) -> None:
        self._archive = archive
        self._hints = hints
        self._segments = iter(segments)
        self._open_at = open_at
        self._segment = memoryview(b"")
        """What is left of the stored segment that is being handed out."""
        self._at = 0
        self._opened: AbstractContextManager[Stream] | None = None
        self._stream: Stream | None = None
        self.head = b""
        """The first bytes, at most ``HEAD``."""
        self.fetched = 0
        """Bytes that came from upstream."""
        self.resumed: dict[str, int] = {}
        """Stored objects that were taken up, and the bytes that they take in their packs."""
        self.resumed_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        if self._opened is not None:
            self._opened.__exit__(None, None, None)

    def fill(self, view: memoryview, expected: ExpectedFile) -> None:
        """Fill ``view``; raise MismatchError if the file ends first."""
        done = 0
        while done < len(view):
            count = self.readinto(view[done:])
            if not count:
                raise MismatchError(
                    f"{expected.path} ends early: {expected.by} lists {expected.size} bytes."
                )
            done += count

    def readinto(self, view: memoryview) -> int:
        """Put the next bytes into ``view`` and return how many; 0 at the end."""
        if not self._segment and self._stream is None:
            self._next_source()
        if self._segment:
            count = min(len(self._segment), len(view))
            view[:count] = self._segment[:count]
            self._segment = self._segment[count:]
        else:
            assert self._stream is not None
            count = self._stream.readinto(view)
            self.fetched += count
        if len(self.head) < HEAD:
            self.head += bytes(view[: min(count, HEAD - len(self.head))])
        return count

    def _next_source(self) -> None:
        """Take up the next stored segment, or open upstream where the last whole one ended."""
        size, digest = next(self._segments, (0, ""))
        plain = self._load(size, Blake3Hex(digest)) if size else None
        if plain is None:
            self._opened = self._open_at(self._at)
            self._stream = self._opened.__enter__()
            return
        self._at += size
        self._segment = plain.data

    def _load(self, size: int, digest: Blake3Hex) -> Bytes | None:
        for pack, entry in self._hints.locate(digest):
            if entry.size != size:
                continue  # the worklog is damaged
            try:
                out = np.empty(size, np.uint8)
                self._archive.pack(pack).read(entry, size, out)
            except DamageError:
                continue
            self.resumed[digest] = entry.stored
            self.resumed_bytes += size
            return out
        return None
