"""What a status says of the plans that feed an archive, of upstream, and of the room for what comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from archiver.archive.advice import argv
from archiver.operations.status.report import (
    LostUpstream,
    LowRoom,
    NoPolicy,
    NothingHeld,
    PlanFailed,
    PlanGone,
    PlanLate,
    PlanMissing,
    PlanRefused,
    PlanUnvouched,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.archive.advice import Argv
    from archiver.archive.archive import Archive
    from archiver.archive.plans import EntryStatus, PlanStatus
    from archiver.operations.status.known import Known
    from archiver.operations.status.report import Shortfall

_FACTS: Final[tuple[tuple[Literal["gone", "refused"], type[PlanGone | PlanRefused]], ...]] = (
    ("gone", PlanGone),
    ("refused", PlanRefused),
)


def free_bytes(archive: Archive) -> int:
    """The room on the archive's disk in bytes; -1 if it is not known."""
    try:
        free = archive.store.free_bytes()
    except OSError:
        return -1
    return -1 if free is None else free


def lost_upstream(known: Known, now: str) -> Iterator[LostUpstream]:
    """What upstream was seen to have no more, of all that is held, by name."""
    held = {
        snapshot.seal.repository.casefold(): snapshot.seal.repository
        for snapshot in known.snapshots
    }
    planned = {
        (entry.repository.casefold(), entry.revision or "main"): entry.acknowledged
        for plan in known.plans
        for entry in plan.entries
        if entry.state == "gone"
    }
    for key, since in sorted(known.upstreams.gone.items()):
        repository, name = key
        if repository in held:
            acknowledged = planned.get(key, known.upstreams.knows("gone", key, now))
            yield LostUpstream(held[repository], name, since, acknowledged)


def unmet(known: Known, place: str) -> Iterator[Shortfall]:
    """What is wanted and not held: anything at all, or what plans list."""
    if not known.snapshots and not known.damaged_seals and not known.unreadable:
        plans = known.plans
        first = _sync(plans[0], place) if plans else argv("mirror", place, "REPO")
        yield NothingHeld(commands=(first,))
    for plan in known.plans:
        yield from _of_plan(plan, place)


def _of_plan(plan: PlanStatus, place: str) -> Iterator[Shortfall]:
    name, sync = plan.plan, (_sync(plan, place),)
    if missing := plan.entries_in("missing"):
        lost = sum(entry.outcome == "gone" for entry in missing)
        yield PlanMissing(
            commands=sync, plan=name, entries=_titles(missing), total=len(plan.entries), gone=lost
        )
    if failed := plan.entries_in("failed"):
        yield PlanFailed(commands=sync, plan=name, entries=_titles(failed))
    if unvouched := plan.entries_in("unvouched"):
        yield PlanUnvouched(commands=sync, plan=name, entries=_titles(unvouched))
    for fact, kind in _FACTS:
        for entry in plan.entries_in(fact):
            known = argv("acknowledge", place, fact, entry.title)
            yield kind(commands=(known,), plan=name, entries=(entry.title,))
    if late := plan.entries_in("late"):
        since = min(entry.answered for entry in late)
        yield PlanLate(
            commands=sync, plan=name, entries=_titles(late), max_age=plan.max_age, since=since
        )


def _sync(plan: PlanStatus, place: str) -> Argv:
    return argv("sync", place, plan.source or plan.plan)


def _titles(entries: Iterable[EntryStatus]) -> tuple[str, ...]:
    return tuple(entry.title for entry in entries)


def remarks(archive: Archive, known: Known, free: int) -> Iterator[Shortfall]:
    """What is worth a line and falls short of nothing."""
    place = archive.store.describe()
    if not known.wants:
        yield NoPolicy(commands=(argv("policy set", place, "--copies", "2"),))
    if 0 <= free < known.min_free:
        yield LowRoom(commands=(argv("stats", place),), free=free, keep=known.min_free)
