"""Damaged and lost packs: put back as whole files where a good copy is, else made anew object by object.

A pack that is made anew has the old one's objects in the old order. So if all are found, encoded as
before, it *is* the old pack, byte for byte, under its name, and no seal changes. Otherwise it is another
one, and the snapshots that stand on it need new seals (``reseal``).
"""

from __future__ import annotations

from contextlib import closing
from itertools import product
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from archiver.archive import layout
from archiver.archive.archive import Archive
from archiver.archive.check.packs import many_missing
from archiver.archive.fixity import reader_right
from archiver.archive.layout import pack_name
from archiver.archive.packs.index import ObjectIndex
from archiver.archive.packs.reader import PackReader
from archiver.archive.packs.writer import PackWriter
from archiver.archive.quarantine import link_to_quarantine, quarantined_names
from archiver.archive.records import ArchiveInfo
from archiver.archive.repair.objects import (
    THIS_ARCHIVE,
    MissingObject,
    MissingObjects,
    missing_objects,
)
from archiver.archive.repair.stored_files import RepairedFile, copies_among
from archiver.archive.seals import Snapshot
from archiver.errors import ArchiverError, DamageError, skip_damaged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from archiver.archive.check.result import CheckResult
    from archiver.archive.findings import Finding
    from archiver.archive.packs.format import IndexEntry
    from archiver.archive.repair.objects import ObjectSource
    from archiver.archive.repair.stored_files import FileRepair
    from archiver.codec.segment import EncodedObject
    from archiver.storage.store import Store

_PACK_CODES: Final = {
    "pack-missing",
    "pack-size",
    "pack-damaged",
    "index-damaged",
    "object-damaged",
}
"""The codes of findings that name a pack which can be made anew."""


# Packs as whole files, and what is missing after that.


class PackDamage(msgspec.Struct, frozen=True):
    """How the packs are once those that a source has whole are back.

    Attributes:
        repaired: The packs that are right again under their names.
        damaged: Those that are not.
        affected: The snapshots that stand on one of those.
        missing: The objects that no whole pack has.
        without_manifest: The ids of the affected snapshots of which nobody knows what they need: they have
            no manifest now.
    """

    repaired: tuple[RepairedFile, ...]
    damaged: frozenset[str]
    affected: tuple[Snapshot, ...]
    missing: MissingObjects
    without_manifest: frozenset[str] = frozenset()


def repair_whole_packs(archive: Archive, check: CheckResult, files: FileRepair) -> PackDamage:
    """Put good copies in the place of the damaged packs that have one; return what is damaged still."""
    repaired, damaged = [], []
    findings = (finding for finding in check.findings if finding.code in _PACK_CODES)
    packs = (pack for finding in findings for pack in finding.packs or (finding.pack,))
    for pack in dict.fromkeys(filter(None, packs)):
        back = files.repair(pack_name(pack))
        if back is None:
            damaged.append(pack)
        else:
            repaired.append(back)
    # A reader that was opened before may still see the old file.
    archive = Archive(archive.store, archive.info)
    not_written = {file.name for file in repaired} if files.dry_run else set()
    return _remaining_damage(archive, check, tuple(repaired), frozenset(damaged), not_written)


def _remaining_damage(
    archive: Archive,
    check: CheckResult,
    repaired: tuple[RepairedFile, ...],
    damaged: frozenset[str],
    not_written: set[str],
) -> PackDamage:
    """Return what the snapshots lack; ``not_written`` are packs that only a dry run calls repaired."""
    snapshots = archive.snapshots(on_damage=skip_damaged)
    affected = tuple(each for each in snapshots if not damaged.isdisjoint(_packs_of(each)))
    affected_ids = {snapshot.id for snapshot in affected}
    # What a pack holds that may not be read is not known to be missing.
    unknown = {result.pack for result in check.pack_results if result.denied}
    # What a pack holds that would be brought back is not known either; nothing of it is lost.
    unwritten = unknown | {layout.pack_of(name) for name in not_written}
    concerned = {snapshot.id: snapshot for snapshot in (*affected, *check.sealed)}
    known = [
        snapshot
        for snapshot in concerned.values()
        if (unknown if snapshot.id in affected_ids else unwritten).isdisjoint(_packs_of(snapshot))
    ]
    held = _held_objects(archive, check, affected, damaged)
    return PackDamage(
        repaired,
        damaged,
        affected,
        missing_objects(archive, known, lambda digest: held.find(digest) is not None),
        frozenset(each.id for each in affected if not _has_manifest(archive, each)),
    )


