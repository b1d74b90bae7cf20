"""Headers of safetensors files: docs/format.md section 5.1, clause by clause."""

from __future__ import annotations

import json
import tracemalloc

import pytest
import safetensors
from hypothesis import example, given, settings
from hypothesis import strategies as st

from archiver.tensors.dtypes import BITS
from archiver.tensors.header import (
    MAX_LENGTH,
    Header,
    HeaderError,
    Tensor,
    header_bytes,
    parse_header,
)


def framed(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return len(raw).to_bytes(8, "little") + raw


def parse(text: str | bytes, data: int = 0) -> Header:
    raw = framed(text)
    return parse_header(raw, len(raw) + data)


def record(dtype: str = '"U8"', shape: str = "[4]", offsets: str = "[0,4]") -> str:
    return f'{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}'


def lone(**fields: str) -> str:
    """A header of one tensor."""
    return f'{{"a":{record(**fields)}}}'


dims = st.lists(st.integers(0, 3), max_size=3)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(
    lambda name: name != "__metadata__"
)


def sized(name: str, dtype: str, shape: list[int]) -> tuple[str, str, list[int], int] | None:
    bits = BITS[dtype]
    for dim in shape:
        bits *= dim
    return (name, dtype, shape, bits // 8) if bits % 8 == 0 else None


tensors = st.lists(
    st.builds(sized, names, st.sampled_from(sorted(BITS)), dims).filter(
        lambda one: one is not None
    ),
    max_size=5,
    unique_by=lambda one: one[0],
)
metadata = st.dictionaries(names, names, max_size=2)


def test_tensors_have_offsets_in_the_file_and_stand_in_file_order():
    text = json.dumps(
        {
            "b": {"dtype": "F32", "shape": [2, 1], "data_offsets": [3, 11]},
            "z": {"dtype": "F32", "shape": [0], "data_offsets": [3, 3]},
            "__metadata__": {"format": "pt", "note": 'a "quoted" word\n'},
            "a": {"data_offsets": [0, 3], "shape": [3], "dtype": "U8"},
            "scalar": {"dtype": "I8", "shape": [], "data_offsets": [11, 12]},
        },
        indent=2,
    )
    header = parse(text + "   ", 12)
    base = 8 + len(text) + 3
    assert header == Header(
        base,
        (
            Tensor("a", "U8", (3,), base, base + 3),
            Tensor("z", "F32", (0,), base + 3, base + 3),
            Tensor("b", "F32", (2, 1), base + 3, base + 11),
            Tensor("scalar", "I8", (), base + 11, base + 12),
        ),
        {"format": "pt", "note": 'a "quoted" word\n'},
    )


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("{}", 0),
        ("{ }\n ", 0),
        ('{"__metadata__":{}}', 0),
        (lone(), 4),
        (f'{{"":{record()}}}', 4),
        ('{ "a" :\r\n{ "dtype" : "U8" ,\t"shape" : [ 2 , 2 ] , "data_offsets":[ 0,4 ] } }', 4),
        (lone(dtype='"U\\u0038"'), 4),
        (lone().replace("shape", "\\u0073hape"), 4),
        (f'{{"\\ud83d\\ude00 {{}}[]\\"":{record()}}}', 4),
        (lone(shape="[0,9007199254740991,9007199254740991]", offsets="[0,0]"), 0),
        # "an unknown dtype is accepted", whatever its shape says about its size
        (lone(dtype='"Q3_K"', shape="[77]"), 4),
    ],
)
def test_accepted(text, data):
    assert parse(text, data).size == 8 + len(text.encode())


Q = '"Q3_K"'  # a dtype that is not known

