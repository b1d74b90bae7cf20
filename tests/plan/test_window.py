"""Windows by the clock of a time zone, also on the days on which the clock changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.plan.window import DAYS, Span, Window, parse_span, zone_problem

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"


def window(*spans, zone=BERLIN):
    return Window(tuple(map(parse_span, spans)), zone)


def at(text, zone=BERLIN, fold=0):
    """The moment at which the clock there shows this."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)


def utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("01:00-06:00", Span(60, 360)),
        ("22:00 - 06:00", Span(22 * 60, 360)),
        ("00:00-24:00", Span(0, 1440)),
        ("Sat,Sun 00:00-24:00", Span(0, 1440, (5, 6))),
        ("mon-fri 20:00-06:30", Span(1200, 390, (0, 1, 2, 3, 4))),
        ("Fri-Mon 20:00-06:00", Span(1200, 360, (0, 4, 5, 6))),
        ("Wed-Wed 20:00-06:00", Span(1200, 360, (2,))),
    ],
)
def test_a_span_is_read(text, span):
    assert parse_span(text) == span


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "not a window"),
        ("1-6", "not a window"),
        ("1:00-6:00", "not a window"),
        ("01:00-06:00 ", None),
        ("01:00-25:00", "25:00 is no time of a day"),
        ("01:60-06:00", "01:60 is no time of a day"),
        ("24:00-06:00", "begins at 24:00"),
        ("06:00-06:00", "without a length"),
        ("Son 06:00-07:00", "Son is not a day"),
        ("Mon-Tue-Fri 06:00-07:00", "not a range of days"),
    ],
)
def test_what_is_no_span_is_told(text, told):
    if told is None:
        assert parse_span(text)
        return
    with pytest.raises(ValueError, match=told):
        parse_span(text)


def test_a_window_is_open_from_its_beginning_and_not_at_its_end():
    nightly = window("01:00-06:00")
    assert not nightly.is_open(at("2026-11-30 00:59:59"))
    assert nightly.is_open(at("2026-11-30 01:00"))
    assert nightly.ends_at(at("2026-11-30 05:59:59")) == at("2026-11-30 06:00")
    assert not nightly.is_open(at("2026-11-30 06:00"))
    assert nightly.opens_at(at("2026-11-30 06:00")) == at("2026-12-01 01:00")
    assert nightly.opens_at(at("2026-11-30 02:00")) == at("2026-11-30 02:00")


def test_a_window_crosses_midnight_and_belongs_to_the_day_on_which_it_begins():
    friday = window("Fri 22:00-06:00")
    assert friday.is_open(at("2026-11-28 05:00")), "a Saturday"
    assert not friday.is_open(at("2026-11-27 05:00")), "a Friday"
    assert friday.ends_at(at("2026-11-27 23:00")) == at("2026-11-28 06:00")
    assert friday.opens_at(at("2026-11-28 06:00")) == at("2026-12-04 22:00")


def test_windows_that_meet_are_one():
    nightly = window("22:00-24:00", "00:00-03:00", "02:00-06:00")
    assert nightly.ends_at(at("2026-11-30 22:30")) == at("2026-12-01 06:00")
    always = window("00:00-24:00")
    now = at("2026-11-30 22:30")
    assert always.ends_at(now) > now + timedelta(days=7)


@pytest.mark.parametrize(
    ("zone", "day", "moved"),
    [
        (BERLIN, "2026-03-29", -1),
        (BERLIN, "2026-10-25", 1),
        (NEW_YORK, "2026-03-08", -1),
        (NEW_YORK, "2026-11-01", 1),
    ],
)
def test_on_the_day_the_clock_changes_the_time_that_really_passes_counts(zone, day, moved):
    nightly = window("01:00-06:00", zone=zone)
    start = at(f"{day} 01:00", zone).astimezone(UTC)
    end = nightly.ends_at(start)
    assert end - start == timedelta(hours=5 + moved)
    assert end == at(f"{day} 06:00", zone)
    assert not nightly.is_open(start - timedelta(seconds=1))
    assert nightly.is_open(end - timedelta(seconds=1))
    assert not nightly.is_open(end)


def test_a_beginning_that_the_clock_leaps_over_is_the_leap():
    early = window("02:30-04:00")
    leap = utc("2026-03-29 01:00")
    assert not early.is_open(leap - timedelta(seconds=1))
    assert early.is_open(leap)
    assert early.ends_at(leap) == utc("2026-03-29 02:00")
    assert window("00:00-02:30").ends_at(at("2026-03-29 00:00")) == leap
    assert early.opens_at(leap - timedelta(hours=3)) == leap


