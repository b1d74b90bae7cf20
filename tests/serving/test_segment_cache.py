"""Decoded segments in memory: each decoded once, never more than the budget, whatever callers do."""

import gc
import os
import random
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from archiver.archive.serving.segment_cache import SegmentCache
from archiver.errors import ArchiverError, DamageError

SIZE = 1000


class Decodes:
    """Makes segments, and notes how often each was made and how many at once."""

    def __init__(self) -> None:
        self.count: dict[str, int] = {}
        self.at_once = self.most = 0
        self.lock = threading.Lock()

    def of(self, name, size=SIZE, during=lambda: None):
        def decode():
            with self.lock:
                self.count[name] = self.count.get(name, 0) + 1
                self.at_once += 1
                self.most = max(self.most, self.at_once)
            try:
                during()
                return plain(name, size)
            finally:
                with self.lock:
                    self.at_once -= 1

        return decode


def plain(name: str, size: int = SIZE) -> bytes:
    return (name.encode() * size)[:size]


def until(met) -> None:
    """Wait for what another thread will do; in vain only where that is broken."""
    end = time.monotonic() + 60
    while not met():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.fixture
def decodes() -> Decodes:
    return Decodes()


def test_a_segment_is_decoded_once_and_its_view_is_read_only(decodes):
    with SegmentCache(10 * SIZE) as cache:
        for _ in range(3):
            view = cache.get("a", SIZE, decodes.of("a"))
            assert view == plain("a")
            with pytest.raises(TypeError):
                view[0] = 0
        assert decodes.count == {"a": 1}
        assert cache.stats[:3] == (2, 1, 0)


def test_fifty_callers_of_one_segment_decode_it_once(decodes):
    everybody = threading.Barrier(50)
    with SegmentCache(10 * SIZE) as cache, ThreadPoolExecutor(50) as callers:
        # It is not done before all the others wait for it.
        decode = decodes.of("a", during=lambda: until(lambda: cache.stats.waits == 49))

        def call(_):
            everybody.wait()
            return bytes(cache.get("a", SIZE, decode))

        assert set(callers.map(call, range(50))) == {plain("a")}
        assert decodes.count == {"a": 1}
        assert cache.stats[:3] == (0, 1, 49)


def test_an_error_reaches_all_who_wait_and_the_next_tries_again(decodes):
    everybody = threading.Barrier(20)
    with SegmentCache(10 * SIZE) as cache, ThreadPoolExecutor(20) as callers:

        def broken():
            until(lambda: cache.stats.waits == 19)
            raise DamageError("It is damaged.", object="a", pack="p", path="packs/p")

        def call(_):
            everybody.wait()
            try:
                cache.get("a", SIZE, broken)
            except DamageError as error:
                return error.object, error.pack, error.path
            return None

        assert set(callers.map(call, range(20))) == {("a", "p", "packs/p")}
        assert cache.stats.resident == 0
        assert cache.get("a", SIZE, decodes.of("a")) == plain("a")


def test_the_segment_used_last_stays(decodes):
    with SegmentCache(2 * SIZE) as cache:
        for name in "abacab":
            cache.get(name, SIZE, decodes.of(name))
        assert decodes.count == {"a": 1, "b": 2, "c": 1}


def test_memory_is_kept_under_random_load(decodes):
    budget = 8 * SIZE
    held: list[int] = []
    with SegmentCache(budget, threads=4) as cache, ThreadPoolExecutor(16) as callers:

        def call(seed):
            chance = random.Random(seed)
            for _ in range(200):
                number = chance.randrange(40)
                name, size = str(number), 1 + number * 50
                if chance.random() < 0.3:
                    cache.expect(name, size, decodes.of(name, size))
                else:
                    assert cache.get(name, size, decodes.of(name, size)) == plain(name, size)
                held.append(cache.stats.resident)

        list(callers.map(call, range(16)))
        assert max(held) <= budget
        assert cache.stats.peak <= budget
    gc.collect()
    assert cache.stats.resident == 0


