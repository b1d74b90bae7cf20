"""Publishing a snapshot, in the order that survives any crash; and the intent that keeps it safe.

::

    packs → barrier → manifest → intent → re-check → barrier → seal → barrier → journal event

The last pack has the manifest's JSON too, so that no single lost file takes a snapshot with it. The seal is
the only commit point: whatever ends a run before it leaves files that no snapshot names.

An *intent* is a writer's word, before it seals, on which files its seal will stand. Whoever deletes moves
files away first, then looks for intents and seals, and moves back what one of them names. A writer
announces first, then looks whether the files are there, then seals. Whichever of the two comes second sees
the other: so a seal never stands on files that are gone, however long either of them pauses, and no lock is
needed to add.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from archiver.archive import layout
from archiver.archive.editions import renew_explanations
from archiver.archive.events import TOOL, Event, Sealed, new_event
from archiver.archive.layout import manifest_name, pack_name, seal_name
from archiver.archive.manifests import (
    encode_piece,
    manifest_bytes,
    manifest_ref,
    pieces_of,
    tensors_of,
)
from archiver.archive.records import (
    Manifest,
    ManifestRef,
    Seal,
    Selection,
    Totals,
    canonical,
    parse_record,
)
from archiver.archive.vouching import UNVOUCHED, Vouch, runs_of, vouches_of, vouching_of
from archiver.digest import blake3_hex
from archiver.errors import DamageError, skip_damaged
from archiver.text import utc_after

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.archive.archive import Archive
    from archiver.archive.seals import Snapshot
    from archiver.storage.store import Store


Placement = Callable[[str], tuple[str, int] | None]
"""Object -> its published pack and the bytes it takes there."""
KeepDocument = Callable[[bytes], tuple[tuple[int, str], ...]]
"""Stores a document in pieces as objects; returns size and BLAKE3 of each, once they are durable."""
_PURPOSE: Final = "intent"
_INTENT_MAX: Final = 64 << 20
_SELECTION_MAX: Final = 64 << 10
"""Longer lists of patterns are in the seal alone: an event may have 1 MiB."""


def publish(
    archive: Archive,
    manifest: Manifest,
    placement: Placement,
    selection: Selection,
    *,
    vouches: Sequence[Vouch] | None = None,
    stored: bytes | None = None,
    damaged: Collection[str] = (),
    keep: KeepDocument | None = None,
) -> Snapshot:
    """Publish a manifest whose objects are all in packs, and return the new snapshot.

    A snapshot that already says the same, by no lesser vouchers, is returned instead of a second one.

    Args:
        archive: Where to.
        manifest: What the files are.
        placement: Where each object lies, once ``keep`` was called.
        selection: The patterns that chose the files.
        vouches: Who vouched for each file, in the manifest's order; None: nobody for any.
        stored: The manifest's JSON if it is stored: it may have keys that this version does not know.
        damaged: Packs that are damaged: a snapshot that stands on one does not say the same.
        keep: Stores the manifest's JSON beside the files' objects, in the pack that is being written, and
            makes all of these durable. Without it they are already, and the snapshot gets no such copy.

    Raises:
        DamageError: An object or a pack went missing meanwhile; nothing was published.
        NoSpaceError: The disk is full; nothing was published.
    """
    plain = manifest_bytes(manifest) if stored is None else stored
    ref = manifest_ref(plain)

    # A damaged older seal is for an audit to tell; it must not keep new revisions out.
    earlier = archive.snapshots_of(manifest.source.repository, on_damage=skip_damaged)
    vouches = [UNVOUCHED] * len(manifest.files) if vouches is None else vouches
    for snapshot in earlier:
        if _says_the_same(archive, snapshot, manifest, ref, selection, vouches, damaged):
            archive.publish_manifest(manifest.source, plain)
            events = archive.events(on_damage=skip_damaged)
            ensure_published(archive, snapshot, (event for _, event in events))
            return snapshot

    # Packs and their barrier come first, those of the manifest's copy too: a placement names only what is
    # published.
    if keep is not None:
        ref = msgspec.structs.replace(ref, objects=keep(plain))
    closure = _closure(archive, manifest, placement, ref)

    # The manifest is named by the seal, so it must be there before. Alone it is nothing to any reader.
    archive.publish_manifest(manifest.source, plain)

    last = max(earlier, key=lambda snapshot: snapshot.seal.sealed, default=None)
    seal = Seal(
        archive=archive.info.archive,
        repository=manifest.source.repository,
        revision=manifest.source.revision,
        manifest=ref,
        packs=closure.packs,
        totals=Totals(
            files=len(manifest.files),
            bytes=sum(entry.size for entry in manifest.files),
            objects=closure.objects,
            stored=closure.stored,
            tensors=sum(len(tensors_of(entry)) for entry in manifest.files),
        ),
        selection=selection,
        parent=last.id if last else "",
        # Strictly after those before it, so that "sealed last" is one, also within a second.
        sealed=utc_after(last.seal.sealed if last else ""),
        tool=TOOL,
        vouched=runs_of(vouches),
        committed=manifest.source.committed,
    )
    while _name_is_damaged(archive, seal):
        seal = msgspec.structs.replace(seal, sealed=utc_after(seal.sealed))

    with sealing(archive, seal):
        snapshot = archive.publish_seal(seal)
    # The event vouches for the seal, so it may not outlive it in a crash.
    archive.store.barrier()
    _journal_sealed(archive, snapshot)
    return snapshot


class _Closure(NamedTuple):
    """What a seal stands on: its packs, with sizes in bytes, and the objects' totals."""

    packs: tuple[tuple[str, int], ...]
    objects: int
    stored: int


