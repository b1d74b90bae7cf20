"""Byte ranges: what a Range header asks of a file, and the answer that carries it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from archiver.loopback.wire import Response, Span, refusal

if TYPE_CHECKING:
    from archiver.loopback.content import Content

_SINGLE = re.compile(r"bytes=(\d*)-(\d*)\Z")


def ranged(content: Content, header: str) -> Response:
    """A response with the bytes that ``header`` asks for: 200, 206, or 416.

    Several ranges at once are answered with the whole file, which RFC 9110 (14.2) allows.
    """
    match = _SINGLE.match(header)
    if match is None or match.group(0) == "bytes=-":
        return _carrying(200, Span(content, 0, content.size))
    start, stop = _bounds(match.group(1), match.group(2), content.size)
    if start >= stop:
        response = refusal(416, "Range Not Satisfiable")
        response.headers["Content-Range"] = f"bytes */{content.size}"
        return response
    response = _carrying(206, Span(content, start, stop - start))
    response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{content.size}"
    return response


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1 if last else size)


def _carrying(status: int, span: Span) -> Response:
    headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
    return Response(status, headers, [span], span.length)
