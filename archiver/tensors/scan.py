"""The grammar of a safetensors header: JSON text to records, without building a tree of objects.

A general JSON parser makes more than a gigabyte of objects out of a hostile header of 64 MiB, and
recurses as deep as the header tells it to. But nearly every value of a header is a record of three
plain fields; each is matched as a whole here. What else the library takes is read piece by piece, and
what it refuses is refused where it begins. The text stays bytes: one letter of a rare script would
let text take four times the room.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_INTEGER = 2**53 - 1
"""The greatest integer that canonical JSON holds (docs/format.md section 1)."""
MAX_DEPTH = 127
"""How deep the library goes into lists and objects."""
MAX_STRING = 16 << 20
"""The longest string, in bytes, that is looked into."""

_LIBRARY_INTEGER = 2**64 - 1
_PIECE = 1 << 20
_KNOWN_MAX = 10_000
"""Different dtypes and shapes that are remembered."""
_W = rb"[ \t\n\r]*"
_PLAIN = rb'"[^"\\\x00-\x1f]*"'
_FIELD = (
    _W + rb"(" + _PLAIN + rb")" + _W + rb":" + _W + rb"(" + _PLAIN + rb"|\[[0-9, \t\n\r]*\])" + _W
)
_RECORD = re.compile(rb"\{" + _FIELD + rb"," + _FIELD + rb"," + _FIELD + rb"\}")
_STRING = re.compile(_PLAIN)
_SPACE = re.compile(_W)
_TOKEN = re.compile(_W + rb"([\[\]{},:])" + _W)
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_WORD = re.compile(rb"true|false|null")
_QUOTE = re.compile(rb'["\x00-\x1f]')
_DIGITS = rb"(?:0|[1-9][0-9]*)" + _W
_INTEGERS = re.compile(rb"\[" + _W + rb"(?:" + _DIGITS + rb"(?:," + _W + rb"(?=[0-9])|(?=\])))*+\]")
_FIELDS = ("dtype", "shape", "data_offsets")

Record = tuple[str, tuple[int, ...], tuple[int, ...]]
"""The dtype, the shape and the offsets of a tensor."""


class HeaderError(ValueError):
    """The header is not one that format section 5.1 accepts; the message is one sentence."""


class HeaderBoundError(HeaderError):
    """A library may load the header, and it is beyond what is parsed here: nothing is said of it."""


def check_text(raw: memoryview) -> None:
    """Raise HeaderError unless ``raw`` is UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for at in range(0, len(raw), _PIECE):
            decoder.decode(bytes(raw[at : at + _PIECE]))
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise HeaderError("The header is not UTF-8.") from None


