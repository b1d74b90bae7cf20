"""What is needed, and what may go: decided by the whole journal and every seal, or nothing is deleted.

A file that no seal and no writer needs is condemned; what is condemned, the journal says. Of a pack that
may go, what it holds is first proven to come out of the packs that stay.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from archiver.archive import layout
from archiver.archive.advice import command, moving
from archiver.archive.bundles.ledger import Ledger
from archiver.archive.bundles.volumes import VolumeSet
from archiver.archive.chain import Chain
from archiver.archive.check.heads import ReplacementSeals
from archiver.archive.check.impact import absent_objects
from archiver.archive.events import BundleImported, Malformed, Remembered, Sealed
from archiver.archive.foreign import foreign_files
from archiver.archive.journal import policy_of
from archiver.archive.manifests import objects_of
from archiver.archive.places import forgotten
from archiver.archive.publish import announced_needs, closure_names
from archiver.codec.segment import SEGMENT_MAX
from archiver.errors import ArchiverError, DamageError, PolicyError, skip_damaged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from archiver.archive.archive import Archive
    from archiver.archive.check.impact import Digests
    from archiver.archive.events import Event
    from archiver.archive.packs.format import IndexEntry
    from archiver.archive.seals import Snapshot


History = list[tuple[str, "Event"]]
"""Every event with its id, oldest first."""

_NEEDING: Final = (Sealed, Remembered)
"""The events that say which seals there should be; without one that takes a seal away, more is kept."""

_PROBLEMS_SHOWN: Final = 8
_BATCH: Final = 2000
"""Names in one event, so that none becomes too large."""


def deletable_history(archive: Archive) -> History:
    """Return the whole journal, of an archive that allows deleting.

    Raises:
        DamageError: An event is damaged or missing: what it said, "append only" perhaps, is not known.
        PolicyError: The policy is append-only; or it, or an event of what is needed, cannot be understood.
    """
    problems: list[str] = []
    history = list(archive.events(lambda _name, error: problems.append(error.message)))
    if not problems:
        problems = [f"The event {digest} is missing." for digest, _ in Chain(history).missing()]
    require_whole(archive, problems)
    for digest, event in history:
        if isinstance(event.detail, Malformed) and event.type in _NEEDING:
            # A newer writer's, perhaps: a seal that it tells of, and that is gone, would not be missed.
            raise PolicyError(
                f"What the event {digest[:16]} ({event.event}) says of seals cannot be understood. Whether "
                "anything may be deleted is not known.",
                hint="Nothing was deleted, and nothing can be with this version.",
            )
    try:
        append_only = policy_of(history).append_only
    except DamageError as error:
        raise PolicyError(
            f"{error.message} Whether anything may be deleted is not known.",
            hint="Nothing was deleted, and nothing can be with this version.",
        ) from error
    if append_only:
        raise PolicyError(
            "The policy of this archive is append-only: nothing is ever deleted.",
            hint="Copy what you want to keep into a new archive, if this one is to be smaller.",
        )
    return history


def require_whole(archive: Archive, problems: Sequence[str]) -> None:
    """Raise DamageError that says what the archive lacks, if there are such ``problems``."""
    if not problems:
        return
    shown = " ".join(problems[:_PROBLEMS_SHOWN])
    if len(problems) > _PROBLEMS_SHOWN:
        shown += f" And {len(problems) - _PROBLEMS_SHOWN} more."
    place = archive.store.address
    raise DamageError(
        f"The archive is not whole, so what it needs is not known: {shown}",
        hint=f"Nothing was deleted. Run {command('audit', place)}, then {command('repair', place)}.",
    )


def lost_seals(archive: Archive, history: History, live: Iterable[Snapshot]) -> Iterator[str]:
    """Yield a sentence for each seal that the journal names, that is gone, and that nobody took away."""
    chain, snapshots = Chain(history), list(live)
    present = {snapshot.id for snapshot in snapshots}
    replacements = ReplacementSeals(archive, snapshots)
    place, deleted = archive.store.address, chain.deleted()
    for event in chain.sealed():
        if event.snapshot not in present and not replacements.exist_for(event):
            title = f"{event.repository}@{event.revision[:12]}"
            if event.snapshot in deleted:
                yield (
                    f"The seal of {title} was pruned, and is wanted again: bring it with a copy, a "
                    f"mirror or a repair, or run {command('forget', place, title)}."
                )
            else:
                yield f"The seal of {title} is lost."
    for file in foreign_files(archive.store, layout.SNAPSHOTS):
        if file.stops_prune:
            move = moving(archive.store.address, file.name, file.own_name)
            yield (
                f"{file.name} is, or may be, a seal under a name that is not its own. If nothing else "
                f"is to be done about it: {move}."
            )


def batches(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the names in lists that an event has room for."""
    for at in range(0, len(names), _BATCH):
        yield tuple(names[at : at + _BATCH])


