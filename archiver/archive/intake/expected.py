"""What upstream says of a file before it comes, and how its bytes come."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Literal, Protocol

import msgspec


class Expected(msgspec.Struct, frozen=True):
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
        """Put the next bytes into ``buffer``; 0 at the end."""


OpenAt = Callable[[int], AbstractContextManager[Stream]]
"""Opens a file's bytes from an offset on."""
