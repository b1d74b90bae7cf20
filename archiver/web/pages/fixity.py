"""Fixity, as the page shows it: for each place what was proven on each day of a year, and what is damaged.

All of it comes from the journal, as a status takes it. Packs are counted, never listed.
"""

from __future__ import annotations

from itertools import compress
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from archiver.archive.advice import Argv, argv
from archiver.archive.check.proofs import was_at
from archiver.archive.copies import remedy
from archiver.archive.events import Audited, Copied, DamageMet, NightRun, Repaired
from archiver.archive.layout import pack_name, pack_of
from archiver.archive.places import copy_ends
from archiver.archive.policy import LEVELS, Level
from archiver.night.facts import DAMAGE
from archiver.report.facts import WEEKS, PlaceProofs, monday
from archiver.text import human_bytes, plural
from archiver.web.pages.calendar import Look, draw

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from archiver.archive.events import Event
    from archiver.archive.places import Place, PlaceContents
    from archiver.archive.seals import Snapshot
    from archiver.operations.status.report import Status
    from archiver.web.pages.calendar import Calendar, Mark

PLACES_MAX: Final = 16
"""Places that have a calendar; the table has all of them."""
DAMAGED_MAX: Final = 200
TITLES_MAX: Final = 12
"""Snapshots that are named where something is damaged."""
_COPY_LEVEL: Final = LEVELS.index("stored") + 1
"""What a copy proves that is read back where it arrives."""
_SHADES: Final = (0.1, 0.4, 0.9)
"""Shares of a place's bytes at which a day gets darker."""


class ProofDay(msgspec.Struct, frozen=True):
    """What was read and found whole at a place on a day (YYYY-MM-DD), of the packs that are needed now.

    ``packs`` counts them by the deepest level at which that day proved them, ``bytes`` is the size of all.
    ``damaged`` counts what audits found wrong and readers met so, ``repaired`` the files that were brought
    back.
    """

    day: str
    packs: dict[Level, int]
    bytes: int
    damaged: int = 0
    repaired: int = 0

    @property
    def proven(self) -> int:
        """How many packs were proven, at whichever level."""
        return sum(self.packs.values())


class PlaceYear(msgspec.Struct, frozen=True):
    """A place, and those of its last 53 weeks' days on which anything was proven, damaged or mended."""

    place: PlaceProofs
    days: tuple[ProofDay, ...]


class Damage(msgspec.Struct, frozen=True):
    """A stored file that is known to be damaged or missing, here or at another ``place``.

    ``since`` is when an audit found it so first, or a reader met it; ``""`` if none did. ``titles`` are the
    first of the ``hit`` snapshots that need it. ``nights`` counts the nights that rang for it. ``commands``
    mend it, one after the other.
    """

    path: str
    missing: bool
    place: str
    since: str
    hit: int
    titles: tuple[str, ...]
    nights: int
    commands: tuple[Argv, ...]


class _Day:
    """One day at one place while it is counted: of each pack the level, from 1, at which it was proven."""

    def __init__(self, packs: int) -> None:
        self.levels = bytearray(packs)
        self.damaged = 0
        self.repaired = 0


