"""How well a file is proven, as it is told beside its bytes: by which seal, when, where, and by whose word.

All of it stands in seals and in the journal, as a status reads it; nothing is read of packs, and no place
is looked at. What is known is kept, and read anew when the journal has grown.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from archiver.archive import layout
from archiver.archive.check.proofs import proofs_of, readable_events, was_at
from archiver.archive.copies import PlaceHistory, Standing, judge_copies
from archiver.archive.events import SmokeTested
from archiver.archive.journal import policy_of
from archiver.archive.places import own_place
from archiver.archive.policy import LEVELS, Level, Policy, proves
from archiver.archive.signing.minisign import parse_public_key
from archiver.archive.signing.signatures import is_signed
from archiver.archive.vouching import DigestKind, Vouch, Vouching, vouches_of
from archiver.errors import ArchiverError, DamageError, skip_damaged
from archiver.text import utc_now

if TYPE_CHECKING:
    from collections.abc import Iterable

    from archiver.archive.archive import Archive
    from archiver.archive.events import Event
    from archiver.archive.places import Place
    from archiver.archive.records import FileEntry, Manifest
    from archiver.archive.seals import Snapshot

_FRESH_SECONDS: Final = 2.0
"""So long what was read counts as it is, or this many times as long as it took to read:"""
_FRESH_TIMES: Final = 20
_LATE_SECONDS: Final = 60.0
"""What is stale for longer is not told any more: nobody may have asked for days."""
_SNAPSHOTS_KEPT: Final = 1024
_VOUCHES_KEPT: Final = 16
"""Snapshots of whose files it is kept who vouched for each."""
_READ: Final[Level] = "stored"
"""The level at which a pack that was read whole, and has the digest that is its name, is proven."""
_HELD: Final = frozenset({"held", "inapplicable"})
_WHOLE_RUN: Final = "generate"
"""The level that a whole smoke test comes to."""


class LastProof(msgspec.Struct, frozen=True):
    """When every byte was proven last, and how deeply: no pack's proof is older than ``time``."""

    time: str
    level: Level


class PlaceProof(msgspec.Struct, frozen=True):
    """What is known of a snapshot at one place.

    Attributes:
        place: Its name, for people.
        id: Its identity; ``""`` if it is known by name only.
        here: Whether it is where this archive lies.
        counts: Whether a copy there counts.
        standing: Why it does not, or ``here`` or ``counts``.
        proven: When its packs were last proven there, at least to have the digests that are their names;
            ``""``: never all of them.
    """

    place: str
    id: str
    here: bool
    counts: bool
    standing: Standing
    proven: str


class SmokeProof(msgspec.Struct, frozen=True):
    """The newest whole smoke test of a snapshot at this place; when one held last, ``""`` if none did."""

    time: str
    levels: dict[str, str]
    held: str


class SnapshotProof(msgspec.Struct, frozen=True):
    """How well a snapshot is proven.

    Attributes:
        repository: As its seal names it.
        revision: The commit.
        seal: The id of its seal: the BLAKE3 of that document.
        sealed: When it was sealed; ``""``: its seal is lost, and its manifest stands for it.
        manifest: The BLAKE3 of its manifest's canonical JSON.
        files: How many files it has.
        bytes: Their bytes together.
        vouched: The lowest voucher of any file.
        vouching: How many files each voucher stands for; None if that is only in a damaged manifest.
        proven: The newest proof of all of its packs here, the deepest of several as new; None if there is
            none.
        levels: For each level at which all of its packs were proven here: when that was last so of all.
        damaged: The packs that were found damaged and are not known to be whole since.
        places: Every place that holds it, this one first.
        tested: The newest whole smoke test here; None if there is none.
        signed: The ids of the trusted keys that signed its seal.
    """

    repository: str
    revision: str
    seal: str
    sealed: str
    manifest: str
    files: int
    bytes: int
    vouched: str
    vouching: Vouching | None
    proven: LastProof | None
    levels: dict[Level, str]
    damaged: tuple[str, ...]
    places: tuple[PlaceProof, ...]
    tested: SmokeProof | None
    signed: tuple[str, ...]


