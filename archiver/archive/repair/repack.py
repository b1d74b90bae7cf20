"""Mending packs: as whole files where a good copy is, else object by object into new packs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from archiver.archive import layout
from archiver.archive.archive import Archive
from archiver.archive.fixity import staged_right
from archiver.archive.layout import pack_name
from archiver.archive.packs.format import IndexEntry
from archiver.archive.packs.index import ObjectIndex
from archiver.archive.packs.reader import PackReader
from archiver.archive.packs.writer import PackWriter
from archiver.archive.quarantine import link_to_quarantine, quarantined_names
from archiver.archive.records import ArchiveInfo
from archiver.archive.repair.objects import OWN, Need, Needs, needs_of
from archiver.archive.repair.whole_files import Mended
from archiver.archive.seals import Snapshot
from archiver.errors import ArchiverError, DamageError, skip_damaged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from archiver.archive.check.result import CheckResult
    from archiver.archive.repair.objects import ObjectSource
    from archiver.archive.repair.reseal import Resealed
    from archiver.archive.repair.whole_files import WholeFiles
    from archiver.codec.segment import EncodedObject
    from archiver.digest import Blake3Hex
    from archiver.storage.store import Staged, Store


MENDABLE: Final = {"pack-missing", "pack-size", "pack-damaged", "index-damaged", "object-damaged"}
"""The codes of findings that name a pack which can be made anew."""


class PackState(msgspec.Struct, frozen=True):
    """How the packs are now.

    Attributes:
        mended: The packs that are right again under their names.
        bad: Those that are not.
        hit: The snapshots that stand on one of those.
        needs: The objects that no whole pack has.
        unknown: The ids of the snapshots on bad packs of which nobody knows what they need: they have no
            manifest now.
    """

    mended: tuple[Mended, ...]
    bad: frozenset[str]
    hit: tuple[Snapshot, ...]
    needs: Needs
    unknown: frozenset[str] = frozenset()


class Packs:
    """The damaged packs of an archive, and what they should give."""

    def __init__(self, archive: Archive, found: CheckResult, stores: Sequence[Store]) -> None:
        """Look for other copies of the packs in ``stores``, to learn what they held."""
        self._archive = archive
        self._found = found
        self._stores = [archive.store, *stores]

    def bring_back(self, whole: WholeFiles) -> PackState:
        """Put good copies in the place of the damaged packs that have one."""
        hit = dict.fromkeys(one.pack for one in self._found.findings if one.code in MENDABLE)
        mended, bad = [], []
        for pack in filter(None, hit):
            found = whole.heal(pack_name(pack))
            mended += [found] if found else []
            bad += [] if found else [pack]
        # A reader that was opened before may still see the old file.
        self._archive = Archive(self._archive.store, self._archive.info)
        pretended = frozenset(hit) - frozenset(bad) if whole.dry_run else frozenset()
        return self._state(tuple(mended), frozenset(bad), pretended)

    def _state(
        self, mended: tuple[Mended, ...], bad: frozenset[str], pretended: frozenset[str]
    ) -> PackState:
        living = self._archive.snapshots(on_damage=skip_damaged)
        hit = tuple(one for one in living if not bad.isdisjoint(_named(one)))
        concerned = {one.id: one for one in (*hit, *self._found.sealed)}
        denied = {result.pack for result in self._found.pack_results if result.denied}
        # What a pack holds that may not be read is not known to be missing.
        known = [one for one in concerned.values() if denied.isdisjoint(_named(one))]
        # What a pack holds that would be brought back is not known either; nothing of it is lost.
        known = [one for one in known if one in hit or pretended.isdisjoint(_named(one))]
        held = self.held(hit, bad)
        needs = needs_of(self._archive, known, lambda digest: held.find(digest) is not None)
        unknown = frozenset(one.id for one in hit if not _readable(self._archive, one))
        return PackState(mended, bad, hit, needs, unknown)

    def held(self, hit: Sequence[Snapshot], bad: frozenset[str]) -> ObjectIndex:
        """The objects of the packs that are whole, as far as they were read."""
        proven = [result.pack for result in self._found.pack_results if result.readable]
        named = [pack for one in hit for pack in _named(one)]
        packs = dict.fromkeys((*proven, *named))
        return ObjectIndex(self._archive, [pack for pack in packs if pack not in bad])

    def recut(self, state: PackState, sources: Sequence[ObjectSource]) -> Recut:
        """Make the bad packs anew from single objects, as far as these are to be had."""
        archive = self._archive
        held = self.held(state.hit, state.bad)
        recutter = Recutter(archive, held, state.needs, sources, state.bad)
        return recutter.run(
            listing_of(pack, self._stores, archive.info) for pack in sorted(state.bad)
        )

    def foresee(self, state: PackState, sources: Sequence[ObjectSource]) -> Recut:
        """What ``recut`` would find; nothing is written, and upstream sends no data."""
        done = Recut()
        for digest, need in state.needs.items():
            source = next((one.title for one in sources if one.offers(need)), None)
            if source is None:
                done.lost.add(digest)
            else:
                done.healed[digest] = source
        return done


def _readable(archive: Archive, snapshot: Snapshot) -> bool:
    try:
        archive.manifest(snapshot.seal)
    except DamageError:
        return False
    return True


def _named(snapshot: Snapshot) -> list[str]:
    return [pack for pack, _ in snapshot.seal.packs]


# ---- New packs in the place of damaged and lost ones, made of objects from wherever they are whole.
#
# The new pack has the old one's objects in the old order. So if all are found, encoded as they were, it is
# the old pack again, byte for byte, under its name. Otherwise it is another, and needs a new seal.


_Fetched = dict[str, tuple[IndexEntry, str]]
"""Objects that no whole pack has: where they lie in the new pack, and where they came from."""


class Recut(msgspec.Struct):
    """What came out.

    Attributes:
        same: Packs that are there again, byte for byte -> where their lost objects came from.
        packs: New packs.
        healed: Objects that no whole pack had -> where they came from.
        lost: Objects that are wanted and were found nowhere.
    """

    same: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    packs: list[str] = msgspec.field(default_factory=list)
    healed: dict[str, str] = msgspec.field(default_factory=dict)
    lost: set[str] = msgspec.field(default_factory=set)

    @property
    def source(self) -> str:
        """Where the objects came from that the damaged packs had lost."""
        return ", ".join(_foreign(self.healed.values()))

    def mended(self, aside: Iterable[str]) -> list[Mended]:
        """What was made; the packs ``aside`` are those for which new ones stand in."""
        new = tuple(map(pack_name, self.packs))
        instead = [Mended(pack_name(one), self.source, new) for one in sorted(aside)]
        same = [Mended(pack_name(one), ", ".join(by)) for one, by in self.same.items()]
        return [*same, *(instead or (Mended(one, self.source) for one in new))]

    def names(self, resealed: Iterable[Resealed]) -> list[str]:
        """The files that are new."""
        return [*map(pack_name, self.packs), *(one.new_name for one in resealed)]


class Recutter:
    """Makes packs anew; one per run."""

    def __init__(
        self,
        archive: Archive,
        held: ObjectIndex,
        needs: Needs,
        sources: Sequence[ObjectSource],
        bad: frozenset[str],
    ) -> None:
        """Take ``held`` as what the whole packs have, ``needs`` as what they and the ``bad`` ones lack."""
        self._archive = archive
        self._held = held
        self._needs = needs
        self._sources = sources
        self._bad = bad
        self._loose = LoosePacks(archive, self._approve)
        self.done = Recut()

    def run(self, packs: Iterable[tuple[str, Sequence[IndexEntry], ArchiveInfo]]) -> Recut:
        """Make these packs (name, what they held in order, their writer) anew, and all that is wanted."""
        try:
            for _, listing, info in packs:
                self._stand_in(listing, info)
            self._rest()
            for made in self._loose.finish():
                self._made(made, self.done.healed.values())
        finally:
            self._loose.abort()
        self._archive.store.barrier()
        return self.done

    # ---- one pack

    def _stand_in(self, listing: Sequence[IndexEntry], info: ArchiveInfo) -> None:
        writer = PackWriter(self._archive.store, info)
        try:
            fetched: _Fetched = {}
            complete = bool(listing)
            for listed in listing:
                found = self._fetch(self._need(listed))
                if found is None:
                    complete = complete and listed.blake3 not in self._needs
                    continue
                item, source = found
                entry = writer.append(item)
                if self._held.find(listed.blake3) is None:
                    fetched[listed.blake3] = (entry, source)
            self._accept(writer, fetched, complete=complete)
        finally:
            writer.abort()

    def _need(self, listed: IndexEntry) -> Need:
        need = self._needs.get(listed.blake3) or Need(listed.blake3, listed.size)
        return msgspec.structs.replace(need, stored=listed.stored)

    def _fetch(self, need: Need) -> tuple[EncodedObject, str] | None:
        """The object and where it comes from; None if nobody has it."""
        for source in self._sources:
            found = source.fetch(need)
            if found is not None:
                return found, source.title
        return None

    def _accept(self, writer: PackWriter, fetched: _Fetched, *, complete: bool) -> None:
        """Publish what was written; if it is not all that the pack should give, only what was lost."""
        if not complete:
            self._keep_healed(writer, fetched)
            return
        try:
            made, _ = writer.finish(
                lambda digest, staged: self._approve_whole(digest, staged, needless=not fetched)
            )
        except _NeedlessError:
            return
        came = {digest: source for digest, (_, source) in fetched.items()}
        self.done.healed |= came
        self._made(made, came.values())

    def _made(self, made: str, sources: Iterable[str]) -> None:
        """A pack is published: an old one again, or a new one."""
        if made in self._bad:
            self.done.same[made] = tuple(dict.fromkeys(one for one in sources if one != OWN)) or (
                OWN,
            )
        else:
            self.done.packs.append(made)

    def _approve_whole(self, digest: Blake3Hex, staged: Staged, *, needless: bool) -> None:
        if needless and digest not in self._bad:
            raise _NeedlessError
        self._approve(digest, staged)

    def _approve(self, digest: Blake3Hex, staged: Staged) -> None:
        """The last moment before a pack is visible."""
        if not staged_right(staged, pack_name(digest)):
            raise DamageError(
                "A new pack was not the same when it was read back; nothing was replaced.",
                hint="Test this machine's memory, cables and disks.",
            )
        if digest in self._bad:
            link_to_quarantine(self._archive.store, pack_name(digest))

    def _keep_healed(self, writer: PackWriter, fetched: _Fetched) -> None:
        written = writer.written()
        try:
            for digest, (entry, source) in fetched.items():
                if source != OWN:
                    self._loose.add(written.copy(entry))
                    self.done.healed[digest] = source
        finally:
            written.close()

    # ---- what no pack is known to have held

    def _rest(self) -> None:
        for digest, need in self._needs.items():
            if digest in self.done.healed:
                continue
            found = self._fetch(need)
            if found is None:
                self.done.lost.add(digest)
            elif found[1] != OWN:
                self._loose.add(found[0])
                self.done.healed[digest] = found[1]


def _foreign(sources: Iterable[str]) -> tuple[str, ...]:
    """The sources, each once; the archive's own packs count only where nobody else helped."""
    return tuple(dict.fromkeys(one for one in sources if one != OWN)) or (OWN,)


