"""What every request needs: the archive, what it holds, opened snapshots, the cache, the threads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from archiver.archive.serving.proof import ProofBook
from archiver.archive.serving.served_file import OpenSnapshots
from archiver.web.holdings import Holdings
from archiver.web.threads import Threads

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.archive.serving.segment_cache import SegmentCache
    from archiver.archive.serving.served_file import Healer


@dataclass(frozen=True)
class Options:
    """How an archive is served.

    Attributes:
        token: What a client must show; ``""``: nobody is asked for one.
        hosts: Names by which this server may be called, in lowercase and without a port.
        connections: How many may be open.
        shows_paths: Whether pages may say where on its machine the archive lies.
    """

    token: str = ""
    hosts: frozenset[str] = frozenset({"localhost"})
    connections: int = 256
    shows_paths: bool = True


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
        opened = OpenSnapshots(self.archive, self.cache, self.healer)
        object.__setattr__(self, "snapshots", opened)
        object.__setattr__(self, "proofs", ProofBook(self.archive))
