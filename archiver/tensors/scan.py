"""The grammar of a safetensors header: JSON text to records, without building a tree of objects.

A general JSON parser makes more than a gigabyte of objects out of a hostile header of 64 MiB, and
recurses as deep as the header tells it to. But a header has only two kinds of value; each is
matched as a whole here, and anything else is refused where it begins.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_INTEGER = 2**53 - 1
"""The greatest integer that canonical JSON holds (docs/format.md section 1)."""

_W = r"[ \t\n\r]*"
_PLAIN = r'[^"\\\x00-\x1f]*'
# The re module keeps state for each turn of a repeated group, so escapes in one string of a record
# are bounded. Names and metadata are read by json, in C, and have no such bound.
_STRING = rf'"{_PLAIN}(?:\\[^\x00-\x1f]{_PLAIN}){{0,1000}}"'
_FIELD = rf"{_W}({_STRING}){_W}:{_W}({_STRING}|\[[0-9, \t\n\r]*\]){_W}"
_RECORD = re.compile(rf"\{{{_FIELD},{_FIELD},{_FIELD}\}}")
_OPEN = re.compile(rf"(\{{){_W}")
_CLOSE = re.compile(rf"(\}}){_W}")
_COLON = re.compile(rf"{_W}(:){_W}")
_NEXT = re.compile(rf"{_W}([,}}]){_W}")
_LEADING_ZERO = re.compile(r"(?<![0-9])0[0-9]")
_FIELDS = ("dtype", "shape", "data_offsets")
_decoder = json.JSONDecoder()


class HeaderError(ValueError):
    """The header is not one that format section 5.1 accepts; the message is one sentence."""


class Scanner:
    """Reads one header from its beginning to its end.

    Args:
        text: The whole JSON text, padding included.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._orders: dict[tuple[str, ...], tuple[int, ...]] = {}
        self._dtypes: dict[str, str] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}

    def members(self) -> Iterator[str]:
        """The keys of the object that begins here; the caller reads each value before the next."""
        seen: set[str] = set()
        self._take(_OPEN, "no object")
        more = not _CLOSE.match(self._text, self._at)
        while more:
            key = self.string()
            if key in seen:
                raise HeaderError(f"The key {key[:200]!r} occurs twice.")
            seen.add(key)
            self._take(_COLON, "no colon")
            yield key
            if self._take(_NEXT, "no comma or closing brace") == "}":
                return
        self._take(_CLOSE, "no closing brace")

    def end(self) -> None:
        """Raises HeaderError unless all text has been read."""
        if self._at != len(self._text):
            raise HeaderError(f"Text goes on after the end of the JSON, at character {self._at}.")

    def string(self) -> str:
        """The string that begins here."""
        if not self._text.startswith('"', self._at):
            raise HeaderError(f"There is no string at character {self._at}.")
        value, self._at = _parsed(self._text, self._at)
        return value

    def record(self) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
        """The record of a tensor that begins here: its dtype, shape and offsets."""
        found = _RECORD.match(self._text, self._at)
        if not found:
            raise HeaderError(f"There is no record of three plain fields at character {self._at}.")
        self._at = found.end()
        keys, values = found.group(1, 3, 5), found.group(2, 4, 6)
        dtype, shape, offsets = self._orders.get(keys) or self._order(keys)
        return self._dtype(values[dtype]), self._shape(values[shape]), integers(values[offsets])

    def _order(self, keys: tuple[str, ...]) -> tuple[int, ...]:
        """Which of a record's fields is its dtype, its shape and its offsets."""
        names = [_parsed(key, 0)[0] for key in keys]
        if sorted(names) != sorted(_FIELDS):
            raise HeaderError("A record is not exactly dtype, shape and data_offsets.")
        order = self._orders[keys] = tuple(map(names.index, _FIELDS))
        return order

    def _dtype(self, token: str) -> str:
        """The dtype of a tensor; a model has a few."""
        dtype = self._dtypes.get(token)
        if dtype is None:
            if token[0] != '"':
                raise HeaderError("A dtype is not a string.")
            dtype = self._dtypes[token] = _parsed(token, 0)[0]
        return dtype

    def _shape(self, token: str) -> tuple[int, ...]:
        """The shape of a tensor; most tensors of a model share a few."""
        shape = self._shapes.get(token)
        if shape is None:
            shape = self._shapes[token] = integers(token)
        return shape

    def _take(self, pattern: re.Pattern[str], lack: str) -> str:
        found = pattern.match(self._text, self._at)
        if not found:
            raise HeaderError(f"There is {lack} at character {self._at}.")
        self._at = found.end()
        return found[1]


def integers(token: str) -> tuple[int, ...]:
    """The integers of a JSON list of nothing else.

    Raises:
        HeaderError: It is another value, or one is greater than canonical JSON can hold.
    """
    inner = token[1:-1].strip()
    if token[0] != "[" or _LEADING_ZERO.search(inner):
        raise HeaderError("A shape or a pair of offsets is not a list of integers.")
    try:
        values = tuple(map(int, inner.split(","))) if inner else ()
    except ValueError:  # also from a number with more digits than int() takes
        raise HeaderError("A shape or a pair of offsets is not a list of integers.") from None
    if values and max(values) > MAX_INTEGER:
        raise HeaderError("A shape or an offset is greater than 2^53 - 1.")
    return values


def _parsed(text: str, start: int) -> tuple[str, int]:
    """The JSON string at ``start``, and where it ends."""
    try:
        value, end = _decoder.raw_decode(text, start)
        if "\\" in text[start:end]:
            value.encode()
    except UnicodeEncodeError:
        raise HeaderError("A string holds half of a surrogate pair.") from None
    except ValueError:
        raise HeaderError(f"The string at character {start} is not JSON.") from None
    return value, end
