"""A port of 127.0.0.1: it reads requests, has them answered and spoilt, and sends at the link's rate.

The standard library's server accepts, keeps a thread a connection and reads the requests. Its own ways
of sending are not used, for none of them can hang up in the middle of a body or let bytes that are no
answer go before one: what a `Response` says goes to the socket piece by piece.
"""

from __future__ import annotations

import contextlib
import http.server
import socket
import socketserver
import struct
import sys
import threading
import time
import traceback
import weakref
from typing import TYPE_CHECKING, Any

from archiver.loopback.log import Record
from archiver.loopback.message import (
    Drip,
    Flood,
    Hangup,
    Pause,
    Piece,
    Request,
    Response,
    Span,
    refusal,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.loopback.faults import Faults
    from archiver.loopback.log import Log
    from archiver.loopback.registry import Registry
    from archiver.loopback.routes import Routes, Target

_HOST = "127.0.0.1"
_METHODS = frozenset({"GET", "HEAD", "POST"})
_LONGEST_LINE = 64 * 1024
_LONGEST_BODY = 1024 * 1024
_MORE = getattr(socket, "MSG_MORE", 0)
"""Linux: hold the head back until the body's first bytes, so that both leave in one packet."""

_UNSHAPED_CHUNK = 8 * 1024 * 1024
_LARGEST_CHUNK = 1024 * 1024
_SMALLEST_CHUNK = 512
_CHUNKS_A_SECOND = 50
"""Each costs the processor, of which who is measured on this machine has as much less."""
_CREDIT_SECONDS = 0.02
_SLEPT_SECONDS = 0.05
"""A wait up to so long is slept: to wait for the end of the hub meanwhile takes three times the work."""


class Timeline:
    """Time slots one after the other, for bytes at a rate that is told with each.

    A thread that oversleeps may catch up by at most ``_CREDIT_SECONDS``, so the mean is exact although
    sleeps are not.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next_slot = 0.0

    def slot(self, seconds: float) -> float:
        """Take the next ``seconds`` and return the moment when they begin."""
        with self._lock:
            slot = max(self._next_slot, time.monotonic() - _CREDIT_SECONDS)
            self._next_slot = slot + seconds
        return slot


class Link:
    """What the link lets through; None is no limit.

    ``rate`` is bytes a second of all connections together, ``connection_rate`` of each, and ``delay``
    the seconds before each answer: a round trip.
    """

    def __init__(self, stopping: threading.Event) -> None:
        self.rate: float | None = None
        self.connection_rate: float | None = None
        self.delay = 0.0
        self._stopping = stopping
        self._shared = Timeline()

    def chunks(self, total: int, connection: Timeline) -> Iterator[int]:
        """Cut ``total`` bytes into chunks, and yield the length of each when its turn has come."""
        while total > 0:
            limits = [
                (rate, timeline)
                for rate, timeline in (
                    (self.rate, self._shared),
                    (self.connection_rate, connection),
                )
                if rate is not None
            ]
            chunk = min(total, _UNSHAPED_CHUNK)
            if limits:
                fair = int(min(rate for rate, _ in limits) / _CHUNKS_A_SECOND)
                chunk = min(total, max(_SMALLEST_CHUNK, min(_LARGEST_CHUNK, fair)))
                self._wait(max(timeline.slot(chunk / rate) for rate, timeline in limits))
            yield chunk
            total -= chunk

    def _wait(self, moment: float) -> None:
        seconds = moment - time.monotonic()
        if 0 < seconds <= _SLEPT_SECONDS:
            time.sleep(seconds)
            seconds = 0.0
        if self._stopping.wait(seconds) if seconds > 0 else self._stopping.is_set():
            raise ConnectionAbortedError("The hub is stopping.")

    def travel(self) -> None:
        """Wait as long as a request and the beginning of its answer are on their way."""
        if self.delay and self._stopping.wait(self.delay):
            raise ConnectionAbortedError("The hub is stopping.")


class Service:
    """What the two ports of a hub share."""

    def __init__(self, registry: Registry, faults: Faults, log: Log, routes: Routes) -> None:
        self.registry = registry
        self.routes = routes
        self.faults = faults
        self.log = log
        self.stopping = threading.Event()
        self.link = Link(self.stopping)
        self.problems: list[BaseException] = []


class Port:
    """A port of 127.0.0.1 that listens between `start` and `stop`, and is its own all the time."""

    def __init__(self, name: str, service: Service, number: int = 0) -> None:
        self._name = name
        self._service = service
        # Bound, and never listening: connections are refused after a stop, and no other program
        # of a busy machine gets the port until this one listens again.
        reserved = _Listener(number, name, service).socket
        weakref.finalize(self, reserved.close)
        self.number: int = reserved.getsockname()[1]
        self._listener: _Listener | None = None
        self._acceptor: threading.Thread | None = None

    @property
    def address(self) -> str:
        """The address as a client wants it."""
        return f"http://{_HOST}:{self.number}"

    def start(self) -> None:
        """Listen."""
        self._listener = _Listener(self.number, self._name, self._service)
        self._listener.server_activate()
        self._acceptor = threading.Thread(target=self._accept, name=self._name, daemon=True)
        self._acceptor.start()

    def _accept(self) -> None:
        # Not serve_forever, which looks only now and then whether it is to end.
        assert self._listener is not None
        while not self._service.stopping.is_set():
            self._listener.handle_request()

    def stop(self) -> None:
        """Listen no more, cut every connection, and wait for all threads; ``stopping`` is set before."""
        if self._listener is None or self._acceptor is None:
            return
        # Closing a socket does not wake the thread that waits for a connection; a connection does.
        with contextlib.suppress(OSError):
            socket.create_connection((_HOST, self.number), timeout=1).close()
        # No connection may come any more when all that there are get cut.
        self._acceptor.join()
        for connection in list(self._listener.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._listener.server_close()
        self._listener = None


class _Listener(socketserver.ThreadingTCPServer):
    # Not allow_reuse_address, with which any program could listen on a port where nobody listens.
    allow_reuse_port = True
    request_queue_size = 128

    def __init__(self, port: int, name: str, service: Service) -> None:
        super().__init__((_HOST, port), _Connection, bind_and_activate=False)
        self.name = name
        self.service = service
        self.connections: set[socket.socket] = set()
        try:
            self.server_bind()
        except OSError:
            self.server_close()
            raise

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self.connections.add(connection)
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 - the base's signature
        return not self.service.stopping.is_set()

    def shutdown_request(self, request: Any) -> None:
        # The base would send a FIN first, behind which a client does not see a reset.
        self.connections.discard(request)
        request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the base's signature
        # A connection ends with OSError when it breaks, hangs up as a fault, or is cut by a stop.
        error = sys.exception()
        if error is not None and not isinstance(error, OSError):
            self.service.problems.append(error)


class _HungUpError(ConnectionError):
    """The response was to end in the middle, and has."""


class _Connection(http.server.BaseHTTPRequestHandler):
    server: _Listener
    protocol_version = "HTTP/1.1"
    # Also a line that names no version is answered with a head.
    default_request_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle(self) -> None:
        service = self.server.service
        self._timeline = Timeline()
        while not service.stopping.is_set():
            self.raw_requestline = self.rfile.readline(_LONGEST_LINE)
            request = self._read_request()
            if request is None:
                return
            target = service.routes.target_of(request, self.server.name == "cdn")
            record = _record(request, target, self.server.name)
            service.log.add(record)
            response = self._respond(request, target, record)
            record.status = response.status
            service.link.travel()
            self._send(response, record, body=request.method != "HEAD")
            if self.close_connection:
                return

    def _read_request(self) -> Request | None:
        """Return the request; None when the client has closed, or has been told that it is none."""
        if not self.parse_request():
            return None
        headers = {name.lower(): value.strip() for name, value in self.headers.items()}
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > _LONGEST_BODY:
            self.send_error(400)
            return None
        path, _, query = self.path.partition("?")
        return Request(self.command, path, query, headers, self.rfile.read(int(length)))

    def send_error(
        self, code: int, message: str | None = None, explain: str | None = None
    ) -> None:  # the base's is a page of HTML
        del message, explain
        self.connection.sendall(Response(code).head())

    def _respond(self, request: Request, target: Target, record: Record) -> Response:
        if request.method not in _METHODS:
            return refusal(405, "Method Not Allowed")
        service = self.server.service
        try:
            response = service.routes.answer(service.registry, request, target)
            record.fault = service.faults.apply(request, target, response)
        except Exception as error:  # noqa: BLE001 - a bug here must reach the test, not a thread's end
            service.problems.append(error)
            return refusal(500, traceback.format_exc(limit=1).replace("\n", " "))
        return response

    def _send(self, response: Response, record: Record, *, body: bool) -> None:
        for piece in response.before:
            self._send_piece(piece, record)
        self.connection.sendall(response.head(), _MORE if body and response.length else 0)
        if body:
            for piece in response.pieces:
                self._send_piece(piece, record)

    def _send_piece(self, piece: Piece, record: Record) -> None:
        match piece:
            case Span():
                self._send_span(piece, record)
            case Pause(seconds):
                self._pause(seconds)
            case Drip(span, seconds):
                for at in range(span.start, span.start + span.length):
                    self._send_span(Span(span.content, at, 1), record)
                    self._pause(seconds)
            case Flood():
                self.connection.sendall(piece.first)
                while True:
                    self.connection.sendall(piece.again)
                    self._pause(piece.seconds)
            case Hangup(reset):
                if reset:
                    linger = struct.pack("ii", 1, 0)  # on, zero seconds: close() sends RST
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                raise _HungUpError

    def _send_span(self, span: Span, record: Record) -> None:
        before = record.sent

        def chunks() -> Iterator[int]:
            # Counted before it goes out: who has the last byte finds a log that is complete.
            for chunk in self.server.service.link.chunks(span.length, self._timeline):
                record.sent += chunk
                yield chunk

        sent = 0
        try:
            for count in span.content.send(self.connection, span.start, chunks()):
                sent += count
        except OSError:
            record.sent = before + sent
            raise

    def _pause(self, seconds: float) -> None:
        if self.server.service.stopping.wait(seconds):
            raise _HungUpError


def _record(request: Request, target: Target, port: str) -> Record:
    return Record(
        port=port,
        method=request.method,
        path=request.path,
        route=target.route,
        repository=target.repository,
        file=target.path if target.route in {"resolve", "cdn"} else "",
        range=request.range,
        token=request.token,
        cookie=request.headers.get("cookie", ""),
    )
