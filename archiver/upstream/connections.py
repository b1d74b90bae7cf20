"""How many connections fetch a file: what the files of a run share of them, and how many are worth it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from archiver.memory import BUDGET_MIN

if TYPE_CHECKING:
    from collections.abc import Callable

CONNECTIONS: Final = 8
"""The most connections a file, unless another number is asked for."""
LEAST_BYTES: Final = 16 << 20
"""Less than this comes as one stream: a second connection would hardly have begun."""
_WINDOW_BYTES: Final = 64 << 20
"""What may have come too early, of all files of a run together, where memory allows;"""
_LEAST_WINDOW: Final = 8 << 20
"""and what may in any case."""
PIECE: Final = 1 << 20
"""Bytes of a buffer: what a connection hands on at once."""
_ROOM: Final = 8
"""A window that was full has room again once this part of it is free: to wake everybody for each piece took
half as much of the processor as to receive it."""
_FIRST_CONNECTIONS: Final = 4
_EACH_BYTES: Final = 16 << 20
"""Who has so much to fetch for each connection begins with more: finding out takes half a second."""
_EPOCH_SECONDS: Final = 0.2
"""How long a number of connections is tried before it is judged."""
_STARVED: Final = 0.3
"""Only a reader that waits for so much of the time is helped by more connections."""
_WORTH: Final = 1.1
"""Twice as many connections must bring so many times the bytes,"""
_CHANCES: Final = 3
"""in one of so many epochs: in the first they are only being opened, and a busy machine has its moments."""
_SETTLED_SECONDS: Final = 30.0
"""How long nothing is tried after more connections have brought no more, or some were refused."""


def window_within(memory: int) -> int:
    """Return the bytes of a window in a run that may take so much ``memory``."""
    return min(max((memory - BUDGET_MIN) // 3, _LEAST_WINDOW), _WINDOW_BYTES)


class ConnectionPool:
    """What the files of a run share: connections, and the buffers of their windows.

    Each file has one connection anyway; ``most`` - 1 more are for whoever needs them. Besides the window
    there are only the buffers that are being filled, one a connection.

    Args:
        most: Connections of one file.
        window: Bytes that may have come too early.
        clock: Seconds from any start, never going back.
    """

    def __init__(
        self,
        most: int,
        window: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.most = most
        self.clock = clock
        self.lock = threading.RLock()
        """Held for every change of the pool or of a window."""
        self.changed = threading.Condition(self.lock)
        """Told of what those may wait for who have no room."""
        self._spare = most - 1
        self._window = window // PIECE
        self._room_from = self._window - max(1, self._window // _ROOM)
        self.full = False
        """Whether no more may come early."""
        self._users = 0
        self._lent = 0
        self._idle: list[memoryview] = []

    @property
    def held(self) -> int:
        """The bytes that all buffers take together at most."""
        return (self._window + self.most) * PIECE if self.most > 1 else 0

    def worthwhile(self, size: int) -> bool:
        """Return whether ``size`` bytes are better fetched by several connections."""
        return self.most > 1 and size >= LEAST_BYTES

    def enter(self) -> None:
        """Begin another file."""
        self._users += 1

    def leave(self) -> None:
        """End a file; after the last one no buffers are kept."""
        self._users -= 1
        if not self._users:
            self._idle.clear()

    def take_connection(self) -> bool:
        """Take one more connection, if one is left."""
        taken = self._spare > 0
        self._spare -= taken
        return taken

    def give_connection_back(self) -> None:
        """Let another file have it."""
        self._spare += 1

    def take_buffer(self) -> memoryview:
        """Return a buffer of `PIECE` bytes."""
        with self.changed:
            self._lent += 1
            self.full = self.full or self._lent >= self._window
            return self._idle.pop() if self._idle else memoryview(bytearray(PIECE))

    def give_buffer_back(self, buffer: memoryview) -> None:
        """Let another connection have a buffer."""
        with self.changed:
            self._lent -= 1
            if self._users:
                self._idle.append(buffer)
            if self.full and self._lent <= self._room_from:
                self.full = False
                self.changed.notify_all()


class ConnectionCount:
    """How many connections a file is given: ``number``, from 1 to ``most``.

    One until the first bytes came, then some, and of a large file all; more, for as long as the reader
    waits and they bring more.

    Args:
        most: The most there may be.
        clock: Seconds from any start, never going back.
        size: The bytes that are to be fetched.
    """

    def __init__(self, most: int, clock: Callable[[], float], size: int = 0) -> None:
        self.number = 1
        self._most = most
        self._first = min(max(_FIRST_CONNECTIONS, size // _EACH_BYTES), most)
        self._clock = clock
        self._begun = False
        self._settled_until = 0.0
        self._before = (1, 0.0)
        """The number before it was raised, and what it brought a second."""
        self._chances = _CHANCES
        self._epoch = clock()
        self._received = 0
        self._waited = 0.0

    def waited(self, seconds: float) -> None:
        """Account for time in which the reader had nothing."""
        self._waited += seconds

    def began(self) -> None:
        """Take note that the first bytes came: the hub gives ranges."""
        if not self._begun:
            self._begun = True
            self.number = self._first
            self._restart(self._clock() + _EPOCH_SECONDS / 2)  # the others are only being opened

    def received(self, count: int) -> None:
        """Account for bytes, and judge the number if it was tried for long enough."""
        now = self._clock()
        self._received += count
        seconds = now - self._epoch
        if seconds < _EPOCH_SECONDS:
            return
        if now >= self._settled_until and self._waited >= _STARVED * seconds:
            self._judge(self._received / seconds, now)
        self._restart(now)

    def refused(self, streaming: int) -> None:
        """Take note that the hub refused a connection, while so many others brought bytes."""
        now = self._clock()
        self.number = max(1, min(self.number, streaming))
        self._before = (self.number, 0.0)
        self._settled_until = now + _SETTLED_SECONDS
        self._restart(now)

    def _judge(self, rate: float, now: float) -> None:
        number, before = self._before
        if rate < _WORTH * before and self.number > number:
            self._chances -= 1
            if not self._chances:
                self.number = number
                self._before = (number, 0.0)
                self._settled_until = now + _SETTLED_SECONDS
        elif self.number < self._most:
            self._before = (self.number, rate)
            self.number = min(2 * self.number, self._most)
            self._chances = _CHANCES
        else:
            self._before = (self.number, rate)  # They have shown what they are worth.

    def _restart(self, now: float) -> None:
        self._epoch, self._received, self._waited = now, 0, 0.0
