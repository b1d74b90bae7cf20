"""Publication: the snapshots of a bundle, once all that they need is here and proven.

What the other side's journal says is its word. Of it, this archive records again what tells which snapshots
there are and where upstream pointed; all else is kept beside it, as claims.
"""

from __future__ import annotations

from contextlib import closing, suppress
from typing import TYPE_CHECKING

import msgspec

from archiver.archive import layout
from archiver.archive.bundles.records import EVENTS_MAX, piece_of, stored_name
from archiver.archive.bundles.volumes import VolumeSet
from archiver.archive.clock import has_come
from archiver.archive.decode import FileDecoder, FileTask, Nowhere, Proof, decoder_workers
from archiver.archive.events import (
    BundleImported,
    Event,
    Gone,
    Sealed,
    Sighted,
    UpstreamChanged,
    new_event,
)
from archiver.archive.fixity import stored_right
from archiver.archive.places import forgotten, settled_place
from archiver.archive.publish import closure_names, missing_packs, sealing
from archiver.archive.quarantine import packs_for
from archiver.archive.records import MANIFEST_MAX, SEAL_MAX, canonical
from archiver.archive.signing.minisign import FILE_MAX
from archiver.errors import ArchiverError, DamageError, MismatchError, skip_damaged

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.archive.bundles.ledger import Ledger
    from archiver.archive.bundles.records import Bundle
    from archiver.archive.records import Manifest
    from archiver.archive.seals import Snapshot
    from archiver.memory import MemoryBudget
    from archiver.storage.local import LocalStore


class WaitingSnapshot(msgspec.Struct, frozen=True):
    """A snapshot of a bundle that is not whole yet.

    Attributes:
        volumes: The volumes of its bundle that have what it needs.
        elsewhere: How many packs it needs that its bundle does not carry: another bundle brought them,
            or should have.
        base: The id of the inventory that has them.
    """

    bundle: str
    title: str
    volumes: tuple[int, ...]
    elsewhere: int = 0
    base: str = ""