def test_a_view_that_somebody_keeps_counts_until_it_is_gone(decodes):
    with SegmentCache(2 * SIZE) as cache:
        kept = [cache.get(name, SIZE, decodes.of(name)) for name in "ab"]
        with ThreadPoolExecutor(1) as caller:
            third = caller.submit(lambda: bytes(cache.get("c", SIZE, decodes.of("c"))))
            time.sleep(0.05)
            assert cache.stats.resident == 2 * SIZE
            assert "c" not in decodes.count
            assert kept.pop() == plain("b")
            assert third.result() == plain("c")
        assert kept == [plain("a")]
        assert cache.stats.peak == 2 * SIZE


def test_segments_larger_than_the_budget_are_decoded_one_at_a_time_and_not_kept(decodes):
    with SegmentCache(SIZE, threads=4) as cache, ThreadPoolExecutor(8) as callers:
        names = "abcdefgh"

        def call(name):
            return bytes(cache.get(name, 3 * SIZE, decodes.of(name, 3 * SIZE)))

        assert list(callers.map(call, names)) == [plain(name, 3 * SIZE) for name in names]
        assert decodes.most == 1
        assert cache.stats.peak == 3 * SIZE
        assert call("a") == plain("a", 3 * SIZE)
        assert decodes.count["a"] == 2


def test_what_is_asked_for_comes_before_what_is_only_expected(decodes):
    began = threading.Event()
    go_on = threading.Event()
    order: list[str] = []

    def during(name):
        return lambda: order.append(name)

    def block():
        began.set()
        go_on.wait()

    with SegmentCache(100 * SIZE, threads=1) as cache, ThreadPoolExecutor(2) as callers:
        first = callers.submit(cache.get, "a", SIZE, decodes.of("a", during=block))
        began.wait()
        for name in "bcd":
            cache.expect(name, SIZE, decodes.of(name, during=during(name)))
        last = callers.submit(cache.get, "d", SIZE, decodes.of("d"))
        until(lambda: cache.stats.waits == 1)
        cache.forget([("b", SIZE)])
        go_on.set()
        assert first.result() == plain("a")
        assert last.result() == plain("d")
        until(lambda: cache.stats.decodes == 3)
    assert order == ["d", "c"]


def test_a_segment_that_is_read_stays_before_one_that_nobody_reads(decodes):
    with SegmentCache(2 * SIZE, idle_seconds=60) as cache:
        cache.hold("a", SIZE)
        for name in "abcbcb":
            cache.get(name, SIZE, decodes.of(name))
        assert cache.get("a", SIZE, decodes.of("a")) == plain("a")
        assert decodes.count["a"] == 1
        cache.release("a", SIZE)
        for name in "bca":
            cache.get(name, SIZE, decodes.of(name))
        assert decodes.count["a"] == 2


def test_one_who_dawdles_in_a_segment_does_not_keep_the_others_waiting(decodes):
    with SegmentCache(SIZE, idle_seconds=0.01) as cache:
        cache.hold("a", SIZE)
        cache.get("a", SIZE, decodes.of("a"))
        assert cache.get("b", SIZE, decodes.of("b")) == plain("b")


def test_an_error_that_somebody_keeps_keeps_no_segment():
    made = []

    def broken():
        segment = np.zeros(SIZE, np.uint8)
        made.append(weakref.ref(segment))
        raise DamageError("It is damaged.", object="a")

    with SegmentCache(SIZE) as cache:
        with pytest.raises(DamageError) as kept:
            cache.get("a", SIZE, broken)
        assert kept.value.object == "a"
        assert made[0]() is None


def damaged() -> bytes:
    raise DamageError("It is damaged.", object="a")


def test_what_takes_long_to_be_had_from_elsewhere_keeps_nobody_else_waiting(decodes):
    begun, go_on = threading.Event(), threading.Event()
    errors = []

    def rescue(error):
        errors.append(error.object)
        begun.set()
        go_on.wait()
        return plain("a")

    with SegmentCache(SIZE, threads=1) as cache, ThreadPoolExecutor(9) as callers:
        waiting = [callers.submit(cache.get, "a", SIZE, damaged, rescue) for _ in range(8)]
        until(lambda: cache.stats.waits == 7)
        if not begun.wait(20):
            pytest.fail("nobody rescues it")
        waiting.append(callers.submit(cache.get, "b", 0, decodes.of("b", 0)))
        assert waiting.pop().result() == b""
        go_on.set()
        assert {bytes(each.result()) for each in waiting} == {plain("a")}
        del waiting
    assert errors == ["a"]


