"""Healing: an object that reads damaged is had from elsewhere, in memory, while its reader waits.

Nearest first: what this archive itself has of it (``recovery``), then the other places that the journal
knows and that are there now (``place_reader``). What nobody has whole is refused, and never given. Nothing
is written into packs, for repair is repair's job; but what was met is journalled, so that it rings until it
is mended.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.archive import layout
from archiver.archive.advice import command
from archiver.archive.archive import Archive
from archiver.archive.copies import judge_copies, own_history
from archiver.archive.events import MetObject
from archiver.archive.serving.damage_journal import DamageJournal
from archiver.archive.serving.place_reader import PlaceReader
from archiver.archive.serving.recovery import Attempt, Recovery
from archiver.digest import is_blake3
from archiver.errors import ArchiverError, DamageError, UnreadableError, skip_damaged
from archiver.text import utc_now

if TYPE_CHECKING:
    from collections.abc import Callable

    from archiver.archive.serving.recovery import Recovered, Source

_LOST_SECONDS: Final = 60.0
"""What nobody had is not looked for again so soon: whoever asks a thousand times causes one search."""
_LOST_MAX: Final = 4096
_LOOK_SECONDS: Final = 300.0
"""Which places are there is found out again after this time."""
_TURN_SECONDS: Final = 10.0
"""So long a reader waits for its turn to ask other places: a slow one must not hold up all threads."""


class _Lost(NamedTuple):
    """An object that nobody had: until when that is believed, and what is wrong with it."""

    until: float
    error: DamageError


class Healer:
    """Gives objects that were met damaged, whole; several threads may ask at once.

    Args:
        archive: What is read. Where it cannot be written, nothing is journalled.
        on_unwritten: Told once why what was met cannot be journalled.
        places: Whether other places are asked.
    """

    def __init__(
        self,
        archive: Archive,
        *,
        on_unwritten: Callable[[ArchiverError], None] = lambda _: None,
        places: bool = True,
    ) -> None:
        self._archive = archive
        self._recovery = Recovery(archive)
        self._journal = DamageJournal(archive, on_unwritten)
        self._asks_places = places
        self._lock = threading.Lock()
        self._under_way: dict[str, Future[memoryview]] = {}
        self._lost: OrderedDict[str, _Lost] = OrderedDict()
        self._turn = threading.Lock()
        """Held by whoever asks other places."""
        self._places_lock = threading.Lock()
        self._places: list[PlaceReader] = []
        self._looked = float("-inf")
        self._look: threading.Thread | None = None

    def heal(self, error: DamageError, size: int) -> memoryview:
        """Return the object that an error names, of ``size`` plain bytes, proven by its BLAKE3.

        Raises:
            DamageError: Nobody has it whole; says what to do next.
        """
        digest = error.object
        if not is_blake3(digest):
            raise error
        with self._lock:
            lost = self._lost.get(digest)
            if lost is not None and time.monotonic() < lost.until:
                raise _again(lost.error)
            known = self._under_way.get(digest)
            future = known or self._under_way.setdefault(digest, Future())
        if known is not None:
            try:
                return known.result()
            except DamageError as same:
                raise _again(same) from None
        try:
            plain = self._find(digest, size, error)
        except BaseException as failure:
            future.set_exception(failure)
            raise
        else:
            future.set_result(plain)
            return plain
        finally:
            with self._lock:
                self._under_way.pop(digest, None)

    def met(self, digest: str, size: int, damaged: str, whole: str) -> None:
        """Take note of an object that is damaged in one pack, and was had whole from another."""
        if self._journal.has_noted(digest) or self._recovery.is_whole_in(damaged, digest, size):
            return
        source: Source = "pack" if layout.quarantined_of(whole) is None else "quarantine"
        self._journal.note(MetObject(digest, (damaged,), source))

    def _find(self, digest: str, size: int, error: DamageError) -> memoryview:
        attempt = self._recovery.recover(digest, size, error.pack)
        recovered, source = attempt.recovered, ""
        if recovered is None and self._asks_places:
            recovered = self._elsewhere(digest, size, error)
        if recovered is not None:
            source = recovered.place or recovered.source
        # Of what this user may not read nothing is known: that it is damaged least of all.
        if source != "reread" and not isinstance(error, UnreadableError):
            self._journal.note(MetObject(digest, attempt.damaged, source))
        if recovered is None:
            raise self._refuse(digest, error, attempt)
        return recovered.plain

    def _elsewhere(self, digest: str, size: int, error: DamageError) -> Recovered | None:
        """Return the object from another place; DamageError if those are being asked for another one."""
        if not self._turn.acquire(timeout=_TURN_SECONDS):
            raise DamageError(
                f"Object {digest} is damaged, and other places that may have it are slow to answer.",
                hint="Ask again in a minute.",
                object=digest,
                pack=error.pack,
                path=error.path,
            )
        try:
            found = (place.fetch(digest, size) for place in self._reachable())
            return next((recovered for recovered in found if recovered is not None), None)
        finally:
            self._turn.release()

    def _refuse(self, digest: str, error: DamageError, attempt: Attempt) -> DamageError:
        """Note that nobody has the object; return what is raised from now on for a while."""
        self._recovery.forget()  # the next search sees what a repair brought
        pack = error.pack or next(iter(attempt.damaged), "")
        lost = DamageError(
            f"Object {digest} is damaged, and no copy, parity or other place that is here has it whole.",
            hint=f"Run {command('repair', self._archive.store.address)}; with --from FOLDER it takes "
            "what another copy has.",
            object=digest,
            pack=pack,
            path=error.path,
        )
        lost.__cause__ = error
        with self._lock:
            self._lost[digest] = _Lost(time.monotonic() + _LOST_SECONDS, lost)
            self._lost.move_to_end(digest)
            if len(self._lost) > _LOST_MAX:
                self._lost.popitem(last=False)
        return lost

    def _reachable(self) -> list[PlaceReader]:
        """Return the other places that are there, those that count first.

        Who asks first waits until all were looked at; after that they are looked at again meanwhile.
        """
        with self._places_lock:
            first = self._looked == float("-inf")
            if self._look is None and time.monotonic() - self._looked >= _LOOK_SECONDS:
                thread = threading.Thread(target=self._look_around, daemon=True)
                with suppress(RuntimeError):  # no more threads may be started now
                    thread.start()
                    self._look = thread
            look = self._look
        if first and look is not None:
            look.join()
        with self._places_lock:
            return [place for place in self._places if not place.silent]

    def _look_around(self) -> None:
        places: list[PlaceReader] = []
        with suppress(ArchiverError):
            places = _places_there(self._archive)
        with self._places_lock:
            known, self._places = self._places, places
            self._looked, self._look = time.monotonic(), None
        for place in known:
            place.close()

    def close(self) -> None:
        """Journal what was not journalled yet, and let go of other places."""
        self._journal.close()
        with self._places_lock:
            for reader in self._places:
                reader.close()
            self._places, self._looked = [], float("-inf")


def _again(error: DamageError) -> DamageError:
    """Return the same error anew: several threads must not raise one, each adds its own traceback."""
    copy = DamageError(
        error.message, hint=error.hint, object=error.object, pack=error.pack, path=error.path
    )
    copy.__cause__ = error.__cause__
    return copy


def _places_there(archive: Archive) -> list[PlaceReader]:
    """Look at the places that the journal knows; return those that are there, but this one."""
    fresh = Archive(archive.store, archive.info)
    snapshots = list(fresh.snapshots(skip_damaged))
    history = own_history(fresh, utc_now())
    copies = judge_copies(fresh, history, snapshots, fresh.policy())
    return [
        PlaceReader(state.path, state.id or state.place)
        for state in copies.places
        if state.presence == "there" and state.path and state.standing != "here"
    ]
