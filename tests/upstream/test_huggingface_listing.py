"""What the hub's JSON may hold, and what is made of it."""

from __future__ import annotations

import json

import pytest

from archiver.errors import HostileNameError, MismatchError, NetworkError
from archiver.upstream import listing
from archiver.upstream.http import Subject
from archiver.upstream.huggingface.listing import (
    Tree,
    card_of,
    licence_of,
    parse_info,
    parse_tree,
    pin,
    time_of,
)

SUBJECT = Subject("a/b")


def info(**fields):
    return parse_info(json.dumps(fields).encode(), SUBJECT)


def test_a_cards_numbers_keep_their_own_text():
    body = b'{"cardData": {"a": 1.10, "b": 1e400, "c": 3, "d": 9007199254740993}}'
    card = card_of(parse_info(body, SUBJECT))
    assert card == {"a": "1.10", "b": "1e400", "c": 3, "d": "9007199254740993"}


def test_a_card_is_bounded_in_size_depth_and_alphabet():
    deep: list = []
    for _ in range(100):
        deep = [deep]
    card = card_of(info(cardData={"é": "\ud800ok", "deep": deep, "big": "x" * 70_000, "last": 1}))
    assert card["\\xe9"] == "?ok"
    assert str(card["deep"]).count("[") < 20
    assert set(card) == {"\\xe9", "deep"}
    assert card_of(info(cardData="text")) == card_of(info()) == {}
    assert card_of(info(cardData={"a": "x" * 10, "b": "x" * 3_000_000})) == {}


def test_half_a_character_harms_the_card_alone():
    body = rb'{"id": "a/b", "cardData": {"a\\ud800": "\ud83d\ude00 \ud83d \\ud83d \udc00"}}'
    assert card_of(parse_info(body, SUBJECT)) == {"a\\ud800": "\U0001f600 ? \\ud83d ?"}
    with pytest.raises(HostileNameError, match="Unicode"):
        parse_tree(rb'[{"path": "\ud800"}]', SUBJECT)
    with pytest.raises(HostileNameError, match="own id"):
        pin(info(id="a/b", sha="0" * 40, _id="\ud800"), SUBJECT)


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ({"license": "mit"}, "mit"),
        ({"license": ["mit", "apache-2.0"]}, "mit, apache-2.0"),
        ({"license": "other", "license_name": "qwen"}, "qwen"),
        ({"license": "other"}, "other"),
        ({"license": {"a": 1}}, ""),
        ({}, ""),
    ],
)
def test_licences(card, licence):
    assert licence_of(card) == licence


@pytest.mark.parametrize("text", [None, "yesterday", "9999-99-99", ""])
def test_a_time_that_is_none_is_empty(text):
    assert time_of(text) == ""


def test_times_become_utc():
    assert time_of("2026-02-03T04:05:06.000Z") == "2026-02-03T04:05:06Z"
    assert time_of("2026-02-03T04:05:06+02:00") == "2026-02-03T02:05:06Z"
    assert time_of("0001-01-01T00:00:00Z") == "0001-01-01T00:00:00Z"


@pytest.mark.parametrize("body", [b"<html>", b"", b"[" * 100_000, b"\xff\xfe\x00", b'["\xff"]'])
@pytest.mark.parametrize("parse", [parse_info, parse_tree])
def test_what_is_no_json_is_no_hub(body, parse):
    with pytest.raises((NetworkError, HostileNameError, MismatchError)):
        parse(body, SUBJECT)


@pytest.mark.parametrize("body", [b"[]", b"null", b'{"id": "a/b"}', b'{"id": "../b", "sha": "0"}'])
def test_nonsense_about_a_repository_is_refused(body):
    with pytest.raises(HostileNameError):
        pin(parse_info(body, SUBJECT), SUBJECT)


def test_another_commit_than_the_one_asked_for_is_refused():
    with pytest.raises(MismatchError, match="commit"):
        pin(info(id="a/b", sha="1" * 40), Subject("a/b", "0" * 40))


@pytest.mark.parametrize("entry", [None, 5, {}, {"type": "file"}, {"type": "file", "path": 3}])
def test_nonsense_in_a_tree_is_refused(entry):
    with pytest.raises(MismatchError):
        parse_tree(json.dumps([entry]).encode(), SUBJECT)


def test_a_tree_is_bounded(monkeypatch):
    page = parse_tree(
        json.dumps([{"path": f"f{n}", "size": 0, "oid": "0" * 40} for n in range(9)]).encode(),
        SUBJECT,
    )
    assert Tree(SUBJECT).add(page)
    for name, most in (("FILES_MAX", 8), ("_MOST_ENTRIES", 8), ("_MOST_PATH_BYTES", 17)):
        with monkeypatch.context() as patch:
            patch.setattr(listing, name, most)
            with pytest.raises(MismatchError, match="no snapshot may"):
                Tree(SUBJECT).add(page)
    tree = Tree(SUBJECT)
    assert tree.add(page)
    assert not tree.add(page)
    tree.begin("one")
    tree.begin("two")
    with pytest.raises(NetworkError, match="leads back"):
        tree.begin("one")
