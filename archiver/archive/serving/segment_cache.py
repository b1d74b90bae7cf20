"""Decoded segments in memory: each decoded once, however many ask for it, and never more than a budget.

All decoding is done by a few threads of the cache's own, so that neither buffers nor the load on the cores
depend on how many callers there are. What is asked for comes first; what will be asked for soon
(``expect``) is decoded while nothing else is to be done. What takes long, because it has to be had from
elsewhere, is done by threads beside these.

Memory is counted from before a segment is decoded until the last view of it is gone, not until it is
evicted. So who holds a view takes room from everybody: copy what is needed, and let go of it.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import Counter, OrderedDict, deque
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import numpy as np

from archiver.archive.packs.reader import DECODER_BYTES
from archiver.errors import ArchiverError
from archiver.memory import available_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from archiver.buffers import Bytes

    Plain = bytes | bytearray | memoryview | Bytes
    Decode = Callable[[], Plain]
    Rescue = Callable[[ArchiverError], Plain]

IDLE_SECONDS: Final = 0.25
"""A reader who took nothing for so long does not keep the segment that it is in from being evicted."""
_RESCUERS: Final = 2
"""Threads that get from elsewhere what could not be decoded."""
_DECODERS_SHARE: Final = 4
"""One of so many bytes of the budget may be taken besides, by what threads need to decode."""
_AHEAD_SHARE: Final = 2
"""One of so many bytes of the budget may be taken by what nobody has asked for yet."""

Key = tuple[str, int]
"""An object's digest and its size: what a manifest says of either may be wrong."""


class CacheStats(NamedTuple):
    """What a cache did since it was made, and the bytes that it has now, and had at most.

    ``hits`` are calls that found a segment, ``waits`` those that waited for another's decode.
    """

    hits: int
    decodes: int
    waits: int
    resident: int
    peak: int


class _Segment:
    """A decoded segment. ``asked`` is False while it was only expected."""

    def __init__(self, plain: Bytes, *, asked: bool) -> None:
        self.plain = plain
        self.asked = asked
        self.used = time.monotonic()


class _Decoding:
    """A segment that a thread decodes, or will; ``asked`` is False while it is only expected."""

    def __init__(
        self, key: Key, decode: Decode, rescue: Rescue | None = None, *, asked: bool
    ) -> None:
        self.key = key
        self.decode = decode
        self.rescue = rescue
        self.asked = asked
        self.begun = self.rescued = False
        """Whether it is decoded, or being rescued; the room that it needs is then taken."""
        self.view: Future[memoryview] = Future()


