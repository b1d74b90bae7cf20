"""What an audit reads this time, in which order, and when it has read enough.

What was proven longest ago comes first, and what never was before all else. Packs are read pack by pack, or
snapshot by snapshot where files are made, too; each such stretch is a portion.
"""

from __future__ import annotations

import math
import threading
import time
from itertools import takewhile
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import msgspec

from archiver.digest import blake3_hex
from archiver.text import utc_before

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from archiver.archive.check.pack_reading import ExpectedPack
    from archiver.archive.check.proofs import Proofs
    from archiver.archive.policy import Level
    from archiver.archive.seals import Snapshot


Item = TypeVar("Item")


class Limits(msgspec.Struct, frozen=True):
    """How much one run reads; None: no limit.

    Attributes:
        seconds: Nothing more is begun after so many.
        size: At most so many bytes; the first pack or file is read whatever its size.
        age: Only what was not proven within so many seconds.
        share: Only so large a random part of the packs, more than 0 and at most 1.
        seed: What that part is drawn with: the same seed draws the same of the same packs.
    """

    seconds: float | None = None
    size: int | None = None
    age: float | None = None
    share: float | None = None
    seed: str = ""


UNLIMITED: Final = Limits()


class Budget:
    """What is left of a run's limits; several threads may share it."""

    def __init__(self, limits: Limits) -> None:
        self._end = None if limits.seconds is None else time.monotonic() + limits.seconds
        self._left = limits.size
        self._begun = False
        self._lock = threading.Lock()

    def allows(self, size: int) -> bool:
        """Return whether something of so many bytes may be begun; it then counts as read."""
        with self._lock:
            late = self._end is not None and time.monotonic() >= self._end
            too_large = self._left is not None and self._begun and size > self._left
            if late or too_large:
                return False
            self._begun = True
            self._left = None if self._left is None else self._left - size
            return True


class Schedule:
    """Chooses what is read."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._since = None if limits.age is None else utc_before(limits.age)
        self._budget = Budget(limits)

    def due(self, items: Iterable[Item], last: Callable[[Item], str]) -> list[Item]:
        """Return the items that have no recent proof, by ``last``, in the order in which they are read."""
        proofs = [(last(item), item) for item in items]
        old = [pair for pair in proofs if self._since is None or pair[0] < self._since]
        return [item for _, item in sorted(old, key=lambda pair: pair[0])]

    def drawn(self, due: list[Item], digest: Callable[[Item], str]) -> list[Item]:
        """Return those of them that are read this time at most: all, or a random part in the same order.

        It is drawn as ``docs/format.md``, annex A.7, says, so that anybody can draw it again.
        """
        if self._limits.share is None:
            return due
        count = math.ceil(len(due) * self._limits.share)
        lots = [blake3_hex(f"{self._limits.seed}\n{digest(item)}".encode()) for item in due]
        chosen = set(sorted(range(len(due)), key=lots.__getitem__)[:count])
        return [item for at, item in enumerate(due) if at in chosen]

    def affordable(self, items: Iterable[Item], size: Callable[[Item], int]) -> Iterator[Item]:
        """Return the items, for as long as there is something left of the budget."""
        return takewhile(lambda item: self.allows(size(item)), items)

    def allows(self, size: int) -> bool:
        """Return whether something else of so many bytes may be begun."""
        return self._budget.allows(size)


# ---- portions


class Portion(NamedTuple):
    """Packs, and the snapshot whose files are made once they were read, if any."""

    packs: list[ExpectedPack]
    snapshot: Snapshot | None = None


class Portions(NamedTuple):
    """All that has no recent proof, and what of it this run may read."""

    due: list[Portion]
    drawn: list[Portion]


def portions_of(
    level: Level,
    schedule: Schedule,
    proofs: Proofs,
    packs: list[ExpectedPack],
    snapshots: list[Snapshot],
) -> Portions:
    """Return the work of an audit: snapshot by snapshot where files are made, else pack by pack."""
    due: list[Portion] = []
    drawn: list[Portion] = []
    if level == "files":
        by_digest = {pack.pack: pack for pack in packs}

        def portion(snapshot: Snapshot) -> Portion:
            return Portion([by_digest[pack] for pack, _ in snapshot.seal.packs], snapshot)

        old = schedule.due(snapshots, lambda snapshot: _files_proven(snapshot, proofs))
        due = [portion(snapshot) for snapshot in old]
        chosen = schedule.drawn(old, lambda snapshot: snapshot.id)
        drawn = [portion(snapshot) for snapshot in chosen]
        needed = {pack for snapshot in snapshots for pack, _ in snapshot.seal.packs}
        packs = [pack for pack in packs if pack.pack not in needed]
    rest = schedule.due(packs, lambda pack: proofs.pack(pack.pack, level))
    rest_drawn = schedule.drawn(rest, lambda pack: pack.pack)
    return Portions([*due, Portion(rest)], [*drawn, Portion(rest_drawn)])


def _files_proven(snapshot: Snapshot, proofs: Proofs) -> str:
    """Return when all files of a snapshot were last made; ``""`` if a pack was found damaged since."""
    damaged = any(proofs.damaged(pack) for pack, _ in snapshot.seal.packs)
    return "" if damaged else proofs.snapshot(snapshot.id)