class Scanner:
    """Reads one header from its beginning to its end.

    Args:
        text: The whole JSON text in UTF-8, padding included.
    """

    def __init__(self, text: memoryview) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._orders: dict[tuple[bytes, ...], tuple[int, ...]] = {}
        self._dtypes: dict[bytes, str] = {}
        self._shapes: dict[bytes, tuple[int, ...]] = {}
        self._skip_space()

    def members(self) -> Iterator[str]:
        """The keys of the object that begins here; the caller reads each value before the next.

        A key may come twice: the library takes the last one.
        """
        self._enter("{")
        if not self._take_if("}"):
            while True:
                key = self.string()
                self._expect(":")
                yield key
                if not self._take_if(","):
                    break
            self._expect("}")
        self._depth -= 1

    def end(self) -> None:
        """Raises HeaderError unless all text has been read."""
        self._skip_space()
        if self._at != len(self._text):
            raise HeaderError(f"Text goes on after the end of the JSON, at byte {self._at}.")

    def null(self) -> bool:
        """Whether ``null`` stands here; it is read then."""
        found = _WORD.match(self._text, self._at)
        if found is None or bytes(found[0]) != b"null":
            return False
        self._at = found.end()
        return True

    def string(self) -> str:
        """The string that begins here."""
        start = self._at
        found = _STRING.match(self._text, start)
        if found:
            self._at = found.end()
            return str(self._text[start + 1 : self._at - 1], "utf-8")
        return self._escaped_string(start)

    def _escaped_string(self, start: int) -> str:
        if bytes(self._text[start : start + 1]) != b'"':
            raise HeaderError(f"There is no string at byte {start}.")
        end = start + 1
        while True:
            found = _QUOTE.search(self._text, end, start + MAX_STRING)
            if found is None and len(self._text) > start + MAX_STRING:
                raise HeaderBoundError(f"The string at byte {start} is too long to be looked into.")
            if found is None or bytes(found[0]) != b'"':
                raise HeaderError(f"The string at byte {start} is not JSON.")
            end = found.end()
            before = self._text[max(start + 1, end - 1 - _PIECE) : end - 1]
            slashes = _trailing_backslashes(before)
            if slashes % 2 == 0:
                break
        self._at = end
        return _parsed(bytes(self._text[start:end]), start)

    def record(self) -> Record:
        """The record of a tensor that begins here: its dtype, shape and offsets."""
        found = _RECORD.match(self._text, self._at)
        if found is None:
            return self._odd_record()
        keys = tuple(map(bytes, found.group(1, 3, 5)))
        order = self._orders.get(keys) or self._order(keys)
        if not order:
            return self._odd_record()
        self._at = found.end()
        values = tuple(map(bytes, found.group(2, 4, 6)))
        dtype, shape, offsets = order
        return self._dtype(values[dtype]), self._shape(values[shape]), integers(values[offsets])

    def _order(self, keys: tuple[bytes, ...]) -> tuple[int, ...]:
        """Which of a record's fields is its dtype, its shape and its offsets; empty if not each is."""
        names = [key[1:-1].decode() for key in keys]
        if sorted(names) != sorted(_FIELDS):
            return ()
        order = self._orders[keys] = tuple(map(names.index, _FIELDS))
        return order

    def _odd_record(self) -> Record:
        """A record with further fields, escapes, or as a list of three values."""
        if self._next() == b"[":
            self._enter("[")
            dtype = self._dtype_value()
            self._expect(",")
            shape = self._integers_value()
            self._expect(",")
            offsets = self._integers_value()
            self._expect("]")
            self._depth -= 1
            return dtype, shape, offsets
        found: dict[str, str | tuple[int, ...]] = {}
        readers: dict[str, Callable[[], str | tuple[int, ...]]] = {
            "dtype": self._dtype_value,
            "shape": self._integers_value,
            "data_offsets": self._integers_value,
        }
        for key in self.members():
            if key not in readers:
                self._skip_value()
            elif key in found:
                raise HeaderError(f"A record has {key} twice.")
            else:
                found[key] = readers[key]()
        dtype_, shape_, offsets_ = (found.get(key) for key in _FIELDS)
        if isinstance(dtype_, str) and isinstance(shape_, tuple) and isinstance(offsets_, tuple):
            return dtype_, shape_, offsets_
        raise HeaderError("A record lacks dtype, shape or data_offsets.")

    def _dtype_value(self) -> str:
        """A dtype, which the library also takes as an object of one key and null."""
        if self._next() != b"{":
            return self.string()
        names = []
        for name in self.members():
            names.append(name)
            if len(names) > 1 or not self.null():
                break
        else:
            if names:
                return names[0]
        raise HeaderError("A dtype is not a string.")

    def _integers_value(self) -> tuple[int, ...]:
        found = _INTEGERS.match(self._text, self._at)
        if found is None:
            raise HeaderError("A shape or a pair of offsets is not a list of integers.")
        if self._depth + 1 > MAX_DEPTH:
            raise HeaderError("The header goes too deep.")
        self._at = found.end()
        return integers(bytes(found[0]))

    def _skip_value(self) -> None:
        """Read any value and keep nothing of it. Not by recursion: it may be as deep as it likes."""
        closers = bytearray()
        while True:
            sign = self._next()
            if sign in {b"{", b"["}:
                self._enter(sign.decode())
                closers += b"}" if sign == b"{" else b"]"
                if not self._take_if(chr(closers[-1])):
                    if sign == b"{":
                        self.string()
                        self._expect(":")
                    continue
                closers.pop()
                self._depth -= 1
            else:
                self._scalar(sign)
            while closers and not self._take_if(","):
                self._expect(chr(closers.pop()))
                self._depth -= 1
            if not closers:
                return
            if closers[-1:] == b"}":
                self.string()
                self._expect(":")

    def _scalar(self, sign: bytes) -> None:
        if sign == b'"':
            self.string()
            return
        found = _WORD.match(self._text, self._at) or _NUMBER.match(self._text, self._at)
        if found is None:
            raise HeaderError(f"There is no value at byte {self._at}.")
        token = bytes(found[0])
        if token[:1] in b"-0123456789" and not math.isfinite(float(token)):
            raise HeaderError(f"The number at byte {self._at} is out of range.")
        self._at = found.end()

    def _dtype(self, token: bytes) -> str:
        """The dtype of a tensor; a model has a few."""
        dtype = self._dtypes.get(token)
        if dtype is None:
            if token[:1] != b'"':
                raise HeaderError("A dtype is not a string.")
            dtype = token[1:-1].decode()
            if len(self._dtypes) < _KNOWN_MAX:
                self._dtypes[token] = dtype
        return dtype

    def _shape(self, token: bytes) -> tuple[int, ...]:
        """The shape of a tensor; most tensors of a model share a few."""
        shape = self._shapes.get(token)
        if shape is None:
            shape = integers(token)
            if len(self._shapes) < _KNOWN_MAX:
                self._shapes[token] = shape
        return shape

    def _next(self) -> bytes:
        return bytes(self._text[self._at : self._at + 1])

    def _skip_space(self) -> None:
        found = _SPACE.match(self._text, self._at)
        self._at = found.end() if found else self._at

    def _enter(self, sign: str) -> None:
        self._expect(sign)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise HeaderError("The header goes too deep.")

    def _take_if(self, sign: str) -> bool:
        found = _TOKEN.match(self._text, self._at)
        if found is None or bytes(found[1]) != sign.encode():
            return False
        self._at = found.end()
        return True

    def _expect(self, sign: str) -> None:
        if not self._take_if(sign):
            raise HeaderError(f"There is no {sign!r} at byte {self._at}.")


