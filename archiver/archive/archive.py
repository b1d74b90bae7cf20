"""The archive as a whole: open or create one, and reach its seals, manifests, packs and journal.

Reading goes the reverse way of writing: seals, then manifests, then packs. Nothing here uses SQL.
"""

from __future__ import annotations

import pkgutil
import threading
import uuid
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from archiver.archive import layout
from archiver.archive.advice import command
from archiver.archive.document_cache import DocumentCache
from archiver.archive.events import TOOL
from archiver.archive.journal import Journal, policy_of
from archiver.archive.journal_summary import JournalSummary
from archiver.archive.manifests import Manifests
from archiver.archive.packs.folders import PackFolders, StoreWithPacks
from archiver.archive.records import (
    FORMAT,
    MANIFEST_MAX,
    ArchiveInfo,
    Features,
    declared,
    has_right_check,
    info_file,
    parse_info,
    parse_place,
    place_file,
    require_known,
    with_check,
)
from archiver.archive.seals import Seals, Snapshot
from archiver.archive.unsealed import UnsealedSnapshots
from archiver.errors import (
    ArchiverError,
    DamageError,
    NoArchiveError,
    NotUnderstoodError,
    OnDamage,
    UnknownFormatError,
    UsageError,
    raise_damage,
    skip_damaged,
)
from archiver.storage.files import require_outside
from archiver.storage.local import LocalStore
from archiver.tensors.cuts import SEGMENT_MAX
from archiver.text import utc_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from archiver.archive.events import Event
    from archiver.archive.packs.index import ObjectIndex
    from archiver.archive.packs.reader import PackReader
    from archiver.archive.policy import Policy
    from archiver.archive.records import Manifest, ManifestFacts, Seal, Source
    from archiver.archive.vouching import Vouching
    from archiver.digest import Blake3Hex
    from archiver.storage.store import Store


CARRIED: Final = ("README.txt", "FORMAT.md", "decode.py")
"""The files that explain an archive to whoever finds it, copied into each one."""
LOST_AND_FOUND: Final = "lost+found"
"""What a disk of ext4 has from the start at its top: no content of anybody's."""
_INFO_MAX: Final = 1 << 20
_OPEN_PACKS: Final = 64
_NEWER: Final = "Nothing was changed. Use a newer archiver: what it needs is not known to this one."


class KnownDocuments:
    """What this process has read of one archive, of its events and its seals.

    Who opens an archive more than once hands it on. It need not be at the same place meanwhile: a name that
    is there again is the same document.
    """

    def __init__(self) -> None:
        self.events: DocumentCache[Event] = DocumentCache()
        self.summary = JournalSummary()
        self.seals: DocumentCache[Snapshot] = DocumentCache()


