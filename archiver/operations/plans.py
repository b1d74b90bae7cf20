"""Plans: ending one, and comparing an archive with one, without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from archiver.archive.events import PlannedEntry, PlanRetired, new_event
from archiver.archive.pins import PinDifference, compare_pin
from archiver.archive.places import own_place, settled_place
from archiver.archive.plans import Plans, planned_entry, vouched_in
from archiver.archive.publish import missing_packs
from archiver.errors import ArchiverError, ExitCode, UsageError, skip_damaged
from archiver.text import printable
from archiver.upstream.resolution import resolve, spelled_right

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from archiver.archive.archive import Archive
    from archiver.archive.pins import Pin
    from archiver.archive.seals import Snapshot
    from archiver.plan.document import Plan

EntryState = Literal[
    "held", "missing", "unvouched", "incomplete", "unreadable", "differs", "unresolved"
]
"""``unresolved``: no run has asked upstream yet what it stands for; ``unvouched``: neither upstream nor a
pin stands for some of its bytes; ``incomplete``: packs are missing; ``unreadable``: the manifest is;
``differs``: from its pin."""


class CheckedEntry(msgspec.Struct, frozen=True):
    """One entry of a plan: what is held of it, ``""`` if nothing is, and what its pin says of that.

    ``pin`` is ``""`` if none is published, and ``other-revision`` if all are of revisions not held. ``of``
    is the pattern, author or collection that stood for it in the last run, ``spelled`` the name that is
    most likely meant where the archive and the pins have it otherwise.
    """

    repository: str
    wanted: str
    state: EntryState
    snapshot: str = ""
    revision: str = ""
    pin: Literal["", "agrees", "differs", "other-revision"] = ""
    differences: tuple[PinDifference, ...] = ()
    of: str = ""
    spelled: str = ""

    @property
    def title(self) -> str:
        """``Org/Name`` or ``Org/Name@revision``, as the plan has it."""
        return f"{self.repository}@{self.wanted}" if self.wanted else self.repository


class PlanCheck(msgspec.Struct, frozen=True):
    """An archive beside a plan; ``besides`` are the repositories that are held and not planned."""

    plan: str
    entries: tuple[CheckedEntry, ...]
    besides: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """What was altered is heard before what is damaged, and that before what is not there."""
        states = {entry.state for entry in self.entries}
        for state, code in (
            ("differs", ExitCode.MISMATCH),
            ("unreadable", ExitCode.DAMAGE),
            ("incomplete", ExitCode.POLICY_UNMET),
            ("unvouched", ExitCode.POLICY_UNMET),
            ("missing", ExitCode.POLICY_UNMET),
            ("unresolved", ExitCode.POLICY_UNMET),
        ):
            if state in states:
                return int(code)
        return 0


def check(archive: Archive, plan: Plan, pins: Iterable[Pin]) -> PlanCheck:
    """Compare what an archive holds with a plan, and with the published pins of it.

    Reads seals, manifests and the names of packs; asks no upstream and writes nothing. What a pattern
    stands for is what the last run of the plan was told.
    """
    held: dict[str, list[Snapshot]] = {}
    for snapshot in archive.snapshots(on_damage=skip_damaged):
        held.setdefault(snapshot.seal.repository.casefold(), []).append(snapshot)
    known: dict[str, list[Pin]] = {}
    for pin in pins:
        known.setdefault(pin.repository.casefold(), []).append(pin)
    events = list(archive.events(on_damage=skip_damaged))
    plans = Plans(events, own_place(archive))
    before = plans.find(plan.name)
    resolution = resolve(plan, before.planned.entries if before else (), None)
    names = [snapshots[0].seal.repository for snapshots in held.values()]
    names += [listed[0].repository for name, listed in known.items() if name not in held]
    entries = tuple(
        _checked(archive, plans, entry, held.get(entry.key[0], []), known.get(entry.key[0], []))
        if not (written.is_open or written.follows)
        else CheckedEntry(entry.repository, entry.revision, "unresolved")
        for written, entry in zip(
            resolution.entries, map(planned_entry, resolution.entries), strict=True
        )
    )
    entries = tuple(_spelled(entry, names) for entry in entries)
    planned = {entry.repository.casefold() for entry in entries}
    besides = sorted(
        snapshots[0].seal.repository for name, snapshots in held.items() if name not in planned
    )
    return PlanCheck(plan.name, entries, tuple(besides))


def _spelled(entry: CheckedEntry, names: Sequence[str]) -> CheckedEntry:
    """Return an entry with the name that is most likely meant, if that is another one."""
    right = ""
    if entry.state != "unresolved":
        exact = [name for name in names if name.casefold() == entry.repository.casefold()]
        if exact or entry.state == "missing":
            right = spelled_right(entry.repository, exact or names)
    return msgspec.structs.replace(entry, spelled="" if right == entry.repository else right)


def _checked(
    archive: Archive,
    plans: Plans,
    entry: PlannedEntry,
    held: Sequence[Snapshot],
    pins: Sequence[Pin],
) -> CheckedEntry:
    vouched = plans.covering(entry, filter(vouched_in(archive), held))
    snapshot = vouched or plans.covering(entry, held)
    if snapshot is None:
        return CheckedEntry(entry.repository, entry.revision, "missing", of=entry.of)
    seal = snapshot.seal
    result = CheckedEntry(
        entry.repository, entry.revision, "held", snapshot.id, seal.revision, of=entry.of
    )
    pin = next((candidate for candidate in pins if candidate.revision == seal.revision), None)
    if pins and pin is None:
        result = msgspec.structs.replace(result, pin="other-revision")
    try:
        manifest = archive.manifest(seal)
        missing = missing_packs(archive, seal.packs)
    except ArchiverError:
        return msgspec.structs.replace(result, state="unreadable")
    if pin is not None:
        files = {file.path: (file.size, file.sha256) for file in manifest.files}
        differences = compare_pin(pin, files, whole=seal.selection.whole)
        if differences:
            return msgspec.structs.replace(
                result, state="differs", pin="differs", differences=differences
            )
        result = msgspec.structs.replace(result, pin="agrees")
    elif vouched is None:
        result = msgspec.structs.replace(result, state="unvouched")
    return msgspec.structs.replace(result, state="incomplete") if missing else result


def retire(archive: Archive, name: str) -> None:
    """Journal that a plan feeds this place no more; UsageError if none of this name does."""
    archive.require_writable()
    archive.store.require_writable()
    place = settled_place(archive)
    plans = Plans(list(archive.events(skip_damaged)), place)
    if plans.find(name) is None:
        names = ", ".join(printable(known.planned.plan) for known in plans.active)
        raise UsageError(
            f"No plan {printable(name, 80)!r} feeds the archive at this place.",
            hint=f"These do: {names}." if names else "None does; 'archiver sync' begins one.",
        )
    archive.record(new_event(PlanRetired(name, place.key), time=plans.next_time()))
