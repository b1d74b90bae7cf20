"""The server: uvicorn, with a bound for all that a client may send, hold open, or leave unread.

uvicorn itself waits for ever for the first byte, for the end of headers, and for whoever reads nothing of
what it is sent. One look at all connections a second finds those (:meth:`Server.sweep`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import socket
import struct
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from archiver.errors import ArchiverError, ExitCode, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.types import ASGIApp, Receive, Scope, Send

_log = logging.getLogger(__name__)

HEADER_SECONDS: Final = 20
"""From the first byte of a request, or the opening of a connection, to the end of its headers."""
BODY_SECONDS: Final = 30
"""From there to the end of its body."""
IDLE_SECONDS: Final = 30
"""A connection stays open between two requests."""
STALL_SECONDS: Final = 60
"""Without a byte taken by a client for whom bytes wait."""
STOP_SECONDS: Final = 20
"""Answers that are on their way may take, once the server is told to stop."""
SAME_SECONDS: Final = 0.5
"""A second signal that comes so soon counts as the first; what went wrong is logged so often at most."""
HEADERS_MAX: Final = 32 << 10
"""Bytes of a request's line and headers."""
URL_MAX: Final = 8 << 10
"""Bytes of its address."""
PIPELINE_MAX: Final = 16
"""Requests of one connection that wait for the answer to the one before."""
REFUSED_CONNECTIONS: Final = 64
"""Connections beyond the limit that are told so; further ones are closed without a word."""
_BACKLOG: Final = 512
_OPEN_FILES: Final = 1 << 16
"""Files that the process may open, where the system lets it: connections, and packs of open snapshots."""
_NO_LINGER: Final = struct.pack("ii", 1, 0)


class Deadlines:
    """How long clients may take, in seconds; tests take less."""

    def __init__(self, scale: float = 1) -> None:
        self.header = HEADER_SECONDS * scale
        self.body = BODY_SECONDS * scale
        self.idle = IDLE_SECONDS * scale
        self.stall = STALL_SECONDS * scale
        self.stop = STOP_SECONDS * scale
        self.sweep = min(1.0, self.header / 4)


class Protocol(HttpToolsProtocol):
    """A connection whose client has bounds."""

    limit: int
    deadlines: Deadlines

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request; close at once what is far beyond the limit."""
        super().connection_made(transport)
        self.url = b""
        self.wait_began: float | None = self.loop.time()
        self.body_began: float | None = None
        self._header_bytes = 0
        self._unread = 0
        self._unread_since = self.loop.time()
        self.idle_since = self.loop.time()
        if len(self.connections) > self.limit + REFUSED_CONNECTIONS:
            self.cut_off()
        elif len(self.connections) > self.limit:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        """Take what came, as long as it is within bounds."""
        if self.transport.is_closing():
            return
        if self.wait_began is None and self._is_between_requests():
            self.wait_began = self.loop.time()
        if self.wait_began is not None:
            self._header_bytes += len(data)
        super().data_received(data)
        if self.wait_began is not None and self._header_bytes > HEADERS_MAX:
            self._refuse(431)
        elif len(self.pipeline) > PIPELINE_MAX:
            self.cut_off()

    def _make_room(self) -> None:
        """Close the connection that has been kept open for longest with nothing asked on it."""
        idle = [each for each in self.connections if isinstance(each, Protocol) and each.is_idle]
        if idle:
            min(idle, key=lambda each: each.idle_since).transport.close()

    @property
    def is_idle(self) -> bool:
        """Whether all that was asked is answered, and nothing more has come."""
        answered = self.cycle is not None and self._is_between_requests()
        return answered and self.wait_began is None and not self.transport.get_write_buffer_size()

    def on_response_complete(self) -> None:
        """Note since when nothing is asked."""
        self.idle_since = self.loop.time()
        super().on_response_complete()

    def _is_between_requests(self) -> bool:
        return self.cycle is None or (self.cycle.response_complete and self.body_began is None)

    def _refuse(self, status: int) -> None:
        """Answer what is no request that could be answered otherwise, and close."""
        if not self.transport.is_closing():
            words = {408: b"Request Timeout", 414: b"URI Too Long"}
            phrase = words.get(status, b"Request Header Fields Too Large")
            self.transport.write(
                b"HTTP/1.1 %d %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                % (status, phrase)
            )
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP; not into the middle of an answer."""
        if self.transport.is_closing():
            return
        if len(self.url) > URL_MAX:
            self._refuse(414)
            return
        if self.cycle is not None and self.cycle.response_started and not self._is_answered():
            self.transport.abort()
            return
        super().send_400_response(msg)

    def _is_answered(self) -> bool:
        return bool(self.cycle.response_complete)

    def on_url(self, url: bytes) -> None:
        """Take a part of the address."""
        super().on_url(url)
        if len(self.url) > URL_MAX:
            raise _TooLongError  # the parser gives up, and calls send_400_response

    def on_headers_complete(self) -> None:
        """Begin the answer; refuse it where there are too many connections."""
        self.wait_began = None
        self._header_bytes = 0
        self.body_began = self.loop.time()
        self._take_authority()
        application = self.app
        if len(self.connections) > self.limit:
            self.app = _busy
        try:
            super().on_headers_complete()
        finally:
            self.app = application

    def _take_authority(self) -> None:
        """Have the host in a whole URL, as proxies send one, stand for Host (RFC 9112, section 3.2.2)."""
        if not self.url.startswith((b"/", b"*")):
            authority = self.url.partition(b"://")[2].partition(b"/")[0].partition(b"?")[0]
            self.headers[:] = [
                (name, authority if name == b"host" else value) for name, value in self.headers
            ]

    def on_message_complete(self) -> None:
        """Note that all of the request is here."""
        self.body_began = None
        super().on_message_complete()

    def fault(self, now: float) -> str:
        """Return what is wrong with a connection at this moment; ``""`` if nothing is."""
        deadlines = self.deadlines
        unread = self.transport.get_write_buffer_size()
        if unread != self._unread or not unread:
            self._unread, self._unread_since = unread, now
        elif now - self._unread_since > deadlines.stall:
            return "it reads nothing of what it is sent"
        if self.wait_began is not None and now - self.wait_began > deadlines.header:
            return "its headers do not end"
        if self.body_began is not None and now - self.body_began > deadlines.body:
            return "its body does not end"
        return ""

    def end(self) -> None:
        """Close it: with a word, if no answer has begun."""
        waits = self.wait_began is not None and not self.transport.get_write_buffer_size()
        if waits and self._header_bytes and self._is_between_requests():
            self._refuse(408)
        else:
            self.cut_off()

    def cut_off(self) -> None:
        """Close it at once; what was not sent is sent no more, nor kept by the system for long."""
        with suppress(OSError):
            connection: socket.socket = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.transport.abort()


