"""The single pass over a file: the faults that the loopback hub knows, and others."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from contextlib import contextmanager

import pytest
from upstreamkit import REPO, TOKEN, WEIGHTS, fetch

from archiver.errors import AccessError, MismatchError, NetworkError, UpstreamGoneError
from archiver.loopback.faults import Fault
from archiver.loopback.hub import Hub
from archiver.throttle import Throttle
from archiver.upstream.deadlines import Patience
from archiver.upstream.http import Subject
from archiver.upstream.huggingface.http import Session
from archiver.upstream.remote_file import RemoteFile
from archiver.upstream.retry import RetryableError, RetryPolicy
from archiver.upstream.stream import HubFile, HubStream


def ranges(hub):
    return [record.range for record in hub.requests.of(route="cdn")]


def test_a_file_comes_in_one_request_and_the_token_stays_home(hub, model, connect, read, content):
    assert fetch(connect(), read) == content
    assert [r.sent for r in hub.requests.of(route="cdn")] == [len(content)]
    assert {r.token for r in hub.requests.of(port="cdn")} == {""}
    assert {r.token for r in hub.requests.of(port="hub")} == {TOKEN}


def test_nothing_is_asked_for_what_is_already_here(hub, model, connect, read, content):
    assert fetch(connect(), read, offset=len(content)) == b""
    assert fetch(connect(), read, "empty") == b""
    assert hub.requests.of(route="resolve") == []


def test_a_new_run_goes_on_where_the_last_one_ended(hub, model, connect, read, content):
    assert fetch(connect(), read, offset=123_457) == content[123_457:]
    assert ranges(hub) == ["bytes=123457-"]
    assert hub.requests.of(route="cdn")[0].sent == len(content) - 123_457


@pytest.mark.parametrize("size", [1_000, 65_536, 5_000_000])
def test_any_buffer_will_do(model, connect, content, read, size):
    upstream = connect()
    listing = upstream.list(REPO)
    with upstream.open(listing, listing.files[2], 0) as stream:
        assert read(stream, size) == content


def test_a_drop_is_resumed_and_no_byte_comes_twice(hub, model, connect, read, content):
    hub.faults.add(Fault("drop", after=100_000, times=3))
    assert fetch(connect(), read) == content
    assert ranges(hub) == ["", "bytes=100000-", "bytes=200000-", "bytes=300000-"]
    assert sum(r.sent for r in hub.requests.of(route="cdn")) == len(content)
    assert {r.token for r in hub.requests.of(port="cdn")} == {""}


def test_a_short_body_with_a_short_length_is_resumed(hub, model, connect, read, content):
    hub.faults.add(Fault("short", route="cdn", count=7_000))
    assert fetch(connect(), read) == content
    assert ranges(hub) == ["", f"bytes={len(content) - 7_000}-"]


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(
    "fault",
    [
        Fault("reset", after=300_000),
        Fault("stall", after=300_000, seconds=60),
        Fault("status", route="cdn", status=503),
        Fault("status", route="resolve", status=500, skip=1),
        Fault("status", route="resolve", status=408, skip=1),
        Fault("rate_limit", route="resolve", seconds=30, skip=1),
        Fault("rate_limit", route="cdn"),
        Fault("expired"),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.route}-{fault.status}",
)
def test_what_may_pass_is_asked_again(hub, connect, read, content, fault):
    first = hub.faults.add(Fault("drop", after=50_000))
    fault = hub.faults.add(dataclasses.replace(fault))
    # Only who waits for what never comes is to lose patience.
    timeout = 5.0 if fault.kind == "stall" else 600.0
    assert fetch(connect(timeout=timeout), read) == content
    assert (first.hits, fault.hits) == (1, 1)
    assert all(r.range for r in hub.requests.of(route="resolve")[1:])


def test_the_wait_is_as_long_as_the_hub_asks(hub, model, connect, read, slept):
    hub.faults.add(Fault("rate_limit", route="resolve", seconds=30))
    fetch(connect(), read)
    assert slept == [30.0]


def test_a_link_that_expires_in_the_middle_is_replaced(hub, model, connect, read, content):
    hub.link_seconds = -1
    upstream = connect()
    listing = upstream.list(REPO)
    with upstream.open(listing, listing.files[2], 0) as stream:
        hub.faults.add(
            Fault("call", route="resolve", call=lambda: setattr(hub, "link_seconds", 60))
        )
        assert read(stream) == content
    assert [r.status for r in hub.requests.of(route="cdn")] == [403, 200]


def test_a_range_that_was_not_asked_for_is_not_believed(hub, model, connect, read, content):
    hub.faults.add(Fault("drop", after=50_000))
    wrong = hub.faults.add(Fault("content_range", count=1))
    assert fetch(connect(), read) == content
    assert wrong.hits == 1


def test_a_server_that_ignores_ranges_is_read_from_the_start(hub, model, connect, read, content):
    hub.faults.add(Fault("drop", after=50_000))
    hub.faults.add(Fault("ignore_range"))
    assert fetch(connect(), read) == content
    assert [r.status for r in hub.requests.of(route="cdn")] == [200, 200]


def test_ignored_ranges_also_serve_a_new_run(hub, model, connect, read, content):
    hub.faults.add(Fault("ignore_range"))
    assert fetch(connect(), read, offset=700_001) == content[700_001:]


def test_an_endless_breaker_that_brings_new_bytes_is_endured(hub, model, connect, read, content):
    fault = hub.faults.add(Fault("drop", after=40_000, times=20))
    assert fetch(connect(attempts=2), read) == content
    assert fault.hits == 20


def test_giving_up_names_the_file_and_the_byte(hub, model, connect, read):
    hub.faults.add(Fault("drop", after=50_000))
    hub.faults.add(Fault("drop", after=0, times=None))
    with pytest.raises(
        NetworkError, match=rf"{WEIGHTS} of {REPO}.* byte 50,000 of 960,000"
    ) as caught:
        fetch(connect(), read)
    assert "goes on from there" in caught.value.hint
    assert len(ranges(hub)) == 1 + 4


def test_an_expired_link_that_stays_expired_is_given_up(hub, model, connect, read):
    fault = hub.faults.add(Fault("expired", times=None))
    with pytest.raises(NetworkError, match="403"):
        fetch(connect(), read)
    assert fault.hits == 4


@pytest.mark.parametrize("path", [WEIGHTS, "config.json"])
def test_a_body_that_is_too_long_is_refused(hub, model, connect, read, path):
    hub.faults.add(Fault("pad", path=path, count=10))
    with pytest.raises(MismatchError, match=path):
        fetch(connect(), read, path)


def test_a_length_that_is_too_long_is_refused_before_any_byte(hub, model, connect):
    hub.faults.add(Fault("pad", route="cdn", count=1))
    upstream = connect()
    listing = upstream.list(REPO)
    with (
        upstream.open(listing, listing.files[2], 0) as stream,
        pytest.raises(MismatchError, match="sends more"),
    ):
        stream.readinto(memoryview(bytearray(10)))


def test_the_token_follows_no_redirect_to_another_hub(hub, model, connect, read, content):
    with Hub() as other:
        assert other.create(REPO, {WEIGHTS: content, "config.json": b"{}", "empty": b""}) == model
        there = f"{other.endpoint}/{REPO}/resolve/{model}/{WEIGHTS}"
        hub.faults.add(Fault("redirect", location=there))
        assert fetch(connect(), read) == content
        assert {record.token for record in other.requests} == {""}


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_a_redirect_to_what_is_not_the_web_is_not_followed(hub, connect, read, slept, location):
    hub.faults.add(Fault("redirect", location=location, times=None))
    with pytest.raises(NetworkError, match="UnsupportedProtocol"):
        fetch(connect(), read)
    assert slept == []


def test_a_resumed_body_that_is_too_long_is_refused(hub, model, connect, read):
    hub.faults.add(Fault("drop", after=50_000))
    hub.faults.add(Fault("pad", route="cdn", count=1))
    with pytest.raises(MismatchError):
        fetch(connect(), read)


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("size", [959_000, 961_000])
def test_another_size_than_was_listed_is_refused(hub, connect, read, content, size):
    digest = hashlib.sha256(content).hexdigest()
    hub.claim(REPO, WEIGHTS, size=size, lfs={"oid": digest, "size": size, "pointerSize": 1})
    with pytest.raises(MismatchError, match=f"{size:,} bytes"):
        fetch(connect(), read)
    assert ranges(hub) == [""]


@pytest.mark.parametrize("size", [1, 3])
def test_another_size_of_a_small_file_is_refused(hub, model, connect, read, size):
    hub.claim(REPO, "config.json", size=size)
    with pytest.raises(MismatchError):
        fetch(connect(), read, "config.json")


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(("path", "skip"), [(WEIGHTS, 1), ("big.txt", 0)])
def test_an_etag_that_changes_is_another_file(hub, connect, read, path, skip):
    hub.commit(REPO, {"big.txt": bytes(200_000)})
    hub.faults.add(Fault("drop", after=50_000))
    hub.faults.add(Fault("etag", route="resolve", skip=skip))
    with pytest.raises(UpstreamGoneError, match="changed during the download"):
        fetch(connect(), read, path)


@pytest.mark.parametrize(
    "deed",
    [
        lambda hub: hub.force_push(REPO, {"x": b"y"}),
        lambda hub: hub.delete(REPO),
    ],
)
def test_what_vanishes_in_the_middle_is_named(hub, model, connect, read, deed):
    upstream = connect()
    listing = upstream.list(REPO)
    hub.faults.add(Fault("drop", after=50_000))
    with upstream.open(listing, listing.files[2], 0) as stream:
        stream.readinto(memoryview(bytearray(1000)))
        deed(hub)
        with pytest.raises(UpstreamGoneError, match=f"{WEIGHTS} of {REPO} at {model}"):
            read(stream)


def test_a_file_that_was_listed_and_is_not_there_is_named(hub, model, connect, read):
    hub.list_also(REPO, {"type": "file", "path": "ghost.txt", "size": 5, "oid": "0" * 40})
    with pytest.raises(UpstreamGoneError, match=r"ghost\.txt of Org/Model at [0-9a-f]{40} is gone"):
        fetch(connect(), read, "ghost.txt")


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("status", [403, 451, 404, 400, 418])
def test_refusals_are_not_retried(hub, connect, read, slept, status):
    hub.faults.add(Fault("status", route="resolve", status=status, times=None))
    # That it is gone, which a plan's journal keeps, is only said where the hub says so.
    with pytest.raises(UpstreamGoneError if status == 404 else AccessError):
        fetch(connect(), read)
    assert slept == []


@pytest.mark.parametrize(
    "path",
    [
        "a b.txt",
        "a#b",
        "a?b=c",
        "100%",
        "a%2Fb",
        "ünïcødé/日本語.txt",
        "a+b&c;d",
        "a'b\"c",
        "[x]{y}",
    ],
)
def test_odd_names_find_their_files(hub, connect, read, path):
    hub.create(REPO, {path: b"right", "decoy": b"wrong", path + ".bin": bytes(50)})
    assert fetch(connect(), read, path) == b"right"
    assert fetch(connect(), read, path + ".bin") == bytes(50)


def test_nothing_is_compressed_when_only_identity_is_accepted(hub, model, connect, read):
    fault = hub.faults.add(Fault("gzip", times=None))
    assert fetch(connect(), read, "config.json") == b"{}"
    assert fault.hits == 0


@pytest.mark.usefixtures("model")
def test_compression_that_was_not_asked_for_is_undone(hub, connect, read, monkeypatch):
    plain = Session.get

    def greedy(self, url, asked, headers, *watches):
        accepting = headers | {"accept-encoding": "gzip"} if "accept-encoding" in headers else {}
        return plain(self, url, asked, {**headers, **accepting}, *watches)

    monkeypatch.setattr(Session, "get", greedy)
    text = b"words and words " * 10_000
    hub.commit(REPO, {"big.txt": text})
    fault = hub.faults.add(Fault("gzip", path="big.txt"))
    assert fetch(connect(), read, "big.txt") == text
    assert fault.hits == 1


def test_streams_share_the_throttle(hub, model, connect, read, content):
    slept = []
    limit = Throttle(1_000_000, 0, clock=lambda: 0.0, sleep=slept.append)
    assert fetch(connect(throttle=limit), read) == content
    assert slept[-1] == pytest.approx(len(content) / 1_000_000)


def test_a_limit_is_kept_by_many_short_waits(hub, model, connect, read, content):
    """However large the buffer is: a hub hangs up on who reads nothing for a minute."""
    slept = []
    limit = Throttle(100_000, 0, clock=lambda: sum(slept), sleep=slept.append)
    assert fetch(connect(throttle=limit), lambda stream: read(stream, 16 << 20)) == content
    assert max(slept) < 0.7
    assert sum(slept) == pytest.approx(len(content) / 100_000)


@pytest.mark.usefixtures("model")
def test_threads_share_an_upstream(hub, connect, read, content):
    hub.faults.add(Fault("drop", after=90_000, times=5))
    upstream = connect()
    listing = upstream.list(REPO)
    right = []

    def work():
        with upstream.open(listing, listing.files[2], 0) as stream:
            right.append(read(stream) == content)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 6


def test_a_stream_that_is_left_early_hangs_up(hub, model, connect):
    hub.rate = 500_000
    upstream = connect()
    listing = upstream.list(REPO)
    with upstream.open(listing, listing.files[2], 0) as stream:
        assert stream.readinto(memoryview(bytearray(1000))) == 1000


# --- answers that the loopback hub does not give


class FakeAnswer:
    """A body as a hub could send it and the loopback hub does not."""

    response = None

    def __init__(self, *chunks, status=200, encoding="", **headers):
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.first, self.status, self.encoding = self.headers, status, encoding
        self._chunks = chunks

    def chunks(self, rate):
        for chunk in self._chunks:
            if isinstance(chunk, Exception):
                raise chunk
            rate.gained(len(chunk))
            yield chunk


class FakeSession:
    """Gives answers out in turn; ``asked`` are the bytes that were asked from."""

    def __init__(self, answers, attempts):
        self.retry = RetryPolicy(attempts=attempts, sleep=lambda _: None)
        self.patience = Patience()
        self.asked, self._left = [], list(answers)

    @contextmanager
    def get(self, _url, _asked, headers, *_watches):
        start = headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")[0]
        self.asked.append(int(start))
        yield self._left.pop(0)


def fake_stream(size, *answers, attempts=3):
    session = FakeSession(answers, attempts)
    file = RemoteFile("f.bin", size)
    subject = Subject("a/b", "", "f.bin")
    listed = HubFile(session, "", file, subject)
    return HubStream(listed, offset=0, throttle=None), session.asked


def test_a_body_without_a_length_is_measured(read):
    assert read(fake_stream(4, FakeAnswer(b"ab", b"cd"))[0]) == b"abcd"
    for chunks in ([b"ab", b"cde"], [b"abcd", b"e"]):
        with pytest.raises(MismatchError, match=r"f\.bin of a/b was listed with 4 bytes"):
            read(fake_stream(4, FakeAnswer(*chunks))[0])


def test_a_connection_that_breaks_after_the_last_byte_does_not_matter(read):
    stream, asked = fake_stream(4, FakeAnswer(b"abcd", RetryableError("reset")))
    assert read(stream) == b"abcd"
    assert asked == [0]


def test_a_file_that_is_really_shorter_is_refused_in_the_end(read):
    part = {"status": 206, "content_range": "bytes 3-3/*"}
    stream, asked = fake_stream(4, FakeAnswer(b"abc"), *[FakeAnswer(**part)] * 3)
    with pytest.raises(NetworkError, match="ended too early, 3 times in a row"):
        read(stream)
    assert asked == [0, 3, 3, 3]


def test_compressed_bodies_are_taken_plain_and_never_joined(read):
    part = FakeAnswer(b"\x1f\x8b", status=206, encoding="gzip", content_range="bytes 2-3/4")
    stream, asked = fake_stream(
        4,
        FakeAnswer(b"ab", encoding="gzip", content_length="99"),
        part,
        FakeAnswer(b"abc", encoding="gzip"),
        FakeAnswer(b"a", b"bcd", encoding="gzip"),
    )
    assert read(stream) == b"abcd"
    assert asked == [0, 2, 0, 0]


@pytest.mark.parametrize("status", [204, 304, 203])
def test_an_answer_without_the_file_is_no_answer(read, status):
    stream, asked = fake_stream(4, *[FakeAnswer(b"", status=status)] * 3)
    with pytest.raises(NetworkError, match=f"HTTP {status}"):
        read(stream)
    assert asked == [0, 0, 0]


@pytest.mark.parametrize("told", ["", "bytes */4", "bytes 0-3/4", "bytes 2-3/4, 9", "items 2-3/4"])
def test_a_range_must_say_that_it_is_the_right_one(read, told):
    wrong = FakeAnswer(b"XX", status=206, content_range=told)
    right = FakeAnswer(b"cd", status=206, content_range="bytes 2-3/4")
    assert read(fake_stream(4, FakeAnswer(b"ab"), wrong, right)[0]) == b"abcd"
