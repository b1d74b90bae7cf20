from __future__ import annotations

from email.utils import formatdate

import pytest

from archiver.upstream.retry import RetryPolicy

NOW = 1_800_000_000.0


def policy(**changes):
    return RetryPolicy(
        **{"sleep": lambda _: None, "jitter": lambda: 0.0, "now": lambda: NOW} | changes
    )


def test_waits_double_up_to_the_cap():
    delays = [policy(base=0.5, cap=5).delay(failures) for failures in range(1, 7)]
    assert delays == [0.5, 1, 2, 4, 5, 5]


def test_a_huge_count_of_failures_does_not_overflow():
    assert policy(cap=7).delay(10_000) == 7


def test_jitter_only_lengthens_and_by_a_half_at_most():
    assert policy(base=2, jitter=lambda: 0.999).delay(1) == pytest.approx(3, abs=0.01)


def test_wait_sleeps_as_long_as_it_says():
    slept = []
    assert policy(sleep=slept.append).wait(2) == slept[0] == 1.0


def test_the_server_overrules_but_only_to_a_limit():
    assert policy().delay(1, 17.0) == 17.0
    assert policy(longest_requested=60).delay(1, 86_400.0) == 60
    assert policy(base=0.5).delay(3, 1.0) == policy(base=0.5).delay(3, -5.0) == 2.0


def test_never_back_before_the_server_allows():
    assert policy(jitter=lambda: 0.5).delay(1, 10.0) > 10.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 7 "}, 7.0),
        ({"retry-after": formatdate(NOW + 90, usegmt=True)}, 90.0),
        ({"retry-after": formatdate(NOW - 90, usegmt=True)}, 0.0),
        ({"retry-after": formatdate(NOW + 90)}, 90.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Fri, 99 Xyz 2026 99:99:99 GMT"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"ratelimit": '"api";r=0;t=55'}, 55.0),
        ({"ratelimit": '"api"; r = 0 ; t = 55'}, 55.0),
        ({"ratelimit": '"api";r=12;t=55'}, None),
        ({"ratelimit": '"resolvers";r=3;t=9, "api";r=0;t=55'}, 55.0),
        ({"ratelimit": "nonsense"}, None),
        ({"ratelimit": '"api";r=0;t=55', "retry-after": "60"}, 60.0),
    ],
)
def test_what_a_response_asks_for(headers, seconds):
    assert policy().requested_by(headers) == seconds
