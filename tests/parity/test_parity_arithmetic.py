"""The numbers that zfec gives are those that the page's polynomial gives."""

import paritykit
import zfec
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.repository import noise

from archiver.digest import blake3_hex

LENGTH = 5
GROUPS = st.integers(1, 12).flatmap(
    lambda k: st.tuples(
        st.lists(st.binary(min_size=LENGTH, max_size=LENGTH), min_size=k, max_size=k),
        st.integers(1, 4),
    )
)


@settings(max_examples=40, deadline=None)
@given(GROUPS)
def test_parity_is_the_polynomials_value_at_further_points(drawn):
    data, parity = drawn
    rows = len(data)
    numbers = tuple(range(rows, rows + parity))
    coded = zfec.Encoder(rows, rows + parity).encode(tuple(data), numbers)
    known = dict(enumerate(data))
    assert [bytes(block) for block in coded] == [paritykit.value_at(j, known) for j in numbers]


@settings(max_examples=40, deadline=None)
@given(GROUPS, st.data())
def test_any_blocks_give_all_others(drawn, data):
    blocks, parity = drawn
    rows = len(blocks)
    whole = dict(enumerate(blocks))
    whole |= {j: paritykit.value_at(j, dict(enumerate(blocks))) for j in range(rows, rows + parity)}
    given_numbers = sorted(data.draw(st.permutations(sorted(whole)))[:rows])
    left = {number: whole[number] for number in given_numbers}
    assert all(paritykit.value_at(j, left) == block for j, block in whole.items())
    given = tuple(left.values())
    assert [
        bytes(block)
        for block in zfec.Decoder(rows, rows + parity).decode(given, tuple(given_numbers))
    ] == blocks


@settings(max_examples=3, deadline=None)
@given(st.sampled_from([(128, 128), (254, 2), (255, 1)]))
def test_the_largest_groups(choice):
    rows, parity = choice
    data = [noise(seed, 1) for seed in range(rows)]
    last = rows + parity - 1
    (coded,) = zfec.Encoder(rows, rows + parity).encode(tuple(data), (last,))
    assert bytes(coded) == paritykit.value_at(last, dict(enumerate(data)))


def test_frozen_vectors():
    """Computed once from the page; whoever writes another reader may compare with these."""
    data = [bytes(range(i, i + 8)) for i in (0, 17, 99, 200)]
    known = dict(enumerate(data))
    assert paritykit.value_at(4, known).hex() == VECTORS[4]
    assert paritykit.value_at(5, known).hex() == VECTORS[5]
    coded = zfec.Encoder(4, 6).encode(tuple(data), (4, 5))
    assert [bytes(block).hex() for block in coded] == [VECTORS[4], VECTORS[5]]
    many = [noise(seed, 64) for seed in range(32)]
    coded = zfec.Encoder(32, 34).encode(tuple(many), (32, 33))
    assert [blake3_hex(block)[:16] for block in coded] == LARGER


VECTORS = {4: "0d1cef0309c536e0", 5: "89f5bf518d99d36c"}
LARGER = ["8eea7d68cb6061cd", "ee8f373d97277cef"]