class ProofYears:
    """Counts what events prove, day by day: to be fed by passing them through ``noted``."""

    def __init__(self, here: Place, snapshots: Iterable[Snapshot], now: str) -> None:
        self._here = here
        self._now = now
        self._first = monday(now, weeks=WEEKS - 1)
        sizes = {pack: size for snapshot in snapshots for pack, size in snapshot.seal.packs}
        self._index = {pack: number for number, pack in enumerate(sizes)}
        self._sizes = list(sizes.values())
        self._days: dict[tuple[str, str], _Day] = {}
        """Place, as events call it, and day."""

    def noted(self, events: Iterable[tuple[str, Event]]) -> Iterator[tuple[str, Event]]:
        """Yield the same events, once each was counted."""
        for digest, event in events:
            if self._first <= event.time <= self._now:
                self._note(event)
            yield digest, event

    def _note(self, event: Event) -> None:
        match event.detail:
            case Audited() as audited:
                level = LEVELS.index(audited.level) + 1 if audited.level in LEVELS else 0
                day = self._day(audited.place or self._here.key, event.time)
                self._prove(day, audited.packs, level)
                day.damaged += audited.damaged
            case DamageMet() as met:
                self._day(met.place or self._here.key, event.time).damaged += len(met.objects)
            case Repaired() as repaired:
                self._day(repaired.place or self._here.key, event.time).repaired += len(
                    repaired.files
                )
            case Copied(packs=packs) as copied if packs:  # also of none: UNSET is false
                for place in copy_ends(copied):
                    self._prove(self._day(place.key, event.time), packs, _COPY_LEVEL)

    def _day(self, place: str, time: str) -> _Day:
        key = self._here.key if self._here.is_named(place) else place, time[:10]
        return self._days.get(key) or self._days.setdefault(key, _Day(len(self._sizes)))

    def _prove(self, day: _Day, packs: Iterable[str], level: int) -> None:
        levels, index = day.levels, self._index
        for pack in packs:
            number = index.get(pack)
            if number is not None and levels[number] < level:
                levels[number] = level

    def years(self, places: Sequence[PlaceProofs], contents: PlaceContents) -> Iterator[PlaceYear]:
        """Yield the year of each place, this one first."""
        days: dict[str, dict[str, list[_Day]]] = {}
        for (place, day), counted in self._days.items():
            key = contents.identity(place) or place
            days.setdefault(key, {}).setdefault(day, []).append(counted)
        for proofs in places[:PLACES_MAX]:
            state = proofs.state
            key = state.id or state.place
            own = days.get(self._here.key if state.standing == "here" else key, {})
            year = (self._counted(day, parts) for day, parts in sorted(own.items()))
            yield PlaceYear(proofs, tuple(day for day in year if day is not None))

    def _counted(self, day: str, parts: Sequence[_Day]) -> ProofDay | None:
        levels = bytearray(map(max, *(part.levels for part in parts))) if parts[1:] else b""
        levels = levels or parts[0].levels
        packs = {level: levels.count(number) for number, level in enumerate(LEVELS, 1)}
        damaged = sum(part.damaged for part in parts)
        repaired = sum(part.repaired for part in parts)
        packs = {level: count for level, count in packs.items() if count}
        if not packs and not damaged and not repaired:
            return None
        return ProofDay(day, packs, sum(compress(self._sizes, levels)), damaged, repaired)


# ---- what is damaged, and rings


def damage(
    status: Status,
    events: Iterable[tuple[str, Event]],
    snapshots: Sequence[Snapshot],
    here: Place,
    address: str,
) -> tuple[Damage, ...]:
    """Return what is known to be damaged or missing, here and then elsewhere; at most ``DAMAGED_MAX``."""
    missing = [pack_name(pack.pack) for pack in status.pack_list if pack.needed and not pack.there]
    paths = dict.fromkeys(status.damaged_files, False) | dict.fromkeys(missing, True)
    shown = dict(list(paths.items())[:DAMAGED_MAX])
    since, nights = _found(events, shown, here)
    hit = _hit(snapshots, shown)
    own = [
        Damage(
            path=path,
            missing=lost,
            place="",
            since=since.get(path, ""),
            hit=len(hit.get(path, ())),
            titles=tuple(hit.get(path, ())[:TITLES_MAX]),
            nights=nights.get(path, 0),
            commands=(argv("repair", address), argv("audit", address)),
        )
        for path, lost in shown.items()
    ]
    elsewhere = [
        Damage(
            "", state.standing == "incomplete", state.place, "", 0, (), 0, remedy(address, state)
        )
        for state in status.places
        if state.standing in {"damaged", "incomplete"}
    ]
    return (*own, *elsewhere)


def _found(
    events: Iterable[tuple[str, Event]], paths: Mapping[str, bool], here: Place
) -> tuple[dict[str, str], dict[str, int]]:
    """Return since when each file here is known to be wrong, and how many nights rang for it."""
    since: dict[str, str] = {}
    nights: dict[str, int] = {}
    for _, event in events:
        match event.detail:
            case Audited() | DamageMet() as detail if was_at(detail, here):
                for path in _damaged_of(detail):
                    if path in paths:
                        since.setdefault(path, event.time)
            case Repaired(files) as repaired if was_at(repaired, here):
                for path in files:
                    since.pop(path, None)
                    nights.pop(path, None)
            case NightRun() as night if here.is_named(night.place):
                for fact in night.facts:
                    if fact.exit_code in DAMAGE and fact.subject in paths:
                        nights[fact.subject] = nights.get(fact.subject, 0) + 1
                        since.setdefault(fact.subject, fact.since or event.time)
    return since, nights