class Archive:
    """An opened archive; ``known`` is what this process read of it when it was open before."""

    def __init__(
        self, store: Store, info: ArchiveInfo, known: KnownDocuments | None = None
    ) -> None:
        self.store = store
        self.info = info
        known = known or KnownDocuments()
        self.journal = Journal(store, known.events, known.summary)
        self._manifests = Manifests(store, self._kept_manifest)
        self._seals = Seals(store, self._manifests, self.journal, known.seals)
        self._packs: OrderedDict[str, PackReader] = OrderedDict()
        self._lock = threading.Lock()

    # ---- opening

    @classmethod
    def create(cls, root: Path, info: ArchiveInfo | None = None) -> Archive:
        """Make an empty archive in ``root``, which must be empty or absent; raise UsageError otherwise.

        It is a new one, or a replica of the one that ``info`` is of. What a ``create`` left there that was
        interrupted counts as nothing.
        """
        if not _is_free(root):
            raise UsageError(f"{root} is not an empty folder.", hint="Choose a new folder.")
        store = LocalStore(root)
        info = with_check(info or ArchiveInfo(str(uuid.uuid4()), created=utc_now(), tool=TOOL))
        for name, data in carried_files():
            store.put_new(name, data)
        store.put_new(layout.PLACE, place_file())
        # Last, so that a folder with archive.json is always a whole archive.
        store.put_new(layout.INFO, info_file(info))
        return cls(store, info)

    @classmethod
    def open(
        cls,
        root: Path,
        pack_folders: Sequence[Path] = (),
        known: KnownDocuments | None = None,
    ) -> Archive:
        """Open the archive in ``root``; to be read only, if packs are looked for in further folders too.

        ``known`` is what this process read of it when it was open before.

        Raises:
            NoArchiveError: There is none.
            UnknownFormatError: It is of a format, or has a feature, that this version does not know.
        """
        store = LocalStore(root)
        info = _read_info(store)
        require_known(f"The archive {root}", info.format, info.features)
        if not pack_folders:
            return cls(store, info, known)
        return cls(StoreWithPacks(store, PackFolders(pack_folders)), info, known)

    def require_writable(self) -> None:
        """Raise the error that forbids writing, if one does.

        UnknownFormatError: a writer must know a feature that this version does not.
        LinkedFolderError: a folder is a link, so that writing would go elsewhere.
        """
        if self.store.folder is not None:
            self.store.folder.require_no_links(layout.FOLDERS)
        if self.info.features.write:
            raise UnknownFormatError(
                f"{self.store.address} needs a writer that knows "
                f"{', '.join(self.info.features.write)}.",
                hint="Use a newer archiver to add to it; reading is possible with this one.",
            )

    def require_there(self) -> None:
        """Raise ArchiverError if nothing of it is there any more: its disk is not mounted."""
        there = self.store.stat(layout.INFO) is not None or self.journal.names()
        if not there and not any(self.store.list(layout.SNAPSHOTS)):
            raise ArchiverError(
                "The archive is not where it was: nothing of it is there.",
                hint="Is its disk still mounted? What is asked is answered again once it is.",
            )

    def require_outside(self, path: Path, hint: str = "Choose another folder.") -> None:
        """Raise UsageError if ``path`` lies in the archive: no place for what is none of its files."""
        if self.store.folder is not None:
            require_outside(path, self.store.folder.path, hint)

    # ---- seals

    def snapshots(self, on_damage: OnDamage = raise_damage) -> Iterator[Snapshot]:
        """Return every snapshot, by name; damaged seals go to ``on_damage``."""
        return self._seals.all(on_damage)

    def snapshots_of(self, repository: str, on_damage: OnDamage = raise_damage) -> list[Snapshot]:
        """Return the snapshots of one repository (its name compared without case)."""
        return self._seals.of(repository, on_damage)

    def named(
        self, repository: str, revision: str | None, on_damage: OnDamage = raise_damage
    ) -> list[Snapshot]:
        """Return the snapshots that a reference names, none if there are none.

        ``revision`` is the beginning of a commit or of a seal's id; a commit comes first. Without it,
        all of the repository's; or, where no repository is called so, those whose id begins so.
        """
        return self._seals.named(repository, revision, on_damage)

    def seal_names(self, repository: str, digits: str) -> list[str]:
        """Return the names of the seals that a reference names, whole or not, by their names alone."""
        return self._seals.names(repository, digits)

    def fitting(
        self, repository: str, revision: str | None, on_damage: OnDamage = raise_damage
    ) -> list[Snapshot]:
        """Return the snapshots that a reference names, as ``named``.

        If there are none, raises UsageError that says what is held, or DamageError as ``find`` does.
        """
        return self._seals.fitting(repository, revision, on_damage)

    def find(
        self, repository: str, revision: str | None = None, on_newer: OnDamage = raise_damage
    ) -> Snapshot:
        """Return the snapshot to restore, by repository and (the beginning of) a revision or a seal's id.

        A damaged seal does not matter where another one of the same manifest is, or one of the same
        revision, of all files, that has no lesser voucher than it can have had. Where no seal stands for
        what is meant, and one is lost, its manifest does: then it is not ``sealed``. A seal that was
        perhaps meant, and that only a newer version can read, goes to ``on_newer``.

        Raises:
            UsageError: There is none, or the beginning fits several revisions, or several seals.
            DamageError: The seal that was perhaps meant is damaged, and its manifest is not here.
            NotUnderstoodError: What is asked for can only be read by a newer version.
        """
        try:
            return self._seals.find(repository, revision, on_newer)
        except NotUnderstoodError:
            raise
        except (UsageError, DamageError):
            unsealed = self._unsealed().of(repository, revision or "")
            if not unsealed or (revision and len({each.seal.revision for each in unsealed}) > 1):
                raise
            snapshot = self._seals.preferred(unsealed)
            if self._is_outranked(snapshot):
                raise
            return snapshot

    def _is_outranked(self, unsealed: Snapshot) -> bool:
        """Return whether a whole seal of the revision has a higher voucher than a manifest without one.

        Then neither is given: the lost seal may have been worth more than both, or this manifest may never
        have had one.
        """
        own = self.vouching(unsealed)
        whole = self.named(unsealed.seal.repository, unsealed.seal.revision, skip_damaged)
        others = [vouching for each in whole if (vouching := self.vouching(each))]
        return own is None or any(vouching.least > own.least for vouching in others)

    def unsealed(self) -> Iterator[Snapshot]:
        """Return the snapshots whose seal is lost, by their manifests."""
        return self._unsealed().all()

    def _objects(
        self, packs: Iterable[str], fallback: Callable[[], Iterable[str]] | None = None
    ) -> ObjectIndex:
        # Whoever only lists what is held reads no pack, and need not wait for numpy.
        from archiver.archive.packs.index import ObjectIndex  # noqa: PLC0415

        return ObjectIndex(self, packs, fallback)

    def _unsealed(self) -> UnsealedSnapshots:
        return UnsealedSnapshots(
            self.store,
            self.info,
            self._seals,
            self._manifests,
            self.journal,
            lambda: self._objects(self.packs()),
        )

    def default(self, snapshots: Sequence[Snapshot], sighted: str | None = None) -> Snapshot:
        """Return which of all snapshots of a repository its name alone means (``docs/format.md``, 7).

        ``sighted`` is where its main branch was last sighted, if that is known already.
        """
        return self._seals.default(snapshots, sighted)

    def preferred(self, snapshots: Sequence[Snapshot]) -> Snapshot:
        """Return the snapshot to restore among several (``docs/format.md``, section 7)."""
        return self._seals.preferred(snapshots)

    def vouching(self, snapshot: Snapshot) -> Vouching | None:
        """Return who vouched for a snapshot's files; None if only its manifest says it and is damaged."""
        return self._seals.vouching(snapshot)

    def read_seal(self, name: str, where: str = "") -> Snapshot:
        """Return the snapshot of the seal ``name``, which lies there or, out of use, at ``where``.

        Raise DamageError unless it is whole and its name is its own.
        """
        return self._seals.read(name, where)

    def is_spare(self, snapshot: Snapshot) -> bool:
        """Return whether a seal that lies elsewhere is also there under the name that a writer gives it."""
        return self._seals.is_spare(snapshot)

    def publish_seal(self, seal: Seal) -> Snapshot:
        """Publish a snapshot: the one commit point."""
        return self._seals.publish(seal)

    # ---- manifests

    def manifest(self, seal: Seal) -> Manifest:
        """Return the manifest that a seal names, from its file or else from the seal's packs.

        Raise DamageError if it comes out of neither.
        """
        return self._manifests.read(seal)

    def manifest_facts(self, seal: Seal) -> ManifestFacts:
        """Return the same without segments and tensors, which may be hundreds of thousands."""
        return self._manifests.facts(seal)

    def manifest_file(self, seal: Seal, where: str = "") -> Manifest:
        """Return the same from its file alone, which lies in its place, or, out of use, at ``where``.

        Raise DamageError if that is missing or damaged, whatever the packs have.
        """
        return self._manifests.read_file(seal, where)

    def manifest_copy(self, seal: Seal) -> bytes:
        """Return a manifest's canonical JSON out of the seal's packs; DamageError if these have it not."""
        return self._manifests.copy(seal)

    def _kept_manifest(self, seal: Seal) -> bytes:
        """Return the objects of a manifest's copy, one after the other."""
        copies = seal.manifest.copies
        # Compared before memory is taken: what a seal says can be anything.
        fits = all(0 < size <= SEGMENT_MAX for size, _ in copies)
        if not fits or not 0 < sum(size for size, _ in copies) <= MANIFEST_MAX:
            raise DamageError("The seal names no copy of its manifest that can be.")
        import numpy as np  # noqa: PLC0415 - see _objects

        objects = self._objects((pack for pack, _ in seal.packs), self.packs)
        plain = np.empty(sum(size for size, _ in copies), np.uint8)
        at = 0
        for size, digest in copies:
            objects.read(digest, size, plain[at : at + size])
            at += size
        return plain.tobytes()

    def manifest_bytes(self, seal: Seal) -> bytes:
        """Return the canonical JSON of a seal's manifest; raise DamageError as ``manifest`` does."""
        return self._manifests.plain(seal)

    def publish_manifest(self, source: Source, plain: bytes) -> None:
        """Store a manifest of this source, given by its canonical JSON, unless it is there."""
        self._manifests.publish(source, plain)

    # ---- packs

    def packs(self) -> Iterator[str]:
        """Yield the digests of all packs that are there, in order."""
        for name in self.store.list(layout.PACKS):
            pack = layout.pack_of(name)
            if pack:
                yield pack

    def pack(self, pack: str) -> PackReader:
        """Return a shared reader of a pack; raise DamageError if the pack is missing."""
        with self._lock:
            reader = self._packs.get(pack)
            if reader is None:
                reader = self._packs[pack] = self._open_pack(pack)
            self._packs.move_to_end(pack)
            if len(self._packs) > _OPEN_PACKS:
                # Dropped, not closed: another thread may be reading; the last user's release closes it.
                self._packs.popitem(last=False)
            return reader

    @property
    def pack_folders(self) -> PackFolders:
        """The further folders that packs are read from."""
        store = self.store
        return store.further if isinstance(store, StoreWithPacks) else PackFolders(())

    def require_understood(self) -> None:
        """Raise NotUnderstoodError if a pack, or a seal, announces what this version cannot read.

        Whoever deletes, repairs or packs anew asks first: what such a pack or seal needs is not known.
        """
        for pack in self.packs():
            try:
                self.pack(pack).require_understood(pack)
            except NotUnderstoodError as error:
                error.hint = _NEWER
                raise
            except DamageError:
                continue
        for _ in self.snapshots(on_damage=_raise_not_understood):
            pass

    def _open_pack(self, pack: str) -> PackReader:
        from archiver.archive.packs.reader import PackReader  # noqa: PLC0415 - see _objects

        try:
            return PackReader.stored(self.store.open(layout.pack_name(pack)), f"Pack {pack[:16]}")
        except FileNotFoundError:
            raise DamageError(
                f"Pack {pack} is missing.", pack=pack, path=layout.pack_name(pack)
            ) from None

    # ---- journal

    def record(self, event: Event) -> Blake3Hex:
        """Append an event to the journal; return its id."""
        return self.journal.append(event)

    def events(self, on_damage: OnDamage = raise_damage) -> Iterator[tuple[str, Event]]:
        """Return every event with its id, oldest first; damaged ones go to ``on_damage``."""
        return self.journal.events(on_damage)

    def standing_events(self) -> list[tuple[str, Event]]:
        """Return the events that decide how things stand now, each with its id, oldest first.

        Damaged ones are passed over. Raise ArchiverError if one may not be read.
        """
        return self.journal.standing(_raise_unless_damaged)

    def policy(self) -> Policy:
        """Return what the owner wants of the archive; raise DamageError if that cannot be understood."""
        return policy_of(self.standing_events())


