"""What the archive holds of a listing: by the hint of a lookup, and then by the archive's own word.

A lookup only says where to look. A file counts as held when a manifest that was read has it with the
digest that upstream lists, and its objects are in packs that are there.
"""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from archiver.archive.condemned import CONDEMNING, condemned
from archiver.archive.decode import FileDecoder
from archiver.archive.layout import pack_of
from archiver.archive.lookup import FileKey, indexes
from archiver.archive.packs.index import ObjectIndex
from archiver.archive.places import own_place
from archiver.archive.publish import missing_packs
from archiver.archive.vouching import HUBS, UNVOUCHED, Vouch, Voucher, counted, vouches_of
from archiver.digest import git_blob_hasher
from archiver.errors import DamageError, skip_damaged

if TYPE_CHECKING:
    from collections.abc import Iterable

    from archiver.archive.archive import Archive
    from archiver.archive.lookup import Lookup
    from archiver.archive.packs.format import IndexEntry
    from archiver.archive.records import FileEntry, FileFacts, Selection
    from archiver.archive.seals import Snapshot
    from archiver.digest import Blake3Hex
    from archiver.upstream.remote_file import Listing, RemoteFile


class ConflictingFile(NamedTuple):
    """A file of one commit that a held snapshot has with other bytes, and who vouched for those."""

    path: str
    sha256: str
    held_sha256: str
    held_by: Vouch
    snapshot: Snapshot


class UsableHints:
    """Where objects lie that something new may need: not in packs that may go, or have lost their index."""

    def __init__(self, archive: Archive, lookup: Lookup) -> None:
        self._archive = archive
        self._hints = lookup.hints()
        self._condemned = condemned_packs(archive, lookup)
        self._lock = threading.Lock()
        self._has_index: dict[str, bool] = {}

    def locate(self, digest: Blake3Hex) -> list[tuple[str, IndexEntry]]:
        """Return packs and entries that may hold the object."""
        return [
            (pack, entry)
            for pack, entry in self._hints.locate(digest)
            if pack not in self._condemned and self._is_indexed(pack)
        ]

    def _is_indexed(self, pack: str) -> bool:
        """Return whether the pack's own index can be read, also if the catalogue knew it before."""
        with self._lock:
            if pack not in self._has_index:
                readable = any(True for _ in indexes(self._archive, [pack], skip_damaged))
                self._has_index[pack] = readable
            return self._has_index[pack]


def condemned_packs(archive: Archive, lookup: Lookup) -> frozenset[str]:
    """Return packs that a prune run found unneeded: they may go soon, so nothing new should need them."""
    names = condemned(lookup.events(kinds=CONDEMNING), own_place(archive))
    return frozenset(pack for name in names if (pack := pack_of(name)))


class HeldSnapshot(NamedTuple):
    """A snapshot of the listing's revision: what its files are, and who vouched for each."""

    snapshot: Snapshot
    files: dict[str, tuple[FileFacts, Vouch]]

    @property
    def least(self) -> Voucher:
        """The lowest voucher of its files."""
        return counted(vouch for _, vouch in self.files.values()).least

    def has(self, file: RemoteFile) -> bool:
        """Return whether it holds a file with the digest that is listed; False if none is."""
        facts = self.files[file.path][0] if file.path in self.files else None
        if facts is None or facts.size != file.size:
            return False
        if file.sha256:
            return facts.sha256 == file.sha256
        return bool(file.oid) and not file.lfs and not facts.lfs and facts.oid == file.oid


