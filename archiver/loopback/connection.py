"""The conversation on one connection: read a request, make its answer, spoil it, send it."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from archiver.loopback.log import Record
from archiver.loopback.routes import handle, target
from archiver.loopback.sending import Sender
from archiver.loopback.wire import BadRequestError, Response, read_request, refusal

if TYPE_CHECKING:
    import socket
    import threading

    from archiver.loopback.faults import Faults
    from archiver.loopback.log import Log
    from archiver.loopback.routes import Target
    from archiver.loopback.shaping import Shaper
    from archiver.loopback.state import State
    from archiver.loopback.wire import Request

_METHODS = frozenset({"GET", "HEAD", "POST"})


class Service:
    """Answers requests on the hub's port or on the CDN's."""

    def __init__(self, port: str, state: State, faults: Faults, log: Log, shaper: Shaper) -> None:
        self._port = port
        self._state = state
        self._faults = faults
        self._log = log
        self._shaper = shaper
        self.problems: list[Exception] = []

    def serve(self, connection: socket.socket, stopping: threading.Event) -> None:
        """Answer the requests of one connection until either side closes it."""
        sender = Sender(connection, self._shaper, stopping)
        with connection.makefile("rb") as stream:
            while not stopping.is_set():
                try:
                    request = read_request(stream)
                except (BadRequestError, ValueError):
                    connection.sendall(refusal(400, "Bad Request").head())
                    return
                if request is None:
                    return
                self._answer(request, sender)
                if request.closes:
                    return

    def _answer(self, request: Request, sender: Sender) -> None:
        to = target(request, cdn=self._port == "cdn")
        record = self._record(request, to)
        self._log.add(record)
        response = self._response(request, to, record)
        record.status = response.status
        sender.send(response, record, body=request.method != "HEAD")

    def _response(self, request: Request, to: Target, record: Record) -> Response:
        if request.method not in _METHODS:
            return refusal(405, "Method Not Allowed")
        try:
            response = handle(self._state, request, to)
            record.fault = self._faults.apply(request, to, response)
        except Exception as error:  # noqa: BLE001 - a bug here must reach the test, not a thread's end
            self.problems.append(error)
            return refusal(500, traceback.format_exc(limit=1).replace("\n", " "))
        return response

    def _record(self, request: Request, to: Target) -> Record:
        return Record(
            port=self._port,
            method=request.method,
            path=request.path,
            route=to.route,
            repository=to.repository,
            file=to.path if to.route in {"resolve", "cdn"} else "",
            range=request.range,
            token=request.token,
            cookie=request.headers.get("cookie", ""),
        )