def _damaged_of(detail: Audited | DamageMet) -> Iterator[str]:
    """Yield the names of the stored files that an audit found damaged, or a reader met so."""
    if isinstance(detail, DamageMet):
        yield from map(pack_name, detail.packs)
    else:
        yield from map(pack_name, detail.damaged_packs)
        yield from detail.damaged_files


def _hit(snapshots: Iterable[Snapshot], paths: Mapping[str, bool]) -> dict[str, list[str]]:
    """Return path -> the titles of the snapshots that need a file, by name."""
    hit: dict[str, list[str]] = {}
    packs = {pack: path for path in paths if (pack := pack_of(path))}
    for snapshot in sorted(snapshots, key=lambda snapshot: snapshot.title):
        if snapshot.name in paths:
            hit.setdefault(snapshot.name, []).append(snapshot.title)
        if packs:
            for pack, _ in snapshot.seal.packs:
                if pack in packs:
                    hit.setdefault(packs[pack], []).append(snapshot.title)
    return hit


# ---- the calendar


def calendar(year: PlaceYear, now: str) -> Calendar:
    """Return the drawing of a place's year: a day is darker, the more of the place's bytes it proved."""
    whole = year.place.bytes
    looks = {day.day: Look(shade_of(day, whole), _mark(day), day_text(day)) for day in year.days}
    return draw(looks, now, _year_text(year))


def shade_of(day: ProofDay, whole: int) -> int:
    """Return how dark a day is: 0 if nothing was proven, 4 if nearly all of a place's bytes were."""
    if not day.proven:
        return 0
    share = day.bytes / whole if whole else 0.0
    return 1 + sum(share >= bound for bound in _SHADES)


def _mark(day: ProofDay) -> Mark:
    if day.damaged:
        return "damaged"
    if day.repaired:
        return "mended"
    return "deep" if LEVELS[-1] in day.packs else ""


def day_text(day: ProofDay) -> str:
    """Return what a day proved, in words."""
    levels = ", ".join(
        f"{count:,} at level {level}" for level, count in reversed(list(day.packs.items()))
    )
    words = [f"{plural(day.proven, 'pack')} proven ({levels}), {human_bytes(day.bytes)}"]
    words = words if day.proven else []
    words += [f"{plural(day.damaged, 'finding')} of damage"] if day.damaged else []
    words += [f"{plural(day.repaired, 'file')} repaired"] if day.repaired else []
    return f"{day.day}: {'; '.join(words)}"


def _year_text(year: PlaceYear) -> str:
    days = [day for day in year.days if day.proven]
    damaged = sum(bool(day.damaged) for day in year.days)
    found = f"damage found on {plural(damaged, 'day')}" if damaged else "no damage found"
    if not days:
        return f"Nothing proven in the last {WEEKS} weeks, {found}."
    proven = f"Something proven on {plural(len(days), 'day')} of the last {WEEKS} weeks"
    return f"{proven}, last on {days[-1].day}; {found}."


class Month(NamedTuple):
    """What was proven in a month (YYYY-MM): on how many days, at which level at the deepest.

    ``most`` is the greatest part of the place's bytes that a day proved.
    """

    month: str
    days: int
    deepest: str
    most: int
    damaged: int
    repaired: int


def months(year: PlaceYear) -> list[Month]:
    """Return the months on which anything was proven, damaged or mended, the newest first."""
    by_month: dict[str, list[ProofDay]] = {}
    for day in reversed(year.days):
        by_month.setdefault(day.day[:7], []).append(day)
    return [
        Month(
            month=month,
            days=sum(bool(day.proven) for day in days),
            deepest=next(
                (level for level in reversed(LEVELS) if any(level in day.packs for day in days)), ""
            ),
            most=max(day.bytes for day in days),
            damaged=sum(day.damaged for day in days),
            repaired=sum(day.repaired for day in days),
        )
        for month, days in by_month.items()
    ]