class FileProof(msgspec.Struct, frozen=True):
    """What a file is, and whose digest its bytes were compared with when they arrived."""

    path: str
    size: int
    blake3: str
    sha256: str
    oid: str
    lfs: bool
    vouched: str
    compared: DigestKind


class ProofBook:
    """Tells how well snapshots of one archive are proven; threads may share it."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._known: _Known | None = None
        self._stale_at = float("-inf")
        self._vouches: OrderedDict[str, dict[str, Vouch]] = OrderedDict()

    def snapshot(self, snapshot: Snapshot) -> SnapshotProof:
        """Return how well a snapshot is proven, by what is known now, or was a moment ago."""
        return self._now().of(snapshot)

    def file(self, snapshot: Snapshot, manifest: Manifest, entry: FileEntry) -> FileProof:
        """Return what is known of a file of the snapshot's manifest."""
        vouch = self._vouches_of(snapshot, manifest)[entry.path]
        return FileProof(
            path=entry.path,
            size=entry.size,
            blake3=entry.blake3,
            sha256=entry.sha256,
            oid=entry.oid,
            lfs=entry.lfs,
            vouched=vouch.by.word,
            compared=vouch.digest,
        )

    def _vouches_of(self, snapshot: Snapshot, manifest: Manifest) -> dict[str, Vouch]:
        with self._lock:
            known = self._vouches.get(snapshot.id)
        if known is None:
            vouches = vouches_of(snapshot.seal, manifest.source, manifest.files)
            paths = (entry.path for entry in manifest.files)
            known = dict(zip(paths, vouches, strict=True))
            with self._lock:
                self._vouches[snapshot.id] = known
                while len(self._vouches) > _VOUCHES_KEPT:
                    self._vouches.popitem(last=False)
        return known

    def _now(self) -> _Known:
        """Return what is known, while it is read anew if it is stale; who comes too late for that waits."""
        known, late = self._known, time.monotonic() - self._stale_at
        if known is not None and late < _LATE_SECONDS:
            if late >= 0 and self._reading.acquire(blocking=False):
                try:
                    threading.Thread(target=self._read_anew, daemon=True).start()
                except RuntimeError:  # the system lets this process have no more threads now
                    self._reading.release()
            return known
        with self._reading:
            if self._known is None or time.monotonic() >= self._stale_at:
                self._refresh()
        assert self._known is not None, "it was read"
        return self._known

    def _read_anew(self) -> None:
        """Read it while whoever asks takes what was known; ``_reading`` is held, and let go."""
        try:
            with suppress(ArchiverError):
                self._refresh()
        finally:
            self._reading.release()

    def _refresh(self) -> None:
        began = time.monotonic()
        try:
            self._read()
        finally:
            took = time.monotonic() - began
            self._stale_at = time.monotonic() + max(_FRESH_SECONDS, _FRESH_TIMES * took)

    def _read(self) -> None:
        names = self._archive.journal.names()
        seen = (len(names), names[-1:], *self._archive.store.list(layout.SNAPSHOTS))
        if self._known is None or self._known.seen != seen:
            self._known = _Known(self._archive, seen)


