"""A GGUF header, read and written: which bytes of a file are which tensor (docs/format.md, 5.2).

Magic, version and two counts; the metadata as keys and values; for each tensor its name, dimensions, type
and place. Nothing says how long that is: a vocabulary makes megabytes of it, and one has to walk through
all of its words to find the tensors. So a header is parsed from as many bytes as are there, and where they
do not do, it says how many it knows to be needed.

The header comes from upstream and is hostile until proven otherwise. Its length is bounded, every count
is compared with the bytes that are left for it before anything is made, and of the metadata nothing is
kept but the alignment; or, for a person to read, a part that is bounded too.
"""

from __future__ import annotations

import struct
from math import inf, isfinite
from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.tensors.header import (
    MAX_INTEGER,
    CutOffError,
    Header,
    HeaderBoundError,
    HeaderError,
    Tensor,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FIRST_BYTES: Final = 64 << 10
"""So many bytes show whether a file is one, and are a whole header where there is no vocabulary."""
HEADER_MAX: Final = 64 << 20
"""The longest header, in bytes. 262,144 words and 514,906 merges of them make 16 MB."""
TENSORS_MAX: Final = 65_536
"""Tensors of a file. The largest models have some 1,100, in several files."""
KEYS_MAX: Final = 65_536
"""Keys of the metadata; a model has about forty,"""
KEY_MAX: Final = 65_535
"""and the bytes of one."""
NAME_MAX: Final = 256
"""Bytes of a tensor's name: llama.cpp takes 63, builds of it for pictures 127."""
RANK_MAX: Final = 4
"""Dimensions of a tensor (GGML_MAX_DIMS)."""
ALIGNMENT: Final = 32
"""Where the metadata says nothing of it, the data of a tensor begins at a multiple of this."""
DEPTH_MAX: Final = 4
"""Arrays within arrays. llama.cpp reads none; the specification allows them."""

_MAGIC: Final = b"GGUF"
_VERSIONS: Final = (2, 3)
_ALIGNMENT_KEY: Final = b"general.alignment"
_HALF_WORD: Final = 0xFFFF
_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")
_COUNTS: Final = struct.Struct("<4sIQQ")
_TYPE_AND_OFFSET: Final = struct.Struct("<IQ")
_ELEMENTS: Final = struct.Struct("<IQ")
_LEAST_PAIR: Final = 8 + 4 + 1
_LEAST_TENSOR: Final = 8 + 4 + 4 + 8
_STRING: Final = 8
_ARRAY: Final = 9
_UINT32: Final = 4
_WIDTHS: Final = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value of the metadata, by its type; strings (8) and arrays (9) have none of their own."""


_FORMATS: Final = {
    0: ("uint8", "<B"),
    1: ("int8", "<b"),
    2: ("uint16", "<H"),
    3: ("int16", "<h"),
    4: ("uint32", "<I"),
    5: ("int32", "<i"),
    6: ("float32", "<f"),
    7: ("bool", "<?"),
    10: ("uint64", "<Q"),
    11: ("int64", "<q"),
    12: ("float64", "<d"),
}
"""What these types are called, and how a value of each is read."""
_FLOAT32: Final = 6

SHOWN_KEYS_MAX: Final = 1024
"""Keys of the metadata that are shown; and bytes of them and of their values together,"""
SHOWN_BYTES_MAX: Final = 4 << 20
TEXT_MAX: Final = 64 << 10
"""and of one text: a chat template has some ten thousand."""
ELEMENTS_MAX: Final = 8
"""So many elements of an array are shown, and of each that is a text so many bytes."""
ELEMENT_MAX: Final = 256


class GgmlType(NamedTuple):
    """A type of tensor elements: ``block`` elements of a row take ``size`` bytes together."""

    name: str
    block: int
    size: int


TYPES: Final = {
    0: GgmlType("F32", 1, 4),
    1: GgmlType("F16", 1, 2),
    2: GgmlType("Q4_0", 32, 18),
    3: GgmlType("Q4_1", 32, 20),
    6: GgmlType("Q5_0", 32, 22),
    7: GgmlType("Q5_1", 32, 24),
    8: GgmlType("Q8_0", 32, 34),
    9: GgmlType("Q8_1", 32, 40),
    10: GgmlType("Q2_K", 256, 84),
    11: GgmlType("Q3_K", 256, 110),
    12: GgmlType("Q4_K", 256, 144),
    13: GgmlType("Q5_K", 256, 176),
    14: GgmlType("Q6_K", 256, 210),
    15: GgmlType("Q8_K", 256, 292),
    16: GgmlType("IQ2_XXS", 256, 66),
    17: GgmlType("IQ2_XS", 256, 74),
    18: GgmlType("IQ3_XXS", 256, 98),
    19: GgmlType("IQ1_S", 256, 50),
    20: GgmlType("IQ4_NL", 32, 18),
    21: GgmlType("IQ3_S", 256, 110),
    22: GgmlType("IQ2_S", 256, 82),
    23: GgmlType("IQ4_XS", 256, 136),
    24: GgmlType("I8", 1, 1),
    25: GgmlType("I16", 1, 2),
    26: GgmlType("I32", 1, 4),
    27: GgmlType("I64", 1, 8),
    28: GgmlType("F64", 1, 8),
    29: GgmlType("IQ1_M", 256, 56),
    30: GgmlType("BF16", 1, 2),
    34: GgmlType("TQ1_0", 256, 54),
    35: GgmlType("TQ2_0", 256, 66),
    39: GgmlType("MXFP4", 32, 17),
    40: GgmlType("NVFP4", 64, 36),
    41: GgmlType("Q1_0", 128, 18),
}
"""By their numbers in a file. Those that are not here are given up, or newer than this list."""


_NUMBERS: Final = {kind.name: number for number, kind in TYPES.items()}


class ShortHeaderError(Exception):
    """There are too few bytes to tell. With ``needed`` of them parsing gets further."""

    def __init__(self, needed: int) -> None:
        super().__init__(f"{needed} bytes are needed.")
        self.needed = needed


def parse_gguf(raw: bytes | memoryview, file_size: int) -> Header:
    """Return the header of a GGUF file; ``size`` is where the data of its tensors begins.

    Args:
        raw: The beginning of the file.
        file_size: The bytes of the whole file.

    Raises:
        ShortHeaderError: The header may be accepted, and goes on after ``raw``; what is needed is never
            beyond the file or beyond ``HEADER_MAX``.
        HeaderError: The header is not one that section 5.2 accepts, and why; CutOffError if that is
            because the file is too short for it.
    """
    reader = _Reader(raw, file_size)
    tensors, keys = reader.counts()
    alignment = reader.alignment(keys)
    places = [reader.tensor() for _ in range(tensors)]
    begin = _aligned(reader.at, alignment)
    if len({place.name for place in places}) < len(places):
        raise HeaderError("Two tensors have the same name.")
    listed = sorted((_tensor(place, begin, alignment) for place in places), key=_place)
    at = begin
    for tensor in listed:
        if tensor.begin < at:
            raise HeaderError(f"The tensor {tensor.name!r} overlaps another.")
        at = tensor.end
    if listed and at > file_size:
        raise CutOffError(
            f"The file is cut off: its tensors end at byte {at:,}, the file at {file_size:,}."
        )
    return Header(min(begin, file_size), tuple(listed), {})


def read_gguf(beginning: Callable[[int], bytes], file_size: int) -> Header:
    """Return the header of a GGUF file; errors as for ``parse_gguf``, but it is never short.

    Args:
        beginning: Gives so many first bytes of the file.
        file_size: The bytes of the whole file.
    """
    size = min(FIRST_BYTES, file_size)
    while True:
        raw = beginning(size)
        try:
            return parse_gguf(raw, file_size)
        except ShortHeaderError as error:
            size = next_size(error, size, file_size)


Scalar = int | float | bool | str


class MetadataValue(NamedTuple):
    """A key of the metadata and what it holds.

    ``type`` is that of the value, or of an array's, of which there are ``elements`` (-1: it is no array)
    and ``value`` are the first. ``cut``: a text has more bytes than are shown.
    """

    key: str
    type: str
    value: Scalar | tuple[Scalar, ...]
    elements: int = -1
    cut: bool = False


class Metadata(NamedTuple):
    """The metadata of a file in its order; ``left_out`` keys after these are not shown."""

    values: tuple[MetadataValue, ...]
    left_out: int


def read_metadata(beginning: Callable[[int], bytes], file_size: int) -> Metadata:
    """Return the metadata of a GGUF file for a person to read.

    Arguments and errors are those of ``read_gguf``.
    """
    size = min(FIRST_BYTES, file_size)
    while True:
        try:
            reader = _Reader(beginning(size), file_size)
            _, keys = reader.counts()
            return reader.metadata(keys)
        except ShortHeaderError as error:
            size = next_size(error, size, file_size)


def next_size(error: ShortHeaderError, size: int, file_size: int) -> int:
    """Return how many bytes to try with next after ``size`` were too few.

    At least twice as many, so that a vocabulary is walked through twice at most, all attempts together.
    """
    return min(max(error.needed, 2 * size), HEADER_MAX, file_size)


class _Place(NamedTuple):
    """A tensor as the header has it: dimensions from the innermost on, the offset from the data's begin."""

    name: str
    dimensions: tuple[int, ...]
    type: int
    offset: int


class _Reader:
    """Reads a header from its beginning on; ``at`` is where it stands.

    What goes beyond the bytes that are there is a ShortHeaderError, what can never be there a HeaderError.
    """

    def __init__(self, raw: bytes | memoryview, file_size: int) -> None:
        self._raw = raw
        self._have = len(raw)
        self._file_size = file_size
        self.at = 0

    def _take(self, size: int) -> int:
        """Go on by ``size`` bytes, which must be there; return where they begin."""
        begin, end = self.at, self.at + size
        if end > self._have:
            self._require_room(end)
            raise ShortHeaderError(end)
        self.at = end
        return begin

    def _require_room(self, end: int) -> None:
        """Raise HeaderError if no header goes on to ``end``."""
        if end > self._file_size:
            raise CutOffError("The header goes beyond the end of the file.")
        if end > HEADER_MAX:
            raise HeaderBoundError(f"The header is longer than {HEADER_MAX:,} bytes.")

    def _u32(self) -> int:
        value: int = _U32.unpack_from(self._raw, self._take(_U32.size))[0]
        return value

    def _u64(self) -> int:
        value: int = _U64.unpack_from(self._raw, self._take(_U64.size))[0]
        return value

    def _string(self, most: int, what: str) -> bytes:
        size = self._u64()
        if size > most:
            raise HeaderBoundError(f"{what} is longer than {most:,} bytes.")
        begin = self._take(size)
        return bytes(self._raw[begin : begin + size])

    def counts(self) -> tuple[int, int]:
        """Return how many tensors and how many keys there are."""
        at = self._take(_COUNTS.size)
        magic, version, tensors, keys = _COUNTS.unpack_from(self._raw, at)
        if magic != _MAGIC:
            raise HeaderError("The file does not begin as GGUF files do.")
        if version & _HALF_WORD == 0:
            raise HeaderError("Its numbers are big-endian.")
        if version not in _VERSIONS:
            raise HeaderError(f"It is GGUF of version {version}; known are 2 and 3.")
        if tensors > TENSORS_MAX or keys > KEYS_MAX:
            raise HeaderBoundError(
                f"The header lists {tensors:,} tensors and {keys:,} keys; at most {TENSORS_MAX:,} "
                "of each may be."
            )
        self._require_room(self.at + tensors * _LEAST_TENSOR + keys * _LEAST_PAIR)
        return tensors, keys

    def alignment(self, keys: int) -> int:
        """Read all of the metadata; return the alignment of tensors, in bytes."""
        alignment = 0
        for _ in range(keys):
            key = self._string(KEY_MAX, "A key")
            kind = self._u32()
            if key != _ALIGNMENT_KEY:
                self._skip(kind, 1, 0)
                continue
            if alignment or kind != _UINT32:
                raise HeaderError("The alignment stands twice, or is no 32-bit number.")
            alignment = self._u32()
            if alignment.bit_count() != 1:
                raise HeaderError(f"The alignment {alignment:,} is no power of two.")
        return alignment or ALIGNMENT

    def metadata(self, keys: int) -> Metadata:
        """Read the metadata as far as it is shown."""
        values: list[MetadataValue] = []
        shown = 0
        for number in range(keys):
            if number == SHOWN_KEYS_MAX or shown > SHOWN_BYTES_MAX:
                break
            key, kind = self._string(KEY_MAX, "A key"), self._u32()
            value = self._value(_text(key), kind)
            texts = value.value if isinstance(value.value, tuple) else (value.value,)
            shown += len(key) + sum(len(text) for text in texts if isinstance(text, str))
            values.append(value)
        return Metadata(tuple(values), keys - len(values))

    def _value(self, key: str, kind: int) -> MetadataValue:
        if kind in _FORMATS:
            return MetadataValue(key, _FORMATS[kind][0], self._scalars(kind, 1, 1)[0])
        if kind == _STRING:
            text, cut = self._shown_string(TEXT_MAX)
            return MetadataValue(key, "string", text, cut=cut)
        if kind != _ARRAY:
            raise HeaderError(f"There is no type {kind} of values.")
        element, count = _ELEMENTS.unpack_from(self._raw, self._take(_ELEMENTS.size))
        if element in _FORMATS:
            first = self._scalars(element, count, ELEMENTS_MAX)
            return MetadataValue(key, _FORMATS[element][0], first, count)
        if element == _STRING:
            self._require_room(self.at + count * _U64.size)
            few = min(count, ELEMENTS_MAX)
            texts = [self._shown_string(ELEMENT_MAX) for _ in range(few)]
            self._skip_strings(count - few)
            cut = any(each for _, each in texts)
            return MetadataValue(key, "string", tuple(text for text, _ in texts), count, cut)
        self._skip(element, count, 1)
        return MetadataValue(key, "array", (), count)

    def _scalars(self, kind: int, count: int, most: int) -> tuple[Scalar, ...]:
        """Read ``count`` values; return the first of them, at most ``most``."""
        width, form = _WIDTHS[kind], struct.Struct(_FORMATS[kind][1])
        at = self._take(count * width)
        places = range(at, at + min(count, most) * width, width)
        values = [form.unpack_from(self._raw, place)[0] for place in places]
        return tuple(_short(value) if kind == _FLOAT32 else value for value in values)

    def _shown_string(self, most: int) -> tuple[str, bool]:
        """Read a string; return its beginning, and whether it goes on."""
        size = self._u64()
        begin = self._take(size)
        return _text(bytes(self._raw[begin : begin + min(size, most)])), size > most

    def _skip(self, kind: int, count: int, depth: int) -> None:
        """Read ``count`` values of one type."""
        width = _WIDTHS.get(kind)
        if width is not None:
            self._take(count * width)
        elif kind == _STRING:
            self._skip_strings(count)
        elif kind == _ARRAY:
            if depth == DEPTH_MAX:
                raise HeaderBoundError(f"Its arrays go deeper than {DEPTH_MAX} levels.")
            self._require_room(self.at + count * _ELEMENTS.size)
            for _ in range(count):
                element, elements = _ELEMENTS.unpack_from(self._raw, self._take(_ELEMENTS.size))
                self._skip(element, elements, depth + 1)
        else:
            raise HeaderError(f"There is no type {kind} of values.")

    def _skip_strings(self, count: int) -> None:
        """Read strings: half a million of them, so without a call for each."""
        self._require_room(self.at + count * _U64.size)
        raw, at, last, length = self._raw, self.at, self._have - _U64.size, _U64.unpack_from
        for number in range(count):
            if at > last:
                self.at = at
                self._take((count - number) * _U64.size)
            at += _U64.size + length(raw, at)[0]
        self.at = at
        self._take(0)

    def tensor(self) -> _Place:
        """Read what is said of one tensor."""
        try:
            name = self._string(NAME_MAX, "The name of a tensor").decode()
        except UnicodeDecodeError:
            raise HeaderError("The name of a tensor is not UTF-8.") from None
        rank = self._u32()
        if rank > RANK_MAX:
            raise HeaderBoundError(f"The tensor {name!r} has more than {RANK_MAX} dimensions.")
        at = self._take(rank * _U64.size)
        dimensions = struct.unpack_from(f"<{rank}Q", self._raw, at)
        kind, offset = _TYPE_AND_OFFSET.unpack_from(self._raw, self._take(_TYPE_AND_OFFSET.size))
        return _Place(name, dimensions, kind, offset)


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def _short(value: float) -> float:
    """Return a float of 32 bits with as few digits as tell it from all others."""
    shortest = (float(f"{value:.{digits}g}") for digits in range(6, 9))
    same = (short for short in shortest if isfinite(short) and _as_32_bits(short) == value)
    return value if value.is_integer() else next(same, value)


def _as_32_bits(value: float) -> float:
    try:
        number: float = struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return inf
    return number


def _tensor(place: _Place, begin: int, alignment: int) -> Tensor:
    """Return a tensor, with its place in the file, whose data begins at ``begin``."""
    name, dimensions, number, offset = place
    kind = TYPES.get(number)
    if kind is None:
        raise HeaderError(f"The tensor {name!r} is of type {number}, which is not known.")
    if offset % alignment:
        raise HeaderError(f"The tensor {name!r} does not begin at a multiple of {alignment:,}.")
    if (dimensions[0] if dimensions else 1) % kind.block:
        raise HeaderError(f"The rows of the tensor {name!r} are not whole blocks of {kind.name}.")
    count = 1
    for dimension in dimensions:
        count *= dimension
        if max(count, dimension) > MAX_INTEGER:
            raise HeaderError(f"The tensor {name!r} is larger than any file.")
    at = begin + offset
    if at > MAX_INTEGER:
        raise HeaderError(f"The tensor {name!r} lies beyond any file.")
    return Tensor(name, kind.name, dimensions[::-1], at, at + count // kind.block * kind.size)


def _place(tensor: Tensor) -> tuple[int, int, str]:
    return tensor.begin, tensor.end, tensor.name


def _aligned(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment


def is_ggml_type(dtype: str) -> bool:
    """Return whether a type has this name."""
    return dtype in _NUMBERS


def gguf_bytes(name: str, dtype: str, shape: Sequence[int]) -> bytes:
    """Return the beginning of a GGUF file of one tensor, up to where its data begins.

    Args:
        name: The tensor's name.
        dtype: The name of its type, of which there is one.
        shape: As in a manifest, the innermost dimension last.
    """
    header = b"".join(
        (
            _COUNTS.pack(_MAGIC, _VERSIONS[-1], 1, 0),
            _U64.pack(len(name.encode())) + name.encode(),
            struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape)),
            _TYPE_AND_OFFSET.pack(_NUMBERS[dtype], 0),
        )
    )
    return header.ljust(_aligned(len(header), ALIGNMENT), b"\0")