def _held_objects(
    archive: Archive,
    check: CheckResult,
    affected: Sequence[Snapshot],
    damaged: frozenset[str],
) -> ObjectIndex:
    """Return the objects of the packs that are whole, as far as they were read."""
    proven = [result.pack for result in check.pack_results if result.readable]
    named = [pack for snapshot in affected for pack in _packs_of(snapshot)]
    packs = dict.fromkeys((*proven, *named))
    return ObjectIndex(archive, [pack for pack in packs if pack not in damaged])


def _has_manifest(archive: Archive, snapshot: Snapshot) -> bool:
    try:
        archive.manifest(snapshot.seal)
    except DamageError:
        return False
    return True


def _packs_of(snapshot: Snapshot) -> list[str]:
    return [pack for pack, _ in snapshot.seal.packs]


# What a damaged or lost pack held, and in which order, as far as any copy of it still tells.


class PackListing(NamedTuple):
    """What a pack held, in pack order, and how it may have been written.

    Attributes:
        entries: Its objects.
        writers: The archives that may have written it, the likeliest first.
        short: Whether its index was as older writers made it; both are possible where no copy tells.
    """

    entries: tuple[IndexEntry, ...]
    writers: tuple[ArchiveInfo, ...]
    short: tuple[bool, ...] = (False, True)


def pack_listing(pack: str, stores: Iterable[Store], info: ArchiveInfo) -> PackListing:
    """Return what the copies of a pack in these stores tell of it; ``info`` is the archive's own.

    An index counts for more than what is found by walking a copy that lost its own.
    """
    walked: tuple[IndexEntry, ...] = ()
    writers: dict[str, ArchiveInfo] = {}
    for reader in _copies(pack, stores):
        try:
            if writer := _writer_of(reader):
                writers.setdefault(writer.archive, writer)
            index = _index_of(reader)
            if index:
                short = not any(entry.frames for entry in index)
                entries = tuple(reader.true_entries())
                return PackListing(entries, _with_own(writers, info), (short,))
            walked = walked or tuple(reader.true_entries())
        except ArchiverError:
            continue
        finally:
            reader.close()
    return PackListing(walked, _with_own(writers, info))


def _with_own(writers: dict[str, ArchiveInfo], info: ArchiveInfo) -> tuple[ArchiveInfo, ...]:
    return tuple({**writers, info.archive: writers.get(info.archive, info)}.values())


def _index_of(reader: PackReader) -> tuple[IndexEntry, ...]:
    try:
        return reader.index()
    except DamageError:
        return ()


def _writer_of(reader: PackReader) -> ArchiveInfo | None:
    try:
        head = reader.head()
    except ArchiverError:
        return None
    return ArchiveInfo(head.archive, "", "")


def _copies(pack: str, stores: Iterable[Store]) -> Iterator[PackReader]:
    """Yield a reader of every copy of a pack: the one in use, and then those in quarantine and trash."""
    for store in stores:
        for name in (pack_name(pack), *copies_among(quarantined_names(store), pack_name(pack))):
            try:
                yield PackReader(store.open(name), name)
            except (ArchiverError, FileNotFoundError):
                continue


def _written_again(
    store: Store,
    pack: str,
    listing: PackListing,
    entries: Sequence[IndexEntry],
    reader: PackReader,
) -> PackWriter | None:
    """Return ``pack``, complete and not visible yet, of the objects of ``reader``; None if it is another.

    What stands around the objects depends on who wrote it. Raise DamageError if an object is not whole.
    """
    for info, short in product(listing.writers, listing.short):
        writer = PackWriter(store, info, short_entries=short)
        try:
            for entry in entries:
                writer.append(reader.copy(entry))
            if writer.complete() == pack:
                return writer
        except BaseException:
            writer.abort()
            raise
        writer.abort()
    return None


def copy_as_it_was(source: Archive, pack: str, target: Store) -> bool:
    """Publish a damaged pack of ``source`` in ``target``, whole, if all of its objects still come out.

    Return whether it could; raise what the target raises.
    """
    listing = pack_listing(pack, [source.store], source.info)
    try:
        reader = source.pack(pack)
        writer = _written_again(target, pack, listing, listing.entries, reader)
    except DamageError:
        return False
    if writer is None:
        return False
    try:
        whole = reader_right(writer.reader(), pack_name(pack))
        if whole:
            writer.publish()
    finally:
        writer.abort()
    return whole


# Packs made anew.


