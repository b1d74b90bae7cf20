"""The damage that readers met, in the journal: each object once a day, however often it is asked for."""

from __future__ import annotations

import threading
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

from archiver.archive.archive import Archive
from archiver.archive.clock import DAY, effective_times
from archiver.archive.events import Audited, DamageMet, Repaired, new_event
from archiver.archive.layout import pack_of
from archiver.archive.places import settled_place
from archiver.archive.policy import LEVELS, Level, proves
from archiver.errors import ArchiverError, DeniedError, LockedError, skip_damaged
from archiver.storage.locks import RunLock
from archiver.text import seconds_of, utc_now

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from archiver.archive.events import MetObject

_SILENT_SECONDS: Final = 600.0
"""For so long the journal is not asked again whether it tells of an object."""
_TOGETHER_SECONDS: Final = 60.0
"""What is met so soon after an event goes into one with what follows: a lost pack has thousands."""
_OBJECTS_MAX: Final = 2000
"""Objects in one event: it may have 1 MiB."""
_READ: Final[Level] = "content"
"""An audit of this level proves more than that an object was met damaged: it was whole since."""
_LOCK: Final = "damage-met.lock"
_PATIENCE: Final = 5.0
_POLL: Final = 0.02


class DamageJournal:
    """Journals what readers of one archive met; several threads, and processes, may.

    Where the journal cannot be written, ``on_unwritten`` is told why, once.
    """

    def __init__(self, archive: Archive, on_unwritten: Callable[[ArchiverError], None]) -> None:
        # Its own journal: another thread may be at the archive's.
        self._archive = Archive(archive.store, archive.info)
        self._on_unwritten = on_unwritten
        self._told = False
        self._lock = threading.Lock()
        self._noted: dict[str, tuple[float, str]] = {}
        """When an object was noted in this process, and where it was whole then."""
        self._waiting: dict[str, MetObject] = {}
        self._written = float("-inf")
        self._timer: threading.Timer | None = None

    def has_noted(self, digest: str) -> bool:
        """Return whether an object was noted here just now."""
        with self._lock:
            noted = self._noted.get(digest)
            return noted is not None and time.monotonic() - noted[0] < _SILENT_SECONDS

    def note(self, met: MetObject) -> None:
        """Journal what was met: at once, or soon if an event was written just now."""
        with self._lock:
            now = time.monotonic()
            noted = self._noted.get(met.object)
            if noted is not None and now - noted[0] < _SILENT_SECONDS and noted[1] == met.source:
                return
            if len(self._noted) >= _OBJECTS_MAX:
                self._noted.clear()  # the journal knows them all the same
            self._noted[met.object] = now, met.source
            self._waiting[met.object] = met
            left = self._written + _TOGETHER_SECONDS - now
            if left <= 0 or len(self._waiting) >= _OBJECTS_MAX:
                self._write()
            elif self._timer is None:
                self._timer = threading.Timer(left, self.flush)
                self._timer.daemon = True
                self._timer.start()

    def flush(self) -> None:
        """Journal what waits."""
        with self._lock:
            self._write()

    def close(self) -> None:
        """Journal what waits, and end."""
        self.flush()

    def _write(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._waiting:
            return
        waiting, self._waiting = list(self._waiting.values()), {}
        self._written = time.monotonic()
        try:
            self._archive.require_writable()
            self._archive.store.require_writable()
            with self._alone():
                new = self._news(waiting)
                if new:
                    place = settled_place(self._archive).key
                    self._archive.record(new_event(DamageMet(tuple(new), place)))
        except (ArchiverError, OSError) as error:
            if not self._told:
                self._told = True
                self._on_unwritten(
                    error if isinstance(error, ArchiverError) else DeniedError(str(error))
                )

    def _news(self, waiting: list[MetObject]) -> list[MetObject]:
        """Return what the journal does not tell of the last day.

        Anew, if a pack of it was repaired since, or proven. Another outcome is news too: more packs
        that have it damaged, or nobody left who has it whole.
        """
        events = list(self._archive.events(skip_damaged))
        times = effective_times(events)
        since = (seconds_of(max([*times.values(), utc_now()])) or 0) - DAY
        told: set[_Outcome] = set()
        for digest, event in events:
            match event.detail:
                case DamageMet(objects) if (seconds_of(times[digest]) or 0) > since:
                    told |= {_outcome(met) for met in objects}
                case Audited(packs=packs, level=level) if level in LEVELS and proves(level, _READ):
                    told = {each for each in told if each[1].isdisjoint(packs)}
                case Repaired(files):
                    mended = {pack_of(name) or "" for name in files}
                    told = {each for each in told if mended.isdisjoint(each[1])}
        return [met for met in waiting if _outcome(met) not in told]

    def _alone(self) -> AbstractContextManager[object]:
        """Return what keeps other processes from judging by the same journal; they wait a little."""
        folder = self._archive.store.folder
        if folder is None:
            return nullcontext()
        return _Patient(RunLock(folder.scratch(_LOCK), "Noting damage in the journal"))


_Outcome = tuple[str, frozenset[str], bool]


def _outcome(met: MetObject) -> _Outcome:
    """Return what of an object that was met is news if it is another."""
    return met.object, frozenset(met.packs), bool(met.source)


class _Patient:
    """A lock that is waited for a little, and done without then: at worst something is told twice."""

    def __init__(self, lock: RunLock) -> None:
        self._run_lock = lock
        self._held = False

    def __enter__(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                self._run_lock.__enter__()
            except LockedError:
                if time.monotonic() >= deadline:
                    return
                time.sleep(_POLL)
            else:
                self._held = True
                return

    def __exit__(self, *_: object) -> None:
        if self._held:
            self._run_lock.__exit__()
