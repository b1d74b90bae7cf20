"""What a reading of one pack showed, however deep it went."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

Advance = Callable[[int], None]
"""Told how many bytes were read; may raise to stop."""


class Fault(NamedTuple):
    """An object that does not come out, by the name it should have."""

    blake3: str
    reason: str


class PackState(msgspec.Struct, frozen=True):
    """What reading a pack showed; equal states mean that two readings agree.

    Attributes:
        blake3: Of the whole file; ``""`` if it could not be read to its end.
        archive: The archive that wrote it, by its head; ``""`` if that cannot be read.
        sound: The digests, 32 bytes each, of the objects that decode to what they are named.
        faults: The objects that do not.
        index: What is wrong with head, index or trailer; ``""`` if they agree with the frames.
        unreadable: Why the file could not be read to its end, or ``""``.
    """

    size: int
    blake3: str
    archive: str
    sound: bytes
    faults: tuple[Fault, ...]
    index: str
    unreadable: str = ""

    @property
    def objects(self) -> int:
        """How many objects there are, whole or not."""
        return len(self.sound) // 32 + len(self.faults)

    def whole(self, pack: str) -> bool:
        """Whether nothing is wrong with it, if ``pack`` is its name."""
        return self.blake3 == pack and not self.faults and not self.index
