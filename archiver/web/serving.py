"""What every request needs: the archive, what it holds, opened snapshots, the cache, the threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from archiver.archive.serving.proof import ProofBook
from archiver.archive.serving.served_file import ServedSnapshot
from archiver.web.holdings import Holdings
from archiver.web.threads import Threads

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.archive.seals import Snapshot
    from archiver.archive.serving.segment_cache import SegmentCache
    from archiver.archive.serving.served_file import Healer

SNAPSHOTS_OPEN: Final = 16
"""Snapshots whose manifests are kept in memory at most,"""
SEGMENTS_OPEN: Final = 400_000
"""and their segments and files together; one alone may have more."""


@dataclass(frozen=True)
class Options:
    """How an archive is served.

    Attributes:
        token: What a client must show; ``""``: nobody is asked for one.
        hosts: Names by which this server may be called, in lowercase and without a port.
        connections: How many may be open.
    """

    token: str = ""
    hosts: frozenset[str] = frozenset({"localhost"})
    connections: int = 256


@dataclass(frozen=True)
class Serving:
    """An archive that is being served."""

    archive: Archive
    cache: SegmentCache
    options: Options = field(default_factory=Options)
    healer: Healer | None = None
    threads: Threads = field(init=False)
    holdings: Holdings = field(init=False)
    snapshots: OpenSnapshots = field(init=False)
    proofs: ProofBook = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "threads", Threads(self.options.connections))
        object.__setattr__(self, "holdings", Holdings(self.archive))
        object.__setattr__(self, "snapshots", OpenSnapshots(self))
        object.__setattr__(self, "proofs", ProofBook(self.archive))


class OpenSnapshots:
    """Snapshots as they are read, opened once and shared; the least used is let go first."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._open: OrderedDict[str, ServedSnapshot] = OrderedDict()
        self._opening: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, snapshot: Snapshot) -> ServedSnapshot:
        """Return an opened snapshot; raise DamageError if its manifest is whole nowhere."""
        with self._lock:
            known = self._known(snapshot.id)
            if known is not None:
                return known
            opening = self._opening.setdefault(snapshot.id, threading.Lock())
        with opening:
            with self._lock:
                known = self._known(snapshot.id)
            if known is not None:
                return known
            try:
                serving = self._serving
                opened = ServedSnapshot.open(
                    serving.archive, snapshot, serving.cache, serving.healer
                )
                with self._lock:
                    self._open[snapshot.id] = opened
                    self._let_go()
            finally:
                with self._lock:
                    self._opening.pop(snapshot.id, None)
        return opened

    def _known(self, snapshot: str) -> ServedSnapshot | None:
        known = self._open.get(snapshot)
        if known is not None:
            self._open.move_to_end(snapshot)
        return known

    def _let_go(self) -> None:
        def weight() -> int:
            return sum(
                len(entry.segments) + 1
                for opened in self._open.values()
                for entry in opened.manifest.files
            )

        while len(self._open) > 1 and (
            len(self._open) > SNAPSHOTS_OPEN or weight() > SEGMENTS_OPEN
        ):
            self._open.popitem(last=False)
