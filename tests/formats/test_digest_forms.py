"""What counts as a digest: 64 lowercase hexadecimal digits, of one and of many at once."""

from __future__ import annotations

import pytest

from archiver.digest import are_blake3, is_blake3

GOOD = [f"{number:064x}" for number in range(5000)]
BAD = [
    *("", "0" * 63, "0" * 65, "A" * 64, "g" * 64),
    *("0" * 63 + "\n", " " + "0" * 63, "\u0660" * 64, "0" * 63 + "é"),
]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("at", [0, 1, 4095, 4096, 5000])
def test_one_that_is_none_is_found_among_many(bad, at):
    assert not is_blake3(bad)
    assert not are_blake3([*GOOD[:at], bad, *GOOD[at:]])


def test_many_that_are():
    assert are_blake3(GOOD)
    assert are_blake3(iter([]))
    assert not are_blake3(["0" * 63, "0" * 65]), "together they have the right length"
    assert not are_blake3(["0" * 128, ""]), "likewise"
