"""The last few segments that were needed in part, decoded."""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import numpy as np

from archiver.codec.segment import SEGMENT_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.archive.packs.index import ObjectIndex
    from archiver.buffers import Bytes

_SLOTS: Final = 2
"""Of 16 MiB each: 32 MiB in all."""
_Key = tuple[str, int]
"""A segment's digest and size."""


class _Slot:
    """A buffer that holds one decoded segment, or is about to."""

    def __init__(self) -> None:
        self.buffer: Bytes = np.empty(SEGMENT_MAX, np.uint8)
        self.filling = threading.Lock()
        self.filled = False
        self.users = 0


class SegmentCache:
    """Decodes segments of which a part is needed; threads may share it.

    Rows of a tensor are asked for one after another, and many lie in one segment. Buffers are kept
    and used again; a thread waits while all of them are in use.
    """

    def __init__(self, packs: ObjectIndex) -> None:
        self._packs = packs
        self._changed = threading.Condition()
        self._free = [_Slot() for _ in range(_SLOTS)]
        self._held: OrderedDict[_Key, _Slot] = OrderedDict()
        """The one that was used last comes last."""

    def read(self, digest: str, size: int, begin: int, out: Bytes) -> None:
        """Fill ``out`` with a segment's bytes from ``begin`` on; errors as for ``ObjectIndex.read``."""
        with self._slot((digest, size)) as slot:
            with slot.filling:
                if not slot.filled:
                    self._packs.read(digest, size, slot.buffer[:size])
                    slot.filled = True
            out[:] = slot.buffer[begin : begin + len(out)]

    @contextmanager
    def _slot(self, key: _Key) -> Iterator[_Slot]:
        """The slot of a segment; nobody takes it away meanwhile."""
        slot = self._take(key)
        try:
            yield slot
        finally:
            with self._changed:
                slot.users -= 1
                self._changed.notify_all()

    def _take(self, key: _Key) -> _Slot:
        with self._changed:
            slot = self._held.get(key) or self._vacant()
            while slot is None:
                self._changed.wait()
                slot = self._held.get(key) or self._vacant()
            self._held[key] = slot
            self._held.move_to_end(key)
            slot.users += 1
            return slot

    def _vacant(self) -> _Slot | None:
        """A slot that nobody uses, the one whose last use is longest ago; None if there is none."""
        if self._free:
            return self._free.pop()
        oldest = next((key for key, slot in self._held.items() if not slot.users), None)
        if oldest is None:
            return None
        slot = self._held.pop(oldest)
        slot.filled = False
        return slot
