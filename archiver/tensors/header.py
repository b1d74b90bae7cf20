"""A safetensors header, read and written: which bytes of a file are which tensor (docs/format.md, 5.1).

The header comes from upstream and is hostile until proven otherwise: its time and memory are
bounded by its length, its length is bounded, and every offset is checked against the file.

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
import sys
from typing import TYPE_CHECKING, Annotated

import msgspec

from archiver.tensors.dtypes import BITS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

LENGTH_BYTES = 8
"""How many bytes at the beginning of a file hold the length of the JSON."""
MAX_LENGTH = 100_000_000
"""The longest JSON, in bytes, that is accepted: the library's own limit."""
MAX_TENSORS = 320_000
"""Tensors of a header, as of a whole manifest;"""
MAX_WEIGHT = 48 << 20
"""and what they take in it, in bytes, as far as that can be told."""
METADATA_MAX = 4 << 20
"""Of the metadata so much is kept, in bytes."""
MAX_RANK = 64
"""Dimensions that a tensor may have."""
MAX_INTEGER = 2**53 - 1
"""The greatest integer that canonical JSON holds (docs/format.md section 1)."""
MAX_DEPTH = 127
"""How deep the library goes into lists and objects."""
MAX_STRING = 16 << 20
"""The longest string, in bytes, that is looked into."""

_METADATA = "__metadata__"
_OFFSETS = 2
_RECORD_BYTES = 60
_NUMBER_BYTES = 4
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

Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER)]
"""A number in a stored document: what canonical JSON holds, and not negative."""
_Record = tuple[str, tuple[int, ...], tuple[int, ...]]
"""The dtype, the shape and the offsets of a tensor."""


class HeaderError(ValueError):
    """The header is not one that format section 5.1 accepts; the message is one sentence."""


class HeaderBoundError(HeaderError):
    """A library may load the header, and it is beyond what is parsed here: nothing is said of it."""


class CutOffError(HeaderError):
    """The file ends before all that its header lists: a download that broke off."""


class Tensor(msgspec.Struct, frozen=True, gc=False):
    """One tensor. ``begin`` and ``end`` are offsets in the file, not in its data."""

    name: str
    dtype: str
    shape: Annotated[tuple[Count, ...], msgspec.Meta(max_length=MAX_RANK)]
    begin: Count
    end: Count


class Header(msgspec.Struct, frozen=True, gc=False):
    """An accepted header.

    Attributes:
        size: Bytes from the beginning of the file to the end of the header.
        tensors: In file order; they tile the file from ``size`` to its end.
        metadata: What ``__metadata__`` holds; empty if it is not there.
    """

    size: int
    tensors: tuple[Tensor, ...]
    metadata: dict[str, str]


# --- the header of a file


def header_size(first: bytes | memoryview, file_size: int) -> int:
    """Return the bytes of the header, its length field included, as the first 8 bytes of the file say.

    Raises:
        HeaderError: The length is out of bounds or goes beyond the file.
    """
    length = int.from_bytes(first[:LENGTH_BYTES], "little")
    if len(first) < LENGTH_BYTES or LENGTH_BYTES + length > file_size:
        raise HeaderError("The header goes beyond the end of the file.")
    if not len("{}") <= length <= MAX_LENGTH:
        raise HeaderError(f"The header's length of {length:,} bytes is out of bounds.")
    return LENGTH_BYTES + length


def parse_header(raw: bytes | memoryview, file_size: int) -> Header:
    """Return the header of a safetensors file.

    Args:
        raw: The beginning of the file, at least up to the end of the header.
        file_size: The bytes of the whole file.

    Raises:
        HeaderError: The header is not one that section 5.1 accepts, and why. HeaderBoundError if that
            says nothing of whether a library loads it.
    """
    size = header_size(raw, file_size)
    if len(raw) < size:
        raise HeaderError("The header is cut off.")
    text = memoryview(raw)[LENGTH_BYTES:size]
    _check_text(text)
    tensors, metadata = _read(text, size)
    tensors.sort(key=_place)
    _check_tiling(tensors, size, file_size)
    return Header(size, tuple(tensors), metadata)


def _read(text: memoryview, base: int) -> tuple[list[Tensor], dict[str, str]]:
    scanner = _Scanner(text)
    metadata: dict[str, str] | None = None
    tensors: dict[str, Tensor] = {}
    weight = 0
    for name in scanner.members():
        if name == _METADATA:
            if metadata is not None:
                raise HeaderError(f"The key {_METADATA!r} occurs twice.")
            metadata = {} if scanner.null() else _metadata(scanner)
            continue
        tensor = tensors[name] = _tensor(name, *scanner.record(), base)
        weight += _RECORD_BYTES + len(name) + len(tensor.dtype) + _NUMBER_BYTES * len(tensor.shape)
        # Before the next is made: there may be a million, and six such headers at once.
        if len(tensors) > MAX_TENSORS or weight > MAX_WEIGHT:
            raise HeaderBoundError(
                f"The header lists more than {MAX_TENSORS:,} tensors, or takes too much to be listed."
            )
    scanner.end()
    return list(tensors.values()), metadata or {}


