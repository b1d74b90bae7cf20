"""How each kind of fault changes an answer, and which answers it can change."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from archiver.loopback.content import Content
from archiver.loopback.wire import (
    Drip,
    Flood,
    Hangup,
    Pause,
    Piece,
    Response,
    Span,
    redirect,
    refusal,
)

if TYPE_CHECKING:
    from archiver.loopback.faults import Fault
    from archiver.loopback.wire import Request

_PART = re.compile(r"bytes=(\d+)-(\d+)\Z")
_TOO_LARGE = b"<Error><Code>InvalidRequest</Code><Message>Use ranges.</Message></Error>"

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
    wrong = bytes([span.content.read(fault.offset, 1)[0] ^ 1])
    at = fault.offset - span.start
    before = Span(span.content, span.start, at)
    after = Span(span.content, fault.offset + 1, span.length - at - 1)
    response.pieces = [before, Span(Content(wrong), 0, 1), after]


def _short(fault: Fault, response: Response) -> None:
    kept = max(0, response.length - fault.count)
    _cut(response, kept)
    response.pieces.pop()
    response.length = kept


def _pad(fault: Fault, response: Response) -> None:
    response.pieces.append(Span(Content(bytes(fault.count)), 0, fault.count))
    response.length += fault.count


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
    response.status, response.length = 200, span.content.size
    response.pieces = [Span(span.content, 0, span.content.size)]


def _gzip(_fault: Fault, response: Response) -> None:
    span = response.span()
    assert span is not None
    packed = gzip.compress(span.content.read(span.start, span.length), mtime=0)
    response.headers["Content-Encoding"] = "gzip"
    response.pieces, response.length = [Span(Content(packed), 0, len(packed))], len(packed)


def _redirect(fault: Fault, response: Response) -> None:
    # The Hub's own headers stay, as they would when only the address had been tampered with.
    away = redirect(302, fault.location)
    away.headers |= {k: v for k, v in response.headers.items() if k.startswith("X-")}
    _become(response, away)


def _range_only(fault: Fault, response: Response) -> None:
    _become(response, Response(fault.status or 400, {"Content-Type": "application/xml"}))
    response.pieces = [Span(Content(_TOO_LARGE), 0, len(_TOO_LARGE))]
    response.length = len(_TOO_LARGE)


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
        response.pieces, response.length = [Span(Content(body), 0, len(body))], len(body)
    response.status = fault.status or response.status
    for name, value in headers.items():
        known = next((one for one in response.headers if one.lower() == name.lower()), name)
        response.headers.pop(known, None)
        if value is not None:
            response.headers[name] = value


SPOILERS = {
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
