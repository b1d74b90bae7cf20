"""Faults on demand: which answer is spoilt, how often, and a count of how often it was.

::

    drop           the connection ends cleanly (FIN) after ``after`` bytes of the body
    reset          the same with a reset (RST), which may also swallow bytes already sent
    stall          nothing comes for ``seconds`` after ``after`` bytes; then the rest
    flip           one bit of the file's byte ``offset`` is wrong
    short          the body and Content-Length lack the last ``count`` bytes
    pad            the body and Content-Length have ``count`` bytes too many
    status         the answer is ``status`` (503 if not given)
    rate_limit     429 with RateLimit, and Retry-After when ``seconds`` is given
    expired        the CDN says that the signature has expired (403)
    etag           ETag and X-Linked-ETag name other bytes
    content_range  Content-Range starts ``count`` bytes after what was asked for
    ignore_range   a Range request gets 200 and the whole file
    gzip           a small file comes compressed, unless the client accepts only identity
    redirect       /resolve leads to ``location``
    range_only     who asks for more than ``count`` bytes at once, or for no range, gets 400 (``status``)
    drip           after ``after`` bytes the body comes byte by byte, ``seconds`` apart
    slow_head      the head begins, and then comes byte by byte for ever, ``seconds`` apart
    interim        103 Early Hints come for ever, ``seconds`` apart
    forge          ``forge(n)``, for n = 1, 2, …, gives a body or None, and headers to set; as ``status``
    call           ``call()`` runs after the answer is made and before it is sent
"""

from __future__ import annotations

import gzip
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal, NamedTuple