def _closure(
    archive: Archive, manifest: Manifest, placement: Placement, ref: ManifestRef
) -> _Closure:
    """Return what a seal of this manifest stands on; the totals are of the files' objects alone."""
    packs: dict[str, int] = {}
    seen: set[bytes] = set()
    stored = 0
    for entry in manifest.files:
        for _, digest in entry.segments:
            key = bytes.fromhex(digest)
            if key in seen:
                continue
            seen.add(key)
            place = placement(digest)
            if place is None:
                raise DamageError(f"Object {digest} of {entry.path} is in no pack.")
            pack, size = place
            stored += size
            if pack not in packs:
                packs[pack] = archive.store.stat(pack_name(pack)) or 0
    for _, digest in ref.copies:
        place = placement(digest)
        if place is None:
            raise DamageError(f"Object {digest} of the manifest is in no pack.")
        packs.setdefault(place[0], archive.store.stat(pack_name(place[0])) or 0)
    return _Closure(tuple(sorted(packs.items())), len(seen), stored)


def own_pack(archive: Archive, placement: Placement) -> tuple[KeepDocument, Placement]:
    """Return what keeps a document in a pack of its own, and where objects lie afterwards."""
    # Whoever only asks which files a seal needs does without arrays.
    from archiver.archive.packs.writer import PackWriter  # noqa: PLC0415

    places: dict[str, tuple[str, int]] = {}

    def keep(plain: bytes) -> tuple[tuple[int, str], ...]:
        objects = []
        writer: PackWriter | None = None
        stored: dict[str, int] = {}
        try:
            for piece in pieces_of(plain):
                digest = blake3_hex(piece.data)
                objects.append((len(piece), digest))
                if digest not in stored and placement(digest) is None:
                    writer = writer or PackWriter(archive.store, archive.info)
                    stored[digest] = writer.append(encode_piece(piece, digest)).stored
            if writer is not None:
                pack, _ = writer.finish()
                places.update((digest, (pack, size)) for digest, size in stored.items())
        finally:
            if writer is not None:
                writer.abort()
        archive.store.barrier()
        return tuple(objects)

    return keep, lambda digest: places.get(digest) or placement(digest)


def _says_the_same(
    archive: Archive,
    snapshot: Snapshot,
    manifest: Manifest,
    ref: ManifestRef,
    selection: Selection,
    vouches: Sequence[Vouch],
    damaged: Collection[str],
) -> bool:
    """Return whether a snapshot is of this manifest, by no lesser vouchers, and its packs are whole."""
    seal = snapshot.seal
    if (seal.manifest.blake3, seal.selection) != (ref.blake3, selection):
        return False
    if any(pack in damaged for pack, _ in seal.packs) or missing_packs(archive, seal.packs):
        return False
    sealed_by = vouches_of(seal, manifest.source, manifest.files)
    return all(old.by >= new.by for old, new in zip(sealed_by, vouches, strict=True))


def _name_is_damaged(archive: Archive, seal: Seal) -> bool:
    """Return whether a damaged seal lies under the very name that this one would get."""
    data = canonical(seal)
    try:
        name = seal_name(seal.repository, seal.revision, blake3_hex(data))
        return archive.store.get(name, len(data)) != data
    except FileNotFoundError:
        return False
    except DamageError:
        return True


def ensure_published(archive: Archive, snapshot: Snapshot, events: Iterable[Event]) -> None:
    """Return once a snapshot that is there, whoever published it, will survive a crash.

    The run that published it may have died before it wrote the journal: then ``events``, those that are
    known of its repository, do not tell of it, and it is journalled now.
    """
    archive.store.barrier((*closure_names(snapshot.seal), snapshot.name))
    if not any(
        isinstance(event.detail, Sealed) and event.snapshot == snapshot.id for event in events
    ):
        _journal_sealed(archive, snapshot)