class Publication:
    """What came of the snapshots of all bundles of a run."""

    def __init__(self, archive: Archive, ledger: Ledger, memory: MemoryBudget) -> None:
        self._archive = archive
        self._ledger = ledger
        self._memory = memory
        self._seals = {layout.digest_of(name) for name in archive.store.list(layout.SNAPSHOTS)}
        self._proven: set[str] = set()
        """Snapshots that are here, and of which this run has decoded and hashed every file."""
        self.published: list[str] = []
        self.present: list[str] = []
        self.forgotten: list[str] = []
        self.refused: list[tuple[str, str]] = []
        self.waiting: list[WaitingSnapshot] = []
        self.events = 0
        self.claims = 0

    def is_settled(self, name: str) -> bool:
        """Return whether the archive has a seal or signature, and need not wait for it.

        A manifest waits also where the archive has one: it may be damaged there, and one of another seal is
        not read with those that wait.
        """
        if layout.is_seal(name):
            return layout.digest_of(name) in self._seals
        is_signature = layout.signature_of(name) is not None
        return is_signature and self._archive.store.stat(name) is not None

    def has_all(self, bundle: Bundle) -> bool:
        """Return whether every snapshot of a bundle is here."""
        return all(each.id in self._seals for each in bundle.snapshots)

    def has_document(self, digest: str) -> bool:
        """Return whether the archive has the seal or manifest of this digest."""
        return digest in self._seals or digest in self._manifests()

    def _manifests(self) -> set[str | None]:
        return {layout.digest_of(name) for name in self._archive.store.list(layout.MANIFESTS)}

    def is_over(self, bundle: Bundle) -> bool:
        """Return whether all of a bundle was here before this run: nothing of it is looked at again."""
        return self.has_all(bundle) and not self._ledger.waiting(bundle.id).path.exists()

    def publish(self, bundle: Bundle) -> None:
        """Publish those snapshots of a bundle that are whole, and say of the others what they need."""
        waiting = self._ledger.waiting(bundle.id)
        documents = VolumeSet([waiting]).archive(bundle.archive, bundle.tool)
        wanted = {each.id for each in bundle.snapshots}
        problems: list[tuple[str, str]] = []
        there: dict[str, Snapshot] = {
            snapshot.id: snapshot
            for snapshot in documents.snapshots(
                lambda name, error: problems.append((name, error.message))
            )
            if snapshot.id in wanted
        }
        self.refused += problems
        events = [event for _, event in self._archive.events(skip_damaged)]
        gone = forgotten(self._archive.events(skip_damaged))
        noted = {
            snapshot
            for event in events
            if isinstance(event.detail, BundleImported) and event.detail.bundle == bundle.id
            for snapshot in event.detail.snapshots
        }
        for each in bundle.snapshots:
            if each.id in self._seals:
                self.present.append(each.title)
                if each.id in there:
                    if each.id not in noted:
                        # A run died after its seal was published; or it came another way meanwhile.
                        self._prove_again(there[each.id])
                    self._record(documents, there[each.id])
            elif each.id in gone:
                self.forgotten.append(each.title)
            elif each.id not in there:
                self.waiting.append(self._lacking(bundle, each.title, None))
            else:
                self._one(bundle, documents, waiting, there[each.id])
        new = sorted((there.keys() & self._proven) - noted)
        if new:
            place = settled_place(self._archive).key
            event = new_event(BundleImported(bundle.id, bundle.archive, tuple(new), place))
            self._archive.record(event)

    def _one(
        self, bundle: Bundle, documents: Archive, waiting: LocalStore, snapshot: Snapshot
    ) -> None:
        if missing_packs(self._archive, snapshot.seal.packs):
            self.waiting.append(self._lacking(bundle, snapshot.title, snapshot))
            return
        try:
            manifest = documents.manifest_file(snapshot.seal)
        except DamageError as error:
            if waiting.stat(_waiting_name(waiting, closure_names(snapshot.seal)[0])) is None:
                self.waiting.append(self._lacking(bundle, snapshot.title, None))
            else:
                self.refused.append((snapshot.title, error.message))
            return
        try:
            self._require_agreed(snapshot, manifest)
            self._require_decodable(snapshot, manifest)
        except ArchiverError as error:
            self.refused.append((snapshot.title, error.message))
            return
        self._store(waiting, snapshot)
        self._seals.add(snapshot.id)
        self._proven.add(snapshot.id)
        self.published.append(snapshot.title)
        self._record(documents, snapshot)

    def _lacking(self, bundle: Bundle, title: str, snapshot: Snapshot | None) -> WaitingSnapshot:
        if snapshot is None:
            came = self._ledger.volumes(bundle.id)
            open_volumes = set(range(1, bundle.volumes + 1)).difference(came)
            return WaitingSnapshot(bundle.id, title, tuple(sorted(open_volumes)))
        missing = set(missing_packs(self._archive, snapshot.seal.packs))
        carried = bundle.packs()
        files = [file for file in bundle.files if layout.pack_of(stored_name(file.name)) in missing]
        # By what waits: a volume whose own list is damaged came in without being noted.
        waiting = self._ledger.waiting(bundle.id)
        volumes = {
            file.volume
            for file in files
            if not piece_of(file.name) or waiting.stat(file.name) is None
        } or {file.volume for file in files}
        return WaitingSnapshot(
            bundle.id,
            title,
            tuple(sorted(volumes)),
            elsewhere=len(missing - carried.keys()),
            base=bundle.base,
        )

    # ---- what is proven

    def _require_agreed(self, snapshot: Snapshot, manifest: Manifest) -> None:
        """Raise MismatchError if a seal that is here gives a file of the same commit other bytes."""
        seal = snapshot.seal
        new = {entry.path: entry.sha256 for entry in manifest.files}
        for other in self._archive.snapshots_of(seal.repository, skip_damaged):
            if other.seal.revision != seal.revision:
                continue
            if other.seal.manifest.blake3 == seal.manifest.blake3:
                continue
            try:
                facts = self._archive.manifest_facts(other.seal)
            except DamageError:
                continue
            for file in facts.files:
                if new.get(file.path, file.sha256) != file.sha256:
                    raise MismatchError(
                        f"It gives {file.path} the SHA-256 {new[file.path][:16]}…, and the seal "
                        f"{other.id[:12]} here says {file.sha256[:16]}… of the same commit. "
                        "One commit has one content."
                    )

    def _require_decodable(self, snapshot: Snapshot, manifest: Manifest) -> None:
        """Raise DamageError unless every file comes out of the packs as the manifest says."""
        workers = decoder_workers(self._memory)
        tasks = (FileTask(entry, Nowhere) for entry in manifest.files)
        packs = packs_for(self._archive, snapshot)
        with (
            FileDecoder(packs, workers=workers) as decoder,
            closing(decoder.files(tasks, Proof.DIGESTS)) as done,
        ):
            for file in done:
                if file.error is not None:
                    raise DamageError(
                        f"{file.task.entry.path} does not come out as its manifest says: "
                        f"{file.error.message}"
                    )

    def _prove_again(self, snapshot: Snapshot) -> None:
        """Decode a snapshot that is here; what is damaged is for an audit, and was not imported whole."""
        with suppress(ArchiverError):
            self._require_decodable(snapshot, self._archive.manifest_file(snapshot.seal))
            self._proven.add(snapshot.id)

    # ---- what is written

    def _store(self, waiting: LocalStore, snapshot: Snapshot) -> None:
        """Publish manifest, seal and signatures, each with the very bytes that came."""
        manifest = closure_names(snapshot.seal)[0]
        if not stored_right(self._archive.store, manifest, manifest):
            self._put(manifest, waiting.get(_waiting_name(waiting, manifest), MANIFEST_MAX))
        self._archive.store.barrier()
        name = layout.seal_name(snapshot.seal.repository, snapshot.seal.revision, snapshot.id)
        with sealing(self._archive, snapshot.seal):
            self._put(name, waiting.get(snapshot.name, SEAL_MAX))
        self._archive.store.barrier((name,))

    def _put(self, name: str, data: bytes) -> None:
        staged = self._archive.store.stage("put")
        try:
            staged.write(data)
            staged.publish(name)
        finally:
            staged.abort()

    def _record(self, documents: Archive, snapshot: Snapshot) -> None:
        """Record again, in this archive's journal, which snapshot there is and where upstream pointed.

        Events of a chain cannot be copied one by one: what they follow would be missing. What says that
        it is of a time to come stays a claim: this journal's time would leap there.
        """
        known = {_said(event) for _, event in self._archive.events(skip_damaged)}
        seal = snapshot.seal
        repository = seal.repository.casefold()
        said = []
        for _, event in documents.events(skip_damaged):
            if not has_come(event.time):
                continue
            match event.detail:
                case Sealed(snapshot=sealed):
                    title = (sealed, event.repository, event.revision)
                    chosen = title == (snapshot.id, seal.repository, seal.revision)
                case Sighted() | Gone() | UpstreamChanged():
                    chosen = event.repository.casefold() == repository
                case _:
                    chosen = False
            if chosen:
                said.append(event)
        # The seal's own first, then the newest; in the order that they had.
        by_worth = sorted(said, key=lambda event: (event.type is Sealed, event.time))
        recorded = {id(event) for event in by_worth[-EVENTS_MAX:]}
        for event in said:
            if id(event) in recorded and _said(event) not in known:
                self._archive.record(event)
                self.events += 1

    def end(self, bundle: Bundle) -> None:
        """Once all of a bundle is here, keep the claims of its journal, and let go of what waited."""
        waits = any(each.bundle == bundle.id for each in self.waiting)
        if waits or self.refused:
            return
        waiting, claims = self._ledger.waiting(bundle.id), self._ledger.claims(bundle.id)
        for name in list(waiting.list(layout.JOURNAL)):
            self.claims += claims.take_over(waiting, name)
        held = self._seals | self._manifests()
        for name in waiting.list(layout.SIGNATURES):
            signature = layout.signature_of(name)
            there = signature is not None and signature.digest in held
            (self._archive.store if there else claims).put_new(name, waiting.get(name, FILE_MAX))
        claims.barrier()
        self._ledger.end_waiting(bundle.id)


def _said(event: Event) -> bytes:
    """Return what an event says, wherever it stands in a chain."""
    return canonical(msgspec.structs.replace(event, after=()))


def _waiting_name(waiting: LocalStore, name: str) -> str:
    """Return the name that a document has where it waits: folders are hints."""
    digest, folder = layout.digest_of(name), name.partition("/")[0]
    for other in waiting.list(folder):
        if layout.digest_of(other) == digest:
            return other
    return name
