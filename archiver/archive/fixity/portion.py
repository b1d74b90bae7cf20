"""The portions of an audit: which packs are read at a stretch, and which snapshot's files after them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from archiver.archive.fixity.pack_audit import Wanted

if TYPE_CHECKING:
    from archiver.archive.archive import Archive, Snapshot
    from archiver.archive.fixity.proof import Proofs
    from archiver.archive.fixity.schedule import Schedule
    from archiver.archive.policy import Level


def packs_of(archive: Archive, snapshots: list[Snapshot], *, others: bool) -> list[Wanted]:
    """Every pack that the snapshots need and, with ``others``, every other one that is there."""
    sizes: dict[str, set[int]] = {}
    titles: dict[str, dict[str, None]] = {}
    for snapshot in snapshots:
        for pack, size in snapshot.seal.packs:
            sizes.setdefault(pack, set()).add(size)
            titles.setdefault(pack, {})[snapshot.title] = None
    found = [Wanted(pack, frozenset(sizes[pack]), tuple(titles[pack])) for pack in sorted(sizes)]
    more = (pack for pack in archive.packs() if pack not in sizes) if others else ()
    return [*found, *(Wanted(pack, frozenset(), ()) for pack in more)]


class Portion(NamedTuple):
    """Packs, and the snapshot whose files are made once they were read, if any."""

    packs: list[Wanted]
    snapshot: Snapshot | None = None


class Portions(NamedTuple):
    """All that has no recent proof, and what of it this run may read."""

    due: list[Portion]
    drawn: list[Portion]


def portions_of(
    level: Level,
    schedule: Schedule,
    proofs: Proofs,
    packs: list[Wanted],
    snapshots: list[Snapshot],
) -> Portions:
    """The work of an audit: snapshot by snapshot where files are asked for, else pack by pack."""
    due: list[Portion] = []
    drawn: list[Portion] = []
    if level == "files":
        known = {one.pack: one for one in packs}
        wanting = schedule.wanting(snapshots, lambda one: proofs.snapshot(one.id))
        due = [_of_snapshot(one, known) for one in wanting]
        drawn = [_of_snapshot(one, known) for one in schedule.drawn(wanting)]
        needed = {pack for one in snapshots for pack, _ in one.seal.packs}
        packs = [one for one in packs if one.pack not in needed]
    rest = schedule.wanting(packs, lambda one: proofs.pack(one.pack, level))
    return Portions([*due, Portion(rest)], [*drawn, Portion(schedule.drawn(rest))])


def _of_snapshot(snapshot: Snapshot, known: dict[str, Wanted]) -> Portion:
    return Portion([known[pack] for pack, _ in snapshot.seal.packs], snapshot)
