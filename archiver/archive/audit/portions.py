"""The portions of an audit: which packs are read at a stretch, and which snapshot's files after them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from archiver.archive.archive import Snapshot
    from archiver.archive.audit.proofs import Proofs
    from archiver.archive.audit.schedule import Schedule
    from archiver.archive.audit.wanted import Wanted
    from archiver.archive.policy import Level


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
        wanting = schedule.wanting(snapshots, lambda one: _last(one, proofs))
        due = [_of_snapshot(one, known) for one in wanting]
        drawn = [_of_snapshot(one, known) for one in schedule.drawn(wanting, lambda one: one.id)]
        needed = {pack for one in snapshots for pack, _ in one.seal.packs}
        packs = [one for one in packs if one.pack not in needed]
    rest = schedule.wanting(packs, lambda one: proofs.pack(one.pack, level))
    return Portions(
        [*due, Portion(rest)], [*drawn, Portion(schedule.drawn(rest, lambda one: one.pack))]
    )


def _last(snapshot: Snapshot, proofs: Proofs) -> str:
    """When all files of a snapshot were last made; never, if a pack of it was found damaged since."""
    broken = any(proofs.damaged(pack) for pack, _ in snapshot.seal.packs)
    return "" if broken else proofs.snapshot(snapshot.id)


def _of_snapshot(snapshot: Snapshot, known: dict[str, Wanted]) -> Portion:
    return Portion([known[pack] for pack, _ in snapshot.seal.packs], snapshot)
