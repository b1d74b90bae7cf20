"""Snapshots whose seal is lost, by their manifests: what they hold can still be read.

A manifest is proven by its name, so its files can be made of whatever packs have their objects. Lost with
the seal is who vouched for the files beyond what the manifest tells; and which patterns chose them, unless
the journal tells it, or another snapshot has all files of the revision, and they are the same.

A manifest without a seal may also be what an interrupted run left, or what was forgotten. The journal
tells these apart: only of a revision that was sealed, and not taken out of use, the seal is lost. Where
the journal itself has gaps, a revision that it says nothing of is not withheld.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from archiver.archive import layout
from archiver.archive.chain import Chain
from archiver.archive.events import Sealed
from archiver.archive.manifests import manifest_ref, tensors_of
from archiver.archive.records import Seal, Selection, Totals
from archiver.archive.seals import ID_DIGITS, Snapshot, is_seal_id
from archiver.digest import Blake3Hex, blake3_hex
from archiver.errors import DamageError, NotUnderstoodError, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from archiver.archive.journal import Journal
    from archiver.archive.manifests import Manifests
    from archiver.archive.packs.index import ObjectIndex
    from archiver.archive.records import ArchiveInfo, Manifest
    from archiver.archive.seals import Seals
    from archiver.storage.store import Store


class _LostSeals(NamedTuple):
    """Which seals the journal misses, which it ever told of, and whether it has gaps."""

    seals: dict[str, tuple[str, str]]
    """Id of a seal -> its repository, in lowercase, and its revision."""
    known: frozenset[tuple[str, str]]
    gaps: bool
    selections: dict[str, Selection]
    """Digest of a lost seal's manifest -> which files it holds, as far as the journal tells."""

    @classmethod
    def of(cls, journal: Journal, present: set[str]) -> _LostSeals:
        damaged: list[str] = []
        events = list(journal.events(lambda name, _error: damaged.append(name)))
        chain = Chain(events)
        events_of_lost = [event for event in chain.sealed() if event.snapshot not in present]
        lost = {
            event.snapshot: (event.repository.casefold(), event.revision)
            for event in events_of_lost
        }
        selections = {
            event.detail.manifest: event.detail.selection
            for event in events_of_lost
            if isinstance(event.detail, Sealed) and event.detail.selection is not None
        }
        known = frozenset(
            (event.repository.casefold(), event.revision)
            for _, event in events
            if isinstance(event.detail, Sealed)
        )
        gaps = not events or bool(damaged) or next(chain.missing(), None) is not None
        return cls(lost, known, gaps, selections)

    def may_be(self, key: tuple[str, str]) -> bool:
        """Return whether a seal of this repository and revision is lost, as far as can be known."""
        return key in self.seals.values() or (self.gaps and key not in self.known)


class UnsealedSnapshots:
    """The manifests of an archive that no whole seal names, as snapshots whose id is their digest."""

    def __init__(
        self,
        store: Store,
        info: ArchiveInfo,
        seals: Seals,
        manifests: Manifests,
        journal: Journal,
        objects: Callable[[], ObjectIndex],
    ) -> None:
        """``objects`` gives the index of all packs; it is called only for a manifest that is served."""
        self._store = store
        self._info = info
        self._seals = seals
        self._manifests = manifests
        self._journal = journal
        self._objects = objects

    def of(self, repository: str, digits: str) -> list[Snapshot]:
        """Return those that a reference means: by the beginning of a revision, or of their lost seal's id.

        ``repository`` may be the beginning of a seal's id instead.
        """
        by_id = repository if is_seal_id(repository, digits) else digits
        of_seal: set[tuple[str, str]] = set()

        def is_meant(key: tuple[str, str], lost: _LostSeals) -> bool:
            if len(by_id) >= ID_DIGITS and not of_seal:
                of_seal.update(of for seal, of in lost.seals.items() if seal.startswith(by_id))
            same = key[0] == repository.casefold()
            by_revision = same and key[1].startswith(digits)
            return by_revision or (key in of_seal and (same or by_id == repository))

        return list(self._matching(is_meant))

    def all(self) -> Iterator[Snapshot]:
        """Yield all of them."""
        return self._matching(lambda _key, _lost: True)

    def _matching(
        self, is_meant: Callable[[tuple[str, str], _LostSeals], bool]
    ) -> Iterator[Snapshot]:
        present: set[str] = set()
        newer: set[str] = set()

        def note(name: str, error: DamageError) -> None:
            document = layout.document_of(name)
            if isinstance(error, (NotUnderstoodError, UnreadableError)) and document:
                # It is there, and nothing stands in for it, nor for another seal of its revision.
                present.add(document.digest)
                newer.add(document.revision)

        sealed = list(self._seals.all(note))
        if self._store.passed_over():
            return  # where a folder may not be listed, no seal can be called lost
        present.update(snapshot.id for snapshot in sealed)
        named = {snapshot.seal.manifest.blake3 for snapshot in sealed}
        documents = (
            (name, layout.document_of(name)) for name in self._store.list(layout.MANIFESTS)
        )
        names = [name for name, document in documents if document and document.digest not in named]
        # The journal only where it is asked for: it may be long.
        lost = (
            _LostSeals.of(self._journal, present)
            if names
            else _LostSeals({}, frozenset(), False, {})
        )
        for name in names:
            try:
                manifest, plain = self._manifests.named(name)
            except DamageError:
                continue  # an audit says so
            key = (manifest.source.repository.casefold(), manifest.source.revision)
            if key[1] not in newer and lost.may_be(key) and is_meant(key, lost):
                selection = lost.selections.get(blake3_hex(plain))
                if selection is None:
                    selection = self._selection_by_others(manifest, sealed)
                yield self._snapshot(manifest, plain, selection)

    def _selection_by_others(self, manifest: Manifest, sealed: Iterable[Snapshot]) -> Selection:
        """Return which files a manifest lists, by another snapshot of all files of its revision.

        Without one that lists the same paths nobody knows: patterns may have chosen them.
        """
        source, paths = manifest.source, [entry.path for entry in manifest.files]
        for snapshot in sealed:
            seal = snapshot.seal
            same = snapshot.is_of(source.repository) and seal.revision == source.revision
            if same and seal.selection.whole and seal.totals.files == len(paths):
                with suppress(DamageError):
                    if [file.path for file in self._manifests.facts(seal).files] == paths:
                        return Selection()
        return Selection(completeness="unknown")

    def _snapshot(self, manifest: Manifest, plain: bytes, selection: Selection) -> Snapshot:
        objects = self._objects()
        packs: dict[str, int] = {}
        stored: dict[str, int] = {}
        for entry in manifest.files:
            for _, digest in entry.segments:
                place = objects.find(digest)
                if digest not in stored and place is not None:
                    stored[digest] = place[1].stored
                    if place[0] not in packs:
                        packs[place[0]] = self._store.stat(layout.pack_name(place[0])) or 0
        source = manifest.source
        seal = Seal(
            archive=self._info.archive,
            repository=source.repository,
            revision=source.revision,
            manifest=manifest_ref(plain),
            packs=tuple(sorted(packs.items())),
            totals=Totals(
                files=len(manifest.files),
                bytes=sum(entry.size for entry in manifest.files),
                objects=len(stored),
                stored=sum(stored.values()),
                tensors=sum(len(tensors_of(entry)) for entry in manifest.files),
            ),
            sealed="",
            tool="",
            selection=selection,
            committed=source.committed,
        )
        return Snapshot(Blake3Hex(seal.manifest.blake3), seal)