def test_a_window_within_the_leap_does_not_open():
    assert window("02:10-02:50").opens_at(at("2026-03-28 12:00")) == at("2026-03-30 02:10")


def test_a_time_that_the_clock_shows_twice_is_the_first():
    late = window("02:30-03:30")
    first = utc("2026-10-25 00:30")
    assert late.opens_at(first - timedelta(hours=1)) == first
    assert late.ends_at(first) == utc("2026-10-25 02:30"), "two hours, by a clock that shows one"
    assert window("01:00-02:30").ends_at(utc("2026-10-24 23:30")) == first
    once = window("02:10-02:20")
    assert not once.is_open(at("2026-10-25 02:15", fold=1))
    assert once.is_open(at("2026-10-25 02:15"))


def test_a_moment_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="without a time zone"):
        window("01:00-06:00").is_open(datetime(2026, 1, 1))  # noqa: DTZ001


TIMES = st.integers(0, 1439)
SPANS = st.lists(
    st.builds(
        Span,
        TIMES,
        st.integers(0, 1440),
        st.sets(st.integers(0, 6), min_size=1).map(lambda days: tuple(sorted(days))),
    ).filter(lambda span: span.start != span.end),
    min_size=1,
    max_size=4,
)
ZONES = st.sampled_from(
    [
        "Europe/Berlin",
        "America/New_York",
        "UTC",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "Asia/Kathmandu",
    ]
)
MOMENTS = st.datetimes(datetime(2011, 12, 20), datetime(2035, 1, 1), timezones=st.just(UTC)) | (  # noqa: DTZ001
    st.integers(-90_000, 90_000).map(lambda s: utc("2026-03-29 01:00") + timedelta(seconds=s))
)


@given(SPANS, ZONES, MOMENTS)
def test_an_end_is_after_now_and_the_window_is_open_until_it(spans, zone, now):
    any_window = Window(tuple(spans), zone)
    end = any_window.ends_at(now)
    assert any_window.is_open(now) == (end is not None)
    if end is None:
        opens = any_window.opens_at(now)
        assert opens > now
        assert any_window.is_open(opens)
        assert not any_window.is_open(opens - timedelta(seconds=1))
        return
    assert end > now
    assert any_window.opens_at(now) == now
    if end - now < timedelta(days=6):
        assert any_window.is_open(end - timedelta(microseconds=1))
        assert not any_window.is_open(end)
        middle = now + (end - now) / 2
        assert any_window.ends_at(middle) == end


@given(SPANS, ZONES, MOMENTS)
def test_what_the_clock_shows_within_a_window_lies_in_a_span_unless_it_went_back(spans, zone, now):
    any_window = Window(tuple(spans), zone)
    shown = now.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    day = datetime(shown.year, shown.month, shown.day)  # noqa: DTZ001
    inside = any(
        start <= shown < start + timedelta(minutes=span.minutes)
        for back in (0, 1)
        for span in spans
        for start in [day - timedelta(days=back) + timedelta(minutes=span.start)]
        if start.weekday() in span.days
    )
    offsets = {
        (now + timedelta(hours=hours)).astimezone(ZoneInfo(zone)).utcoffset()
        for hours in range(-50, 51)
    }
    if len(offsets) == 1:
        assert any_window.is_open(now) == inside


@given(st.text(max_size=40))
def test_any_text_is_a_span_or_told(text):
    try:
        span = parse_span(text)
    except ValueError:
        return
    assert 0 < span.minutes <= 1440


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Europe/Berlin", ""),
        ("UTC", ""),
        ("europe/berlin", "did you mean Europe/Berlin?"),
        ("Berlin", "did you mean Europe/Berlin?"),
        ("Europe/Berlon", "did you mean Europe/Berlin?"),
        ("America/New York", "not the name of a time zone"),
        ("Europe", "not a time zone"),
        ("right/Europe/Berlin", "not the name"),
        ("localtime", "not the name"),
        ("../etc/passwd", "not the name"),
        ("/etc/passwd", "not the name"),
        ("", "not the name"),
        ("zone.tab", "not the name"),
        ("A" * 10_000, "not the name"),
        ("\x00", "not the name"),
    ],
)
def test_a_zone_that_is_not_known_is_told_with_the_nearest(name, told):
    problem = zone_problem(name)
    assert told in problem
    assert bool(problem) == bool(told)


def test_days_are_in_the_order_of_the_week():
    assert [datetime(2026, 11, 30 - 7 + day).weekday() for day in range(7)] == list(range(7))  # noqa: DTZ001
    assert DAYS[0] == "Mon"
