"""Sync: mirror everything a plan lists; what fails is told and the rest is still done."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from archiver.archive.archive import TOOL, Archive
from archiver.archive.records import Event
from archiver.errors import (
    AccessError,
    ArchiverError,
    ExitCode,
    NetworkError,
    UpstreamGoneError,
)
from archiver.storage.run_lock import RunLock
from archiver.text import utc_now

if TYPE_CHECKING:
    from collections.abc import Callable

    from archiver.plan import Plan, PlannedRepository

Report = TypeVar("Report")

_UNREACHABLE = 2
"""Repositories in a row that could not be reached, after which the others are not tried."""


class SyncReport(msgspec.Struct, frozen=True):
    """How a run of a plan went: counts of repositories, and the exit codes of those that failed."""

    plan: str
    total: int
    done: int
    exit_codes: tuple[int, ...]


def sync(
    archive: Archive,
    plan: Plan,
    mirror: Callable[[PlannedRepository], Report],
    *,
    done: Callable[[Report], None],
    failed: Callable[[PlannedRepository, ArchiverError], None],
    upstream: str,
    journal: bool = True,
) -> SyncReport:
    """Run ``mirror`` on each entry of a plan, one run of a plan at a time.

    Args:
        archive: Where the lock and the journal are.
        plan: What to mirror, in its order.
        mirror: Mirrors one entry, or raises.
        done: Told what became of each entry that was mirrored or held already, as it goes.
        failed: Told of each that was not.
        upstream: The address that the journal names where upstream has lost something.
        journal: Whether such a loss is journalled.

    Raises:
        LockedError: Another process runs this plan.
        NoSpaceError: The disk is full; nothing after this can succeed.
    """
    codes: list[int] = []
    unreachable = 0
    with RunLock(archive.store.scratch(f"plan-{plan.name}.lock"), f"The plan {plan.name}"):
        for planned in plan.repositories:
            try:
                if unreachable >= _UNREACHABLE:
                    raise _not_tried(upstream)
                done(mirror(planned))
                unreachable = 0
            except ArchiverError as error:
                if error.exit_code == ExitCode.NO_SPACE:
                    raise
                if journal and _is_gone(error):
                    _note_gone(archive, planned, upstream)
                unreachable = unreachable + 1 if error.exit_code == ExitCode.NETWORK else 0
                codes.append(int(error.exit_code))
                failed(planned, error)
    total = len(plan.repositories)
    return SyncReport(plan.name, total, total - len(codes), tuple(codes))


def _not_tried(upstream: str) -> NetworkError:
    return NetworkError(
        f"It was not tried: {upstream} could not be reached for the {_UNREACHABLE} before it.",
        hint="Check the network and run the plan again.",
    )


def _is_gone(error: ArchiverError) -> bool:
    """Refused access says nothing about whether a repository is still there."""
    return isinstance(error, UpstreamGoneError) and not isinstance(error, AccessError)


def _note_gone(archive: Archive, planned: PlannedRepository, upstream: str) -> None:
    """Journal once that upstream no longer has what this archive has of it."""
    name = planned.revision or "main"
    latest: dict[str, str] = {}
    for _, event in archive.events(on_damage=lambda _name, _error: None):
        same = event.repository.casefold() == planned.name.casefold()
        if same and event.detail.get("name") == name and event.event in {"sighted", "gone"}:
            latest[event.event] = event.time
    held = archive.snapshots_of(planned.name, on_damage=lambda _name, _error: None)
    told = latest.get("gone", "") >= latest.get("sighted", "") and "gone" in latest
    if held and not told:
        repository = held[0].seal.repository
        detail = {"name": name, "upstream": upstream}
        archive.record(Event("gone", utc_now(), TOOL, repository, detail=detail))


def compare_collection(plan: Plan, listed: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Repositories that the collection has and the plan has not, and the other way round."""
    planned = {one.name.casefold() for one in plan.repositories}
    there = {name.casefold() for name in listed}
    new = [name for name in listed if name.casefold() not in planned]
    return new, [one.name for one in plan.repositories if one.name.casefold() not in there]