def _metadata(scanner: _Scanner) -> dict[str, str]:
    """Return the metadata; of much only the beginning, which is enough for whoever asks for a key."""
    metadata: dict[str, str] = {}
    room = METADATA_MAX
    for key in scanner.members():
        value = scanner.string()
        room -= len(key) + len(value) + _RECORD_BYTES
        if room > 0:
            metadata[key] = value
    return metadata


def _tensor(
    name: str, dtype: str, shape: tuple[int, ...], offsets: Sequence[int], base: int
) -> Tensor:
    if len(offsets) != _OFFSETS or offsets[0] > offsets[1]:
        raise HeaderError(f"The offsets of {name[:200]!r} are not a begin and an end.")
    begin, end = offsets
    bits = BITS.get(dtype)
    if bits is not None and _bits(name, shape, bits) != (end - begin) * 8:
        raise HeaderError(f"The tensor {name[:200]!r} has not the bytes that its shape takes.")
    if len(shape) > MAX_RANK:
        raise HeaderBoundError(f"The tensor {name[:200]!r} has more than {MAX_RANK} dimensions.")
    # one string for all tensors of a dtype: there may be hundreds of thousands
    return Tensor(name, sys.intern(dtype), shape, base + begin, base + end)


def _bits(name: str, shape: tuple[int, ...], width: int) -> int:
    """Return the bits of a tensor, counted as the library does: what overflows on the way is refused."""
    count = 1
    for dimension in (*shape, width):
        count *= dimension
        if count > _LIBRARY_INTEGER:
            raise HeaderError(f"The tensor {name[:200]!r} is larger than any file.")
    return count


def _place(tensor: Tensor) -> tuple[int, int, str]:
    return tensor.begin, tensor.end, tensor.name


def _check_tiling(tensors: list[Tensor], begin: int, file_size: int) -> None:
    at = begin
    for tensor in tensors:
        if tensor.begin != at:
            fault = "overlaps another" if tensor.begin < at else "leaves a hole before it"
            raise HeaderError(f"The tensor {tensor.name[:200]!r} {fault}.")
        at = tensor.end
    if at != file_size:
        raise HeaderError(f"The tensors end at byte {at:,}, the file at {file_size:,}.")


# --- its grammar


