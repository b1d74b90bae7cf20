"""The receipt of a smoke test: the journal's event ``smoke-tested`` (``docs/format.md``, 8.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from archiver.archive.archive import TOOL
from archiver.archive.audit.proofs import was_at
from archiver.archive.journal import EVENT_MAX
from archiver.archive.place import settled_place
from archiver.archive.records import Event, canonical
from archiver.errors import ArchiverError, DamageError
from archiver.smoke.golden.record import Golden, parse_golden
from archiver.smoke.levels import up_to
from archiver.text import plural, utc_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.archive.archive import Archive, Snapshot
    from archiver.archive.finding import Finding
    from archiver.archive.place import Place
    from archiver.smoke.report import SmokeReport

EVENT: Final = "smoke-tested"
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
    """What the journal is to keep of a smoke test; ``restored``: a folder was read, not the archive."""
    detail: dict[str, Any] = {
        "snapshot": snapshot.id,
        "manifest": snapshot.seal.manifest.blake3,
        "levels": {one.level: one.verdict for one in report.levels},
        "read": "folder" if restored else "archive",
        "place": settled_place(archive).told,
        **run._asdict(),
        "seconds": round(sum(one.seconds for one in report.levels)),
        "environment": _bounded(report.environment),
        "findings": [_noted(one) for one in sorted(report.findings, key=_weight)[:_FINDINGS]],
    }
    if golden is not None:
        detail["golden"] = msgspec.to_builtins(golden)
    seal = snapshot.seal
    event = Event(EVENT, utc_now(), TOOL, seal.repository, seal.revision, detail)
    if len(canonical(event)) > EVENT_MAX - (1 << 16):  # what it follows is yet to be added
        raise ArchiverError("The receipt is larger than an event of the journal may be.")
    return event


def _weight(finding: Finding) -> int:
    """What failed a level comes first, then what was accepted: a list that is cut keeps those."""
    return 0 if not finding.remark else 1 if finding.accepted else 2


def _noted(finding: Finding) -> dict[str, str | bool]:
    noted: dict[str, str | bool] = {"code": finding.code, "message": _text(finding.message)}
    return noted | {"accepted": True} if finding.accepted else noted


def _bounded(environment: dict[str, Any]) -> dict[str, Any]:
    """It without floats, which canonical JSON has not; nothing of it if it is too long to keep."""
    found: dict[str, Any] = {_text(key): _value(value) for key, value in environment.items()}
    return found if len(canonical(found)) <= _ENVIRONMENT_MAX else {}


def _value(value: object) -> object:
    if isinstance(value, dict):
        return {_text(str(key)): _value(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_value(one) for one in value]
    if value is None or isinstance(value, (bool, int)):
        return value
    return _text(str(value))


def _text(text: str) -> str:
    """Short, and text that JSON can hold whatever a checkpoint put into it."""
    return text[:_LONGEST].encode(errors="backslashreplace").decode()


def _ignore(_name: str, _error: DamageError) -> None:
    """An audit tells of damaged events."""


def _told(events: Iterable[tuple[str, Event]], snapshot: Snapshot) -> Iterator[tuple[str, Event]]:
    """The receipts of a snapshot, or of another seal of the same manifest, oldest first."""
    for name, event in events:
        if event.event == EVENT and (
            event.snapshot == snapshot.id
            or event.detail.get("manifest") == snapshot.seal.manifest.blake3
        ):
            yield name, event


def newest_receipt(archive: Archive, snapshot: Snapshot) -> tuple[str, Event] | None:
    """Id and event of the newest receipt of a snapshot, of whatever levels and wherever it was made."""
    found = list(_told(archive.events(_ignore), snapshot))
    return found[-1] if found else None


class Known(NamedTuple):
    """The golden record that counts, the id of its event, and what was wrong with newer ones."""

    golden: Golden | None
    event: str
    remarks: tuple[str, ...]


def newest_golden(archive: Archive, snapshot: Snapshot) -> Known:
    """The newest golden record of a snapshot that can be used, wherever it was made."""
    remarks: list[str] = []
    damaged: list[str] = []
    events = list(_told(archive.events(lambda name, _: damaged.append(name)), snapshot))
    if damaged:
        count = plural(len(damaged), "event")
        remarks.append(f"{count} of the journal cannot be read; a golden record may be among them.")
    for name, event in reversed(events):
        if "golden" not in event.detail:
            continue
        what = f"The golden record in event {name[:16]} of {event.time}"
        try:
            return Known(parse_golden(event.detail["golden"], what), name, tuple(remarks))
        except DamageError as error:
            remarks.append(f"{error.message} It is ignored.")
    return Known(None, "", tuple(remarks))


class Tested(NamedTuple):
    """When a snapshot was last tested at a place, and when it last held; ``""`` if never."""

    tried: str
    held: str

    def proves(self, since: str) -> bool:
        """Whether the newest test held, and is not older than that."""
        return self.tried == self.held >= since


_NEVER: Final = Tested("", "")


def last_tested(archive: Archive, snapshots: Iterable[Snapshot], place: Place) -> dict[str, Tested]:
    """Id of each snapshot -> when it was last tested at this place.

    A test counts that was to run every level up to ``generate``, and not one that claims a later time
    than now: a clock that ran ahead must not keep a snapshot from being tested for years.
    """
    now = utc_now()
    found: dict[object, Tested] = {}
    for _, event in archive.events(_ignore):
        if event.event == EVENT and event.time <= now and was_at(event, place):
            levels = event.detail.get("levels")
            if not isinstance(levels, dict) or not set(up_to("generate")) <= set(levels):
                continue
            held = all(one in ("held", "inapplicable") for one in levels.values())
            new = Tested(event.time, event.time if held else "")
            for key in (event.detail.get("snapshot"), event.detail.get("manifest")):
                if isinstance(key, str):
                    found[key] = _later(new, found.get(key, _NEVER))
    return {
        one.id: _later(found.get(one.id, _NEVER), found.get(one.seal.manifest.blake3, _NEVER))
        for one in snapshots
    }


def _later(one: Tested, two: Tested) -> Tested:
    return Tested(max(one.tried, two.tried), max(one.held, two.held))
