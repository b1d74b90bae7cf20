"""Publishing a snapshot: manifest, re-check, seal, event, in the order that survives any crash."""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import contextmanager
from operator import ge
from typing import TYPE_CHECKING, Final

import msgspec

from archiver.archive import layout
from archiver.archive.events import TOOL, Event, Sealed, new_event
from archiver.archive.layout import manifest_name, pack_name, seal_name
from archiver.archive.records import (
    Manifest,
    ManifestRef,
    Seal,
    Selection,
    Totals,
    canonical,
    parse_record,
)
from archiver.archive.vouching import UNVOUCHED, Vouch, Voucher, runs_of, vouches_of, vouching_of
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


def publish(
    archive: Archive,
    manifest: Manifest,
    placement: Placement,
    selection: Selection,
    *,
    vouches: Sequence[Vouch] | None = None,
    stored: ManifestRef | None = None,
    unfit: Collection[str] = (),
) -> Snapshot:
    """Publish a manifest whose objects are all in durable packs; the new snapshot.

    A snapshot that already says the same, by no lesser vouchers, is returned instead of a second one.

    Args:
        archive: Where to.
        manifest: What the files are.
        placement: Where each object lies.
        selection: The patterns that chose the files.
        vouches: Who vouched for each file, in the manifest's order; None: nobody for any.
        stored: The manifest as it is stored, if it is: it may have keys that this version does not know.
        unfit: Packs that are damaged: a snapshot that stands on one does not say the same.

    Raises:
        DamageError: An object or a pack went missing meanwhile; nothing was published.
        NoSpaceError: The disk is full; nothing was published.
    """
    packs, objects, taken = _closure(archive, manifest, placement)
    ref = stored or ManifestRef(*archive.publish_manifest(manifest))
    # A damaged older seal is for an audit to tell; it must not keep new revisions out.
    before = archive.snapshots_of(manifest.source.repository, on_damage=skip_damaged)
    vouches = [UNVOUCHED] * len(manifest.files) if vouches is None else vouches
    same = [
        one
        for one in before
        if _says_the_same(archive, one, ref, selection, unfit)
        and all(map(ge, _vouchers(one.seal, manifest), (vouch.by for vouch in vouches)))
    ]
    if same:
        settle(archive, same[0], (event for _, event in archive.events(on_damage=skip_damaged)))
        return same[0]
    seal = _seal(
        archive, manifest, ref, packs, _totals(manifest, objects, taken), selection, before
    )
    seal = _unspoilt(archive, msgspec.structs.replace(seal, vouched=runs_of(vouches)))
    with announced(archive.store, closure_names(seal)):
        recheck(archive, seal)
        snapshot = archive.publish_seal(seal)
    archive.store.barrier()
    _tell(archive, snapshot)
    return snapshot


def _says_the_same(
    archive: Archive,
    snapshot: Snapshot,
    manifest: ManifestRef,
    selection: Selection,
    unfit: Collection[str],
) -> bool:
    """Whether the snapshot is of this manifest and these patterns, and its packs are there and fit."""
    seal = snapshot.seal
    if (seal.manifest.blake3, seal.selection) != (manifest.blake3, selection):
        return False
    unsound = any(pack in unfit for pack, _ in seal.packs)
    return not unsound and not missing_packs(archive, seal.packs)


def _seal(
    archive: Archive,
    manifest: Manifest,
    ref: ManifestRef,
    packs: tuple[tuple[str, int], ...],
    totals: Totals,
    selection: Selection,
    before: list[Snapshot],
) -> Seal:
    """The seal to publish, later than those of the repository ``before`` it."""
    last = max(before, key=lambda one: one.seal.sealed, default=None)
    return Seal(
        archive=archive.info.archive,
        repository=manifest.source.repository,
        revision=manifest.source.revision,
        manifest=ref,
        packs=packs,
        totals=totals,
        selection=selection,
        parent=last.id if last else "",
        # Strictly after those before it, so that "sealed last" is one, also within a second.
        sealed=utc_after(last.seal.sealed if last else ""),
        tool=TOOL,
        features=archive.info.features,
    )


def _unspoilt(archive: Archive, seal: Seal) -> Seal:
    """The seal under a name that no damaged one has."""
    while _spoilt(archive, seal):
        seal = msgspec.structs.replace(seal, sealed=utc_after(seal.sealed))
    return seal


def _vouchers(seal: Seal, manifest: Manifest) -> list[Voucher]:
    return [vouch.by for vouch in vouches_of(seal, manifest.source, manifest.files)]


def settle(archive: Archive, snapshot: Snapshot, events: Iterable[Event]) -> None:
    """Return once a snapshot that is there, whoever published it, will survive a crash.

    The run that published it may have died before it told the journal: then ``events``, those that are
    known of its repository, do not tell of it, and the journal is told now.
    """
    archive.store.barrier((*closure_names(snapshot.seal), snapshot.name))
    if not any(isinstance(one.detail, Sealed) and one.snapshot == snapshot.id for one in events):
        _tell(archive, snapshot)