def _check_text(raw: memoryview) -> None:
    """Raise HeaderError unless ``raw`` is UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for at in range(0, len(raw), _PIECE):
            decoder.decode(bytes(raw[at : at + _PIECE]))
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise HeaderError("The header is not UTF-8.") from None


class _Scanner:
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
        """Yield the keys of the object that begins here; the caller reads each value before the next.

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
        """Raise HeaderError unless all text has been read."""
        self._skip_space()
        if self._at != len(self._text):
            raise HeaderError(f"Text goes on after the end of the JSON, at byte {self._at}.")

    def null(self) -> bool:
        """Read ``null`` if it stands here, and return whether it does."""
        match = _WORD.match(self._text, self._at)
        if match is None or bytes(match[0]) != b"null":
            return False
        self._at = match.end()
        return True

    def string(self) -> str:
        """Return the string that begins here."""
        start = self._at
        match = _STRING.match(self._text, start)
        if match:
            self._at = match.end()
            return str(self._text[start + 1 : self._at - 1], "utf-8")
        return self._escaped_string(start)

    def _escaped_string(self, start: int) -> str:
        if bytes(self._text[start : start + 1]) != b'"':
            raise HeaderError(f"There is no string at byte {start}.")
        end = start + 1
        while True:
            match = _QUOTE.search(self._text, end, start + MAX_STRING)
            if match is None and len(self._text) > start + MAX_STRING:
                raise HeaderBoundError(f"The string at byte {start} is too long to be looked into.")
            if match is None or bytes(match[0]) != b'"':
                raise HeaderError(f"The string at byte {start} is not JSON.")
            end = match.end()
            before = self._text[max(start + 1, end - 1 - _PIECE) : end - 1]
            slashes = _trailing_backslashes(before)
            if slashes % 2 == 0:
                break
        self._at = end
        return _parsed(bytes(self._text[start:end]), start)

    def record(self) -> _Record:
        """Return the record of a tensor that begins here: its dtype, shape and offsets."""
        match = _RECORD.match(self._text, self._at)
        if match is None:
            return self._odd_record()
        keys = tuple(map(bytes, match.group(1, 3, 5)))
        order = self._orders.get(keys) or self._order(keys)
        if not order:
            return self._odd_record()
        self._at = match.end()
        values = tuple(map(bytes, match.group(2, 4, 6)))
        dtype, shape, offsets = order
        return self._dtype(values[dtype]), self._shape(values[shape]), _integers(values[offsets])

    def _order(self, keys: tuple[bytes, ...]) -> tuple[int, ...]:
        """Return which of a record's fields is its dtype, its shape, its offsets; empty if not each is."""
        names = [key[1:-1].decode() for key in keys]
        if sorted(names) != sorted(_FIELDS):
            return ()
        order = self._orders[keys] = tuple(map(names.index, _FIELDS))
        return order

    def _odd_record(self) -> _Record:
        """Return a record that has further fields, escapes, or is a list of three values."""
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
        fields: dict[str, str | tuple[int, ...]] = {}
        readers: dict[str, Callable[[], str | tuple[int, ...]]] = {
            "dtype": self._dtype_value,
            "shape": self._integers_value,
            "data_offsets": self._integers_value,
        }
        for key in self.members():
            if key not in readers:
                self._skip_value()
            elif key in fields:
                raise HeaderError(f"A record has {key} twice.")
            else:
                fields[key] = readers[key]()
        dtype_, shape_, offsets_ = (fields.get(key) for key in _FIELDS)
        if isinstance(dtype_, str) and isinstance(shape_, tuple) and isinstance(offsets_, tuple):
            return dtype_, shape_, offsets_
        raise HeaderError("A record lacks dtype, shape or data_offsets.")

    def _dtype_value(self) -> str:
        """Return a dtype, which the library also takes as an object of one key and null."""
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
        match = _INTEGERS.match(self._text, self._at)
        if match is None:
            raise HeaderError("A shape or a pair of offsets is not a list of integers.")
        if self._depth + 1 > MAX_DEPTH:
            raise HeaderError("The header goes too deep.")
        self._at = match.end()
        return _integers(bytes(match[0]))

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
        match = _WORD.match(self._text, self._at) or _NUMBER.match(self._text, self._at)
        if match is None:
            raise HeaderError(f"There is no value at byte {self._at}.")
        token = bytes(match[0])
        if token[:1] in b"-0123456789" and not math.isfinite(float(token)):
            raise HeaderError(f"The number at byte {self._at} is out of range.")
        self._at = match.end()

    def _dtype(self, token: bytes) -> str:
        """Return the dtype of a tensor; a model has a few."""
        dtype = self._dtypes.get(token)
        if dtype is None:
            if token[:1] != b'"':
                raise HeaderError("A dtype is not a string.")
            dtype = token[1:-1].decode()
            if len(self._dtypes) < _KNOWN_MAX:
                self._dtypes[token] = dtype
        return dtype

    def _shape(self, token: bytes) -> tuple[int, ...]:
        """Return the shape of a tensor; most tensors of a model share a few."""
        shape = self._shapes.get(token)
        if shape is None:
            shape = _integers(token)
            if len(self._shapes) < _KNOWN_MAX:
                self._shapes[token] = shape
        return shape

    def _next(self) -> bytes:
        return bytes(self._text[self._at : self._at + 1])

    def _skip_space(self) -> None:
        match = _SPACE.match(self._text, self._at)
        self._at = match.end() if match else self._at

    def _enter(self, sign: str) -> None:
        self._expect(sign)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise HeaderError("The header goes too deep.")

    def _take_if(self, sign: str) -> bool:
        match = _TOKEN.match(self._text, self._at)
        if match is None or bytes(match[1]) != sign.encode():
            return False
        self._at = match.end()
        return True

    def _expect(self, sign: str) -> None:
        if not self._take_if(sign):
            raise HeaderError(f"There is no {sign!r} at byte {self._at}.")


def _integers(token: bytes) -> tuple[int, ...]:
    """Return the integers of a JSON list of nothing else.

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
    """Return how many backslashes ``text`` ends with."""
    count = 0
    for byte in reversed(text):
        if byte != 0x5C:  # noqa: PLR2004 - the backslash
            break
        count += 1
    return count


def _parsed(token: bytes, start: int) -> str:
    """Return the text of a JSON string with escapes."""
    try:
        value: str = json.loads(token)
        value.encode()
    except UnicodeEncodeError:
        raise HeaderError("A string holds half of a surrogate pair.") from None
    except ValueError:
        raise HeaderError(f"The string at byte {start} is not JSON.") from None
    return value


# --- writing one


def header_bytes(
    tensors: Iterable[tuple[str, str, Sequence[int], int]],
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Return the beginning of a safetensors file, up to where the data of its tensors begins.

    Args:
        tensors: Name, dtype, shape and bytes of each tensor, in the order of their data.
        metadata: What to write as ``__metadata__``; nothing if it is None or empty.

    Raises:
        ValueError: A name occurs twice, or is the one that is kept for the metadata.
    """
    fields: dict[str, object] = {_METADATA: dict(metadata)} if metadata else {}
    at = 0
    for name, dtype, shape, size in tensors:
        if name in fields or name == _METADATA:
            raise ValueError(f"The name {name[:200]!r} is not free.")
        fields[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % LENGTH_BYTES)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text
