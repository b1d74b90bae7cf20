"""What is needed now: by the seals that are there, and by the writers that are about to seal."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from archiver.archive import layout
from archiver.archive.intent import announced_needs
from archiver.archive.pruning.history import require_none
from archiver.archive.publish import closure_names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from archiver.archive.archive import Archive, Snapshot


class Needs:
    """The names of files that must stay."""

    def __init__(self, snapshots: Iterable[Snapshot], announced: Iterable[str] = ()) -> None:
        self.snapshots = tuple(snapshots)
        names = set(announced)
        for one in self.snapshots:
            names.update(closure_names(one.seal))
            names.add(one.name)
        self.names = frozenset(names)

    @cached_property
    def _digests(self) -> frozenset[str | None]:
        return frozenset(map(layout.digest_of, self.names))

    def cover(self, name: str) -> bool:
        """Whether the file is needed, or is the parity or a signature of one that is."""
        followed = followed_by(name)
        return name in self.names or (followed is not None and followed in self._digests)


def followed_by(name: str) -> str | None:
    """The digest of the file that a sidecar or signature belongs to; None if it is neither."""
    signature = layout.signature_of(name)
    return signature.digest if signature else layout.parity_of(name)


def needed_now(archive: Archive) -> Needs:
    """What seals and writers need at this moment; DamageError if some of it cannot be read.

    Intents are read before seals: a writer takes its intent away only after its seal is there.
    """
    announced = announced_needs(archive.store)
    problems: list[str] = []
    snapshots = list(archive.snapshots(lambda _name, error: problems.append(error.message)))
    require_none(archive, problems)
    return Needs(snapshots, (name for names in announced.values() for name in names))