class RepackResult(msgspec.Struct):
    """What came out of making packs anew, or would.

    Attributes:
        rebuilt: Packs that are there again, byte for byte -> where their lost objects came from.
        new_packs: Packs that were not there before.
        recovered: Objects that no whole pack had -> where they came from.
        lost: Missing objects that nobody has.
    """

    rebuilt: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    new_packs: list[str] = msgspec.field(default_factory=list)
    recovered: dict[str, str] = msgspec.field(default_factory=dict)
    lost: set[str] = msgspec.field(default_factory=set)

    @property
    def source(self) -> str:
        """Where the objects came from that the damaged packs had lost."""
        return ", ".join(_distinct_sources(self.recovered.values()))

    def repaired_files(self, replaced: Iterable[str]) -> list[RepairedFile]:
        """Return what was made; ``replaced`` are the packs that new ones stand in for."""
        new = tuple(map(pack_name, self.new_packs))
        rebuilt = [
            RepairedFile(pack_name(pack), ", ".join(sources))
            for pack, sources in self.rebuilt.items()
        ]
        old = [RepairedFile(pack_name(pack), self.source, new) for pack in sorted(replaced)]
        return [*rebuilt, *(old or (RepairedFile(name, self.source) for name in new))]


def repack(
    archive: Archive,
    check: CheckResult,
    damage: PackDamage,
    sources: Sequence[ObjectSource],
    stores: Sequence[Store],
) -> RepackResult:
    """Make the damaged packs anew from single objects, as far as the ``sources`` have these.

    Other copies of the packs are looked for in the archive and in ``stores``, to learn what they held. All
    that is published is durable when this returns. No seal names a new pack yet.
    """
    held = _held_objects(archive, check, damage.affected, damage.damaged)
    repacker = _Repacker(archive, held, damage, sources)
    try:
        for pack in sorted(damage.damaged):
            repacker.rebuild(pack, pack_listing(pack, [archive.store, *stores], archive.info))
        repacker.recover_rest()
        repacker.publish_loose()
    finally:
        repacker.abort()
    archive.store.barrier()
    return repacker.result


def predict_repack(damage: PackDamage, sources: Sequence[ObjectSource]) -> RepackResult:
    """Return what ``repack`` would recover; nothing is written, and upstream sends no data."""
    result = RepackResult()
    for digest, missing in damage.missing.items():
        source = next((each.title for each in sources if each.offers(missing)), None)
        if source is None:
            result.lost.add(digest)
        else:
            result.recovered[digest] = source
    return result


class _Repacker:
    """Makes packs anew: the damaged ones, and packs for what is recovered beyond them."""

    def __init__(
        self,
        archive: Archive,
        held: ObjectIndex,
        damage: PackDamage,
        sources: Sequence[ObjectSource],
    ) -> None:
        """Take ``held`` as what the whole packs have."""
        self._archive = archive
        self._held = held
        self._missing = damage.missing
        self._damaged = damage.damaged
        self._sources = sources
        self._loose: PackWriter | None = None
        """A pack of recovered objects, in whatever order they come."""
        self.result = RepackResult()

    def rebuild(self, old: str, listing: PackListing) -> None:
        """Make the pack ``old`` again; if it cannot have all its objects, keep those that were missing."""
        writer = PackWriter(self._archive.store, listing.writers[0])
        try:
            recovered: dict[str, tuple[IndexEntry, str]] = {}
            complete = bool(listing.entries)
            for listed in listing.entries:
                encoded, source = self._left_in(old, listed), THIS_ARCHIVE
                if encoded is None:
                    encoded, source = self._fetch(self._missing_object(listed))
                if encoded is None:
                    complete = complete and listed.blake3 not in self._missing
                    continue
                entry = writer.append(encoded)
                if self._held.find(listed.blake3) is None:
                    recovered[listed.blake3] = (entry, source)
            if complete:
                sources = {key: by for key, (_, by) in recovered.items()}
                self._finish_rebuilt(old, listing, writer, sources)
            else:
                self._keep_recovered(writer, recovered)
        finally:
            writer.abort()

    def _left_in(self, pack: str, listed: IndexEntry) -> EncodedObject | None:
        """Return the object out of the damaged pack itself, whatever its index calls it."""
        try:
            return self._archive.pack(pack).copy(listed)
        except ArchiverError:
            return None

    def _missing_object(self, listed: IndexEntry) -> MissingObject:
        missing = self._missing.get(listed.blake3) or MissingObject(listed.blake3, listed.size)
        return msgspec.structs.replace(missing, stored=listed.stored)

    def _fetch(self, missing: MissingObject) -> tuple[EncodedObject | None, str]:
        """Return the object and where it comes from; None if nobody has it."""
        for source in self._sources:
            encoded = source.fetch(missing)
            if encoded is not None:
                return encoded, source.title
        return None, ""

    def _finish_rebuilt(
        self, old: str, listing: PackListing, writer: PackWriter, recovered: dict[str, str]
    ) -> None:
        pack: str = writer.complete()
        as_written = None if pack == old else self._as_written(old, listing, writer)
        try:
            if as_written is not None:
                writer, pack = as_written, old
            elif not recovered and pack not in self._damaged:
                return  # all that it holds is whole in other packs, and it would not be the old one again
            self._publish(writer, pack)
        finally:
            if as_written is not None:
                as_written.abort()
        self.result.recovered |= recovered
        self._record(pack, recovered.values())

    def _as_written(self, old: str, listing: PackListing, writer: PackWriter) -> PackWriter | None:
        """Return the pack ``old``, complete, with the same objects; None if it does not become the same."""
        with closing(PackReader(writer.reader(), "An unfinished pack")) as written:
            return _written_again(self._archive.store, old, listing, writer.entries, written)

    def _keep_recovered(
        self, writer: PackWriter, recovered: dict[str, tuple[IndexEntry, str]]
    ) -> None:
        """Take the objects that were missing out of a pack that will not be published."""
        with closing(PackReader(writer.reader(), "An unfinished pack")) as written:
            for digest, (entry, source) in recovered.items():
                if source != THIS_ARCHIVE:
                    self._add_loose(digest, written.copy(entry), source)

    def recover_rest(self) -> None:
        """Recover what no pack is known to have held."""
        for digest, missing in self._missing.items():
            if digest in self.result.recovered:
                continue
            encoded, source = self._fetch(missing)
            if encoded is None:
                self.result.lost.add(digest)
            elif source != THIS_ARCHIVE:
                self._add_loose(digest, encoded, source)

    def _add_loose(self, digest: str, encoded: EncodedObject, source: str) -> None:
        if self._loose is not None and not self._loose.has_room(encoded):
            self.publish_loose()
        if self._loose is None:
            self._loose = PackWriter(self._archive.store, self._archive.info)
        self._loose.append(encoded)
        self.result.recovered[digest] = source

    def publish_loose(self) -> None:
        """Publish the recovered objects that are not in a pack yet."""
        writer, self._loose = self._loose, None
        if writer is None:
            return
        try:
            pack = writer.complete()
            self._publish(writer, pack)
        finally:
            writer.abort()
        self._record(pack, self.result.recovered.values())

    def _publish(self, writer: PackWriter, pack: str) -> None:
        """Prove a complete pack, and make it visible; the damaged one of that name stays in quarantine."""
        if not reader_right(writer.reader(), pack_name(pack)):
            raise DamageError(
                "A new pack was not the same when it was read back; nothing was replaced.",
                hint="Test this machine's memory, cables and disks.",
            )
        if pack in self._damaged:
            # First: what is left of the old bytes has a name throughout.
            link_to_quarantine(self._archive.store, pack_name(pack))
        writer.publish()

    def _record(self, pack: str, sources: Iterable[str]) -> None:
        """Note a published pack: an old one again, or a new one."""
        if pack in self._damaged:
            self.result.rebuilt[pack] = _distinct_sources(sources)
        else:
            self.result.new_packs.append(pack)

    def abort(self) -> None:
        """Throw away what was not published."""
        if self._loose is not None:
            self._loose.abort()


