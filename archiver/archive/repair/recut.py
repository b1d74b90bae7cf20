"""New packs in the place of damaged and lost ones, made of objects from wherever they are whole.

The new pack has the old one's objects in the old order. So if all are found, encoded as they were, it is
the old pack again, byte for byte, under its name. Otherwise it is another, and needs a new seal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from archiver.archive.layout import pack_name
from archiver.archive.out_of_use import keep_aside
from archiver.archive.packs.records import IndexEntry
from archiver.archive.packs.writer import PackWriter
from archiver.archive.repair.loose_packs import LoosePacks
from archiver.archive.repair.needs import Need, Needs
from archiver.archive.repair.proof import staged_right
from archiver.archive.repair.sources import OWN
from archiver.archive.repair.whole_file import Mended
from archiver.errors import DamageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from archiver.archive.archive import Archive
    from archiver.archive.packs.map import PackMap
    from archiver.archive.records import ArchiveInfo
    from archiver.archive.repair.reseal import Resealed
    from archiver.archive.repair.sources import ObjectSource
    from archiver.codec.segment import EncodedObject
    from archiver.digest import Blake3Hex
    from archiver.storage.store import Staged


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
        held: PackMap,
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
            keep_aside(self._archive.store, pack_name(digest))

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
