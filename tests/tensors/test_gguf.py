"""Headers of GGUF files: docs/format.md section 5.2, clause by clause, and against the gguf package."""

from __future__ import annotations

import struct
import tracemalloc
from itertools import pairwise

import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFReader
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.gguf_files import gguf_file, tensor_bytes

from archiver.tensors import gguf
from archiver.tensors.cuts import SEGMENT_MAX, CutPlanner, plan_cuts
from archiver.tensors.gguf import (
    FIRST_BYTES,
    HEADER_MAX,
    TYPES,
    ShortHeaderError,
    gguf_bytes,
    parse_gguf,
)
from archiver.tensors.header import Header, HeaderBoundError, HeaderError, Tensor

MIB = 1 << 20
KINDS = sorted(kind.name for kind in GGMLQuantizationType)


def string(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


def pair(key: str, kind: int, value: bytes) -> bytes:
    return string(key) + struct.pack("<I", kind) + value


def array(kind: int, count: int, values: bytes) -> bytes:
    return struct.pack("<IQ", kind, count) + values


def info(name: str | bytes, dims: tuple[int, ...] = (4,), kind: int = 24, offset: int = 0) -> bytes:
    """What a header says of a tensor; type 24 is I8, a byte an element."""
    places = struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)
    return string(name) + places


def header(*parts: bytes, keys: int = 0, version: int = 3, tensors: int | None = None) -> bytes:
    """The parts of a header; the first ``keys`` are of the metadata."""
    count = len(parts) - keys if tensors is None else tensors
    return struct.pack("<4sIQQ", b"GGUF", version, count, keys) + b"".join(parts)


