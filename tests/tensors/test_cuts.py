"""Cuts: docs/format.md section 5, clause by clause."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from archiver.tensors import cuts
from archiver.tensors.cuts import SEGMENT_MAX, CutPlanner, Segment, pieces, plan_cuts
from archiver.tensors.header import MAX_LENGTH, Header, header_bytes, parse_header

MIB = 1024 * 1024
near = st.integers(0, 4).map(lambda n: n * SEGMENT_MAX) | st.integers(0, 3 * SEGMENT_MAX)
sizes = st.builds(lambda size, more: max(0, size + more), near, st.integers(-2, 2))


def header_of(sizes: list[int]) -> tuple[Header, int]:
    raw = header_bytes([(f"t{n}", "U8", (size,), size) for n, size in enumerate(sizes)])
    total = len(raw) + sum(sizes)
    return parse_header(raw, total), total


def planner_fed(raw: bytes, file_size: int) -> CutPlanner:
    """Feeds a planner as a reader of a stream does: never more than it needs."""
    planner = CutPlanner(file_size, "safetensors")
    while not planner.decided:
        planner.feed(raw[: planner.needed])
    return planner


@given(st.lists(sizes, max_size=6))
def test_a_safetensors_file_is_tiled_and_cut_at_every_tensor(tensor_sizes):
    """ "cut at the end of its header, at the beginning and at the end of every tensor" """
    header, total = header_of(tensor_sizes)
    listed = list(plan_cuts(total, header))
    assert_tiles(listed, total)
    ends = {one.begin + one.size for one in listed}
    assert header.size in ends
    assert {one.begin for one in header.tensors if one.begin < one.end} <= {
        one.begin for one in listed
    }
    assert {one.end for one in header.tensors} <= ends
    assert all((one.dtype is None) == (one.begin < header.size) for one in listed)


@given(st.lists(sizes, max_size=6))
def test_each_stretch_is_cut_from_its_own_beginning(tensor_sizes):
    """ "Each of these stretches is cut every 16 MiB from its own beginning. A tensor of no bytes
    has no segment." """
    header, total = header_of(tensor_sizes)
    listed = list(plan_cuts(total, header))
    for piece in pieces(total, header):
        assert piece.begin < piece.end
        inside = [one for one in listed if piece.begin <= one.begin < piece.end]
        assert_tiles(inside, piece.end, piece.begin)
        assert all(one.size == SEGMENT_MAX for one in inside[:-1])
        assert {one.dtype for one in inside} == {piece.dtype}


@given(sizes)
@example(0)
@example(1)
@example(SEGMENT_MAX)
def test_any_other_file_is_cut_every_16_mib(size):
    """ "Any other file is cut every 16 MiB from its beginning"; "an empty file has none" """
    listed = list(plan_cuts(size, None))
    assert_tiles(listed, size)
    assert len(listed) == -(-size // SEGMENT_MAX)
    assert all(one.size == SEGMENT_MAX and one.dtype is None for one in listed[:-1])


def assert_tiles(listed: list[Segment], end: int, at: int = 0) -> None:
    """ "in order and without gaps; … at most 16 MiB (16,777,216 bytes) and never empty" """
    for one in listed:
        assert one.begin == at
        assert 1 <= one.size <= 16_777_216
        at += one.size
    assert at == end


def test_a_long_header_is_cut_too(monkeypatch):
    monkeypatch.setattr(cuts, "SEGMENT_MAX", 50)
    raw = header_bytes([("a", "F32", (30,), 120)])
    listed = list(plan_cuts(len(raw) + 120, parse_header(raw, len(raw) + 120)))
    assert [(one.begin, one.size, one.dtype) for one in listed] == [
        (0, 50, None),
        (50, len(raw) - 50, None),
        (len(raw), 50, "F32"),
        (len(raw) + 50, 50, "F32"),
        (len(raw) + 100, 20, "F32"),
    ]


def test_a_planner_wants_the_length_and_then_the_header():
    raw = header_bytes([("a", "BF16", (MIB,), 2 * MIB)])
    planner = CutPlanner(len(raw) + 2 * MIB, "safetensors")
    assert (planner.needed, planner.decided) == (8, False)
    planner.feed(raw[:7])
    assert (planner.needed, planner.decided) == (8, False)
    with pytest.raises(ValueError, match="first 8 bytes"):
        planner.cuts()
    planner.feed(memoryview(raw)[:8])
    assert (planner.needed, planner.decided) == (len(raw), False)
    planner.feed(raw[:-1])
    assert not planner.decided
    planner.feed(raw)
    assert planner.decided
    assert planner.reason == ""
    assert list(planner.cuts()) == [
        Segment(0, len(raw), None),
        Segment(len(raw), 2 * MIB, "BF16"),
    ]


def test_a_planner_may_be_fed_everything_at_once_and_again():
    raw = header_bytes([("a", "U8", (3,), 3)]) + b"abc"
    planner = CutPlanner(len(raw), "safetensors")
    planner.feed(raw)
    planner.feed(b"\xff" * 100)
    assert [one.size for one in planner.cuts()] == [len(raw) - 3, 3]


@pytest.mark.parametrize("size", [0, 5, 40 * MIB])
def test_a_planner_of_another_file_wants_nothing(size):
    planner = CutPlanner(size, None)
    assert (planner.needed, planner.decided, planner.reason) == (0, True, "")
    assert list(planner.cuts()) == list(plan_cuts(size, None))


@pytest.mark.parametrize("size", range(8))
def test_a_planner_of_a_file_shorter_than_a_length_wants_nothing(size):
    planner = CutPlanner(size, "safetensors")
    assert (planner.needed, planner.decided) == (0, True)
    assert planner.reason
    assert_tiles(list(planner.cuts()), size)


@pytest.mark.parametrize(
    ("length", "file_size"),
    [
        *((0, 100), (1, 100), (0, 8), (1, 8), (93, 100), (2**63, 100), (2**64 - 1, 100)),
        *((MAX_LENGTH + 1, 200 * MIB), (200 * MIB - 8, 200 * MIB), (MAX_LENGTH, MAX_LENGTH + 7)),
    ],
)
def test_a_planner_never_wants_a_header_that_cannot_be_accepted(length, file_size):
    planner = CutPlanner(file_size, "safetensors")
    planner.feed(length.to_bytes(8, "little"))
    assert (planner.needed, planner.decided) == (8, True)
    assert planner.reason
    assert list(planner.cuts()) == list(plan_cuts(file_size, None))


@given(st.binary(max_size=60), st.booleans())
def test_a_planner_of_hostile_bytes_cuts_plainly_and_says_why(noise, frame):
    """ "A file that is not accepted is cut as any other file; that is not an error." """
    raw = len(noise).to_bytes(8, "little") + noise if frame else noise
    planner = planner_fed(raw, len(raw))
    assert_tiles(list(planner.cuts()), len(raw))
    assert (planner.header is None) == bool(planner.reason)
    if planner.header is None:
        assert list(planner.cuts()) == list(plan_cuts(len(raw), None))