def _journal_sealed(archive: Archive, snapshot: Snapshot) -> None:
    seal = snapshot.seal
    vouching = vouching_of(seal)
    sealed = Sealed(
        snapshot.id,
        vouching.least.word if vouching else "",
        seal.manifest.blake3,
        seal.selection if len(canonical(seal.selection)) <= _SELECTION_MAX else None,
    )
    archive.record(new_event(sealed, seal.repository, seal.revision, time=seal.sealed))


def missing_packs(archive: Archive, packs: tuple[tuple[str, int], ...]) -> list[str]:
    """Return which of a seal's packs are not there with their size."""
    return [pack for pack, size in packs if not size or archive.store.stat(pack_name(pack)) != size]


def closure_names(seal: Seal) -> tuple[str, ...]:
    """Return the names of the stored files that a seal stands on: its manifest and its packs."""
    manifest = manifest_name(seal.repository, seal.revision, seal.manifest.blake3)
    return (manifest, *(pack_name(pack) for pack, _ in seal.packs))


@contextmanager
def sealing(
    archive: Archive, seal: Seal, bring_back: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Make sure of what a seal stands on; the block publishes the seal, by whichever way.

    ``bring_back`` puts files of it back in their places first. Raise DamageError if something is gone.
    """
    # The intent first, the look afterwards: a prune that moves a file away between the two sees the
    # intent and moves it back; one that came before is seen by the look. The look ends with a barrier
    # over manifest and packs, also those of others: the seal may not outlive what it names in a crash.
    with announced(archive.store, closure_names(seal)):
        bring_back()
        _recheck(archive, seal)
        # Before the seal: what an older text does not describe may come with it.
        renew_explanations(archive.store)
        yield


def _recheck(archive: Archive, seal: Seal) -> None:
    """Look once more before the seal: what is reused may have vanished since it was chosen.

    Or a run may have published it that died before it synced the folder: after this it will survive a
    crash. Raise DamageError if something is gone.
    """
    missing = missing_packs(archive, seal.packs)
    if missing:
        raise DamageError(
            f"Packs vanished while the snapshot was made: {', '.join(missing)}.",
            hint="Run the same command again; it stores what is missing.",
        )
    manifest = closure_names(seal)[0]
    if archive.store.stat(manifest) is None:
        raise DamageError(
            f"{manifest} vanished while the snapshot was made.",
            hint="Run the same command again; it writes what is missing.",
        )
    archive.store.barrier(closure_names(seal))


class Intent(msgspec.Struct, frozen=True):
    """The names of the stored files that a seal is about to need, and the machine of its writer."""

    needs: tuple[str, ...]
    host: str = ""
    kind: str = "intent"


@contextmanager
def announced(store: Store, needs: tuple[str, ...]) -> Iterator[None]:
    """Keep everybody from deleting these files for good while the block runs."""
    staged = store.stage(_PURPOSE)
    try:
        staged.write(canonical(Intent(needs, socket.gethostname())))
        yield
    finally:
        staged.abort()


def announced_needs(store: Store) -> dict[str, frozenset[str]]:
    """Return what the writers that may still be at work announced: intent's name -> names of files.

    Those of dead writers are removed. Raise DamageError if one cannot be read, which may have been begun
    this moment, or is of another machine that writes to this disk: what that does is not seen at once here.
    """
    for leftover in store.leftovers(_PURPOSE):
        leftover.discard()
    announcements = {}
    for name in store.list(layout.TMP):
        if name.startswith(f"{layout.TMP}/{_PURPOSE}-"):
            needs = _read_intent(store, name)
            if needs is not None:
                announcements[name] = needs
    return announcements


def _read_intent(store: Store, name: str) -> frozenset[str] | None:
    try:
        data = store.get(name, _INTENT_MAX)
    except FileNotFoundError:
        return None  # its writer has ended meanwhile
    try:
        intent = parse_record(data, Intent, f"The intent {name}")
        if not store.is_of_one_machine() and intent.host != socket.gethostname():
            raise DamageError(  # noqa: TRY301 - one place gives the hint
                f"The intent {name} is of another machine, {intent.host[:80]!r}."
            )
    except DamageError as error:
        error.hint = (
            f"A writer is about to seal, or died on another machine. Run it again; if {name} "
            "stays and nothing writes to this archive, delete that file. A week later it counts as "
            "left behind."
        )
        raise
    return frozenset(intent.needs)