def parse(raw: bytes, data: int = 4, alignment: int = 32) -> Header:
    """Parse a header with so many bytes of data after its padding."""
    return parse_gguf(raw, -(-len(raw) // alignment) * alignment + data)


def refused(raw: bytes, data: int = 4) -> str:
    with pytest.raises(HeaderError) as caught:
        parse(raw, data)
    return str(caught.value)


# ---- what the gguf package writes and reads


@st.composite
def files(draw):
    """Name -> type, shape, bytes of some tensors; metadata; alignment."""
    names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
    made = {}
    for name in draw(st.lists(names, max_size=5, unique=True)):
        kind = draw(st.sampled_from(KINDS))
        block, _ = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
        outer = draw(st.lists(st.integers(1, 3), max_size=3))
        shape = (*outer, block * draw(st.integers(1, 3)))
        made[name] = (kind, shape, tensor_bytes(kind, shape, len(made)))
    words = st.lists(st.text(max_size=6), min_size=1, max_size=20)
    values = st.text(max_size=9) | st.integers(0, 9) | st.floats(0, 1) | st.booleans() | words
    metadata = draw(st.dictionaries(names.map("x.{}".format), values, max_size=5))
    return made, metadata, draw(st.sampled_from([0, 8, 64, 4096]))


@settings(max_examples=30, deadline=None)
@given(made=files())
def test_a_file_is_read_as_the_package_reads_it(made, tmp_path_factory):
    tensors, metadata, alignment = made
    raw = gguf_file(tensors, metadata, alignment=alignment)
    path = tmp_path_factory.mktemp("gguf") / "f.gguf"
    path.write_bytes(raw)
    expected = [
        Tensor(
            entry.name,
            entry.tensor_type.name,
            tuple(reversed(entry.shape.tolist())),
            entry.data_offset,
            entry.data_offset + entry.n_bytes,
        )
        for entry in GGUFReader(path).tensors
    ]
    parsed = parse_gguf(raw, len(raw))
    assert list(parsed.tensors) == expected
    for tensor in parsed.tensors:
        assert raw[tensor.begin : tensor.end] == tensors[tensor.name][2]
        assert tensor.shape == tensors[tensor.name][1]


def test_types_have_the_names_and_blocks_of_the_package():
    assert {number: tuple(kind) for number, kind in TYPES.items()} == {
        kind.value: (kind.name, *GGML_QUANT_SIZES[kind]) for kind in GGMLQuantizationType
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_one_tensor_is_one_for_the_package(kind, tmp_path):
    block, _ = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    shape = (2, 3, block * 2)
    data = tensor_bytes(kind, shape)
    path = tmp_path / "one.gguf"
    path.write_bytes(gguf_bytes("blk.0.wörd", kind, shape) + data)
    (tensor,) = GGUFReader(path).tensors
    assert (tensor.name, tensor.tensor_type.name) == ("blk.0.wörd", kind)
    assert tuple(reversed(tensor.shape.tolist())) == shape
    assert tensor.data.tobytes() == data
    raw = path.read_bytes()
    assert parse_gguf(raw, len(raw)).tensors[0].shape == shape


def test_a_scalar_of_no_dimensions_is_one_element():
    assert parse(header(info("a", ()))).tensors == (Tensor("a", "I8", (), 64, 65),)


# ---- the clauses


def test_the_header_reaches_to_where_the_data_begins():
    raw = header(info("a"))
    parsed = parse(raw)
    assert parsed.size == -(-len(raw) // 32) * 32
    assert parsed.tensors == (Tensor("a", "I8", (4,), parsed.size, parsed.size + 4),)
    assert parsed.metadata == {}


def test_dimensions_stand_innermost_first_and_are_listed_the_other_way():
    parsed = parse(header(info("a", (2, 3, 5, 7))), 210)
    assert parsed.tensors[0].shape == (7, 5, 3, 2)


def test_version_2_is_read_as_3_is():
    assert parse(header(info("a"), version=2)).tensors[0].name == "a"


def test_tensors_stand_in_file_order_with_gaps_and_something_after_them():
    raw = header(info("late", offset=96), info("nothing", (0,), offset=64), info("early"))
    parsed = parse(raw, 200)
    begin = parsed.size
    assert [
        (tensor.name, tensor.begin - begin, tensor.end - begin) for tensor in parsed.tensors
    ] == [
        ("early", 0, 4),
        ("nothing", 64, 64),
        ("late", 96, 100),
    ]


def test_a_vocabulary_alone_has_a_header_and_no_tensors():
    words = b"".join(string(f"word{number}") for number in range(30_000))
    raw = header(pair("tokenizer.ggml.tokens", 9, array(8, 30_000, words)), keys=1)
    for size in (len(raw), len(raw) + 5, len(raw) + 4096):
        parsed = parse_gguf(raw, size)
        assert parsed.tensors == ()
        assert parsed.size == min(-(-len(raw) // 32) * 32, size)


@pytest.mark.parametrize("width", [1, 2, 16, 64, 2**31])
def test_the_alignment_is_that_of_the_metadata(width):
    raw = header(pair("general.alignment", 4, struct.pack("<I", width)), info("a"), keys=1)
    parsed = parse(raw, alignment=width)
    assert parsed.size == -(-len(raw) // width) * width


ALIGNED = pair("general.alignment", 4, struct.pack("<I", 64))
SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


@pytest.mark.parametrize(("kind", "width"), SCALARS.items())
def test_values_of_each_width_are_passed_over(kind, width):
    values = (
        pair("one", kind, b"\xff" * width),
        pair("some", 9, array(kind, 3, b"\xff" * 3 * width)),
    )
    nested = array(9, 2, array(kind, 1, b"\xfe" * width) + array(8, 1, string("word")))
    raw = header(*values, pair("in it", 9, nested), info("a"), keys=3)
    assert parse(raw).tensors[0].name == "a"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"GGML" + b"\0" * 60, "does not begin as GGUF files do"),
        (header(info("a"), version=1), "version 1"),
        (header(info("a"), version=4), "version 4"),
        (struct.pack(">4sIQQ", b"GGUF", 3, 0, 0) + b"\0" * 40, "big-endian"),
        (header(info("a"), info("a", offset=32)), "same name"),
        (header(info("a", (64,)), info("b", offset=32)), "overlaps"),
        (header(info("a", offset=4)), "multiple of 32"),
        (header(ALIGNED, info("a", offset=32), keys=1), "multiple of 64"),
        (header(ALIGNED, ALIGNED, info("a"), keys=2), "stands twice"),
        (header(pair("general.alignment", 10, b"\x20" + b"\0" * 7), info("a"), keys=1), "32-bit"),
        (header(pair("general.alignment", 4, struct.pack("<I", 48)), info("a"), keys=1), "power"),
        (header(pair("general.alignment", 4, b"\0" * 4), info("a"), keys=1), "power"),
        (header(info("a", (33,), kind=8)), "whole blocks of Q8_0"),
        (header(info("a", (), kind=8)), "whole blocks of Q8_0"),
        (header(info("a", kind=4)), "type 4"),
        (header(info("a", kind=99)), "type 99"),
        (header(info("a", (1,) * 5)), "more than 4 dimensions"),
        (header(info("a", (2**53,))), "larger than any file"),
        (header(info("a", (2**40, 2**40))), "larger than any file"),
        (header(info("a", (0, 2**60))), "larger than any file"),
        (header(info("a", offset=2**63)), "beyond any file"),
        (header(info(b"\xff")), "not UTF-8"),
        (header(info("n" * 257)), "longer than 256 bytes"),
        (header(pair("k" * 65_536, 7, b"\1"), info("a"), keys=1), "longer than 65,535 bytes"),
        (header(pair("k", 13, b"\1"), info("a"), keys=1), "no type 13"),
        (header(tensors=65_537), "at most 65,536"),
        (header(keys=65_537, tensors=0), "at most 65,536"),
        (header(tensors=65_536), "beyond the end of the file"),
        (header(pair("k", 8, struct.pack("<Q", 2**64 - 1)), info("a"), keys=1), "beyond the end"),
        (header(pair("k", 9, array(8, 2**64 - 1, b"")), info("a"), keys=1), "beyond the end"),
        (header(pair("k", 9, array(9, 2**60, b"")), info("a"), keys=1), "beyond the end"),
        (header(pair("k", 9, array(12, 2**61, b"")), info("a"), keys=1), "beyond the end"),
        (
            header(pair("k", 9, array(8, 2, string("a") + struct.pack("<Q", 2**63))), keys=1),
            "beyond the end",
        ),
    ],
)
def test_what_is_not_accepted_and_why(raw, reason):
    assert reason in refused(raw)


@pytest.mark.parametrize("depth", [4, 5])
def test_arrays_are_nested_four_deep_at_most(depth):
    value = b"\1"
    for level in range(depth):
        value = array(9 if level else 7, 1, value)
    raw = header(pair("deep", 9, value), info("a"), keys=1)
    if depth == 4:
        assert parse(raw).tensors
    else:
        assert "deeper than 4" in refused(raw)


def test_a_cut_off_file_says_so():
    raw = header(info("a", (100,)))
    assert "cut off" in refused(raw, 99)
    assert parse(raw, 100)


def test_longer_than_any_header_is_not_accepted():
    claims = header(pair("k", 8, struct.pack("<Q", HEADER_MAX)), info("a"), keys=1)
    with pytest.raises(HeaderBoundError, match="longer than 67,108,864"):
        parse_gguf(claims, 2**40)


# ---- bytes that arrive one after the other


@settings(max_examples=25, deadline=None)
@given(made=files())
def test_what_is_needed_leads_to_the_end_of_the_header(made):
    """Each step is a promise: with fewer bytes nothing more is known, with as many it goes on."""
    tensors, metadata, alignment = made
    raw = gguf_file(tensors, metadata, alignment=alignment)
    parsed, have = parse_gguf(raw, len(raw)), 0
    while (needed := wanted(raw[:have], len(raw))) is not None:
        assert have < needed <= parsed.size
        have = needed
    assert parse_gguf(raw[:have], len(raw)) == parsed


def wanted(raw: bytes, file_size: int) -> int | None:
    try:
        parse_gguf(raw, file_size)
    except ShortHeaderError as error:
        return error.needed
    return None


def planned(raw: bytes, file_size: int) -> tuple[CutPlanner, list[int]]:
    """A planner that was fed as a reader of a stream does it, and what it needed each time."""
    planner, needed = CutPlanner(file_size, "gguf"), []
    while not planner.decided:
        needed.append(planner.needed)
        assert needed[-1] <= min(HEADER_MAX, file_size)
        assert sorted(set(needed)) == needed
        planner.feed(raw[: planner.needed].ljust(planner.needed, b"\0"))
    return planner, needed


def test_a_planner_asks_for_at_least_twice_as_much_until_the_header_ends():
    words = b"".join(string(f"word{number}") for number in range(60_000))
    raw = header(pair("words", 9, array(8, 60_000, words)), info("a", (3 * MIB,)), keys=1)
    size = -(-len(raw) // 32) * 32 + 3 * MIB
    planner, needed = planned(raw, size)
    assert needed[0] == FIRST_BYTES
    assert all(more >= 2 * few for few, more in pairwise(needed))
    assert needed[-2] < len(raw) <= needed[-1]
    assert planner.container == "gguf"
    assert [(cut.size, cut.dtype) for cut in planner.cuts()] == [
        (size - 3 * MIB, None),
        (3 * MIB, "I8"),
    ]


def test_a_planner_goes_far_where_the_header_says_so():
    values = array(12, 100_000, b"\0" * 800_000)
    raw = header(pair("numbers", 9, values), info("a"), keys=1)
    _, needed = planned(raw, len(raw) + 100)
    assert len(needed) == 3
    assert needed[1] > 800_000


@pytest.mark.parametrize("size", range(24))
def test_a_file_that_is_shorter_than_any_header_is_cut_plainly(size):
    planner, _ = planned(header()[:size], size)
    assert planner.reason
    assert planner.container is None
    assert sum(cut.size for cut in planner.cuts()) == size


def test_gaps_are_stretches_of_their_own_cut_every_16_mib():
    raw = header(info("a", (40,)), info("b", (SEGMENT_MAX + 1,), offset=64 + 2 * SEGMENT_MAX))
    parsed = parse(raw, 3 * SEGMENT_MAX + 80)
    begin = parsed.size
    size = begin + 3 * SEGMENT_MAX + 80
    assert [(cut.begin - begin, cut.size, cut.dtype) for cut in plan_cuts(size, parsed)] == [
        (-begin, begin, None),
        (0, 40, "I8"),
        (40, SEGMENT_MAX, None),
        (40 + SEGMENT_MAX, SEGMENT_MAX, None),
        (40 + 2 * SEGMENT_MAX, 24, None),
        (64 + 2 * SEGMENT_MAX, SEGMENT_MAX, "I8"),
        (64 + 3 * SEGMENT_MAX, 1, "I8"),
        (65 + 3 * SEGMENT_MAX, 15, None),
    ]


# ---- hostile bytes


@settings(max_examples=120, deadline=None)
@given(made=files(), data=st.data())
def test_changed_bytes_are_a_header_or_none_and_never_anything_else(made, data):
    tensors, metadata, alignment = made
    raw = bytearray(gguf_file(tensors, metadata, alignment=alignment))
    end = parse_gguf(bytes(raw), len(raw)).size
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(0, end - 8)))
        value = data.draw(
            st.sampled_from([0, 1, 9, 255, 2**31, 2**62, 2**64 - 1]) | st.integers(0, 255)
        )
        width = data.draw(st.sampled_from([1, 4, 8]))
        raw[at : at + width] = (value % 256**width).to_bytes(width, "little")
    size = data.draw(st.sampled_from([len(raw), len(raw) // 2, len(raw) + 1000, 2**50]))
    planner, _ = planned(bytes(raw), size)
    assert (planner.header is None) == bool(planner.reason)
    if size <= 2 * len(raw) + 1000:
        at = 0
        for cut in planner.cuts():
            assert cut.begin == at
            assert 1 <= cut.size <= SEGMENT_MAX
            at += cut.size
        assert at == size
    if planner.header is not None:
        for tensor in planner.header.tensors:
            assert planner.header.size <= tensor.begin <= tensor.end <= size


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_noise_after_the_magic_is_a_header_or_none(noise):
    planner, _ = planned(b"GGUF\3\0\0\0" + noise, 8 + len(noise))
    assert (planner.header is None) == bool(planner.reason)


def test_a_header_of_nothing_but_short_words_takes_little():
    count = 1_000_000
    raw = header(pair("k", 9, array(8, count, b"\0" * (8 * count))), info("a"), keys=1)
    tracemalloc.start()
    parsed = parse_gguf(raw, len(raw) + 4096)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(parsed.tensors) == 1
    assert peak < MIB


def test_a_header_of_the_most_and_longest_names_takes_little():
    names = (f"{number:05}".encode() + "𐌰".encode() * 62 for number in range(gguf.TENSORS_MAX))
    infos = [info(name, (1,), offset=32 * number) for number, name in enumerate(names)]
    raw = header(*infos)
    tracemalloc.start()
    parsed = parse_gguf(raw, len(raw) + 32 * gguf.TENSORS_MAX + 32)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(parsed.tensors) == gguf.TENSORS_MAX
    assert peak < 100 * MIB


# ---- the metadata, for a person to read


def metadata(raw: bytes) -> gguf.Metadata:
    return gguf.read_metadata(lambda size: raw[:size], len(raw))


@given(
    st.dictionaries(
        st.text("abc._", min_size=1, max_size=9),
        st.one_of(
            st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30),
            st.integers(0, 2**32 - 1),
            st.booleans(),
            st.floats(width=32, allow_nan=False),
            st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=12),
            st.lists(st.text("xyz", max_size=5), min_size=1, max_size=12),
        ),
        max_size=6,
    )
)
def test_metadata_is_what_the_gguf_package_wrote(values):
    read = metadata(gguf_file({"t": ("F32", (4,), bytes(16))}, values))
    told = {value.key: value for value in read.values if value.key != "general.architecture"}
    assert read.left_out == 0
    assert told.keys() == values.keys()
    for key, value in values.items():
        if isinstance(value, list):
            assert (told[key].value, told[key].elements) == (tuple(value[:8]), len(value))
        elif isinstance(value, float):
            assert struct.pack("<f", told[key].value) == struct.pack("<f", value)
        else:
            assert (told[key].value, told[key].elements) == (value, -1)


def test_every_type_of_values():
    kinds = {
        0: "B",
        1: "b",
        2: "H",
        3: "h",
        4: "I",
        5: "i",
        6: "f",
        7: "?",
        10: "Q",
        11: "q",
        12: "d",
    }
    pairs = [pair(f"k{kind}", kind, struct.pack(f"<{form}", 1)) for kind, form in kinds.items()]
    pairs.append(pair("deep", 9, array(9, 2, 2 * array(4, 1, bytes(4)))))
    pairs.append(pair("float", 6, struct.pack("<f", 1e-6)))
    read = metadata(header(*pairs, keys=len(pairs)))
    assert [value.value for value in read.values] == [1] * len(kinds) + [(), 1e-06]
    assert [value.type for value in read.values][:3] == ["uint8", "int8", "uint16"]
    assert (read.values[-2].type, read.values[-2].elements) == ("array", 2)


def test_what_is_shown_is_bounded():
    long = pair("text", 8, string("x" * 100_000))
    many = pair("words", 9, array(8, 1000, string("y" * 300) * 1000))
    read = metadata(header(long, many, keys=2))
    assert [(len(value.value), value.cut) for value in read.values] == [(65_536, True), (8, True)]
    assert {len(text) for text in read.values[1].value} == {256}
    keys = [pair(f"{number}", 7, b"\1") for number in range(3000)]
    read = metadata(header(*keys, keys=3000))
    assert (len(read.values), read.left_out) == (1024, 1976)
    read = metadata(header(*[long] * 100, keys=100))
    assert sum(len(value.value) for value in read.values) < 5 << 20
    assert read.left_out == 100 - len(read.values) > 0
    assert (
        metadata(header(pair("b", 8, string(b"\xff\x1b[2J")), keys=1)).values[0].value[0]
        == "\ufffd"
    )


@given(st.data())
def test_metadata_that_is_broken_is_refused_or_read_within_bounds(data):
    """Any byte of it may be another; nothing but the two errors comes out, and little memory is taken."""
    pairs = [pair("a", 8, string("text")), pair("b", 9, array(8, 3, string("w") * 3))]
    pairs += [pair("c", 9, array(4, 5, bytes(20))), pair("d", 12, bytes(8))]
    raw = bytearray(header(*pairs, info("t"), keys=len(pairs)) + bytes(64))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(8, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = metadata(bytes(raw))
    except HeaderError:
        return
    assert len(read.values) + read.left_out <= gguf.KEYS_MAX
