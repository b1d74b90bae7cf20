"""What an audit reads this time, in which order, and when it has read enough."""

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

    from archiver.archive.check.history import Proofs
    from archiver.archive.check.packs import ExpectedPack
    from archiver.archive.policy import Level
    from archiver.archive.seals import Snapshot


Thing = TypeVar("Thing")


class Limits(msgspec.Struct, frozen=True):
    """How much one run reads; None: no limit.

    Attributes:
        seconds: Nothing more is begun after so many.
        size: At most so many bytes; the first thing is read whatever its size.
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
        """Whether something of so many bytes may be begun; it then counts as read."""
        with self._lock:
            late = self._end is not None and time.monotonic() >= self._end
            dear = self._left is not None and self._begun and size > self._left
            if late or dear:
                return False
            self._begun = True
            self._left = None if self._left is None else self._left - size
            return True


def _lot(seed: str, digest: str) -> str:
    return blake3_hex(f"{seed}\n{digest}".encode())


class Schedule:
    """Chooses what is read: what was proven longest ago first, what never was before all else."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._since = None if limits.age is None else utc_before(limits.age)
        self._budget = Budget(limits)

    def wanting(self, things: Iterable[Thing], last: Callable[[Thing], str]) -> list[Thing]:
        """The things that have no recent proof, by ``last``, in the order in which they are read."""
        proven = [(last(one), one) for one in things]
        due = [one for one in proven if self._since is None or one[0] < self._since]
        return [one for _, one in sorted(due, key=lambda pair: pair[0])]

    def drawn(self, wanting: list[Thing], digest: Callable[[Thing], str]) -> list[Thing]:
        """Those of them that are read this time at most: all, or a random part in the same order.

        It is drawn as ``docs/format.md``, 8, says, so that anybody can draw it again.
        """
        if self._limits.share is None:
            return wanting
        count = math.ceil(len(wanting) * self._limits.share)
        lots = {at: _lot(self._limits.seed, digest(one)) for at, one in enumerate(wanting)}
        chosen = set(sorted(lots, key=lambda at: lots[at])[:count])
        return [one for at, one in enumerate(wanting) if at in chosen]

    def affordable(self, things: Iterable[Thing], size: Callable[[Thing], int]) -> Iterator[Thing]:
        """The things, for as long as there is something left of the budget."""
        return takewhile(lambda one: self.allows(size(one)), things)

    def allows(self, size: int) -> bool:
        """Whether something else of so many bytes may be begun."""
        return self._budget.allows(size)


# ---- The portions of an audit: which packs are read at a stretch, and which snapshot's files after them.


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
    """The work of an audit: snapshot by snapshot where files are asked for, else pack by pack."""
    due: list[Portion] = []
    drawn: list[Portion] = []
    if level == "files":
        known = {one.pack: one for one in packs}
        wanting = schedule.wanting(snapshots, lambda one: _last(one, proofs))
        due = [_of_snapshot(one, known) for one in wanting]
        drawn = [_of_snapshot(one, known) for one in schedule.drawn(wanting, lambda one: one.id)]
        needed = {pack for one in snapshots for pack, _ in one.seal.packs}
        packs = [one for one in packs if one.pack not in needed]
    rest = schedule.wanting(packs, lambda one: proofs.pack(one.pack, level))
    return Portions(
        [*due, Portion(rest)], [*drawn, Portion(schedule.drawn(rest, lambda one: one.pack))]
    )


def _last(snapshot: Snapshot, proofs: Proofs) -> str:
    """When all files of a snapshot were last made; never, if a pack of it was found damaged since."""
    broken = any(proofs.damaged(pack) for pack, _ in snapshot.seal.packs)
    return "" if broken else proofs.snapshot(snapshot.id)


def _of_snapshot(snapshot: Snapshot, known: dict[str, ExpectedPack]) -> Portion:
    return Portion([known[pack] for pack, _ in snapshot.seal.packs], snapshot)
