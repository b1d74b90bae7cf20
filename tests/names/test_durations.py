from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.errors import UsageError
from archiver.text import human_share, parse_duration, parse_share, utc_before, utc_now


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("30m", 1800),
        ("2h", 7200),
        ("30d", 2592000),
        ("4w", 2419200),
        ("0s", 0),
        ("1.5h", 5400),
        (" 2 H ", 7200),
        ("36500d", 36500 * 86400),
        ("0.001s", 0),
    ],
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "30", "d", "-1d", "1y", "1 d 2 h", "36501d", "999999999w", "1e3s"]
)
def test_what_is_no_duration(text):
    with pytest.raises(UsageError):
        parse_duration(text)


@given(st.text(max_size=20))
def test_any_text_is_a_duration_or_an_error(text):
    try:
        seconds = parse_duration(text)
    except UsageError:
        return
    assert 0 <= seconds <= 36500 * 86400


@pytest.mark.parametrize(("text", "share"), [("5%", 0.05), ("100%", 1.0), (" 0.5 % ", 0.005)])
def test_shares(text, share):
    assert parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "5", "0%", "101%", "-5%", "%", "5%%"])
def test_what_is_no_share(text):
    with pytest.raises(UsageError):
        parse_share(text)


def test_only_all_of_it_is_a_hundred_percent():
    assert [human_share(part, 1000) for part in (0, 9, 999, 1000)] == ["0%", "0%", "99%", "100%"]
    assert human_share(0, 0) == "-"


def test_times_before_now():
    assert utc_before(0) <= utc_now()
    assert utc_before(86400) < utc_before(0)
    assert utc_before(1e18) == ""
