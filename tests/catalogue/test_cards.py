"""What is read of a model card, and that a hostile one costs little and gives nothing but text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver import front_matter
from archiver.catalogue import cards
from archiver.catalogue.cards import CardFacts, card_facts


def card(front: str, body: str = "# A model\n\nIt answers.\n") -> CardFacts:
    return card_facts(f"---\n{front}\n---\n{body}".encode())


def test_front_matter_and_text():
    told = card(
        "license: apache-2.0\ntags: [chat, 'moe']\nlanguage:\n- en\n- de\nbase_model: Org/Base"
    )
    assert told == CardFacts(
        "apache-2.0", "A model", ("chat", "moe", "en", "de", "Org/Base"), "# A model\n\nIt answers."
    )
    assert card("license: other\nlicense_name: tongyi").licence == "tongyi"


def test_a_card_without_front_matter():
    assert card_facts(b"# Only text #\nmore") == CardFacts(
        "", "Only text", (), "# Only text #\nmore"
    )
    assert card_facts(b"") == CardFacts()
    assert card_facts(b"\xff\xfe---\n") == CardFacts("", "", (), "��---")


@pytest.mark.parametrize(
    "front",
    [
        "a: &a [x, x]\nb: &b [*a, *a]\nlicense: [*b, *b]",
        "license: {a: 1}",
        "license: " + "[" * 5000 + "]" * 5000,
        "license: {<<: {license: x}}",
        "- license",
        "license: 'unclosed",
        "? [a]\n: b",
        "\t",
    ],
)
def test_what_is_not_plain_says_nothing(front):
    assert card(front).licence == ""


def test_numbers_and_dates_are_texts_and_no_more():
    assert card(
        "license: 2026-11-30\ntags: [1e999, 0x10, true, null, 999999999999999999999999]"
    ) == (
        CardFacts(
            "2026-11-30",
            "A model",
            ("1e999", "0x10", "true", "null", "999999999999999999999999"),
            "# A model\n\nIt answers.",
        )
    )


def test_a_tag_makes_nothing():
    told = card("license: !!python/object/apply:os.system ['echo', 'ran']")
    assert told.licence == "echo"


def test_everything_is_cut():
    many = ", ".join(f"t{number}" for number in range(5000))
    told = card(f"license: {'x' * 5000}\ntags: [{many}]", "# " + "y" * 5000 + "z" * 200_000)
    assert len(told.licence) == len(told.title) == cards.TERM_MAX
    assert len(told.terms) == cards.TERMS_MAX
    assert len(told.text) == cards.TEXT_MAX
    assert card(f"a: {'b' * (front_matter.FRONT_MATTER_MAX + 99)}\nlicense: mit").licence == ""


@given(st.binary(max_size=400) | st.text(max_size=200).map(lambda t: f"---\n{t}\n---\n".encode()))
def test_no_card_is_an_error(data):
    told = card_facts(data)
    assert "\0" not in told.text + told.title + told.licence
