"""Parts of a file, as RFC 9110 (section 14) has them: the Range header, and bodies of several parts."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

RANGES_MAX: Final = 64
"""Ranges of one request; one that wants more gets the whole file, as the standard allows."""
_DIGITS_MAX: Final = 19
_RANGE: Final = re.compile(r"([0-9]*)-([0-9]*)")


class Range(NamedTuple):
    """The bytes of a file from ``start``, and before ``stop``."""

    start: int
    stop: int

    def header(self, size: int) -> str:
        """Return the value of Content-Range, of a file of ``size`` bytes."""
        return f"bytes {self.start}-{self.stop - 1}/{size}"


def parse_range(header: str, size: int) -> list[Range] | None:
    """Return the ranges that are asked for of a file of ``size`` bytes, in their order.

    None: the header is none that counts, so that the whole file is the answer. An empty list: nothing of
    what is asked for is there (416). Ranges that overlap or touch are put together.
    """
    unit, equals, rest = header.partition("=")
    specs = rest.split(",")
    if unit.strip().lower() != "bytes" or not equals or len(specs) > RANGES_MAX:
        return None
    ranges: list[Range] = []
    for spec in specs:
        match = _RANGE.fullmatch(spec.strip())
        if match is None or not any(match.groups()):
            return None
        first, last = match.groups()
        if max(len(first), len(last)) > _DIGITS_MAX:
            return None
        if first and last and int(last) < int(first):
            return None
        start = int(first) if first else max(0, size - int(last))
        stop = min(size, int(last) + 1) if first and last else size
        if start < stop:
            ranges.append(Range(start, stop))
    return _together(ranges)


def _together(ranges: Sequence[Range]) -> list[Range]:
    """Return ranges of which no two overlap or touch, each where the first of its parts stood."""
    joined: list[tuple[int, Range]] = []
    for at, each in sorted(enumerate(ranges), key=lambda item: item[1]):
        if joined and each.start <= joined[-1][1].stop:
            before_at, before = joined[-1]
            stop = max(before.stop, each.stop)
            joined[-1] = min(at, before_at), Range(before.start, stop)
        else:
            joined.append((at, each))
    return [each for _, each in sorted(joined)]


class Multipart(NamedTuple):
    """A body of several ranges (``multipart/byteranges``): what stands before each, and at the end."""

    content_type: str
    heads: tuple[bytes, ...]
    end: bytes
    length: int


def multipart(ranges: Sequence[Range], size: int, content_type: str) -> Multipart:
    """Return what frames these ranges of a file of ``size`` bytes."""
    boundary = secrets.token_hex(16)
    heads = tuple(
        f"\r\n--{boundary}\r\nContent-Type: {content_type}\r\n"
        f"Content-Range: {each.header(size)}\r\n\r\n".encode()
        for each in ranges
    )
    end = f"\r\n--{boundary}--\r\n".encode()
    length = sum(map(len, heads)) + len(end) + sum(each.stop - each.start for each in ranges)
    return Multipart(f"multipart/byteranges; boundary={boundary}", heads, end, length)


def etag_matches(header: str, etag: str, *, weak: bool) -> bool:
    """Return whether a list of entity tags, or ``*``, names ``etag`` (with its quotes).

    ``weak`` tags count as what they are tags of, as in If-None-Match; else they match nothing.
    """
    listed = [tag.strip() for tag in header.split(",")]
    if listed == ["*"]:
        return True
    return any((tag.removeprefix("W/") if weak else tag) == etag for tag in listed)