def integers(token: bytes) -> tuple[int, ...]:
    """The integers of a JSON list of nothing else.

    Raises:
        HeaderError: It is another value.
        HeaderBoundError: One is greater than canonical JSON can hold, and the library takes it.
    """
    if not _INTEGERS.fullmatch(token):
        raise HeaderError("A shape or a pair of offsets is not a list of integers.")
    inner = token[1:-1].strip()
    try:
        values = tuple(map(int, inner.split(b","))) if inner else ()
    except ValueError:  # more digits than int() takes
        raise HeaderError("A shape or an offset is greater than 2^64 - 1.") from None
    most = max(values, default=0)
    if most > _LIBRARY_INTEGER:
        raise HeaderError("A shape or an offset is greater than 2^64 - 1.")
    if most > MAX_INTEGER:
        raise HeaderBoundError("A shape or an offset is greater than 2^53 - 1.")
    return values


def _trailing_backslashes(text: memoryview) -> int:
    """How many backslashes ``text`` ends with."""
    count = 0
    for byte in reversed(text):
        if byte != 0x5C:  # noqa: PLR2004 - the backslash
            break
        count += 1
    return count


def _parsed(token: bytes, start: int) -> str:
    """The text of a JSON string with escapes."""
    try:
        value: str = json.loads(token)
        value.encode()
    except UnicodeEncodeError:
        raise HeaderError("A string holds half of a surrogate pair.") from None
    except ValueError:
        raise HeaderError(f"The string at byte {start} is not JSON.") from None
    return value