def _raise_unless_damaged(_name: str, error: ArchiverError) -> None:
    if not isinstance(error, DamageError):
        raise error


def _raise_not_understood(_name: str, error: DamageError) -> None:
    if isinstance(error, NotUnderstoodError):
        error.hint = _NEWER
        raise error


def _read_info(store: Store) -> ArchiveInfo:
    try:
        data = store.get(layout.INFO, _INFO_MAX)
    except FileNotFoundError:
        return _info_from_seals(store, None)
    as_written = has_right_check(data)
    if as_written:
        # What it declares is no damage, whatever shape the rest has.
        require_known(f"The archive {store.address}", *declared(data))
    try:
        info = parse_info(data)
    except DamageError as error:
        return _info_from_seals(store, error)
    if as_written or (info.format, info.features) == (FORMAT, Features()):
        return info
    # Who wrote no digest knew no other format, and no feature.
    return _info_from_seals(store, DamageError(f"{layout.INFO} is damaged."))


def _info_from_seals(store: Store, reason: DamageError | None) -> ArchiveInfo:
    """Return who the archive is, from any whole seal or pack: one lost file must not lock everything."""
    probe = Archive(store, ArchiveInfo(archive="", created="", tool=""))
    for snapshot in probe.snapshots(on_damage=skip_damaged):
        seal = snapshot.seal
        return ArchiveInfo(seal.archive, seal.sealed, seal.tool)
    for pack in probe.packs():
        with suppress(ArchiverError):
            return ArchiveInfo(probe.pack(pack).head().archive, "", "")
    if reason is not None:
        raise DamageError(
            f"{store.address}/{layout.INFO} is damaged and there is no seal to recognise the "
            "archive by."
        ) from reason
    raise NoArchiveError(
        f"{store.address} is not an archive (it has no {layout.INFO}).",
        hint=f"Create one with {command('init', store.address)}, or name yours with -C or "
        "ARCHIVER_ARCHIVE.",
    )


