"""The packs that an archive should have, as its seals name them, and those that it has beside."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from archiver.archive.layout import pack_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from archiver.archive.archive import Archive, Snapshot


class Wanted(NamedTuple):
    """A pack, its sizes in bytes as seals name them, and the snapshots that need it."""

    pack: str
    sizes: frozenset[int]
    snapshots: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its stored name."""
        return pack_name(self.pack)


def packs_of(snapshots: Iterable[Snapshot]) -> list[Wanted]:
    """Every pack that the snapshots need, in order."""
    sizes: dict[str, set[int]] = {}
    titles: dict[str, dict[str, None]] = {}
    for snapshot in snapshots:
        for pack, size in snapshot.seal.packs:
            sizes.setdefault(pack, set()).add(size)
            titles.setdefault(pack, {})[snapshot.title] = None
    return [Wanted(pack, frozenset(sizes[pack]), tuple(titles[pack])) for pack in sorted(sizes)]


def others(archive: Archive, packs: Iterable[Wanted]) -> list[Wanted]:
    """Every pack that is there beside these: nobody is known to need it."""
    known = {one.pack for one in packs}
    return [Wanted(pack, frozenset(), ()) for pack in archive.packs() if pack not in known]
