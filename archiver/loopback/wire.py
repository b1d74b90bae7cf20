"""HTTP/1.1 as far as a hub needs it: a request read from a socket, a response before it is sent."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from typing import IO, Any
from urllib.parse import parse_qs

from archiver.loopback.content import Content

_LONGEST_LINE = 64 * 1024
_MOST_HEADERS = 200
_LONGEST_BODY = 1024 * 1024


class BadRequestError(Exception):
    """What the client sent is not a request that this server reads."""


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
        """The bearer token, ``""`` if none came."""
        return self.headers.get("authorization", "").removeprefix("Bearer ").strip()

    @property
    def range(self) -> str:
        """The Range header, ``""`` if none came."""
        return self.headers.get("range", "")

    @property
    def closes(self) -> bool:
        """Whether the client wants the connection closed after the answer."""
        return self.headers.get("connection", "").lower() == "close"

    def flag(self, name: str) -> bool:
        """Whether the query switches ``name`` on."""
        return self.value(name).lower() in {"1", "true"}

    def value(self, name: str) -> str:
        """The first value of ``name`` in the query, ``""`` if it has none."""
        return self.query.get(name, [""])[0]


def read_request(stream: IO[bytes]) -> Request | None:
    """The next request on a connection; None when the client has closed it."""
    line = stream.readline(_LONGEST_LINE)
    if not line.strip():
        return None
    parts = line.decode("latin-1").split()
    if len(parts) != 3:  # noqa: PLR2004 - method, target, version
        raise BadRequestError
    path, _, query = parts[1].partition("?")
    headers = _read_headers(stream)
    length = int(headers.get("content-length", "0"))
    if not 0 <= length <= _LONGEST_BODY:
        raise BadRequestError
    return Request(parts[0], path, query, headers, stream.read(length))


def _read_headers(stream: IO[bytes]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for _ in range(_MOST_HEADERS):
        line = stream.readline(_LONGEST_LINE)
        if line in {b"\r\n", b"\n", b""}:
            return headers
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    raise BadRequestError


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
        """The status line and the headers."""
        known = self.status in HTTPStatus._value2member_map_
        phrase = HTTPStatus(self.status).phrase if known else "Odd"
        lines = [f"HTTP/1.1 {self.status} {phrase}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if "Content-Length" not in self.headers:
            lines.append(f"Content-Length: {self.length}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")

    def span(self) -> Span | None:
        """The stretch that the body consists of, where no fault has touched it."""
        match self.pieces:
            case [Span() as only]:
                return only
            case _:
                return None


def answer(content: Content, status: int = 200, **headers: str) -> Response:
    """A response that carries the whole of ``content``."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, named, [Span(content, 0, content.size)], content.size)


class RefusedError(Exception):
    """A handler's way out when the answer is an error or a redirect."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


def json_answer(value: Any, status: int = 200, **headers: str) -> Response:
    """A response that carries ``value`` as JSON."""
    data = Content(json.dumps(value).encode())
    return answer(data, status, Content_Type="application/json; charset=utf-8", **headers)


def refusal(status: int, message: str, code: str = "") -> Response:
    """An error as the Hub words it, with ``X-Error-Code`` where it has one."""
    response = json_answer({"error": message}, status, X_Error_Message=message)
    if code:
        response.headers["X-Error-Code"] = code
    return response


def redirect(status: int, location: str) -> Response:
    """A redirect to ``location``."""
    text = Content(f"Redirecting to {location}".encode("utf-8", "replace"))
    return answer(text, status, Content_Type="text/plain; charset=utf-8", Location=location)