class _Known:
    """What seals and journal said at one moment, which ``seen`` stands for."""

    def __init__(self, archive: Archive, seen: object) -> None:
        self.seen = seen
        self._archive = archive
        now, place = utc_now(), own_place(archive)
        events = list(readable_events(archive.journal))
        self._history = PlaceHistory(place, now, archive.store.address)
        self._proofs = proofs_of(self._history.noted(events), now, place)
        self._tests = _smoke_tests(events, now, place)
        try:
            self._policy = policy_of(events)
        except DamageError:
            self._policy = Policy()  # a status says so
        snapshots = list(archive.snapshots(skip_damaged))
        # Not looked at: a disk that is away says nothing of when its bytes were proven.
        self._copies = judge_copies(archive, self._history, snapshots, self._policy, looks={})
        self._contents = self._history.copies()
        self._lock = threading.Lock()
        self._made: OrderedDict[str, SnapshotProof] = OrderedDict()

    def of(self, snapshot: Snapshot) -> SnapshotProof:
        """Return how well a snapshot is proven; made once."""
        with self._lock:
            if snapshot.id in self._made:
                self._made.move_to_end(snapshot.id)
                return self._made[snapshot.id]
        made = self._make(snapshot)
        with self._lock:
            self._made[snapshot.id] = made
            while len(self._made) > _SNAPSHOTS_KEPT:
                self._made.popitem(last=False)
        return made

    def _make(self, snapshot: Snapshot) -> SnapshotProof:
        seal = snapshot.seal
        vouching = self._archive.vouching(snapshot)
        places = tuple(self._places(snapshot))
        levels = self._levels(snapshot, next((each.proven for each in places if each.here), ""))
        last = max(
            ((time, LEVELS.index(level)) for level, time in levels.items() if level != LEVELS[0]),
            default=None,
        )
        return SnapshotProof(
            repository=seal.repository,
            revision=seal.revision,
            seal=snapshot.id,
            sealed=seal.sealed,
            manifest=seal.manifest.blake3,
            files=seal.totals.files,
            bytes=seal.totals.bytes,
            vouched=(vouching or Vouching(nobody=1)).least.word,
            vouching=vouching,
            proven=LastProof(last[0], LEVELS[last[1]]) if last else None,
            levels=levels,
            damaged=tuple(pack for pack, _ in seal.packs if self._proofs.damaged(pack)),
            places=places,
            tested=self._tested(snapshot),
            signed=tuple(self._signed(snapshot)),
        )

    def _levels(self, snapshot: Snapshot, read: str) -> dict[Level, str]:
        """Return since when all packs of a snapshot are proven at each level, where they all are.

        ``read`` is when they were last read whole here, also by a copy.
        """
        levels: dict[Level, str] = {}
        for level in LEVELS:
            times = [self._proofs.pack(pack, level) for pack, _ in snapshot.seal.packs]
            if level == LEVELS[-1]:
                times.append(self._proofs.snapshot(snapshot.id))
            oldest = min(times, default="")
            if proves(_READ, level):
                oldest = max(oldest, read)
            if oldest:
                levels[level] = oldest
        return levels

    def _places(self, snapshot: Snapshot) -> Iterable[PlaceProof]:
        for number in self._copies.of.get(snapshot.id, ()):
            state = self._copies.places[number]
            here = state.standing == "here"
            key = state.id or state.place
            names = (key, state.place, *self._contents.names(key))
            yield PlaceProof(
                place=state.place,
                id=state.id,
                here=here,
                counts=state.counts,
                standing=state.standing,
                proven=self._history.proven(names, [snapshot]),
            )

    def _tested(self, snapshot: Snapshot) -> SmokeProof | None:
        found = (self._tests.get(key) for key in (snapshot.id, snapshot.seal.manifest.blake3))
        tests = [test for test in found if test is not None]
        if not tests:
            return None
        newest = max(tests, key=lambda test: test.time)
        return msgspec.structs.replace(newest, held=max(test.held for test in tests))

    def _signed(self, snapshot: Snapshot) -> Iterable[str]:
        """Yield the ids of the trusted keys that signed the seal."""
        for text in self._policy.keys:
            try:
                key = parse_public_key(text)
            except ArchiverError:
                continue
            if snapshot.sealed and is_signed(self._archive.store, snapshot.name, [key]):
                yield key.id


def _smoke_tests(
    events: Iterable[tuple[str, Event]], now: str, place: Place
) -> dict[str, SmokeProof]:
    """Return the newest whole test at this place of each snapshot, by its id and by its manifest."""
    tests: dict[str, SmokeProof] = {}
    for _, event in events:
        match event.detail:
            case SmokeTested(levels=levels) as tested if event.time <= now and was_at(
                tested, place
            ):
                if _WHOLE_RUN not in levels:
                    continue
                held = event.time if set(levels.values()) <= _HELD else ""
                for key in {tested.snapshot, tested.manifest} - {""}:
                    known = tests.get(key)
                    if known is None or known.time <= event.time:
                        last = max(held, known.held if known else "")
                        tests[key] = SmokeProof(event.time, levels, last)
    return tests