def _distinct_sources(sources: Iterable[str]) -> tuple[str, ...]:
    """Return the sources, each once; the archive's own packs count only where nobody else helped."""
    distinct = dict.fromkeys(source for source in sources if source != THIS_ARCHIVE)
    return tuple(distinct) or (THIS_ARCHIVE,)


# What a dry run says: what would be right afterwards, and what would not.


def predicted_packs(damage: PackDamage, repacked: RepackResult) -> list[RepairedFile]:
    """Return the packs that could be made anew: those of which no snapshot would lack anything."""
    lacking = {title for title, _ in damage.missing.files_of(repacked.lost)}
    stuck = {
        pack
        for snapshot in damage.affected
        for pack in _packs_of(snapshot)
        if snapshot.title in lacking or snapshot.id in damage.without_manifest
    }
    names = map(pack_name, sorted(damage.damaged - stuck))
    return [RepairedFile(name, repacked.source) for name in names]


def predicted_findings(
    findings: Iterable[Finding],
    repaired: Iterable[RepairedFile],
    damage: PackDamage,
    repacked: RepackResult,
) -> tuple[Finding, ...]:
    """Return the findings that would be there still."""
    names = {file.name for file in repaired}
    lost = damage.missing.files_of(repacked.lost)

    def remaining(finding: Finding) -> Finding | None:
        if finding.code in {"object-damaged", "object-missing"} and finding.path:
            hit = any((title, finding.path) in lost for title in finding.snapshots)
            return finding if hit else None
        if finding.code not in _PACK_CODES:
            return finding
        if finding.packs:
            left = tuple(pack for pack in finding.packs if pack_name(pack) not in names)
            message = many_missing(left) if left else ""
            return msgspec.structs.replace(finding, packs=left, message=message) if left else None
        return None if pack_name(finding.pack) in names else finding

    return tuple(
        sorted(
            filter(None, map(remaining, findings)),
            key=lambda finding: (finding.code, finding.snapshots, finding.path, finding.pack),
        )
    )
