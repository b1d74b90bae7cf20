"""Which file goes on which volume: arithmetic only, and always the same for the same files.

A file that fits lies whole on one volume, with what belongs beside it. Files are taken in their order and
each goes on the first of the last volumes that has room, so that a snapshot's packs lie near each other.
One that is larger than a volume is cut into pieces, the first of which fills up what is begun.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.archive.bundles.records import VOLUMES_MAX, piece_name
from archiver.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CLUSTER: Final = 32 << 10
"""Bytes that a filesystem gives a file at least, and multiples of which it takes: FAT32's usual most."""
LARGE_CLUSTER: Final = 128 << 10
"""The same of the exFAT of large media,"""
LARGE_VOLUME: Final = 32 << 30
"""which are those from so many bytes on."""
_OPEN: Final = 8
"""Volumes that are still looked at for a file that fits."""
_PIECE_LEAST: Final = 1 << 20
"""A gap that is smaller stays empty: many small pieces help nobody."""


class Item(NamedTuple):
    """A file to carry: name and size in bytes."""

    name: str
    size: int


class Placed(NamedTuple):
    """A file, or a piece of one, on a volume; ``item`` is the whole file."""

    volume: int
    name: str
    size: int
    item: Item
    offset: int = 0


def cluster_of(volume_size: int) -> int:
    """Return what a file's size is rounded up to on a volume of so many bytes."""
    return CLUSTER if volume_size < LARGE_VOLUME else LARGE_CLUSTER


def room_for(size: int, cluster: int) -> int:
    """Return the room that a file of so many bytes takes, its entry in a folder included."""
    return -(-size // cluster) * cluster + 512


def plan_volumes(
    groups: Iterable[Sequence[Item]], capacity: int, cluster: int, taken: int = 0
) -> tuple[Placed, ...]:
    """Return where every file goes; the files of a group lie on one volume, if all of it fits on one.

    ``capacity`` is what a volume has for them, of which the first one's is ``taken`` in part. Raise
    UsageError if there would be too many volumes.
    """
    return _Planner(capacity, cluster, taken).plan(groups)


class _Planner:
    """The room that is left on each volume."""

    def __init__(self, capacity: int, cluster: int, taken: int) -> None:
        self._capacity = capacity
        self._cluster = cluster
        self._left: list[int] = [capacity - taken] if taken else []
        self._placed: list[Placed] = []

    def plan(self, groups: Iterable[Sequence[Item]]) -> tuple[Placed, ...]:
        for group in groups:
            together = sum(room_for(item.size, self._cluster) for item in group)
            if together <= self._capacity:
                volume = self._volume_with(together)
                for item in group:
                    self._put(volume, item.name, item.size, item, 0)
            else:
                for item in group:
                    self._place(item)
        return tuple(self._placed)

    def _place(self, item: Item) -> None:
        room = room_for(item.size, self._cluster)
        if room <= self._capacity:
            self._put(self._volume_with(room), item.name, item.size, item, 0)
        else:
            self._cut(item)

    def _cut(self, item: Item) -> None:
        """Place the pieces of an item that no volume holds: all but the last fill theirs."""
        cuts: list[tuple[int, int, int]] = []  # volume, offset, size
        at, volume = 0, max(len(self._left), 1)
        while at < item.size:
            self._begin(volume)
            most = (self._left[volume - 1] - 512) // self._cluster * self._cluster
            if most >= min(_PIECE_LEAST, item.size - at):
                cuts.append((volume, at, min(most, item.size - at)))
                at += cuts[-1][2]
            volume += 1
        for number, (on, offset, size) in enumerate(cuts, 1):
            self._put(on, piece_name(item.name, number, len(cuts)), size, item, offset)

    def _volume_with(self, room: int) -> int:
        """Return the first of the last volumes that has so much room, or a new one."""
        first = max(len(self._left) - _OPEN, 0)
        for number in range(first, len(self._left)):
            if self._left[number] >= room:
                return number + 1
        self._begin(len(self._left) + 1)
        return len(self._left)

    def _begin(self, volume: int) -> None:
        while len(self._left) < volume:
            self._left.append(self._capacity)
        if volume > VOLUMES_MAX:
            raise UsageError(
                f"That would be more than {VOLUMES_MAX:,} volumes.", hint="Take larger volumes."
            )

    def _put(self, volume: int, name: str, size: int, item: Item, offset: int) -> None:
        self._left[volume - 1] -= room_for(size, self._cluster)
        self._placed.append(Placed(volume, name, size, item, offset))