BAD = {
    # "h is from 2 to 100,000,000": 0 and 1
    "no text": ("", 0),
    "one byte": ("{", 0),
    # "a UTF-8 JSON object that begins with {"
    "BOM": ("\ufeff{}", 0),
    "list": ("[]", 0),
    "not UTF-8": (b'{"\xff":1}', 0),
    "UTF-8 surrogate": (b'{"__metadata__":{"\xed\xa0\x80":""}}', 0),
    "cut": ('{"a":', 0),
    "trailing comma": (f'{{"a":{record()},}}', 4),
    "two objects": ("{}{}", 0),
    "NUL padding": ("{}\0\0", 0),
    "other white space": ("{\u00a0}", 0),
    "control character": ('{"__metadata__":{"a":"\n"}}', 0),
    "bad escape": (f'{{"\\x41":{record()}}}', 4),
    "lone surrogate in a name": (f'{{"\\ud800":{record()}}}', 4),
    "lone surrogate in a dtype": (lone(dtype='"\\udc00"'), 4),
    "lone surrogate in metadata": ('{"__metadata__":{"a":"\\ud800"}}', 0),
    # "without duplicate keys"
    "duplicate metadata": ('{"__metadata__":{},"__metadata__":{}}', 0),
    "duplicate in a record": (
        '{"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}',
        0,
    ),
    "duplicate for another": ('{"a":{"dtype":"U8","dtype":"U8","data_offsets":[0,0]}}', 0),
    # "NaN or infinities", and other numbers that are no integers
    "NaN": (lone(shape="[NaN]"), 4),
    "Infinity": (lone(shape="[Infinity]"), 4),
    "float": (lone(shape="[4.0]"), 4),
    "exponent": (lone(shape="[4e0]"), 4),
    # "__metadata__ maps strings to strings"
    "number in metadata": ('{"__metadata__":{"a":1}}', 0),
    "null in metadata": ('{"__metadata__":{"a":null}}', 0),
    "nested metadata": ('{"__metadata__":{"a":{}}}', 0),
    # "every other value has exactly dtype, shape, data_offsets"
    "no dtype": ('{"a":{"shape":[4],"data_offsets":[0,4]}}', 4),
    "another key": ('{"a":{"dtype":"U8","shapes":[4],"data_offsets":[0,4]}}', 4),
    "another key for dtype": ('{"a":{"x":"U8","shape":[4],"data_offsets":[0,4]}}', 4),
    "number for a record": ('{"a":1}', 0),
    "list for a record": ('{"a":[]}', 0),
    "dtype is a list": (lone(dtype="[1]"), 4),
    "dtype is null": (lone(dtype="null"), 4),
    "shape is a string": (lone(shape='"4"'), 4),
    "offsets are a string": (lone(offsets='"0,4"'), 4),
    # "shapes are non-negative integers"
    "negative": (lone(shape="[-4,-1]"), 4),
    "minus zero": (lone(shape="[-0]", offsets="[0,0]"), 0),
    "true": (lone(shape="[4,true]"), 4),
    "leading zero": (lone(shape="[04]"), 4),
    "leading zero later": (lone(shape="[4, 01]"), 4),
    "comma too many": (lone(shape="[4,]"), 4),
    "only a comma": (lone(shape="[,]", offsets="[0,1]"), 1),
    "no comma": (lone(shape="[4 1]"), 4),
    "more than 2^53 - 1": (lone(shape="[0,9007199254740992]", offsets="[0,0]"), 0),
    "more digits than int() takes": (lone(shape="[" + "9" * 5000 + "]"), 4),
    # "0 <= begin <= end"
    "backwards": (lone(shape="[0]", offsets="[4,0]"), 4),
    "backwards to the end": (
        f'{{"a":{record(dtype=Q)},"b":{record(dtype=Q, offsets="[4,0]")}}}',
        0,
    ),
    "negative begin": (lone(offsets="[-1,3]"), 4),
    "one offset": (lone(offsets="[4]"), 4),
    "no offsets": (lone(offsets="[]"), 4),
    "three offsets": (lone(offsets="[0,4,4]"), 4),
    # "tile the data without overlap or hole up to the end of the file"
    "overlap": (f'{{"a":{record()},"b":{record(offsets="[2,6]")}}}', 6),
    "same place": (f'{{"a":{record()},"b":{record()}}}', 4),
    "empty inside": (f'{{"a":{record()},"b":{record(shape="[0]", offsets="[2,2]")}}}', 4),
    "hole": (f'{{"a":{record()},"b":{record(offsets="[5,9]")}}}', 9),
    "hole at the start": (lone(offsets="[1,5]"), 5),
    "data left over": (lone(), 5),
    "data without tensors": ("{}", 1),
    "beyond the file": (lone(), 3),
    "empty, beyond the file": (lone(shape="[0]", offsets="[9,9]"), 0),
    # "end - begin is the product of the shape times the dtype's width"
    "too many bytes": (lone(shape="[3]"), 4),
    "too few bytes": (lone(shape="[5]"), 4),
    "scalar": (lone(shape="[]"), 4),
    "wider dtype": (lone(dtype='"F64"'), 4),
    "half a byte": (lone(dtype='"F4"', shape="[7]"), 4),
    "half a byte, rounded down": (lone(dtype='"F4"', shape="[7]", offsets="[0,3]"), 3),
    "2^64 + 4": (lone(shape="[4,4611686018427387905]"), 4),
    "product of 2^80": (lone(shape="[1099511627776,1099511627776]", offsets="[0,0]"), 0),
    # nothing recurses, however deep the text does
    "deep lists": ('{"a":' + "[" * 100_000, 0),
    "deep objects": ('{"a":' * 100_000, 0),
    "deep metadata": ('{"__metadata__":' * 100_000, 0),
    "deep in a shape": ('{"a":{"dtype":"U8","shape":' + "[" * 100_000, 0),
}


