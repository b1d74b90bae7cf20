"""What the hub's JSON may hold."""

from __future__ import annotations

import pytest

from archiver.errors import (
    HostileNameError,
    MismatchError,
    NetworkError,
    UpstreamGoneError,
)
from archiver.upstream.huggingface.answers import Asked
from archiver.upstream.huggingface.listing import pin, remote_files
from archiver.upstream.huggingface.parsing import card_of, licence_of, parse_json, time_of


def test_a_cards_numbers_keep_their_own_text():
    info = parse_json(b'{"cardData": {"a": 1.10, "b": NaN, "c": 3, "d": 9007199254740993}}', "x")
    assert card_of(info) == {"a": "1.10", "b": "NaN", "c": 3, "d": "9007199254740993"}


def test_a_card_is_bounded_in_size_depth_and_alphabet():
    deep: list = []
    for _ in range(100):
        deep = [deep]
    card = card_of({"cardData": {"é": "\ud800ok", "deep": deep, "big": "x" * 70_000, "last": 1}})
    assert card["\\xe9"] == "?ok"
    assert str(card["deep"]).count("[") < 20
    assert set(card) == {"\\xe9", "deep"}
    assert card_of({"cardData": "text"}) == card_of({}) == {}


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


@pytest.mark.parametrize("text", [None, 5, "yesterday", "9999-99-99", ""])
def test_a_time_that_is_none_is_empty(text):
    assert time_of(text) == ""


def test_times_become_utc():
    assert time_of("2026-02-03T04:05:06.000Z") == "2026-02-03T04:05:06Z"
    assert time_of("2026-02-03T04:05:06+02:00") == "2026-02-03T02:05:06Z"


@pytest.mark.parametrize("body", [b"<html>", b"", b"[" * 100_000, b"\xff\xfe\x00"])
def test_what_is_no_json_is_no_hub(body):
    with pytest.raises(NetworkError):
        parse_json(body, "x")


@pytest.mark.parametrize("info", [[], None, {"id": "a/b"}, {"id": "../b", "sha": "0" * 40}])
def test_nonsense_about_a_repository_is_refused(info):
    with pytest.raises(HostileNameError):
        pin(info, Asked("a/b"))


def test_another_commit_than_the_one_asked_for_is_refused():
    with pytest.raises(UpstreamGoneError, match="commit"):
        pin({"id": "a/b", "sha": "1" * 40}, Asked("a/b", "0" * 40))


@pytest.mark.parametrize("entry", [None, 5, {}, {"type": "file"}, {"type": "file", "path": 3}])
def test_nonsense_in_a_tree_is_refused(entry):
    with pytest.raises(MismatchError):
        remote_files([entry], Asked("a/b"))
