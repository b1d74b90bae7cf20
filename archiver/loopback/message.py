"""HTTP messages: a request as it was read, and a response that has not been sent yet.

A response is made of pieces, so that a fault can put silence, a cut or other bytes between them.
"""

from __future__ import annotations

import base64
import contextlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from archiver.loopback.repository import Content


@dataclass(frozen=True)
class Request:
    """A request; ``path`` is still percent-encoded, header names are lowercase."""

    method: str
    path: str
    query_text: str
    headers: dict[str, str]
    body: bytes = b""

    @cached_property
    def query(self) -> dict[str, list[str]]:
        """The query, decoded."""
        return parse_qs(self.query_text, keep_blank_values=True)

    @property
    def token(self) -> str:
        """The token, as a bearer's or as the password that git sends; ``""`` if there is none."""
        kind, _, value = self.headers.get("authorization", "").partition(" ")
        if kind != "Basic":
            return value.strip()
        with contextlib.suppress(ValueError):
            return base64.b64decode(value).decode().partition(":")[2]
        return ""

    @property
    def range(self) -> str:
        """The Range header, ``""`` if there is none."""
        return self.headers.get("range", "")

    def flag(self, name: str) -> bool:
        """Return whether the query switches ``name`` on."""
        return self.value(name).lower() in {"1", "true"}

    def value(self, name: str) -> str:
        """Return the first value of ``name`` in the query, ``""`` if it has none."""
        return self.query.get(name, [""])[0]


@dataclass(frozen=True)
class Span:
    """A stretch of a file that goes into a body."""

    content: Content
    start: int
    length: int


@dataclass(frozen=True)
class Pause:
    """Silence in the middle of a body."""

    seconds: float


@dataclass(frozen=True)
class Hangup:
    """The end of the connection in the middle of a body: a clean FIN, or a reset."""

    reset: bool = False


@dataclass(frozen=True)
class Drip:
    """A stretch of a file that comes byte by byte, so many seconds apart."""

    span: Span
    seconds: float


@dataclass(frozen=True)
class Flood:
    """The same bytes after ``first``, for ever, so many seconds apart."""

    first: bytes
    again: bytes
    seconds: float


Piece = Span | Pause | Hangup | Drip | Flood


@dataclass
class Response:
    """An answer that has not been sent yet, so that a fault can still change it.

    ``length`` is what Content-Length will say, unless the headers say it; the pieces may hold less
    or more. The pieces ``before`` go out before the head.
    """

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    pieces: list[Piece] = field(default_factory=list)
    length: int = 0
    before: list[Piece] = field(default_factory=list)

    def head(self) -> bytes:
        """Return the status line and the headers."""
        known = self.status in HTTPStatus._value2member_map_
        phrase = HTTPStatus(self.status).phrase if known else "Odd"
        lines = [f"HTTP/1.1 {self.status} {phrase}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if "Content-Length" not in self.headers:
            lines.append(f"Content-Length: {self.length}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")

    def carry(self, *spans: Span) -> None:
        """Make ``spans`` the body, and Content-Length what they hold."""
        self.pieces = list(spans)
        self.length = sum(span.length for span in spans)

    def span(self) -> Span | None:
        """Return the stretch that the body consists of; None where a fault has touched it."""
        match self.pieces:
            case [Span() as only]:
                return only
            case _:
                return None


class RefusedError(Exception):
    """A handler's way out when the answer is an error or a redirect."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


def whole(data: bytes) -> Span:
    """Return all of ``data``, to be carried."""
    return Span(Content(data), 0, len(data))


def json_answer(value: Any, status: int = 200) -> Response:
    """Return a response that carries ``value`` as JSON."""
    response = Response(status, {"Content-Type": "application/json; charset=utf-8"})
    response.carry(whole(json.dumps(value).encode()))
    return response


def refusal(status: int, message: str, code: str = "") -> Response:
    """Return an error as the Hub words it, with ``X-Error-Code`` where it has one."""
    response = json_answer({"error": message}, status)
    response.headers["X-Error-Message"] = message
    if code:
        response.headers["X-Error-Code"] = code
    return response


def redirect(status: int, location: str) -> Response:
    """Return a redirect to ``location``."""
    headers = {"Content-Type": "text/plain; charset=utf-8", "Location": location}
    response = Response(status, headers)
    response.carry(whole(f"Redirecting to {location}".encode("utf-8", "replace")))
    return response
