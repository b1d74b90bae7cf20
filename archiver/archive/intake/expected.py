"""What upstream says of a file before it comes, and how its bytes come."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec


class Expected(msgspec.Struct, frozen=True):
    """What upstream says of a file; empty strings where it says nothing."""

    path: str
    size: int
    sha256: str = ""
    oid: str = ""
    lfs: bool = False

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
