"""Parts of files over HTTP, as RFC 9110 has them."""

from __future__ import annotations

import email
import hashlib
import itertools
import signal
import subprocess
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.repository import WEIGHTS
from servedkit import LARGE, MODEL, large

from archiver.web.ranges import RANGES_MAX, Range, parse_range

PATH = f"/{MODEL}/resolve/main/{WEIGHTS}"


@pytest.fixture
def data(history) -> bytes:
    return history.model[history.commits[2]][WEIGHTS]


@pytest.fixture
def etag(data) -> str:
    return f'"{hashlib.sha256(data).hexdigest()}"'


def test_the_whole_file(server, data, etag):
    answer = server.ask(PATH)
    assert (answer.status, answer.body) == (200, data)
    assert answer.headers["content-length"] == str(len(data))
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["etag"] == answer.headers["x-linked-etag"] == etag
    assert answer.headers["x-linked-size"] == str(len(data))
    assert answer.headers["content-disposition"].startswith("attachment")


def test_only_what_would_be_sent(server, data, etag):
    answer = server.ask(PATH, method="HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-length"] == str(len(data))
    for header in ("bytes=0-9", "bytes=0-9,20-29", "bytes=99999999999-"):
        part = server.ask(PATH, {"Range": header}, method="HEAD")
        assert (part.status, part.headers["content-length"]) == (200, str(len(data)))
        assert "content-range" not in part.headers


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        ("bytes=20000-", 20000, None),
        ("bytes=-7", -7, None),
        ("bytes=-99999999999", 0, None),
        ("bytes=5-99999999999", 5, None),
        ("BYTES = 5-9", 5, 10),
        ("bytes=10-19,15-29,30-39", 10, 40),
    ],
)
def test_a_range(server, data, header, start, stop):
    answer = server.ask(PATH, {"Range": header})
    assert answer.status == 206
    assert answer.body == data[start:stop]
    begin = start % len(data) if start < 0 else start
    size = len(answer.body)
    assert answer.headers["content-range"] == f"bytes {begin}-{begin + size - 1}/{len(data)}"


@pytest.mark.parametrize(
    "header",
    [
        "bytes=",
        "bytes=-",
        "bytes=9-5",
        "bytes=a-b",
        "lines=0-5",
        "bytes=0-5;",
        "bytes=0 - 5",
        f"bytes=0-{'9' * 40}",
        "bytes=" + ",".join(f"{n}-{n}" for n in range(0, 4 * RANGES_MAX, 2)),
    ],
)
def test_a_range_that_is_none_counts_as_not_asked(server, data, header):
    answer = server.ask(PATH, {"Range": header})
    assert (answer.status, answer.body) == (200, data)


@pytest.mark.parametrize("header", ["bytes=99999999-", "bytes=-0", "bytes=-0,99999999-"])
def test_what_is_not_there(server, data, header):
    answer = server.ask(PATH, {"Range": header})
    assert answer.status == 416
    assert answer.headers["content-range"] == f"bytes */{len(data)}"


def test_of_several_ranges_those_that_are_there(server, data):
    assert server.ask(PATH, {"Range": "bytes=0-1,99999999-"}).body == data[:2]


def test_several_ranges(server, data):
    answer = server.ask(PATH, {"Range": "bytes=100-109,0-4,-3"})
    assert answer.status == 206
    assert answer.headers["content-length"] == str(len(answer.body))
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    parts = email.message_from_bytes(head + answer.body).get_payload()
    end = len(data)
    assert [(part["Content-Range"], part.get_payload(decode=True)) for part in parts] == [
        (f"bytes 100-109/{end}", data[100:110]),
        (f"bytes 0-4/{end}", data[:5]),
        (f"bytes {end - 3}-{end - 1}/{end}", data[-3:]),
    ]


def test_preconditions(server, data, etag):
    for header in (etag, f"W/{etag}", "*", f'"other", {etag}'):
        answer = server.ask(PATH, {"If-None-Match": header})
        assert (answer.status, answer.body) == (304, b"")
        assert answer.headers["etag"] == etag
    assert server.ask(PATH, {"If-None-Match": '"other"'}).status == 200
    for other in ('"other"', f"W/{etag}"):
        assert server.ask(PATH, {"If-Match": other}).status == 412
    assert server.ask(PATH, {"If-Match": etag}).status == 200
    part = {"Range": "bytes=0-9"}
    assert server.ask(PATH, {**part, "If-Range": etag}).body == data[:10]
    for other in ('"other"', f"W/{etag}", "Tue, 01 Dec 2026 00:00:00 GMT"):
        assert server.ask(PATH, {**part, "If-Range": other}).body == data


def test_an_empty_file(server):
    path = f"/{MODEL}/resolve/main/empty.txt"
    assert server.ask(path).body == b""
    assert server.ask(path, {"Range": "bytes=0-"}).status == 416


def _curl(server, *words: object) -> subprocess.CompletedProcess:
    command = ["curl", "-sS", *map(str, words)]
    return subprocess.run(command, capture_output=True, check=False)


def test_a_download_that_was_killed_goes_on(server, tmp_path):
    data, url = large()[LARGE], f"{server.endpoint}/org/large/resolve/main/{LARGE}"
    target = tmp_path / "large"
    words = ["curl", "-sS", "--limit-rate", "200K", "-o", str(target), url]
    with subprocess.Popen(words) as process:
        while not target.exists() or not target.stat().st_size:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    had = target.stat().st_size
    assert 0 < had < len(data)
    assert _curl(server, "-C", "-", "-o", target, url).returncode == 0
    assert target.read_bytes() == data


def test_curl_gets_several_ranges(server, data):
    done = _curl(server, "-r", "0-9,100-109", f"{server.endpoint}{PATH}")
    assert data[:10] in done.stdout
    assert data[100:110] in done.stdout


SPECS = st.one_of(
    st.text(max_size=12),
    st.from_regex(r"\A[0-9]{0,6}-[0-9]{0,6}\Z"),
    st.tuples(st.integers(0, 200), st.integers(0, 200)).map(lambda pair: f"{pair[0]}-{pair[1]}"),
)


@given(st.lists(SPECS, min_size=1, max_size=8).map(",".join), st.integers(0, 150))
def test_any_header_gives_ranges_of_the_file(specs, size):
    found = parse_range(f"bytes={specs}", size)
    if found is None:
        return
    assert all(0 <= start < stop <= size for start, stop in found)
    assert all(one.stop < other.start for one, other in itertools.pairwise(sorted(found)))


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=8))
def test_the_ranges_are_all_that_was_asked_for(pairs):
    asked = [(min(pair), max(pair)) for pair in pairs]
    found = parse_range("bytes=" + ",".join(f"{a}-{b}" for a, b in asked), 100)
    assert found is not None
    wanted = {at for first, last in asked for at in range(first, last + 1)}
    assert {at for start, stop in found for at in range(start, stop)} == wanted
    assert all(isinstance(each, Range) for each in found)