class _NeedlessError(Exception):
    """All that the pack would hold is whole in other packs, and it would not be the old one again."""


# ---- What a damaged or lost pack held, and in which order, as far as any copy of it still tells.


class PackListing(NamedTuple):
    """A pack, its entries in pack order, and the archive that wrote it."""

    pack: str
    entries: tuple[IndexEntry, ...]
    writer: ArchiveInfo


def listing_of(pack: str, stores: Iterable[Store], info: ArchiveInfo) -> PackListing:
    """What the copies of a pack in these stores tell of it; ``info`` if none tells who wrote it.

    An index counts for more than what is found by walking a copy that lost its own.
    """
    walked: tuple[IndexEntry, ...] = ()
    writer = None
    for reader in _copies(pack, stores):
        try:
            writer = writer or _writer(reader)
            try:
                return PackListing(pack, reader.index(), writer or info)
            except ArchiverError:
                walked = walked or tuple(reader.walk())
        except ArchiverError:
            continue
        finally:
            reader.close()
    return PackListing(pack, walked, writer or info)


def _writer(reader: PackReader) -> ArchiveInfo | None:
    try:
        head = reader.head()
    except ArchiverError:
        return None
    return ArchiveInfo(head.archive, "", "", features=head.features)


def _copies(pack: str, stores: Iterable[Store]) -> Iterator[PackReader]:
    name = layout.pack_name(pack)
    for store in stores:
        aside = ((one, layout.quarantined_of(one)) for one in quarantined_names(store))
        names = [name, *(one for one, found in aside if found is not None and found.name == name)]
        for one in names:
            try:
                yield PackReader(store.open(one), one)
            except (ArchiverError, FileNotFoundError):
                continue


# ---- New packs of objects in whatever order they come.


class LoosePacks:
    """Writes such packs; ``approve`` is told of each before it is visible."""

    def __init__(self, archive: Archive, approve: Callable[[Blake3Hex, Staged], None]) -> None:
        self._archive = archive
        self._approve = approve
        self._writer: PackWriter | None = None
        self._made: list[str] = []

    def add(self, item: EncodedObject) -> None:
        """Store an object."""
        if self._writer is None:
            self._writer = PackWriter(self._archive.store, self._archive.info)
        self._writer.append(item)
        if self._writer.full:
            self.finish()

    def finish(self) -> list[str]:
        """Publish; all the packs that were made."""
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                self._made.append(writer.finish(self._approve)[0])
            finally:
                writer.abort()
        return self._made

    def abort(self) -> None:
        """Throw away what was not published; harmless after ``finish``."""
        if self._writer is not None:
            self._writer.abort()
