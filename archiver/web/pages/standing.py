"""How the archive stands: the one record that the pages on fixity, status, plans and the journal show.

It is made of one reading of the journal, and kept until the journal has another event or the record is a
minute old: disks come and go, and proofs age, without one.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.archive.check.proofs import readable_events
from archiver.archive.copies import PlaceHistory
from archiver.archive.events import Audited
from archiver.archive.places import own_place
from archiver.archive.plans import Upstreams
from archiver.errors import skip_damaged
from archiver.operations.status.run import status
from archiver.report.facts import History, Runs, place_proofs
from archiver.text import utc_now
from archiver.web.pages.fixity import Damage, PlaceYear, ProofYears, damage
from archiver.web.pages.journal import Line, lines_of
from archiver.web.pages.nights import Due, Run, due, runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from archiver.archive.archive import Archive
    from archiver.archive.events import Event
    from archiver.operations.status.report import Status
    from archiver.report.facts import PlaceProofs

KEPT_SECONDS: Final = 60
"""For so long a record is shown while the journal says nothing new."""


class Standing(NamedTuple):
    """All of it, as of ``time``.

    ``places`` are all of a status, in its order, and ``years`` the calendars of the first of them.
    ``plans`` has the runs of a year by day, ``runs`` the newest ones, each by itself. ``journal`` are all
    events in words, newest first. ``held`` are the names of the repositories of which anything is held.
    """

    time: str
    archive: str
    place: str
    address: str
    status: Status
    places: tuple[PlaceProofs, ...]
    years: tuple[PlaceYear, ...]
    damage: tuple[Damage, ...]
    plans: Runs
    runs: tuple[Run, ...]
    due: tuple[Due, ...]
    journal: tuple[Line, ...]
    held: frozenset[str]


def standing(archive: Archive, before: Standing | None = None) -> Standing:
    """Return how the archive stands now; raise ArchiverError if that cannot be read.

    ``before`` is an earlier record, which saves some of the work.
    """
    now, here, address = utc_now(), own_place(archive), archive.store.address
    state = status(archive)
    snapshots = list(archive.snapshots(skip_damaged))
    history = PlaceHistory(here, now, address)
    years = ProofYears(here, snapshots, now)
    read = list(readable_events(archive.journal))
    besides = list(_besides_audits(history.noted(years.noted(read))))
    places = tuple(place_proofs(history, snapshots, state, now))
    known = Upstreams(besides).acknowledgements(now)
    return Standing(
        time=now,
        archive=archive.info.archive,
        place=here.name,
        address=address,
        status=state,
        places=places,
        years=tuple(years.years(places, history.copies())),
        damage=damage(state, read, snapshots, here, address),
        plans=History(besides, here, now).runs(state.plans),
        runs=runs(besides, here),
        due=due(
            state,
            ((f"{key.repository}@{key.name}", made.until) for key, (_, made) in known.items()),
            now,
        ),
        journal=lines_of(read, before.journal if before else ()),
        held=frozenset(snapshot.seal.repository for snapshot in snapshots),
    )


def _besides_audits(events: Iterable[tuple[str, Event]]) -> Iterator[tuple[str, Event]]:
    """Yield the events but for audits, which are the longest, and of which what they prove is noted."""
    return ((digest, event) for digest, event in events if event.type is not Audited)


class StandingCache:
    """The record of one archive, made at most once at a time. Several threads may ask."""

    def __init__(
        self,
        archive: Archive,
        make: Callable[[Archive, Standing | None], Standing] = standing,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._archive = archive
        self._make = make
        self._clock = clock
        self._lock = threading.Lock()
        self._names: list[str] = []
        self._made = 0.0
        self._kept: Standing | None = None

    def current(self) -> Standing:
        """Return the record; who asks while it is being made waits for it."""
        with self._lock:
            names, now = self._archive.journal.names(), self._clock()
            if self._kept is None or names != self._names or now - self._made >= KEPT_SECONDS:
                self._kept = self._make(self._archive, self._kept)
                self._names, self._made = names, self._clock()
            return self._kept
