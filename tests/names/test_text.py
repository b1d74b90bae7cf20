"""Text for people: harmless, short, and read back as it was meant."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.errors import ExitCode, UsageError
from archiver.text import (
    human_bytes,
    human_duration,
    human_rate,
    human_share,
    parse_duration,
    parse_share,
    parse_size,
    plural,
    printable,
    utc_before,
    utc_now,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünï 😀", "plain ünï 😀"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("a\nb\r\tc\0", r"a\nb\r\tc\x00"),
        ("\x9b2J\x7f\x85", r"\x9b2J\x7f\x85"),
        ("\u202eevil\u2028", r"\u202eevil\u2028"),
        ("\ud800", r"\ud800"),
        (r"\x1b", r"\\x1b"),
    ],
)
def test_printable(text, shown):
    assert printable(text) == shown


@given(st.text(), st.integers(0, 30))
def test_printable_is_printable_and_bounded(text, limit):
    shown = printable(text, limit)
    assert shown.isprintable()
    assert len(shown) <= 10 * limit + 1
    assert shown.endswith("…") or len(text) <= limit


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (9_995, "10.0 kB"),
        (99_950, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.00 MB"),
        (1_500_000_000, "1.50 GB"),
        (807_000_000_000, "807 GB"),
        (10**18, "1.00 EB"),
        (10**22, "10000 EB"),
    ],
)
def test_human_bytes(count, shown):
    assert human_bytes(count) == shown


def test_human_rate():
    assert human_rate(112_400_000.5) == "112 MB/s"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.0 s"),
        (0.42, "0.4 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.7, "1 h 00 min"),
        (7_620, "2 h 07 min"),
        (90_000, "1 d 01 h"),
    ],
)
def test_human_duration(seconds, shown):
    assert human_duration(seconds) == shown


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("512B", 512),
        ("4G", 4 * 2**30),
        ("500MB", 500_000_000),
        ("1.5GiB", 3 * 2**29),
        (" 2 kib ", 2048),
        ("1kB", 1000),
        ("0.1kB", 100),
        ("1P", 2**50),
        ("3TB", 3 * 10**12),
        ("1.9999", 1),
        ("4503599627370497", 4503599627370497),
    ],
)
def test_parse_size(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "G", "-1", "1e9", "1,5G", "4 G B", "10iB", "nan", "inf", "1.G", "0x10", "٤", "9" * 5000],
)
def test_what_is_no_size(text):
    with pytest.raises(UsageError, match="is not a size") as caught:
        parse_size(text)
    assert caught.value.exit_code is ExitCode.USAGE
    assert len(caught.value.message) < 120


def test_plural():
    assert plural(1, "file") == "1 file"
    assert plural(0, "file") == "0 files"
    assert plural(1234, "repository", "repositories") == "1,234 repositories"


def test_utc_now():
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", utc_now())


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