class _TooLongError(Exception):
    """An address is longer than one may be."""


async def _busy(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer that there are too many connections."""
    del scope, receive
    body = b'{"error": "This server has as many connections as it may have. Try again soon."}'
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", b"5"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Server(uvicorn.Server):
    """A server that looks after its connections, and stops when it is told to."""

    def __init__(self, config: uvicorn.Config, deadlines: Deadlines) -> None:
        super().__init__(config)
        self._deadlines = deadlines
        self.stopped_by = 0
        """The number of the signal that ended it; 0: none did."""
        self._stopped_at = 0.0
        self._noted_at = float("-inf")

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End in order at the first signal, and at once at the second."""
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        caught = [each for each in numbers if signal.getsignal(each) is not signal.SIG_IGN]
        for number in caught:
            loop.add_signal_handler(number, self._stop, number)
        try:
            yield
        finally:
            for number in caught:
                loop.remove_signal_handler(number)

    def _stop(self, number: int) -> None:
        now = asyncio.get_running_loop().time()
        if self.should_exit:
            # What is told to a group of processes may come twice, by itself and from a parent.
            if now - self._stopped_at > SAME_SECONDS:
                os._exit(int(ExitCode.INTERRUPTED))
            return
        self.stopped_by, self._stopped_at = number, now
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer, and to look after connections."""
        asyncio.get_running_loop().set_exception_handler(self._note)
        await super().startup(sockets)
        self._sweeper = asyncio.ensure_future(self._sweep_always())

    def _note(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log what went wrong with no request to answer, such as a connection that cannot be taken.

        Where the process has as many files open as it may, that is said hundreds of times a second, and
        waits: those who go make room.
        """
        if loop.time() - self._noted_at > SAME_SECONDS:
            self._noted_at = loop.time()
            _log.info("unexpected: %s: %s", context["message"], context.get("exception"))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take nothing new, and wait for what is on its way, within bounds."""
        await super().shutdown(sockets)
        self._sweeper.cancel()
        for connection in list(self.server_state.connections):
            if isinstance(connection, Protocol):
                connection.cut_off()

    async def _sweep_always(self) -> None:
        while True:
            await asyncio.sleep(self._deadlines.sweep)
            self.sweep()

    def sweep(self) -> None:
        """Close every connection whose client takes longer than it may."""
        now = asyncio.get_running_loop().time()
        for connection in list(self.server_state.connections):
            if isinstance(connection, Protocol) and (fault := connection.fault(now)):
                _log.info("connection closed: %s", fault)
                connection.end()


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; raise UsageError or ArchiverError if none can."""
    try:
        # In brackets it stands in the address that is printed.
        host = host.removeprefix("[").removesuffix("]")
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except (socket.gaierror, UnicodeError):
        raise UsageError(f"{host!r} is no address of this machine.") from None
    except OSError as error:
        raise ArchiverError(
            f"Nothing can listen at {host} port {port}: {error.strerror or error}.",
            hint="Choose another --port; 0 takes a free one.",
        ) from error


def serve(
    application: ASGIApp,
    listener: socket.socket,
    connections: int,
    deadlines: Deadlines | None = None,
    on_start: Callable[[], None] = lambda: None,
) -> int:
    """Serve until a signal ends it; return the number of the signal."""
    deadlines = deadlines or Deadlines()
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL + 1)  # what is worth saying is said here

    class Bounded(Protocol):
        """Of this server."""

    Bounded.limit, Bounded.deadlines = connections, deadlines
    settings: dict[str, Any] = {
        "http": Bounded,
        "ws": "none",
        "loop": "asyncio",
        "lifespan": "off",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "timeout_keep_alive": deadlines.idle,
        "timeout_graceful_shutdown": deadlines.stop,
        "backlog": _BACKLOG,
    }
    _allow_files()
    server = Server(uvicorn.Config(application, **settings), deadlines)
    on_start()
    asyncio.run(server.serve([listener]))
    return server.stopped_by


def _allow_files() -> None:
    """Let the process open more files than the 1,024 that are usual, as far as it may say so itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