def _tell(archive: Archive, snapshot: Snapshot) -> None:
    seal = snapshot.seal
    known = vouching_of(seal)
    told = Sealed(snapshot.id, known.least.word if known else "")
    archive.record(new_event(told, seal.repository, seal.revision, time=seal.sealed))


def _spoilt(archive: Archive, seal: Seal) -> bool:
    """Whether a damaged seal lies under the very name that this one would get."""
    data = canonical(seal)
    try:
        name = seal_name(seal.repository, seal.revision, blake3_hex(data))
        return archive.store.get(name, len(data)) != data
    except FileNotFoundError:
        return False
    except DamageError:
        return True


def _closure(
    archive: Archive, manifest: Manifest, placement: Placement
) -> tuple[tuple[tuple[str, int], ...], int, int]:
    """The packs (with sizes in bytes) that hold the manifest's objects, and the objects' totals."""
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
    return tuple(sorted(packs.items())), len(seen), stored


def missing_packs(archive: Archive, packs: tuple[tuple[str, int], ...]) -> list[str]:
    """Which of a seal's packs are not there with their size."""
    return [pack for pack, size in packs if not size or archive.store.stat(pack_name(pack)) != size]


def closure_names(seal: Seal) -> tuple[str, ...]:
    """The names of the stored files that a seal stands on: its manifest and its packs."""
    manifest = manifest_name(seal.repository, seal.revision, seal.manifest.blake3)
    return (manifest, *(pack_name(pack) for pack, _ in seal.packs))


def recheck(archive: Archive, seal: Seal) -> None:
    """Look once more before the seal: what is reused may have vanished since it was chosen.

    Or a run may have published it that died before it synced the folder: now it will survive a crash.
    Raises DamageError if something is gone.
    """
    gone = missing_packs(archive, seal.packs)
    if gone:
        raise DamageError(
            f"Packs vanished while the snapshot was made: {', '.join(gone)}.",
            hint="Run the same command again; it stores what is missing.",
        )
    manifest = closure_names(seal)[0]
    if archive.store.stat(manifest) is None:
        raise DamageError(
            f"{manifest} vanished while the snapshot was made.",
            hint="Run the same command again; it writes what is missing.",
        )
    archive.store.barrier(closure_names(seal))


def _totals(manifest: Manifest, objects: int, stored: int) -> Totals:
    tensors = sum(
        0 if isinstance(entry.tensors, msgspec.UnsetType) else len(entry.tensors)
        for entry in manifest.files
    )
    plain = sum(entry.size for entry in manifest.files)
    return Totals(len(manifest.files), plain, objects, stored, tensors)


# ---- Intents: a writer's word, before it seals, on which files its seal will stand.
#
# Whoever deletes moves files away first, then looks for intents and seals, and moves back what one of
# them names. A writer announces first, then looks whether the files are there, then seals. Whichever of
# the two comes second sees the other: so a seal never stands on files that are gone, however long
# either of them pauses, and no lock is needed to add.


_PURPOSE: Final = "intent"
_INTENT_MAX: Final = 64 << 20


class Intent(msgspec.Struct, frozen=True):
    """The names of the stored files that a seal is about to need, and the machine of its writer."""

    needs: tuple[str, ...]
    host: str = ""
    kind: str = "intent"


@contextmanager
def announced(store: Store, needs: tuple[str, ...]) -> Iterator[None]:
    """While the block runs, nobody deletes these files for good."""
    staged = store.stage(_PURPOSE)
    try:
        staged.write(canonical(Intent(needs, socket.gethostname())))
        yield
    finally:
        staged.abort()


def announced_needs(store: Store) -> dict[str, frozenset[str]]:
    """What the writers that may still be at work announced: intent's name -> names of files.

    Those of dead writers are removed. DamageError if one cannot be read, which may have been begun this
    moment, or is of another machine that writes to this disk: what that does is not seen at once here.
    """
    for leftover in store.leftovers(_PURPOSE):
        leftover.discard()
    found = {}
    for name in store.list(layout.TMP):
        if name.startswith(f"{layout.TMP}/{_PURPOSE}-"):
            needs = _read(store, name)
            if needs is not None:
                found[name] = needs
    return found


def _read(store: Store, name: str) -> frozenset[str] | None:
    try:
        data = store.get(name, _INTENT_MAX)
    except FileNotFoundError:
        return None  # its writer has ended meanwhile
    try:
        intent = parse_record(data, Intent, f"The intent {name}")
        return _needs_of(intent, name, local=store.is_of_one_machine())
    except DamageError as error:
        error.hint = (
            f"A writer is about to seal, or died on another machine. Run it again; if {name} "
            "stays and nothing writes to this archive, delete that file. A week later it counts as "
            "left behind."
        )
        raise


def _needs_of(intent: Intent, name: str, *, local: bool) -> frozenset[str]:
    if not local and intent.host != socket.gethostname():
        raise DamageError(f"The intent {name} is of another machine, {intent.host[:80]!r}.")
    return frozenset(intent.needs)
