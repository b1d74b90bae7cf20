"""What a hub may take of our time: only waiting in a read counts."""

from __future__ import annotations

import itertools

import httpcore2
import httpx2
import pytest
from upstreamkit import REPO, fetch

from archiver.errors import HostileNameError, NetworkError, UsageError
from archiver.loopback.faults import Fault
from archiver.throttle import Throttle
from archiver.upstream.deadlines import (
    HeadDeadline,
    LeastRate,
    ListingAllowance,
    Patience,
    chosen_patience,
    timed,
)
from archiver.upstream.read_watches import watching
from archiver.upstream.retry import RetryableError


class Clock:
    """Goes on by ``step`` seconds each time it is read, and by what is slept."""

    def __init__(self, step: float = 0.0) -> None:
        self.now, self.step, self.slept = 0.0, step, 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds


def test_a_limit_on_the_rate_is_no_fault_of_the_hub(hub, connect, read, content, slept):
    """At 10 bytes a second a day goes by; none of it was spent in a read."""
    hub.create(REPO, {"m.safetensors": content})
    clock = Clock()
    limit = Throttle(10, clock=clock, sleep=clock.sleep)
    upstream = connect(patience=Patience(clock=clock), timeout=None, throttle=limit)
    assert fetch(upstream, read, "m.safetensors") == content
    assert clock.slept > 86_400
    assert slept == []


def test_a_thin_line_is_no_fault_either(hub, connect, read, content, slept):
    """A minute for each read: 65,536 bytes at most, and still above the least rate."""
    hub.create(REPO, {"m.safetensors": content})
    patience = Patience(clock=Clock(30.0), least_rate=1.0, head=1e9)
    assert fetch(connect(patience=patience, timeout=None), read, "m.safetensors") == content
    assert slept == []


def test_a_body_is_measured_over_each_window_of_waiting():
    rate = LeastRate(Patience(window=60.0, least_rate=1000.0))
    for _ in range(3):
        rate.note(59.0, 60_000)
        rate.gained(60_000)
        rate.left()
        rate.note(1.0, 0)
        rate.left()
    rate.note(60.0, 59_999)
    rate.gained(59_999)
    with pytest.raises(RetryableError, match=r"less than 1\.00 kB a second") as caught:
        rate.left()
    assert caught.value.slow
    rate.left()  # the next attempt begins anew
    assert rate.waited == 240.0


def test_what_is_hardly_a_body_is_none():
    rate = LeastRate(Patience())
    rate.note(0.0, 4 * 1024 * 1024)
    rate.left()
    rate.note(0.0, 1)
    with pytest.raises(RetryableError, match="hardly anything"):
        rate.left()


