"""How files are cut and dealt, and what loss that bears: arithmetic only."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from archiver.archive.packs.writer import PACK_SIZE
from archiver.archive.parity.sidecar import PARITY_DEFAULT, Shape, check_choice, shape_of
from archiver.archive.policy import Policy
from archiver.errors import UsageError

MIB = 1 << 20
CHOICES = st.integers(1, 128).flatmap(
    lambda parity: st.tuples(st.just(parity), st.integers(1, 256 - parity))
)
SIZES = st.one_of(st.integers(1, 5_000), st.integers(1, 600 * MIB))


def shaped(size: int, choice: tuple[int, int]) -> Shape:
    """A shape whose parity a frame can hold."""
    assume(size * choice[0] // choice[1] < 1 << 31)
    return shape_of(size, *choice)


@given(SIZES, CHOICES)
def test_every_block_is_in_one_group_and_no_group_is_too_large(size, choice):
    shape = shaped(size, choice)
    assert shape.fault == ""
    dealt = sorted(i for g in range(shape.groups) for i in shape.members(g))
    assert dealt == list(range(shape.data_count))
    sizes = [len(shape.members(g)) for g in range(shape.groups)]
    assert max(sizes) <= choice[1]
    assert max(sizes) - min(sizes) <= 1
    assert sum(shape.length(i) for i in range(shape.data_count)) == size
    listed = [i for g in range(shape.groups) for i in shape.parity_of(g)]
    assert listed == list(range(shape.parity_count))


@given(SIZES, CHOICES, st.data())
def test_a_stretch_of_the_promised_length_hits_no_group_too_often(size, choice, data):
    shape = shaped(size, choice)
    promised = (shape.parity * shape.groups - 1) * shape.block + 1
    begin = data.draw(st.integers(0, size - 1))
    end = min(begin + promised, size)
    hit = range(begin // shape.block, (end - 1) // shape.block + 1)
    for g in range(shape.groups):
        assert sum(i % shape.groups == g for i in hit) <= shape.parity


@given(SIZES, CHOICES, st.data())
def test_a_tail_that_was_cut_off_hits_no_group_too_often(size, choice, data):
    shape = shaped(size, choice)
    gone = range(max(0, shape.data_count - shape.parity * shape.groups), shape.data_count)
    assert all(
        sum(i % shape.groups == g for i in gone) <= shape.parity for g in range(shape.groups)
    )


def test_a_full_pack_has_eight_groups_and_not_nine():
    choice = (PARITY_DEFAULT, Policy().parity_group)
    assert shape_of(PACK_SIZE, *choice) == Shape(PACK_SIZE, MIB, 8, 2)
    assert shape_of(PACK_SIZE + 1, *choice).groups == 9


@pytest.mark.parametrize(
    ("size", "block", "groups"),
    [
        (1, 4096, 1),
        (4096, 4096, 1),
        (32 * 4096, 4096, 1),
        (32 * 4096 + 1, 8192, 1),
        (16 * MIB + 1, MIB, 1),
        (32 * MIB, MIB, 1),
        (32 * MIB + 1, MIB, 2),
        (256 * MIB, MIB, 8),
        (256 * MIB + 1, MIB, 9),
    ],
)
def test_the_shapes_of_this_version_are_those_of_the_page(size, block, groups):
    assert shape_of(size, 2, 32) == Shape(size, block, groups, 2)


def test_a_full_pack_bears_a_burst_of_16_mib_anywhere():
    shape = shape_of(256 * MIB + 20_000, 2, 32)
    assert (shape.parity * shape.groups - 1) * shape.block + 1 > 16 * MIB


@pytest.mark.parametrize("choice", [(0, 32), (129, 8), (2, 0), (2, 255), (128, 129), (-1, 5)])
def test_impossible_parity_is_refused(choice):
    with pytest.raises(UsageError, match="no parity of"):
        check_choice(*choice)


@pytest.mark.parametrize(
    "shape",
    [
        Shape(0, 4096, 1, 2),
        Shape(-5, 4096, 1, 2),
        Shape(10_000, 3000, 1, 2),
        Shape(10_000, 0, 1, 2),
        Shape(10_000, -4096, 1, 2),
        Shape(10_000, 2 * MIB, 1, 2),
        Shape(10_000, 4096, 0, 2),
        Shape(10_000, 4096, 4, 2),
        Shape(10_000, 4096, 1, 0),
        Shape(10_000, 4096, 1, 129),
        Shape(255 * 4096, 4096, 1, 2),
        Shape(1 << 45, MIB, 1 << 25, 1),
    ],
)
def test_shapes_that_no_file_can_have_have_a_fault(shape):
    assert shape.fault


def test_a_file_that_would_have_more_parity_than_a_frame_holds_is_refused():
    with pytest.raises(UsageError, match="more parity than a frame"):
        shape_of(1 << 30, 128, 1)