def carried_files() -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the files that explain an archive to whoever finds it."""
    for name in CARRIED:
        yield name, pkgutil.get_data("archiver", f"carried/{name}") or b""


def _is_free(root: Path) -> bool:
    """Return whether nothing of anybody's lies in ``root``: only what an interrupted ``create`` left."""
    if not root.exists():
        return True
    if root.is_symlink() or not root.is_dir():
        return root.is_dir() and not any(root.iterdir())
    carried = dict(carried_files())
    return all(
        _is_leftover(path, path.relative_to(root).as_posix(), carried) for path in root.rglob("*")
    )


def _is_leftover(path: Path, name: str, carried: dict[str, bytes]) -> bool:
    """Return whether a ``create`` leaves a file like this, or a disk has it from the start."""
    if path.is_symlink():
        return False
    if path.is_dir():
        return name in {layout.TMP, LOST_AND_FOUND} or name.startswith(f"{LOST_AND_FOUND}/")
    if name.startswith((f"{LOST_AND_FOUND}/", f"{layout.TMP}/put-")):
        return True
    if name == layout.PLACE:
        try:
            return bool(parse_place(path.read_bytes()))
        except DamageError:
            return False
    data = carried.get(name)
    return data is not None and path.stat().st_size == len(data) and path.read_bytes() == data
