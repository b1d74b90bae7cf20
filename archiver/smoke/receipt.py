"""The receipt of a smoke test: the journal's event ``smoke-tested`` (``docs/format.md``, annex A.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from archiver.archive.check.proofs import was_at
from archiver.archive.events import Event, SmokeFinding, SmokeTested, new_event
from archiver.archive.journal import EVENT_MAX
from archiver.archive.places import settled_place
from archiver.archive.records import canonical
from archiver.errors import ArchiverError, DamageError, skip_damaged
from archiver.smoke.report import up_to
from archiver.text import plural, utc_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.archive.archive import Archive
    from archiver.archive.findings import Finding
    from archiver.archive.places import Place
    from archiver.archive.seals import Snapshot
    from archiver.smoke.golden.record import Golden
    from archiver.smoke.report import SmokeReport

_FINDINGS: Final = 50
_LONGEST: Final = 500
_ENVIRONMENT_MAX: Final = 16 << 10
"""Bytes of JSON; golden records have at most 700,000, so that an event stays below its 1 MiB."""


class Run(NamedTuple):
    """How a model was run: ``float32`` or ``bfloat16``, on which device, and where its weights were."""

    dtype: str
    device: str
    mode: str


def receipt(
    archive: Archive,
    snapshot: Snapshot,
    report: SmokeReport,
    run: Run,
    *,
    restored: bool = False,
    golden: Golden | None = None,
) -> Event:
    """Return what the journal is to keep of a smoke test; ``restored``: of a folder, not the archive."""
    tested = SmokeTested(
        snapshot=snapshot.id,
        manifest=snapshot.seal.manifest.blake3,
        levels={level.level: level.verdict for level in report.levels},
        read="folder" if restored else "archive",
        place=settled_place(archive).key,
        dtype=run.dtype,
        device=run.device,
        mode=run.mode,
        seconds=round(sum(level.seconds for level in report.levels)),
        environment=_bounded(report.environment),
        findings=tuple(map(_noted, sorted(report.findings, key=_weight)[:_FINDINGS])),
        golden=msgspec.UNSET if golden is None else msgspec.Raw(canonical(golden)),
    )
    event = new_event(tested, snapshot.seal.repository, snapshot.seal.revision)
    if len(canonical(event)) > EVENT_MAX - (1 << 16):  # what it follows is yet to be added
        raise ArchiverError("The receipt is larger than an event of the journal may be.")
    return event


def _weight(finding: Finding) -> int:
    """Return a rank: what failed a level comes first, then what was accepted, so that a cut keeps those."""
    return 0 if not finding.remark else 1 if finding.accepted else 2


def _noted(finding: Finding) -> SmokeFinding:
    accepted = True if finding.accepted else msgspec.UNSET
    return SmokeFinding(finding.code, _text(finding.message), accepted)


def _bounded(environment: dict[str, Any]) -> dict[str, Any]:
    """Return it without floats, which canonical JSON has not; nothing of it if it is too long to keep."""
    facts: dict[str, Any] = {_text(key): _value(value) for key, value in environment.items()}
    return facts if len(canonical(facts)) <= _ENVIRONMENT_MAX else {}


def _value(value: object) -> object:
    if isinstance(value, dict):
        return {_text(str(key)): _value(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_value(inner) for inner in value]
    if value is None or isinstance(value, (bool, int)):
        return value
    return _text(str(value))


def _text(text: str) -> str:
    """Return a short text that JSON can hold, whatever a checkpoint put into it."""
    return text[:_LONGEST].encode(errors="backslashreplace").decode()


class Receipt(NamedTuple):
    """The id and time of an event, and what it says of a smoke test."""

    event: str
    time: str
    tested: SmokeTested


def _receipts(events: Iterable[tuple[str, Event]], snapshot: Snapshot) -> Iterator[Receipt]:
    """Return the receipts of a snapshot, or of another seal of the same manifest, oldest first."""
    for digest, event in events:
        match event.detail:
            case SmokeTested() as tested if (
                tested.snapshot == snapshot.id or tested.manifest == snapshot.seal.manifest.blake3
            ):
                yield Receipt(digest, event.time, tested)


def newest_receipt(archive: Archive, snapshot: Snapshot) -> Receipt | None:
    """Return the newest receipt of a snapshot, of whatever levels and wherever it was made."""
    receipts = list(_receipts(archive.events(skip_damaged), snapshot))
    return receipts[-1] if receipts else None


class KnownGolden(NamedTuple):
    """The golden record that counts, the id of its event, and what was wrong with newer ones."""

    golden: Golden | None
    event: str
    remarks: tuple[str, ...]


def newest_golden(archive: Archive, snapshot: Snapshot) -> KnownGolden:
    """Return the newest golden record of a snapshot that can be used, wherever it was made."""
    # Whoever only asks when a model was tested does without arrays.
    from archiver.smoke.golden.record import parse_golden  # noqa: PLC0415

    remarks: list[str] = []
    damaged: list[str] = []
    receipts = list(_receipts(archive.events(lambda name, _: damaged.append(name)), snapshot))
    if damaged:
        count = plural(len(damaged), "event")
        remarks.append(f"{count} of the journal cannot be read; a golden record may be among them.")
    for event, time, tested in reversed(receipts):
        if isinstance(tested.golden, msgspec.UnsetType):
            continue
        what = f"The golden record in event {event[:16]} of {time}"
        try:
            golden = parse_golden(msgspec.json.decode(tested.golden), what)
            return KnownGolden(golden, event, tuple(remarks))
        except DamageError as error:
            remarks.append(f"{error.message} It is ignored.")
    return KnownGolden(None, "", tuple(remarks))


class Tested(NamedTuple):
    """When a snapshot was last tested at a place, and when it last held; ``""`` if never."""

    tried: str
    held: str

    def proves(self, since: str) -> bool:
        """Return whether the newest test held, and is not older than that."""
        return self.tried == self.held >= since


_NEVER: Final = Tested("", "")


def last_tested(archive: Archive, snapshots: Iterable[Snapshot], place: Place) -> dict[str, Tested]:
    """Return when each snapshot, by its id, was last tested at this place.

    A test counts that was to run every level up to ``generate``, and not one that claims a later time
    than now: a clock that ran ahead must not keep a snapshot from being tested for years.
    """
    now = utc_now()
    newest: dict[str, Tested] = {}
    for _, event in archive.standing_events():
        match event.detail:
            case SmokeTested() as tested if event.time <= now and was_at(tested, place):
                if not tested.levels.keys() >= set(up_to("generate")):
                    continue
                held = all(level in {"held", "inapplicable"} for level in tested.levels.values())
                new = Tested(event.time, event.time if held else "")
                for key in (tested.snapshot, tested.manifest):
                    newest[key] = _later(new, newest.get(key, _NEVER))
    return {
        snapshot.id: _later(
            newest.get(snapshot.id, _NEVER), newest.get(snapshot.seal.manifest.blake3, _NEVER)
        )
        for snapshot in snapshots
    }


def _later(first: Tested, second: Tested) -> Tested:
    return Tested(max(first.tried, second.tried), max(first.held, second.held))