@pytest.mark.parametrize("case", BAD)
def test_refused(case):
    with pytest.raises(HeaderError, match=r"^[A-Z].{5,300}\.$"):
        parse(*BAD[case])


@pytest.mark.parametrize("length", [MAX_LENGTH + 1, 2**63, 2**64 - 1])
def test_a_header_longer_than_the_bound_is_refused_unread(length):
    """ "*h* is from 2 to 100,000,000" """
    with pytest.raises(HeaderError, match="out of bounds"):
        parse_header(length.to_bytes(8, "little"), 2**65)


def test_a_header_beyond_the_file_or_the_bytes_at_hand_is_refused():
    """ "and lies within the file" """
    raw = framed("{}  ")
    for size in range(len(raw)):
        with pytest.raises(HeaderError, match="beyond the end of the file"):
            parse_header(raw, size)
    with pytest.raises(HeaderError, match="cut off"):
        parse_header(raw[:-1], len(raw))
    with pytest.raises(HeaderError, match="beyond the end of the file"):
        parse_header(raw[:7], len(raw))


@settings(max_examples=500)
@given(st.binary(max_size=200), st.booleans())
@example(b"", True)
def test_random_bytes_never_raise_anything_else(noise, frame):
    """ "A file that is not accepted is cut as any other file; that is not an error." """
    raw = framed(noise) if frame else noise
    try:
        parse_header(raw, len(raw))
    except HeaderError:
        return


PIECES = [
    *'{}[]:,"\\0 19',
    *("-1", "1e9", "NaN", "null", "true", '""', "[0,0]", "[0,4]", "\\u0061", "\\ud800", "9" * 30),
    *('"a"', '"dtype"', '"shape"', '"data_offsets"', '"__metadata__"', '"U8"', record()),
]


@st.composite
def mutated(draw):
    """A good header of which a few stretches were replaced, doubled or cut out."""
    listed = draw(tensors)
    text = header_bytes(listed, draw(metadata))[8:].decode()
    for _ in range(draw(st.integers(1, 3))):
        begin = draw(st.integers(0, len(text)))
        end = min(len(text), begin + draw(st.integers(0, 12)))
        filler = draw(st.sampled_from(PIECES) | st.just(text[begin:end] * 2))
        text = text[:begin] + filler + text[end:]
    return framed(text), sum(one[3] for one in listed)