def test_heads_and_listings_end():
    head, listing = HeadDeadline(Patience()), ListingAllowance(Patience())
    for watch, limit in ((head, 60.0), (listing, 3600.0)):
        watch.note(limit - 1.0, 10)
        assert watch.left() == 1.0
        watch.note(1.0, 10)
    with pytest.raises(RetryableError):
        head.left()
    with pytest.raises(NetworkError):
        listing.left()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (30.0, 1000.0, 60.0, 60.0, 3600.0)),
        ({"ARCHIVER_TIMEOUT": "60"}, (60.0, 1000.0, 120.0, 120.0, 7200.0)),
        ({"ARCHIVER_TIMEOUT": "0.5"}, (0.5, 1000.0, 60.0, 60.0, 3600.0)),
        ({"ARCHIVER_LEAST_RATE": "0"}, (30.0, 0.0, 60.0, 60.0, 3600.0)),
    ],
)
def test_patience_from_the_environment(monkeypatch, environment, expected):
    for name in ("ARCHIVER_TIMEOUT", "ARCHIVER_LEAST_RATE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    chosen = chosen_patience()
    shown = (chosen.silence, chosen.least_rate, chosen.head, chosen.window, chosen.listing)
    assert shown == expected


@pytest.mark.parametrize("value", ["0", "-1", "inf", "x"])
def test_a_silence_that_is_none(monkeypatch, value):
    monkeypatch.setenv("ARCHIVER_TIMEOUT", value)
    with pytest.raises(UsageError, match="ARCHIVER_TIMEOUT"):
        chosen_patience()


def test_every_way_out_of_the_client_is_timed():
    """Through a proxy, and with TLS on top, too."""
    proxy = httpx2.HTTPTransport(proxy="http://127.0.0.1:9")
    with httpx2.Client(mounts={"https://": proxy, "all://none": None}) as client:
        for _ in range(2):
            timed(client, lambda: 0.0)
        pools = [client._transport._pool, proxy._pool]
        backends = [pool._network_backend for pool in pools]
    assert {type(backend).__name__ for backend in backends} == {"_TimedBackend"}
    assert not any(hasattr(backend._inner, "_inner") for backend in backends)

    class Inner(httpcore2.NetworkBackend, httpcore2.NetworkStream):
        def connect_tcp(self, *_, **__):
            return self

        def start_tls(self, *_):
            return self

        def read(self, _max_bytes, timeout=None):
            turns.append(timeout)
            if len(turns) < answers:
                raise httpcore2.ReadTimeout
            return b"x"

    turns, answers = [], 120
    backend = type(backends[0])(Inner(), Clock(1.0))
    head = HeadDeadline(Patience())
    with watching(head):
        stream = backend.connect_tcp("h", 1).start_tls(None)
        assert stream.read(9, None) == b"x"
    assert head.left() == 59.0
    assert (len(turns), sum(turns)) == (120, 60.0)  # it looks up each half a second

    turns, answers = [], 1000
    with watching(HeadDeadline(Patience())), pytest.raises(httpcore2.ReadTimeout):
        stream.read(9, None)
    assert sum(turns) == 60.0


def test_a_read_ends_soon_after_the_run_is_to_end():
    from archiver.progress import stop_requested
    from archiver.upstream import deadlines

    class Silent(httpcore2.NetworkStream):
        def read(self, _max_bytes, timeout=None):
            assert timeout == 0.5
            turns.append(timeout)
            if len(turns) == 3:
                stop_requested.set()
            raise httpcore2.ReadTimeout

    turns = []
    stream = deadlines.TimedStream(Silent(), Clock())
    try:
        with pytest.raises(KeyboardInterrupt):
            stream.read(9, 3600.0)
    finally:
        stop_requested.clear()
    assert len(turns) == 3


def test_a_byte_and_a_hangup_again_and_again_is_no_progress(hub, connect, read, slept):
    hub.create(REPO, {"README.md": b"words " * 1_000})
    drop = hub.faults.add(Fault("drop", path="README.md", after=1, times=None))
    with pytest.raises(NetworkError, match="4 times in a row"):
        fetch(connect(), read, "README.md")
    assert drop.hits <= 6
    assert len(slept) == drop.hits - 1


def test_waits_that_the_hub_asks_for_count_for_a_listing(hub, connect, slept):
    """Each page but after seven waits of five minutes: nobody waits for all of them."""
    hub.create(REPO, {"README.md": b"x"})
    turns = itertools.count(1)

    def page(_):
        if next(turns) % 4:
            return b"[]", {"Retry-After": "330"}
        return b"[]", {}

    fault = Fault("forge", route="tree", forge=page, status=429, times=None)
    hub.faults.add(fault)
    upstream = connect(patience=Patience(listing=700.0), timeout=None, attempts=8)
    with pytest.raises(NetworkError, match="of waiting"):
        upstream.list(REPO)
    assert len(slept) == 3


@pytest.mark.parametrize(
    "body",
    [
        *(b"[]", b"null", b"{}", b'{"items": null}', b'{"items": [5]}'),
        *(b'{"items": [{"type": "model"}]}', b'{"items": [{"type": "model", "id": 5}]}'),
        b'{"items": [{"type": "model", "id": "\\ud800"}]}',
    ],
)
def test_a_collection_that_makes_no_sense(hub, connect, body):
    hub.collection("Org/things", [])
    hub.faults.add(Fault("forge", route="collection", forge=lambda _: (body, {})))
    with pytest.raises((HostileNameError, NetworkError)):
        connect().collection("Org/things")
