"""How long the hub may let us wait: deadlines for heads and listings, a least rate for bodies.

The client's own time-outs end a read that brings nothing at all. A hub that sends a byte now and
then passes them for ever. So each read of a socket is timed here, and what watches over the thread's
request is asked before it. Only the time inside a read counts: a slow disk, a limit on the rate and
a long file are no fault of the hub's.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from math import inf, isfinite
from typing import TYPE_CHECKING, Any

import httpcore2

from archiver.errors import NetworkError, UsageError
from archiver.progress import stop_requested
from archiver.text import human_bytes, human_duration, printable
from archiver.upstream.read_watches import watches_of_this_thread
from archiver.upstream.retry import RetryableError

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx2

    from archiver.upstream.read_watches import Watch

_TIMEOUT_VARIABLE = "ARCHIVER_TIMEOUT"
_RATE_VARIABLE = "ARCHIVER_LEAST_RATE"
_LARGEST_HEAD = 256 * 1024
_LARGEST_LISTING = 256 * 1024 * 1024
_OVERHEAD = 4 * 1024 * 1024
_TURN = 0.5
"""Seconds of a read, after which it looks whether the run is to end."""
_TLS_RECORD = 16 * 1024
"""Bytes of a record of TLS at most (RFC 8446, 5.1),"""
_RECORDS = 16
"""and how many of them are passed on at once."""


@dataclass(frozen=True)
class Patience:
    """What is borne of a hub; ``docs/bounds.md`` has the table.

    All but ``least_rate`` are seconds.

    Args:
        silence: Without a byte, after which a read has failed.
        least_rate: Bytes per second of waiting below which a body is given up; 0 for any.
        head: Waiting until the head of an answer is there, redirects included.
        window: Waiting over which a body's rate is measured.
        listing: Waiting for everything that lists one repository.
        clock: From any start, never going back.
    """

    silence: float = 30.0
    least_rate: float = 1000.0
    head: float = 60.0
    window: float = 60.0
    listing: float = 3600.0
    clock: Callable[[], float] = time.monotonic


def chosen_patience() -> Patience:
    """Return the patience that ``ARCHIVER_TIMEOUT`` and ``ARCHIVER_LEAST_RATE`` choose, or the default.

    Who bears a longer silence bears longer waits of the other kinds too; who bears a shorter one
    wants to hear of a dead connection soon, not to lose a slow one.
    """
    usual = Patience()
    silence = _number(_TIMEOUT_VARIABLE, "seconds", usual.silence)
    if not silence > 0:
        raise UsageError(f"{_TIMEOUT_VARIABLE}=0 is not a number of seconds.")
    longer = max(1.0, silence / usual.silence)
    return Patience(
        silence,
        _number(_RATE_VARIABLE, "bytes per second", usual.least_rate),
        head=longer * usual.head,
        window=longer * usual.window,
        listing=longer * usual.listing,
    )


def _number(variable: str, unit: str, usual: float) -> float:
    text = os.environ.get(variable, "")
    if not text:
        return usual
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (isfinite(value) and value >= 0):
        raise UsageError(f"{variable}={printable(text)} is not a number of {unit}.")
    return value


class HeadDeadline:
    """The head of an answer, with all interim answers and redirects before it."""

    def __init__(self, patience: Patience) -> None:
        self._limit = patience.head
        self._waited = 0.0
        self._received = 0

    def left(self) -> float:
        """As `Watch`; raise RetryableError."""
        if self._waited >= self._limit:
            raise RetryableError(f"no whole head of an answer within {human_duration(self._limit)}")
        if self._received > _LARGEST_HEAD:
            raise RetryableError(f"no answer in {human_bytes(self._received)} of heads")
        return self._limit - self._waited

    def note(self, seconds: float, count: int) -> None:
        """As `Watch`."""
        self._waited += seconds
        self._received += count


class ListingAllowance:
    """What one listing may cost in all: waiting, and bytes of JSON.

    ``variable`` is the one of the environment that names another hub.
    """

    def __init__(self, patience: Patience, variable: str = "HF_ENDPOINT") -> None:
        self._limit = patience.listing
        self._variable = variable
        self._waited = 0.0
        self._taken = 0

    def left(self) -> float:
        """As `Watch`; raise NetworkError, since asking again would not end it either."""
        if self._waited >= self._limit:
            raise NetworkError(
                f"The hub's listing took more than {human_duration(self._limit)} of waiting.",
                hint=f"On a slow line, set {_TIMEOUT_VARIABLE} to more seconds.",
            )
        return self._limit - self._waited

    def note(self, seconds: float, count: int) -> None:
        """As `Watch`."""
        del count
        self._waited += seconds

    def take(self, count: int) -> None:
        """Account for JSON that was read; raise NetworkError above the bound."""
        self._taken += count
        if self._taken > _LARGEST_LISTING:
            raise NetworkError(
                f"The hub's listing is larger than {human_bytes(_LARGEST_LISTING)}.",
                hint=f"No listing of a repository is so large; check that {self._variable} is a hub.",
            )


class LeastRate:
    """Whether a body comes fast enough, and whether it is a body at all.

    ``waited`` are all seconds of waiting so far.
    """

    def __init__(self, patience: Patience) -> None:
        self.waited = 0.0
        self._rate = patience.least_rate
        self._window = patience.window
        self._since = 0.0
        self._received = 0
        self._payload = 0
        self._raw = 0

    def left(self) -> float:
        """As `Watch`; raise RetryableError."""
        if self._raw > 4 * self._payload + _OVERHEAD:
            self.restart()
            raise RetryableError("hardly anything of what comes is the body", slow=True)
        if self._since >= self._window:
            slow = self._received < self._rate * self._since
            self._since, self._received = 0.0, 0
            if slow:
                raise RetryableError(
                    f"less than {human_bytes(self._rate)} a second came "
                    f"for {human_duration(self._window)}",
                    slow=True,
                )
        return inf

    def note(self, seconds: float, count: int) -> None:
        """As `Watch`."""
        self.waited += seconds
        self._since += seconds
        self._raw += count

    def gained(self, count: int) -> None:
        """Account for bytes of the body itself."""
        self._received += count
        self._payload += count

    def restart(self) -> None:
        """Begin another body."""
        self._since, self._received = 0.0, 0
        self._payload, self._raw = 0, 0

    def enough(self, count: int, seconds: float) -> bool:
        """Return whether ``count`` bytes are worth ``seconds`` of waiting."""
        return count > 0 and count >= self._rate * seconds


class TimedStream(httpcore2.NetworkStream):
    """A connection whose reads are watched."""

    def __init__(self, inner: httpcore2.NetworkStream, clock: Callable[[], float]) -> None:
        self._inner = inner
        self._clock = clock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return what comes next, as the client wants it."""
        data = b""

        def receive(turn: float) -> int:
            nonlocal data
            data = self._inner.read(max_bytes, turn)
            if len(data) >= _TLS_RECORD:
                data = self._with_more(data)
            return len(data)

        self._watched(watches_of_this_thread(), inf if timeout is None else timeout, receive)
        return data

    @property
    def is_plain(self) -> bool:
        """Whether what the socket gives is what was sent, and not TLS within that of a proxy."""
        within = isinstance(self._inner.get_extra_info("ssl_object"), ssl.SSLObject)
        return not within and isinstance(self._inner.get_extra_info("socket"), socket.socket)

    def readinto(self, buffer: memoryview, timeout: float, *watches: Watch) -> int:
        """Put what comes next into ``buffer``; return how many bytes, 0 if the connection has ended.

        Only of a connection that ``is_plain``. Raise httpcore2.ReadTimeout, or OSError.
        """
        connection = self._inner.get_extra_info("socket")

        def receive(turn: float) -> int:
            if connection.gettimeout() != turn:
                connection.settimeout(turn)
            try:
                count: int = connection.recv_into(buffer)
            except TimeoutError as error:
                raise httpcore2.ReadTimeout from error
            if count >= _TLS_RECORD and isinstance(connection, ssl.SSLSocket):
                connection.settimeout(0)
                with suppress(OSError):  # as in _with_more
                    while count < len(buffer) and (more := connection.recv_into(buffer[count:])):
                        count += more
            return count

        return self._watched((*watches_of_this_thread(), *watches), timeout, receive)

    def _watched(
        self, watches: tuple[Watch, ...], timeout: float, receive: Callable[[float], int]
    ) -> int:
        """Return how many bytes a read brought, and tell the watches; they may allow it less time."""
        allowed = min(min((watch.left() for watch in watches), default=inf), timeout)
        begin, count = self._clock(), 0
        try:
            count = self._within(allowed, receive)
        except httpcore2.ReadTimeout:
            self._note(watches, begin, 0)
            for watch in watches:
                watch.left()  # says so itself where it was its limit that was reached
            raise
        self._note(watches, begin, count)
        return count

    def _within(self, allowed: float, receive: Callable[[float], int]) -> int:
        """Read within so many seconds; raise KeyboardInterrupt soon after the run is to end.

        A hub that is silent, or sends a byte now and then, is no reason to wait: other threads than the
        main one learn of Ctrl-C here.
        """
        while not stop_requested.is_set():
            turn = min(allowed, _TURN)
            try:
                return receive(turn)
            except httpcore2.ReadTimeout:
                allowed -= turn
                if allowed <= 0:
                    raise
        raise KeyboardInterrupt

    def _with_more(self, data: bytes) -> bytes:
        """Return ``data`` and what else has come by now, of a connection by TLS.

        It gives one record at a time, and passing one on to the body costs as much as passing on a dozen.
        """
        connection = self._inner.get_extra_info("socket")
        # TLS within that of a proxy: the socket gives records, not what is in them.
        if not isinstance(connection, ssl.SSLSocket) or not self.is_plain:
            return data
        pieces = [data]
        connection.settimeout(0)
        # What goes wrong, or that it ends, is told again by the next read, which waits.
        with suppress(OSError):
            while len(pieces) < _RECORDS and (piece := connection.recv(_TLS_RECORD)):
                pieces.append(piece)
        return b"".join(pieces)

    def _note(self, watches: tuple[Watch, ...], begin: float, count: int) -> None:
        seconds = self._clock() - begin
        for watch in watches:
            watch.note(seconds, count)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Pass on."""
        self._inner.write(buffer, timeout)

    def close(self) -> None:
        """Pass on."""
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        """Return the same connection by TLS, watched too."""
        inner = self._inner.start_tls(ssl_context, server_hostname, timeout)
        return TimedStream(inner, self._clock)

    def get_extra_info(self, info: str) -> Any:
        """Pass on."""
        return self._inner.get_extra_info(info)


class _TimedBackend(httpcore2.NetworkBackend):
    """Opens connections whose reads are watched."""

    def __init__(self, inner: httpcore2.NetworkBackend, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._inner = inner

    def connect_tcp(self, *arguments: Any, **named: Any) -> httpcore2.NetworkStream:
        return TimedStream(self._inner.connect_tcp(*arguments, **named), self.clock)

    def connect_unix_socket(self, *arguments: Any, **named: Any) -> httpcore2.NetworkStream:
        return TimedStream(self._inner.connect_unix_socket(*arguments, **named), self.clock)

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


_WRAPPING = threading.Lock()


def timed(client: httpx2.Client, clock: Callable[[], float]) -> httpx2.Client:
    """Return ``client``, with the reads of its new connections watched; it may be passed again.

    The client is the hub's own, made with its proxies and certificates. It offers no way to give it
    a network backend, so that is replaced where it lies.
    """
    with _WRAPPING:
        for transport in (client._transport, *client._mounts.values()):  # noqa: SLF001 - see above
            pool: Any = getattr(transport, "_pool", None)
            if pool is None:
                continue
            backend = pool._network_backend  # noqa: SLF001 - see above
            if not isinstance(backend, _TimedBackend):
                pool._network_backend = _TimedBackend(backend, clock)  # noqa: SLF001 - see above
            else:
                backend.clock = clock
    return client