@settings(max_examples=500)
@given(mutated())
def test_what_is_accepted_the_safetensors_package_reads_alike(case):
    """Accepted is never more than safetensors itself accepts, unknown dtypes aside."""
    raw, data = case
    try:
        header = parse_header(raw, len(raw) + data)
    except HeaderError:
        return
    if all(tensor.dtype in BITS for tensor in header.tensors):
        assert theirs(raw, data) == ours(header)


@given(tensors, metadata)
def test_what_the_writer_writes_is_accepted_by_both(listed, meta):
    raw = header_bytes(listed, meta)
    data = sum(one[3] for one in listed)
    header = parse_header(memoryview(raw), len(raw) + data)
    assert len(raw) % 8 == 0
    assert header.size == len(raw)
    assert header.metadata == meta
    assert ours(header) == theirs(raw, data)
    assert {tensor.name for tensor in header.tensors} == {one[0] for one in listed}


def ours(header: Header) -> dict[str, tuple[str, list[int], int]]:
    return {one.name: (one.dtype, list(one.shape), one.end - one.begin) for one in header.tensors}


def theirs(raw: bytes, data: int) -> dict[str, tuple[str, list[int], int]]:
    read = safetensors.deserialize(raw + bytes(data))
    return {name: (one["dtype"], one["shape"], len(one["data"])) for name, one in read}


@pytest.mark.parametrize("dtype", sorted(BITS))
def test_widths_are_those_of_the_safetensors_package(dtype):
    raw = header_bytes([("a", dtype, (8,), BITS[dtype])])
    assert theirs(raw, BITS[dtype]) == {"a": (dtype, [8], BITS[dtype])}
    with pytest.raises(safetensors.SafetensorError):
        theirs(header_bytes([("a", dtype, (8,), BITS[dtype] + 1)]), BITS[dtype] + 1)


def test_a_packed_tensor_counts_bits():
    raw = header_bytes([("a", "F4", (3, 2), 3), ("b", "F6_E2M3", (4,), 3)])
    assert [one.end - one.begin for one in parse_header(raw, len(raw) + 6).tensors] == [3, 3]


@pytest.mark.parametrize("name", ["a", "__metadata__"])
def test_the_writer_refuses_a_name_that_is_taken(name):
    with pytest.raises(ValueError, match="not free"):
        header_bytes([("a", "U8", (1,), 1), (name, "U8", (1,), 1)])


def test_a_shape_of_a_million_dimensions_is_refused():
    shape = "[" + ",".join(["9007199254740991"] * 300_000) + "]"
    with pytest.raises(HeaderError, match="larger than any file"):
        parse(lone(shape=shape), 4)


def many(count: int) -> tuple[bytes, int]:
    """A header of ``count`` small tensors with the names of a mixture of experts, and its file's
    size."""
    names = (f"model.layers.{n % 60}.mlp.experts.{n // 60}.weight_{n}" for n in range(count))
    raw = header_bytes((name, "BF16", (4, 8), 64) for name in names)
    return raw, len(raw) + 64 * count


def test_190_000_tensors_are_parsed():
    raw, file_size = many(190_000)
    header = parse_header(raw, file_size)
    assert len(header.tensors) == 190_000
    assert header.tensors[-1].end == file_size


def test_190_000_tensors_take_less_than_100_megabytes():
    """Traced on a tenth of them, since tracing is slow and the need grows with their number."""
    raw, file_size = many(19_000)
    tracemalloc.start()
    try:
        header = parse_header(raw, file_size)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(header.tensors) == 19_000
    assert peak < 10_000_000


@pytest.mark.parametrize(("rank", "accepted"), [(64, True), (65, False)])
def test_a_shape_is_at_most_64_integers(rank: int, accepted: bool) -> None:
    record = {"dtype": "U8", "shape": [1] * rank, "data_offsets": [0, 1]}
    text = json.dumps({"w": record}).encode()
    raw = len(text).to_bytes(8, "little") + text
    if accepted:
        assert parse_header(raw, len(raw) + 1).tensors[0].shape == (1,) * rank
    else:
        with pytest.raises(HeaderError, match="dimensions"):
            parse_header(raw, len(raw) + 1)