class Needs:
    """The names of files that must stay: what seals stand on, and what writers are about to seal."""

    def __init__(self, snapshots: Iterable[Snapshot], announced: Iterable[str] = ()) -> None:
        self.snapshots = tuple(snapshots)
        names = set(announced)
        for snapshot in self.snapshots:
            names.update(closure_names(snapshot.seal))
            names.add(snapshot.name)
        self.names = frozenset(names)

    @cached_property
    def _digests(self) -> frozenset[str | None]:
        return frozenset(map(layout.digest_of, self.names))

    def cover(self, name: str) -> bool:
        """Return whether the file is needed, or is the parity or a signature of one that is."""
        digest = accompanied(name)
        return name in self.names or (digest is not None and digest in self._digests)


def accompanied(name: str) -> str | None:
    """Return the digest of the file that a sidecar or signature belongs to; None if it is neither."""
    signature = layout.signature_of(name)
    return signature.digest if signature else layout.parity_of(name)


def needed_now(archive: Archive) -> Needs:
    """Return what seals and writers need at this moment; raise DamageError if some of it cannot be read.

    Intents are read before seals: a writer takes its intent away only after its seal is there.
    """
    announced = announced_needs(archive.store)
    awaited = list(
        _awaited(archive)
    )  # before the seals too: an import publishes one, and then forgets
    problems: list[str] = []
    snapshots = list(archive.snapshots(lambda _name, error: problems.append(error.message)))
    require_whole(archive, problems)
    return Needs(snapshots, (*awaited, *(name for names in announced.values() for name in names)))


def _awaited(archive: Archive) -> Iterator[str]:
    """Yield the names of what came in from bundles for snapshots that wait for further volumes.

    Raise DamageError if it is not known what a bundle brings.
    """
    ledger = Ledger(archive.store)
    received = ledger.received()
    if not received:
        return
    settled = {layout.digest_of(name) for name in archive.store.list(layout.SNAPSHOTS)}
    history = list(archive.events(skip_damaged))
    settled |= forgotten(history)
    for _, event in history:
        if isinstance(event.detail, BundleImported):
            settled.update(event.detail.snapshots)  # a repair may have sealed it anew since
    for each in received:
        bundle = ledger.bundle(each)
        if bundle is None:
            name = ledger.note_of(each)
            raise DamageError(
                f"{name} cannot be read: which packs wait for further volumes of that bundle is not known.",
                hint="Nothing was deleted. Take that file away, and import any volume of the bundle again; "
                "or, if nothing of it is to come any more, take it away alone.",
                path=name,
            )
        if {snapshot.id for snapshot in bundle.snapshots} <= settled:
            continue
        yield from map(layout.pack_name, bundle.packs())
        # An incremental bundle stands on packs that another one brought.
        documents = VolumeSet([ledger.waiting(each)]).archive(bundle.archive, bundle.tool)
        for snapshot in documents.snapshots(skip_damaged):
            yield from closure_names(snapshot.seal)


class LiveObjects:
    """The objects that the manifests of snapshots name, and the packs of their seals."""

    def __init__(self, archive: Archive, snapshots: Iterable[Snapshot]) -> None:
        """Read every manifest; DamageError at the first that cannot be read."""
        self._archive = archive
        self._named: Digests = np.empty(0, "S32")
        packs: set[str] = set()
        for snapshot in snapshots:
            packs.update(pack for pack, _ in snapshot.seal.packs)
            manifest = archive.manifest_file(snapshot.seal)
            digests = objects_of(snapshot.seal, manifest)
            if digests:
                new = np.frombuffer(bytes.fromhex("".join(digests)), "S32")
                self._named = np.union1d(self._named, new)
        self._packs = sorted(packs)

    def _unnamed(self, entries: Iterable[IndexEntry]) -> set[str]:
        return absent_objects({entry.blake3 for entry in entries}, self._named)

    def unneeded_bytes(self) -> int:
        """Return how many stored bytes in the packs that stay no manifest names."""
        total = 0
        for pack in self._packs:
            entries = _entries(self._archive, pack)
            unnamed = self._unnamed(entries)
            total += sum(entry.stored for entry in entries if entry.blake3 in unnamed)
        return total

    def only_in(self, pack: str) -> set[str]:
        """Return the named objects of a pack that come out whole of none of the packs that seals name."""
        entries = _entries(self._archive, pack)
        left = {entry.blake3 for entry in entries} - self._unnamed(entries)
        for other in self._packs:
            for entry in _entries(self._archive, other) if left and other != pack else ():
                if entry.blake3 in left and self._comes_out(other, entry):
                    left.discard(entry.blake3)
        return left

    def _comes_out(self, pack: str, entry: IndexEntry) -> bool:
        if not 0 < entry.size <= SEGMENT_MAX:
            return False
        try:
            self._archive.pack(pack).read(entry, entry.size)
        except ArchiverError:
            return False
        return True


def _entries(archive: Archive, pack: str) -> list[IndexEntry]:
    """Return what a pack lists, or what its frames hold; nothing if it cannot be read."""
    try:
        reader = archive.pack(pack)
        try:
            return list(reader.index())
        except DamageError:
            return list(reader.walk())
    except ArchiverError:
        return []
