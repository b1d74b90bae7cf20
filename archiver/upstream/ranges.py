"""One file over several connections: an ordered window of ranges, read as a single pass.

Hubs limit each connection, and many models come as one file. So a file's next ranges are fetched at the
same time, each by a thread with a connection of its own (:class:`HubStream`: the same retries, deadlines
and checks as of a single stream), and handed on in file order. What came too early is kept in a bounded
window. How many connections there are is found out: more as long as the reader waits and more bring more,
and fewer where the hub refuses some. Where it gives no ranges, one stream goes on.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from archiver.upstream.connections import ConnectionCount
from archiver.upstream.stream import HubStream, RangesRefusedError

if TYPE_CHECKING:
    from archiver.throttle import Throttle
    from archiver.upstream.connections import ConnectionPool
    from archiver.upstream.retry import RetryableError
    from archiver.upstream.stream import HubFile

RANGE_STEP: Final = 2 << 20
"""The first ranges are 1, 2, 3… times so long: ranges that all ended at once would fill the window, and
then leave nothing to hand on."""
LONGEST_RANGE: Final = 16 << 20
"""Each range costs a round trip. In the middle of a file half of what is on its way is in the window."""
SHORTEST_RANGE: Final = 4 << 20
_PIECE_SECONDS: Final = 0.25
"""Where the reader waits for it, what came in so many seconds is handed on, however little."""

_Piece = tuple[memoryview, int]


class _HandedBackError(Exception):
    """A connection ends; what is left of its range is for another."""


@dataclass(eq=False)
class _Range:
    """A range of the file: ``pieces`` have come as far as ``position`` and were not read yet.

    A piece is a buffer and how many bytes are in it.
    """

    position: int
    end: int
    pieces: deque[_Piece] = field(default_factory=deque)
    taken: bool = False
    failure: BaseException | None = None
    requested: float | None = None
    """The seconds to wait before it is asked for again, as the hub told whoever handed it back."""


class RangedStream:
    """A :class:`~archiver.upstream.protocol.ByteStream` over several connections.

    Args:
        file: What is fetched.
        pool: What the file shares with others.
        offset: The byte to begin at.
        throttle: The limit on bytes per second, if there is one.
    """

    def __init__(
        self, file: HubFile, pool: ConnectionPool, *, offset: int, throttle: Throttle | None
    ) -> None:
        self._file = file
        self._throttle = throttle
        self._pool = pool
        self._changed = pool.changed
        self._arrived = threading.Condition(pool.lock)
        """Told of what the reader may wait for."""
        self._count = ConnectionCount(pool.most, pool.clock, file.size - offset)
        self._position = offset
        """What was read."""
        self._planned = offset
        """Where the next range begins."""
        self._ranges: deque[_Range] = deque()
        self._cut = 0
        """How many ranges were planned."""
        self._connections: set[_Connection] = set()
        self._closed = False
        self._refused = False
        self._single: HubStream | None = None
        self._piece: _Piece | None = None
        self._read = 0
        """How much of the piece was read."""
        with self._changed:
            pool.enter()

    def readinto(self, buffer: memoryview) -> int:
        """Put the next bytes into ``buffer`` and return how many, 0 at the end of the file.

        Raise as a `HubStream` does.
        """
        if self._single is not None:
            return self._single.readinto(buffer)
        if self._piece is None and (piece := self._next_piece()) is not None:
            self._piece, self._read = piece, 0
        if self._piece is None:
            return self._single.readinto(buffer) if self._single is not None else 0
        filled, size = self._piece
        count = min(len(buffer), size - self._read)
        buffer[:count] = filled[self._read : self._read + count]
        self._read += count
        self._position += count
        if self._read == size:
            self._piece = None
            self._pool.give_buffer_back(filled)
        return count

    def close(self) -> None:
        """Hang up; a connection that is silent just now ends when it hears of it."""
        with self._changed:
            self._end_window()
            if self._piece is not None:
                self._pool.give_buffer_back(self._piece[0])
                self._piece = None
        if self._single is not None:
            self._single.close()

    # ---- the reader's side

    def _next_piece(self) -> _Piece | None:
        """Return what has come next; None at the end, or where one stream is to go on."""
        with self._changed:
            while self._position < self._file.size:
                self._start_connections()
                head = self._ranges[0] if self._ranges else None
                if head and head.pieces:
                    piece = head.pieces.popleft()
                    if not head.pieces:
                        self._changed.notify_all()  # who fetches it may go on
                    return piece
                if head and head.position == head.end:
                    self._ranges.popleft()
                    self._changed.notify_all()  # another one is the first now, and may go on
                elif self._refused:
                    self._end_window()
                    self._single = HubStream(
                        self._file, offset=self._position, throttle=self._throttle
                    )
                    break
                elif head and head.failure is not None:
                    raise head.failure
                else:
                    began = self._pool.clock()
                    self._arrived.wait()
                    self._count.waited(self._pool.clock() - began)
        return None

    def _end_window(self) -> None:
        if not self._closed:
            self._closed = True
            for part in self._ranges:
                for buffer, _ in part.pieces:
                    self._pool.give_buffer_back(buffer)
            self._ranges.clear()
            self._pool.leave()
            self._tell_all()

    def _tell_all(self) -> None:
        """Wake the reader, and every connection that waits for room."""
        self._arrived.notify()
        self._changed.notify_all()

    # ---- the connections' side

    def _start_connections(self) -> None:
        """Begin as many connections as are worth it; called with the window held."""
        while (
            len(self._connections) < self._count.number
            and self._has_work()
            and (not self._connections or self._pool.take_connection())
        ):
            connection = _Connection(self, spare=bool(self._connections))
            self._connections.add(connection)
            try:
                connection.start()
            except RuntimeError:  # The system has no more threads.
                self._leave(connection)
                self._refused = not self._connections
                return

    def _leave(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        if connection.spare:
            self._pool.give_connection_back()

    def _has_work(self) -> bool:
        if self._closed or self._refused:
            return False
        left = self._planned < self._file.size
        failed = any(part.failure is not None for part in self._ranges)
        return (left and not failed) or self._handed_back() is not None

    def _handed_back(self) -> _Range | None:
        """Return the first range that nobody fetches."""
        idle = (part for part in self._ranges if not part.taken and part.failure is None)
        return next(idle, None)

    def next_range(self, connection: _Connection) -> _Range | None:
        """Return what the connection is to fetch next; None if it is to end, and counts no more."""
        with self._changed:
            part, connection.claimed = connection.claimed, None
            if part is not None and not self._closed:
                return part
            part = None
            if len(self._connections) <= self._count.number and self._has_work():
                part = self._handed_back() or self._plan()
                part.taken = True
            else:
                self._leave(connection)
                self._tell_all()
            return part

    def _plan(self) -> _Range:
        """Return a new range. Towards the end they get shorter, so that all connections end together."""
        self._cut += 1
        left = self._file.size - self._planned
        share = max(SHORTEST_RANGE, left // (2 * self._count.number))
        size = min(left, share, self._cut * RANGE_STEP, LONGEST_RANGE)
        part = _Range(self._planned, self._planned + size)
        self._planned += size
        self._ranges.append(part)
        return part

    def open_range(self, part: _Range, connection: _Connection) -> HubStream:
        """Return the stream of what is left of a range, after the wait that the hub asked for."""
        if part.requested is not None:
            reason = "hub: too many connections"
            self._file.session.retry.wait(0, part.requested, reason=reason)
            part.requested = None
        return HubStream(
            self._file,
            offset=part.position,
            throttle=self._throttle,
            end=part.end,
            supervisor=connection,
        )

    def began(self) -> None:
        """Take note that a connection brings bytes: there may be more connections now."""
        with self._changed:
            self._count.began()
            self._start_connections()

    def keep(self, part: _Range, piece: _Piece, connection: _Connection) -> None:
        """Put what came of a range into the window, and wait until more may come.

        Raise _HandedBackError if nobody reads any more, or if the reader waits for a range that whoever
        fetched it had to hand back: there is no room before it came, and ``connection`` fetches it.
        """
        with self._changed:
            if self._closed:
                self._pool.give_buffer_back(piece[0])
                raise _HandedBackError
            part.pieces.append(piece)
            part.position += piece[1]
            self._count.received(piece[1])
            self._start_connections()
            if self._ranges and self._ranges[0] is part:
                self._arrived.notify()
            while self._pool.full and not self._closed and not self.waits_for(part):
                if self._claim_first(connection):
                    raise _HandedBackError
                self._changed.wait()

    def _claim_first(self, connection: _Connection) -> bool:
        """Give a connection the first range next, if nobody fetches it; return whether it is so."""
        first = self._ranges[0] if self._ranges else None
        if first is None or first is not self._handed_back() or first.position == first.end:
            return False
        first.taken = True
        connection.claimed = first
        return True

    def waits_for(self, part: _Range) -> bool:
        """Return whether the reader waits for this range: who fetches it waits for nobody."""
        with self._changed:
            return bool(self._ranges) and self._ranges[0] is part and not part.pieces

    def take_buffer(self) -> memoryview:
        """Return a buffer for a piece; `keep` takes it back."""
        return self._pool.take_buffer()

    def give_buffer_back(self, buffer: memoryview) -> None:
        """Take back a buffer that was not used."""
        self._pool.give_buffer_back(buffer)

    def require_reader(self) -> None:
        """Raise _HandedBackError if nobody reads any more."""
        if self._closed:
            raise _HandedBackError

    def refused(self, part: _Range, error: RetryableError) -> None:
        """Take note that a range was not to be had just now.

        Raise _HandedBackError if it was because of too many connections: then this one ends.
        """
        with self._changed:
            self.require_reader()
            crowded = (error.busy or error.unreached) and len(self._connections) > 1
            if not crowded or self._file.session.retry.hopeless(error.requested):
                return
            self._count.refused(sum(connection.streaming for connection in self._connections))
            if len(self._connections) > self._count.number:
                part.requested = error.requested
                raise _HandedBackError

    def end_range(self, part: _Range, failure: BaseException | None) -> None:
        """Take note of how the fetching of a range ended."""
        with self._changed:
            if isinstance(failure, RangesRefusedError):
                self._refused = True
            elif isinstance(failure, _HandedBackError):
                part.taken = False
            else:
                part.failure = failure
            self._tell_all()


class _Connection(threading.Thread):
    """Fetches one range after the other.

    Attributes:
        spare: Whether it was taken from the pool.
        streaming: Whether bytes have come since it last failed.
        claimed: The range that it is to fetch next, if that is settled.
    """

    def __init__(self, file: RangedStream, *, spare: bool) -> None:
        # A daemon: whoever has ended the run does not wait for a hub that is silent.
        super().__init__(name="range", daemon=True)
        self.spare = spare
        self.streaming = False
        self.claimed: _Range | None = None
        self._file = file
        self._range: _Range | None = None

    def run(self) -> None:
        """Work until there is nothing left, or there are too many connections."""
        while (part := self._file.next_range(self)) is not None:
            self._range = part
            failure: BaseException | None = None
            try:
                self._fetch(part)
            except BaseException as error:  # noqa: BLE001 - raised by the thread that reads
                failure = error
            self._file.end_range(part, failure)

    def _fetch(self, part: _Range) -> None:
        stream = self._file.open_range(part, self)
        try:
            while self._fetch_piece(stream, part):
                pass
        finally:
            stream.close()

    def _fetch_piece(self, stream: HubStream, part: _Range) -> bool:
        """Hand on what comes next of a range; return whether there was any."""
        buffer = self._file.take_buffer()
        size, began = 0, time.monotonic()
        try:
            while size < len(buffer) and (count := stream.readinto(buffer[size:])):
                size += count
                if not self.streaming:
                    self.streaming = True
                    self._file.began()
                late = time.monotonic() - began >= _PIECE_SECONDS
                if late and self._file.waits_for(part):
                    break
        finally:
            if size:
                self._file.keep(part, (buffer, size), self)
            else:
                self._file.give_buffer_back(buffer)
        return bool(size)

    def proceed(self) -> None:
        """As a `Supervisor`."""
        self._file.require_reader()

    def failed(self, error: RetryableError) -> None:
        """As a `Supervisor`."""
        self.streaming = False
        assert self._range is not None
        self._file.refused(self._range, error)