def test_what_cannot_be_had_from_elsewhere_either_is_refused_to_all_and_tried_again(decodes):
    def rescue(error):
        raise DamageError("Nobody has it.", object=error.object)

    with SegmentCache(SIZE, threads=1) as cache:
        for _ in range(3):
            with pytest.raises(DamageError, match="Nobody"):
                cache.get("a", SIZE, damaged, rescue)
        assert cache.stats.resident == 0
        assert cache.get("a", SIZE, damaged, lambda _: plain("a")) == plain("a")
        assert cache.get("a", SIZE, damaged) == plain("a")


def test_what_is_only_expected_is_not_had_from_elsewhere(decodes):
    with SegmentCache(10 * SIZE, threads=1) as cache:
        cache.expect("a", SIZE, damaged)
        cache.expect("b", SIZE, decodes.of("b"))
        until(lambda: cache.stats.decodes == 2)
        assert cache.get("a", SIZE, decodes.of("a")) == plain("a")


def test_when_it_is_closed_those_who_wait_are_told(decodes):
    cache = SegmentCache(SIZE, threads=1)
    began, go_on = threading.Event(), threading.Event()

    def block():
        began.set()
        go_on.wait()

    with ThreadPoolExecutor(3) as callers:
        first = callers.submit(cache.get, "a", SIZE, decodes.of("a", during=block))
        began.wait()
        second = callers.submit(cache.get, "b", SIZE, decodes.of("b"))
        until(lambda: len(cache._asked) == 1)
        closing = callers.submit(cache.close)
        with pytest.raises(ArchiverError):
            second.result()
        go_on.set()
        assert first.result() == plain("a")
        closing.result()
    with pytest.raises(ArchiverError):
        cache.get("c", SIZE, decodes.of("c"))


def test_closing_does_not_wait_for_what_is_had_from_elsewhere():
    cache = SegmentCache(SIZE, threads=1)
    begun, go_on = threading.Event(), threading.Event()

    def rescue(_):
        begun.set()
        go_on.wait()
        return plain("a")

    with ThreadPoolExecutor(1) as callers:
        waiting = callers.submit(cache.get, "a", SIZE, damaged, rescue)
        begun.wait()
        cache.close()
        with pytest.raises(ArchiverError, match="closed"):
            waiting.result()
        go_on.set()
    for thread in cache._rescuers:
        thread.join()
    assert cache.stats.resident == 0


@pytest.mark.parametrize(
    ("cores", "mebibytes", "threads"), [(2, 256, 2), (64, 256, 8), (64, 16, 1)]
)
def test_what_decoding_takes_follows_the_budget_and_not_the_cores(
    monkeypatch, cores, mebibytes, threads
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(cores)))
    with SegmentCache(mebibytes << 20) as cache:
        assert cache.threads == threads


def test_where_no_thread_can_be_started_it_says_so_and_goes_on_later(decodes, monkeypatch):
    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    with SegmentCache(10 * SIZE, threads=2) as cache:
        with monkeypatch.context() as full:
            full.setattr(threading.Thread, "start", refuse)
            with pytest.raises(ArchiverError, match="can't start new thread"):
                cache.get("a", SIZE, decodes.of("a"))
        assert cache.stats.resident == 0
        assert cache.get("a", SIZE, decodes.of("a")) == plain("a")
        # One thread is enough.
        monkeypatch.setattr(threading.Thread, "start", refuse)
        assert cache.get("b", SIZE, decodes.of("b")) == plain("b")
        error = DamageError("It is damaged.", object="c", pack="p", path="packs/p")
        with pytest.raises(DamageError):
            cache.get("c", SIZE, _raising(error), lambda _: plain("c"))
        monkeypatch.undo()
        assert cache.get("c", SIZE, _raising(error), lambda _: plain("c")) == plain("c")


def _raising(error):
    def decode():
        raise error

    return decode
