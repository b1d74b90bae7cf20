"""Puts a response on a socket: the head, then the body's pieces at the pace that is allowed."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

from archiver.loopback.wire import Drip, Flood, Hangup, Pause, Span

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from archiver.loopback.log import Record
    from archiver.loopback.shaping import Shaper
    from archiver.loopback.wire import Piece, Response

_MORE = getattr(socket, "MSG_MORE", 0)
"""Linux: hold the head back until the body's first bytes, so that both leave in one packet."""


class HungUpError(ConnectionError):
    """The response was to end in the middle, and has."""


class Sender:
    """Sends responses on one connection."""

    def __init__(self, to: socket.socket, shaper: Shaper, stopping: threading.Event) -> None:
        self._to = to
        self._shaper = shaper
        self._stopping = stopping

    def send(self, response: Response, record: Record, *, body: bool) -> None:
        """Send ``response``, without its body when it answers HEAD.

        Raises HungUpError where the response says that the connection ends.
        """
        for piece in response.before:
            self._send_piece(piece, record)
        self._to.sendall(response.head(), _MORE if body and response.length else 0)
        if body:
            for piece in response.pieces:
                self._send_piece(piece, record)

    def _send_piece(self, piece: Piece, record: Record) -> None:
        match piece:
            case Span():
                self._send_span(piece, record)
            case Pause():
                self._pause(piece.seconds)
            case Drip():
                self._drip(piece, record)
            case Flood():
                self._flood(piece)
            case Hangup():
                self._hang_up(reset=piece.reset)

    def _send_span(self, span: Span, record: Record) -> None:
        base = record.sent

        def counted() -> Iterator[int]:
            for chunk in self._shaper.chunks(span.length):
                record.sent += chunk
                yield chunk

        done = 0
        try:
            for count in span.content.send(self._to, span.start, counted()):
                done += count
        except OSError:
            record.sent = base + done
            raise

    def _drip(self, drip: Drip, record: Record) -> None:
        span = drip.span
        for at in range(span.start, span.start + span.length):
            self._send_span(Span(span.content, at, 1), record)
            self._pause(drip.seconds)

    def _flood(self, flood: Flood) -> None:
        self._to.sendall(flood.first)
        while True:
            self._to.sendall(flood.again)
            self._pause(flood.seconds)

    def _pause(self, seconds: float) -> None:
        if self._stopping.wait(seconds):
            raise HungUpError

    def _hang_up(self, *, reset: bool) -> None:
        if reset:
            linger = struct.pack("ii", 1, 0)  # on, zero seconds: close() sends RST
            self._to.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        raise HungUpError