class SegmentCache:
    """The plain bytes of segments, within ``budget`` bytes; any number of threads may share it.

    A segment that is larger than the budget is decoded while nothing else is in memory, and not kept.

    Args:
        budget: The bytes that segments may take, those included that are being decoded.
        threads: How many decode. Each takes ``DECODER_BYTES`` beside the budget; by default there is one a
            core, as far as that comes to a quarter of the budget.
        idle_seconds: See ``IDLE_SECONDS``.
    """

    def __init__(
        self, budget: int, *, threads: int | None = None, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        self.budget = budget
        self.threads = threads or max(
            1, min(available_cores(), budget // (_DECODERS_SHARE * DECODER_BYTES))
        )
        self.idle_seconds = idle_seconds
        # Reentrant: the last view of a segment may go while this thread has the lock.
        self._changed = threading.Condition(threading.RLock())
        self._segments: OrderedDict[Key, _Segment] = OrderedDict()
        """The one that was used last comes last."""
        self._decoding: dict[Key, _Decoding] = {}
        self._asked: deque[_Decoding] = deque()
        self._expected: deque[_Decoding] = deque()
        self._rescued: deque[_Decoding] = deque()
        """What could not be decoded, and is asked for."""
        self._readers: Counter[Key] = Counter()
        self._live: dict[int, tuple[weakref.ref[Bytes], int]] = {}
        """The segments that are in memory, evicted or not, and their sizes; an array has no hash."""
        self._held = self._ahead = self._peak = 0
        self._hits = self._decodes = self._waits = 0
        self._workers: list[threading.Thread] = []
        self._rescuers: list[threading.Thread] = []
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads that decode; who still waits for a segment gets an ArchiverError."""
        with self._changed:
            self._closed = True
            rescued = (decoding for decoding in self._decoding.values() if decoding.rescued)
            waiting = [*self._asked, *self._expected, *rescued]
            self._asked.clear()
            self._expected.clear()
            self._rescued.clear()
            self._decoding.clear()
            self._segments.clear()
            self._changed.notify_all()
        for decoding in waiting:
            decoding.view.set_exception(_closed())
        # Not for those that get something from elsewhere: a place may not answer for long.
        for worker in self._workers:
            worker.join()

    @property
    def stats(self) -> CacheStats:
        """What it did and has."""
        with self._changed:
            return CacheStats(self._hits, self._decodes, self._waits, self._held, self._peak)

    def get(self, name: str, size: int, decode: Decode, rescue: Rescue | None = None) -> memoryview:
        """Return a read-only view of a segment, decoded by ``decode`` if it is not in memory.

        ``decode`` returns its ``size`` bytes, proven; or raises an ArchiverError, and then ``rescue`` is
        called with that, does the same, and may take long. What is raised in the end is raised to all who
        wait for the segment, and not kept. Let go of the view before the next one is asked for.
        """
        key = (name, size)
        with self._changed:
            segment = self._segments.get(key)
            if segment is not None:
                self._hits += 1
                self._touch(key, segment)
                return _view(segment.plain)
            decoding = self._decoding.get(key)
            if decoding is None:
                decoding = self._begin(key, decode, rescue, asked=True)
            else:
                self._waits += 1
                decoding.rescue = decoding.rescue or rescue
                self._ask(decoding)
            view = decoding.view
        try:
            return view.result()
        finally:
            # An error that is raised here holds this call, which must not hold the error.
            del decoding, view

    def expect(self, name: str, size: int, decode: Decode) -> None:
        """Have a segment decoded, when nothing is waited for and there is room, that will be asked for."""
        key = (name, size)
        with self._changed:
            if key not in self._segments and key not in self._decoding:
                self._begin(key, decode, asked=False)

    def forget(self, segments: Iterable[Key]) -> None:
        """Do not begin to decode what was expected, unless somebody else reads it or asked for it."""
        with self._changed:
            for key in segments:
                decoding = self._decoding.get(key)
                if decoding and not (decoding.asked or decoding.begun or self._readers[key]):
                    self._expected.remove(decoding)
                    self._drop(decoding)

    def hold(self, name: str, size: int) -> None:
        """Count a reader who is in a segment: while it takes pieces of it, others are evicted first."""
        with self._changed:
            self._readers[name, size] += 1

    def release(self, name: str, size: int) -> None:
        """Count a reader less."""
        with self._changed:
            self._readers[name, size] -= 1
            if not self._readers[name, size]:
                del self._readers[name, size]
                self._changed.notify_all()

    # ---- with the lock

    def _touch(self, key: Key, segment: _Segment) -> None:
        self._segments.move_to_end(key)
        segment.used = time.monotonic()
        if not segment.asked:
            segment.asked = True
            self._ahead -= key[1]

    def _begin(
        self, key: Key, decode: Decode, rescue: Rescue | None = None, *, asked: bool
    ) -> _Decoding:
        if self._closed:
            raise _closed()
        if len(self._workers) < self.threads:
            self._start(self._workers, self._asked, self._expected)
        decoding = self._decoding[key] = _Decoding(key, decode, rescue, asked=asked)
        (self._asked if asked else self._expected).append(decoding)
        self._changed.notify_all()
        return decoding

    def _start(self, threads: list[threading.Thread], *queues: deque[_Decoding]) -> None:
        """Start a thread that decodes what is in the queues, the first of them first.

        Raise ArchiverError if the system lets this process have no more, and there is none yet.
        """
        thread = threading.Thread(target=self._work, args=queues, name="segment", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            if not threads:
                raise ArchiverError(
                    f"Nothing can be decoded: {error}.",
                    hint="Allow more threads (ulimit -u, TasksMax of systemd), or end other programs.",
                ) from None
        else:
            threads.append(thread)

    def _ask(self, decoding: _Decoding) -> None:
        """Let what was only expected come before all that is."""
        if decoding.asked:
            return
        decoding.asked = True
        if decoding.begun:
            self._ahead -= decoding.key[1]
        else:
            self._expected.remove(decoding)
            self._asked.append(decoding)
            self._changed.notify_all()

    def _drop(self, decoding: _Decoding) -> None:
        if self._decoding.get(decoding.key) is decoding:
            del self._decoding[decoding.key]

    def _evict(self) -> bool:
        """Evict the segment whose last use is longest ago, of those that nobody reads if there are any."""
        idle = time.monotonic() - self.idle_seconds
        unread = (key for key in self._segments if key not in self._readers)
        left = (key for key, segment in self._segments.items() if segment.used <= idle)
        key = next(unread, None) or next(left, None)
        if key is None:
            return False
        if not self._segments.pop(key).asked:
            self._ahead -= key[1]
        return True

    def _reserve(self, decoding: _Decoding) -> bool:
        """Take the room that a segment needs; False if it is only expected, and there is none."""
        size = decoding.key[1]
        budget = max(self.budget, size)
        if not decoding.asked and self._ahead + size > self.budget // _AHEAD_SHARE:
            return False
        while self._held + size > budget:
            if self._evict():
                continue
            if not decoding.asked:
                return False
            self._changed.wait(self.idle_seconds or None)
            if self._closed:
                raise _closed()
        decoding.begun = True
        self._held += size
        self._peak = max(self._peak, self._held)
        if not decoding.asked:
            self._ahead += size
        return True

    def _next(self, queues: tuple[deque[_Decoding], ...]) -> _Decoding | None:
        """Return what to decode next, with its room; None when the cache is closed."""
        while not self._closed:
            waiting = next((queue for queue in queues if queue), None)
            if waiting is None:
                self._changed.wait()
                continue
            decoding = waiting.popleft()
            try:
                if self._reserve(decoding):
                    return decoding
            except ArchiverError as error:
                with suppress(InvalidStateError):
                    decoding.view.set_exception(error)
            self._drop(decoding)
        return None

    # ---- the threads

    def _work(self, *queues: deque[_Decoding]) -> None:
        while True:
            with self._changed:
                decoding = self._next(queues)
            if decoding is None:
                return
            self._decode(decoding)
            # What waits for the next one must hold no segment.
            del decoding

    def _decode(self, decoding: _Decoding) -> None:
        key = decoding.key
        try:
            plain = np.frombuffer(decoding.decode(), np.uint8, count=key[1])
        except BaseException as error:  # noqa: BLE001 - who waits for it raises it
            _let_go(error)
            with self._changed:
                self._decodes += 1
                self._held -= key[1]
                if not decoding.asked:
                    self._ahead -= key[1]
                rescued = isinstance(error, ArchiverError) and self._rescue(decoding, error)
                if not rescued:
                    self._drop(decoding)
                self._changed.notify_all()
            if not rescued:
                with suppress(InvalidStateError):  # the cache was closed meanwhile
                    decoding.view.set_exception(error)
            return
        view = _view(plain)
        with self._changed:
            self._decodes += 1
            live = weakref.ref(plain, self._gone)
            self._live[id(live)] = live, key[1]
            self._drop(decoding)
            if key[1] <= self.budget and not self._closed:
                self._segments[key] = _Segment(plain, asked=decoding.asked)
            elif not decoding.asked:
                self._ahead -= key[1]
            self._changed.notify_all()
        with suppress(InvalidStateError):
            decoding.view.set_result(view)

    def _rescue(self, decoding: _Decoding, error: ArchiverError) -> bool:
        """Have a segment that could not be decoded got from elsewhere, if somebody waits for it."""
        rescue, decoding.rescue = decoding.rescue, None
        if rescue is None or not decoding.asked or self._closed:
            return False
        if len(self._rescuers) < _RESCUERS:
            try:
                self._start(self._rescuers, self._rescued)
            except ArchiverError:
                return False
        decoding.decode = partial(rescue, error)
        decoding.begun, decoding.rescued = False, True
        self._rescued.append(decoding)
        return True

    def _gone(self, live: weakref.ref[Bytes]) -> None:
        """Count what is in memory no more: it was evicted, and its last view went."""
        with self._changed:
            self._held -= self._live.pop(id(live))[1]
            self._changed.notify_all()


def _view(plain: Bytes) -> memoryview:
    return plain.data.toreadonly()


def _let_go(error: BaseException) -> None:
    """Free what the frames hold that an error came through: a whole segment, as long as the error lives.

    To clear the frames would not do: each keeps its function, and a function that lies in another one keeps
    that one's variables.
    """
    errors: list[BaseException | None] = [error]
    known: set[int] = set()
    while errors:
        each = errors.pop()
        if each is not None and id(each) not in known:
            known.add(id(each))
            each.__traceback__ = None
            errors += each.__cause__, each.__context__


def _closed() -> ArchiverError:
    return ArchiverError("The cache of decoded segments was closed.")