class Holdings:
    """Which of a listing's files, or all of them together, are in the archive."""

    def __init__(self, archive: Archive, lookup: Lookup, listing: Listing) -> None:
        self._archive = archive
        self._lookup = lookup
        self._listing = listing
        self._condemned = condemned_packs(archive, lookup)
        self._packs_of: dict[str, ObjectIndex] = {}
        self._least = Voucher.UPSTREAM if self._listing.upstream in HUBS else Voucher.CACHE

    @cached_property
    def same_revision(self) -> list[HeldSnapshot]:
        """The snapshots of the listing's commit whose manifests are whole, those to restore first.

        None of a plain folder, which has no commit.
        """
        revision = self._listing.revision
        snapshots: list[HeldSnapshot] = []
        held = self._snapshots_of(self._listing.repository) if revision else []
        remaining = [snapshot for snapshot in held if snapshot.seal.revision == revision]
        while remaining:
            best = self._archive.preferred(remaining)
            remaining.remove(best)
            try:
                facts = self._archive.manifest_facts(best.seal)
            except DamageError:
                continue
            vouches = vouches_of(best.seal, facts.source, facts.files)
            pairs = zip(facts.files, vouches, strict=True)
            files = {file.path: (file, vouch) for file, vouch in pairs}
            snapshots.append(HeldSnapshot(best, files))
        return snapshots

    def snapshot(self, selection: Selection) -> Snapshot | None:
        """Return the snapshot that holds this listing, by no lesser vouchers than it has, or None."""
        for held in self.same_revision:
            if held.least < self._least or not self._may_stand_for(held.snapshot, selection):
                continue
            if all(held.has(file) for file in self._listing.files):
                return held.snapshot
        return None

    def equal(
        self, entries: list[FileEntry], vouches: list[Vouch], selection: Selection
    ) -> Snapshot | None:
        """Return the snapshot that holds these very bytes, by no lesser vouchers, or None.

        So what was read from a cache without digests, and agrees with what upstream vouched for, makes
        no second snapshot.
        """
        for held in self.same_revision:
            if held.least < min((vouch.by for vouch in vouches), default=Voucher.NOBODY):
                continue
            if self._may_stand_for(held.snapshot, selection) and all(
                entry.path in held.files
                and held.files[entry.path][0].sha256 == entry.sha256
                and held.files[entry.path][1].by >= vouch.by
                for entry, vouch in zip(entries, vouches, strict=True)
            ):
                return held.snapshot
        return None

    def _may_stand_for(self, snapshot: Snapshot, selection: Selection) -> bool:
        """Return whether a snapshot is of these patterns, or of all files, and its packs are there."""
        seal = snapshot.seal
        if seal.selection != selection and not seal.selection.whole:
            return False
        return not missing_packs(self._archive, seal.packs)

    def best_vouch(self, path: str, sha256: str) -> Vouch | None:
        """Return the highest voucher of these bytes under this path in the commit's snapshots, or None."""
        held = [held.files[path] for held in self.same_revision if path in held.files]
        return max((vouch for facts, vouch in held if facts.sha256 == sha256), default=None)

    def conflicts(self, digests: Iterable[tuple[str, str]]) -> list[ConflictingFile]:
        """Return files, by (path, SHA-256), that a snapshot of the commit holds with other bytes.

        To what upstream lists only what upstream vouched for is a conflict: anything less is
        what it corrects.
        """
        least = Voucher.UPSTREAM if self._least is Voucher.UPSTREAM else Voucher.NOBODY
        return [
            ConflictingFile(path, sha256, facts.sha256, vouch, held.snapshot)
            for path, sha256 in digests
            for held in self.same_revision
            if path in held.files
            for facts, vouch in (held.files[path],)
            if facts.sha256 != sha256 and vouch.by >= least
        ]

    def corrected(self, entries: Iterable[FileEntry]) -> list[ConflictingFile]:
        """Return the files that a snapshot of the commit holds with other bytes, by a lesser voucher."""
        return [
            ConflictingFile(entry.path, entry.sha256, facts.sha256, vouch, held.snapshot)
            for held in self.same_revision
            for entry in entries
            if entry.path in held.files
            for facts, vouch in (held.files[entry.path],)
            if facts.sha256 != entry.sha256
        ]

    @cached_property
    def files(self) -> dict[str, FileEntry]:
        """Path -> entry of the files that are held whole, under whatever name.

        With upstream's digest: the SHA-256 that was computed when they came, or a git SHA-1 that
        upstream vouched for then or that is computed now.
        """
        listed = {file.path: file for file in self._listing.files}
        keys = {
            path: FileKey(file.size, file.sha256, "" if file.sha256 else file.oid)
            for path, file in listed.items()
            if file.sha256 or (file.oid and not file.lfs)
        }
        hints = self._lookup.held_files(set(keys.values()))
        by_snapshot: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for path, key in keys.items():
            if hint := hints.get(key):
                snapshot_key = (hint.repository, hint.snapshot)
                by_snapshot.setdefault(snapshot_key, []).append((path, hint.path))
        entries: dict[str, FileEntry] = {}
        for (repository, digest), paths in by_snapshot.items():
            for snapshot in self._snapshots_of(repository):
                if snapshot.id == digest:
                    entries.update(self._entries_of(snapshot, paths))
        for held in self.same_revision:
            # Of bytes that came without a git SHA-1 no lookup knows any.
            remaining = [path for path in keys if path not in entries and path in held.files]
            likely = [path for path in remaining if held.files[path][0].size == listed[path].size]
            entries.update(self._entries_of(held.snapshot, [(path, path) for path in likely]))
        return entries

    def _entries_of(self, snapshot: Snapshot, paths: list[tuple[str, str]]) -> dict[str, FileEntry]:
        """Return entries for files, by (listed path, held path), that a snapshot holds with their digests.

        As far as its packs are really there, with the size that was sealed, and have their indexes.
        """
        if not paths:
            return {}
        try:
            manifest = self._archive.manifest(snapshot.seal)
        except DamageError:
            return {}
        sealed = snapshot.seal.packs
        unusable = {*self._condemned, *missing_packs(self._archive, sealed)}
        packs = ObjectIndex(self._archive, (pack for pack, _ in sealed if pack not in unusable))
        if packs.unindexed:
            # Nothing new is to stand on what is seen to be damaged: it is fetched, and stored whole.
            unusable |= packs.unindexed
            packs = ObjectIndex(self._archive, (pack for pack, _ in sealed if pack not in unusable))
        vouches = vouches_of(snapshot.seal, manifest.source, manifest.files)
        pairs = zip(manifest.files, vouches, strict=True)
        files = {entry.path: (entry, vouch) for entry, vouch in pairs}
        listed = {file.path: file for file in self._listing.files}
        entries = {}
        for path, held in paths:
            entry, vouch = files.get(held, (None, UNVOUCHED))
            if entry is None or not all(packs.find(digest) for _, digest in entry.segments):
                continue
            claim = listed[path]
            if _is_listed(entry, vouch, claim, packs):
                entries[path] = msgspec.structs.replace(
                    entry, path=path, oid=claim.oid, lfs=claim.lfs
                )
                self._packs_of[path] = packs
        return entries

    def location(self, path: str, digest: str) -> tuple[str, IndexEntry]:
        """Return pack and entry of an object of a held file."""
        location = self._packs_of[path].find(digest)
        assert location is not None, "checked when the file was found held"
        return location

    def _snapshots_of(self, repository: str) -> list[Snapshot]:
        return self._archive.snapshots_of(repository, on_damage=skip_damaged)


def _is_listed(entry: FileEntry, vouch: Vouch, claim: RemoteFile, packs: ObjectIndex) -> bool:
    """Return whether a held file's bytes have the digest that upstream lists.

    Its SHA-256 was computed when it came in. A git SHA-1 was too, if upstream vouched by one; what any
    other record says is not believed, and it is computed from the stored bytes.
    """
    if entry.size != claim.size:
        return False
    if claim.sha256:
        return entry.sha256 == claim.sha256
    if vouch == Vouch(Voucher.UPSTREAM, "git-sha1") and not entry.lfs:
        return entry.oid == claim.oid
    hasher = git_blob_hasher(entry.size)
    try:
        with FileDecoder(packs, workers=1) as decoder:
            for piece in decoder.pieces(iter(entry.segments)):
                hasher.update(piece)
    except DamageError:
        return False
    return hasher.hexdigest() == claim.oid
