from __future__ import annotations

import threading
import time

import pytest

from archiver.throttle import Throttle


class Clock:
    def __init__(self):
        self.now = 100.0
        self.slept = []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


def throttle(rate, burst=None):
    clock = Clock()
    return Throttle(rate, burst, clock=clock, sleep=clock.sleep), clock


def test_the_burst_passes_at_once_and_the_rest_is_slept_off():
    limit, clock = throttle(1000, 500)
    limit.take(500)
    assert clock.slept == []
    limit.take(1000)
    assert clock.slept == [pytest.approx(1.0)]


def test_a_chunk_larger_than_the_bucket_passes():
    limit, clock = throttle(1000, 10)
    limit.take(5010)
    assert clock.slept == [pytest.approx(5.0)]


def test_the_long_run_rate_is_exact():
    limit, clock = throttle(1000, 100)
    for _ in range(200):
        limit.take(333)
    assert clock.now - 100 == pytest.approx((200 * 333 - 100) / 1000)


def test_a_pause_earns_no_more_than_the_burst():
    limit, clock = throttle(1000, 100)
    limit.take(100)
    clock.now += 3600
    limit.take(1100)
    assert clock.slept == [pytest.approx(1.0)]


def test_a_clock_that_stands_still_earns_nothing():
    limit, clock = throttle(1000, 0)
    clock.now -= 50
    limit.take(100)
    assert clock.slept == [pytest.approx(0.1)]


def test_threads_share_one_rate():
    limit = Throttle(1_000_000, 0)
    begun = time.monotonic()
    threads = [
        threading.Thread(target=lambda: [limit.take(10_000) for _ in range(5)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - begun >= 0.199


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
def test_a_rate_that_lets_nothing_through_is_refused(rate):
    with pytest.raises(ValueError, match="nothing through"):
        Throttle(rate)