from archiver.loopback.message import (
    Drip,
    Flood,
    Hangup,
    Pause,
    Piece,
    Response,
    Span,
    redirect,
    refusal,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from archiver.loopback.message import Request
    from archiver.loopback.routes import Target

Kind = Literal[
    "drop", "reset", "stall", "flip", "short", "pad", "status", "rate_limit", "expired", "etag",
    "content_range", "ignore_range", "gzip", "redirect", "range_only", "drip", "slow_head",
    "interim", "forge", "call",
]  # fmt: skip

_FILE_ROUTES = frozenset({"resolve", "cdn"})
_ANY_ROUTE = frozenset({"status", "rate_limit", "call"})
_PART = re.compile(r"bytes=(\d+)-(\d+)\Z")
_TOO_LARGE = b"<Error><Code>InvalidRequest</Code><Message>Use ranges.</Message></Error>"

Forge = Callable[[int], "tuple[bytes | None, Mapping[str, str | None]]"]
"""The body of the n-th answer, or None to leave it, and headers; one that is None is taken away."""


@dataclass
class Fault:
    """One fault; it strikes the ``times`` answers that match it first, after ``skip`` others.

    ``path`` (a glob over file names) and ``repository`` narrow it; so does ``route``, which is one
    of info, refs, commits, tree, paths-info, list, collection, whoami, resolve, cdn. Without a route, a
    fault strikes where files are served, and status, rate_limit and call strike anywhere.
    ``times`` is None for every time. ``hits`` counts. ``status`` is 503 where it is not given.
    """

    kind: Kind
    path: str = ""
    route: str = ""
    repository: str = ""
    method: str = ""
    after: int = 0
    offset: int = 0
    count: int = 1
    status: int = 0
    seconds: float = 0.0
    location: str = ""
    call: Callable[[], object] | None = None
    forge: Forge | None = None
    skip: int = 0
    times: int | None = 1
    hits: int = 0

    def matches(self, request: Request, target: Target) -> bool:
        """Return whether this fault is meant for such a request."""
        if self.path and not fnmatchcase(target.path, self.path):
            return False
        if self.repository not in {"", target.repository}:
            return False
        if self.method not in {"", request.method}:
            return False
        if self.route:
            return target.route == self.route
        anywhere = self.kind in _ANY_ROUTE and not self.path
        return anywhere or target.route in _FILE_ROUTES


class Faults:
    """The faults that wait for their answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Arm ``fault`` and return it, so that its ``hits`` can be read later."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Disarm everything."""
        with self._lock:
            self._faults.clear()

    def apply(self, request: Request, target: Target, response: Response) -> str:
        """Spoil ``response`` by the first fault that fits; return its kind, ``""`` if there is none."""
        fault = self._take(request, target, response)
        if fault is None:
            return ""
        if fault.call is not None:
            fault.call()
        else:
            _SPOILERS[fault.kind].strike(fault, response)
        return fault.kind

    def _take(self, request: Request, target: Target, response: Response) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.times is not None and fault.hits >= fault.times:
                    continue
                if fault.matches(request, target) and _fits(fault, request, target, response):
                    if fault.skip:
                        fault.skip -= 1
                        continue
                    fault.hits += 1
                    return fault
        return None


def _fits(fault: Fault, request: Request, target: Target, response: Response) -> bool:
    """Return whether the answer is one that the fault can spoil; only then does it count."""
    if fault.kind == "call":
        # The last page of a listing: the client then has all of it.
        return "Link" not in response.headers
    return _SPOILERS[fault.kind].fits(fault, request, target.route, response)


Fits = Callable[["Fault", "Request", str, Response], bool]
Strike = Callable[["Fault", Response], None]


class Spoiler(NamedTuple):
    """A kind of fault: the answers that it fits, and what it does to them."""

    fits: Fits
    strike: Strike


def _has_body(fault: Fault, request: Request, _route: str, response: Response) -> bool:
    # A body that ends before ``after`` could not be cut there, and must not use the fault up.
    whole = request.method != "HEAD" and response.status in {200, 206}
    return whole and response.length > fault.after


def _has_byte(fault: Fault, request: Request, route: str, response: Response) -> bool:
    span = response.span()
    inside = span is not None and span.start <= fault.offset < span.start + span.length
    return inside and _has_body(fault, request, route, response)


def _any(_fault: Fault, _request: Request, _route: str, response: Response) -> bool:
    return response.status < 400  # noqa: PLR2004 - not an error already


def _from_cdn(_fault: Fault, _request: Request, route: str, response: Response) -> bool:
    return route == "cdn" and response.status in {200, 206}


def _from_hub(_fault: Fault, _request: Request, route: str, response: Response) -> bool:
    return route == "resolve" and response.status in {200, 206, 302}


def _partial(_fault: Fault, _request: Request, _route: str, response: Response) -> bool:
    return response.status == 206  # noqa: PLR2004 - Partial Content


def _more_than_a_part(fault: Fault, request: Request, route: str, response: Response) -> bool:
    part = _PART.match(request.range)
    small = part is not None and int(part[2]) - int(part[1]) < fault.count
    return not small and _any(fault, request, route, response) and response.status != 302  # noqa: PLR2004


def _compressible(_fault: Fault, request: Request, route: str, response: Response) -> bool:
    accepted = route != "cdn" and "gzip" in request.headers.get("accept-encoding", "")
    return accepted and request.method == "GET" and response.status == 200  # noqa: PLR2004


def _cut(response: Response, at: int, *between: Piece) -> None:
    """Put ``between`` into the body after ``at`` bytes; a Hangup ends what can be sent."""
    span = response.span()
    assert span is not None
    head = Span(span.content, span.start, at)
    rest = Span(span.content, span.start + at, span.length - at)
    response.pieces = [head, *between, rest]


def _drop(fault: Fault, response: Response) -> None:
    _cut(response, fault.after, Hangup())


def _reset(fault: Fault, response: Response) -> None:
    _cut(response, fault.after, Hangup(reset=True))


def _stall(fault: Fault, response: Response) -> None:
    _cut(response, fault.after, Pause(fault.seconds))


def _flip(fault: Fault, response: Response) -> None:
    span = response.span()
    assert span is not None
    flipped = bytes([span.content.read(fault.offset, 1)[0] ^ 1])
    at = fault.offset - span.start
    before = Span(span.content, span.start, at)
    after = Span(span.content, fault.offset + 1, span.length - at - 1)
    response.carry(before, whole(flipped), after)


def _short(fault: Fault, response: Response) -> None:
    span = response.span()
    assert span is not None
    response.carry(Span(span.content, span.start, max(0, span.length - fault.count)))


def _pad(fault: Fault, response: Response) -> None:
    span = response.span()
    assert span is not None
    response.carry(span, whole(bytes(fault.count)))


def _become(response: Response, other: Response) -> None:
    response.status, response.headers = other.status, other.headers
    response.pieces, response.length = other.pieces, other.length


def _status(fault: Fault, response: Response) -> None:
    _become(response, refusal(fault.status or 503, "The hub has a bad day"))


def _rate_limit(fault: Fault, response: Response) -> None:
    _become(response, refusal(429, "Too Many Requests"))
    response.headers["RateLimit"] = f'"api";r=0;t={int(fault.seconds)}'
    response.headers["RateLimit-Policy"] = '"fixed window";"api";q=500;w=300'
    if fault.seconds:
        response.headers["Retry-After"] = str(int(fault.seconds))


def _expired(_fault: Fault, response: Response) -> None:
    _become(response, refusal(403, "Request has expired"))


def _etag(_fault: Fault, response: Response) -> None:
    for name in {"ETag", "X-Linked-ETag"} & set(response.headers):
        response.headers[name] = f'"{"0" * (len(response.headers[name]) - 2)}"'


def _content_range(fault: Fault, response: Response) -> None:
    unit, _, rest = response.headers["Content-Range"].partition(" ")
    start, _, end = rest.partition("-")
    response.headers["Content-Range"] = f"{unit} {int(start) + fault.count}-{end}"


def _ignore_range(_fault: Fault, response: Response) -> None:
    span = response.span()
    assert span is not None
    del response.headers["Content-Range"]
    response.status = 200
    response.carry(Span(span.content, 0, span.content.size))


def _gzip(_fault: Fault, response: Response) -> None:
    span = response.span()
    assert span is not None
    response.headers["Content-Encoding"] = "gzip"
    response.carry(whole(gzip.compress(span.content.read(span.start, span.length), mtime=0)))


def _redirect(fault: Fault, response: Response) -> None:
    # The Hub's own headers stay, as they would when only the address had been tampered with.
    moved = redirect(302, fault.location)
    moved.headers |= {k: v for k, v in response.headers.items() if k.startswith("X-")}
    _become(response, moved)


def _range_only(fault: Fault, response: Response) -> None:
    _become(response, Response(fault.status or 400, {"Content-Type": "application/xml"}))
    response.carry(whole(_TOO_LARGE))


def _drip(fault: Fault, response: Response) -> None:
    _cut(response, fault.after)
    rest = response.pieces.pop()
    assert isinstance(rest, Span)
    response.pieces.append(Drip(rest, fault.seconds))


def _slow_head(fault: Fault, response: Response) -> None:
    response.before = [Flood(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x", fault.seconds)]


def _interim(fault: Fault, response: Response) -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n"
    response.before = [Flood(b"", hint, fault.seconds)]


def _forge(fault: Fault, response: Response) -> None:
    assert fault.forge is not None
    body, headers = fault.forge(fault.hits)
    if body is not None:
        response.carry(whole(body))
    response.status = fault.status or response.status
    for name, value in headers.items():
        present = next((key for key in response.headers if key.lower() == name.lower()), name)
        response.headers.pop(present, None)
        if value is not None:
            response.headers[name] = value


_SPOILERS = {
    "drop": Spoiler(_has_body, _drop),
    "reset": Spoiler(_has_body, _reset),
    "stall": Spoiler(_has_body, _stall),
    "flip": Spoiler(_has_byte, _flip),
    "short": Spoiler(_has_body, _short),
    "pad": Spoiler(_has_body, _pad),
    "status": Spoiler(_any, _status),
    "rate_limit": Spoiler(_any, _rate_limit),
    "expired": Spoiler(_from_cdn, _expired),
    "etag": Spoiler(_any, _etag),
    "content_range": Spoiler(_partial, _content_range),
    "ignore_range": Spoiler(_partial, _ignore_range),
    "gzip": Spoiler(_compressible, _gzip),
    "redirect": Spoiler(_from_hub, _redirect),
    "range_only": Spoiler(_more_than_a_part, _range_only),
    "drip": Spoiler(_has_body, _drip),
    "slow_head": Spoiler(_any, _slow_head),
    "interim": Spoiler(_any, _interim),
    "forge": Spoiler(_any, _forge),
}
