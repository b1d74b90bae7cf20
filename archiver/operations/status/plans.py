"""What a status says of the plans that feed an archive, of upstream, and of the room for what comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from archiver.archive.advice import command
from archiver.operations.status.report import LostUpstream, Shortfall
from archiver.text import human_bytes, human_duration, plural, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.archive.archive import Archive
    from archiver.archive.plans import EntryStatus, PlanStatus
    from archiver.operations.status.known import Known

_NAMED: Final = 8
"""Entries that a sentence names; all of them are in ``plans``."""


def free_bytes(archive: Archive) -> int:
    """The room on the archive's disk in bytes; -1 if it is not known."""
    try:
        free = archive.store.free_bytes()
    except OSError:
        return -1
    return -1 if free is None else free


def lost_upstream(known: Known, now: str) -> Iterator[LostUpstream]:
    """What upstream was seen to have no more, of all that is held, by name."""
    held = {one.seal.repository.casefold(): one.seal.repository for one in known.snapshots}
    planned = {
        (one.repository.casefold(), one.revision or "main"): one.acknowledged
        for plan in known.plans
        for one in plan.entries
        if one.state == "gone"
    }
    for key, since in sorted(known.upstreams.gone.items()):
        repository, name = key
        if repository in held:
            acknowledged = planned.get(key, known.upstreams.knows("gone", key, now))
            yield LostUpstream(held[repository], name, since, acknowledged)


def unmet(known: Known, place: str) -> Iterator[Shortfall]:
    """What is wanted and not held: anything at all, or what plans list."""
    if not known.snapshots and not known.damaged_seals and not known.unreadable:
        text = "The archive is empty: it holds no snapshot."
        first = command("mirror", place, "REPO")
        if known.plans:
            first = _sync(known.plans[0], place)
        yield Shortfall("empty", text, first)
    for plan in known.plans:
        yield from _of_plan(plan, place)


def _of_plan(plan: PlanStatus, place: str) -> Iterator[Shortfall]:
    sync, name = _sync(plan, place), printable(plan.plan)
    missing = plan.entries_in("missing")
    if missing:
        lost = sum(one.outcome == "gone" for one in missing)
        gone = f" Upstream has {lost:,} of them no more, or never had." if lost else ""
        count = f"{len(missing):,} of {plural(len(plan.entries), 'repository', 'repositories')}"
        text = f"The plan {name} is not met: {count} not held: {_titles(missing)}.{gone}"
        yield Shortfall("plan-missing", text, sync, plan.plan, _named(missing))
    failed = plan.entries_in("failed")
    if failed:
        text = f"The plan {name}: its last run failed for {_titles(failed)}."
        yield Shortfall("plan-failed", text, sync, plan.plan, _named(failed))
    for fact in ("gone", "refused"):
        for one in plan.entries_in(fact):
            how = "Upstream no longer has" if fact == "gone" else "Upstream refuses access to"
            text = f"{how} {printable(one.title)} (plan {name}); what is held of it stays."
            next_ = command("acknowledge", place, fact, one.title)
            yield Shortfall(f"plan-{fact}", text, next_, plan.plan, (one.title,))
    late = plan.entries_in("late")
    if late:
        since = min(one.answered for one in late)
        ever = f", of the oldest since {since}" if since else ""
        age = human_duration(plan.max_age)
        text = f"The plan {name}: upstream did not answer within {age}{ever}: {_titles(late)}."
        yield Shortfall("plan-late", text, sync, plan.plan, _named(late))


def _sync(plan: PlanStatus, place: str) -> str:
    return command("sync", place, plan.source or plan.plan)


def _named(entries: Iterable[EntryStatus]) -> tuple[str, ...]:
    return tuple(one.title for one in entries)


def _titles(entries: Iterable[EntryStatus]) -> str:
    names = [printable(one.title) for one in entries]
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def remarks(archive: Archive, known: Known, free: int) -> Iterator[Shortfall]:
    """What is worth a line and falls short of nothing."""
    place = archive.store.describe()
    if not known.wants:
        text = "No policy is set: nobody said how many copies, audits and parity are wanted."
        yield Shortfall("policy", text, command("policy set", place, "--copies", "2"))
    if 0 <= free < known.min_free:
        keep = human_bytes(known.min_free)
        text = f"The disk is nearly full: {human_bytes(free)} are free, and {keep} should stay so."
        yield Shortfall("room", text, command("stats", place))
