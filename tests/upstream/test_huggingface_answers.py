"""The single pass over answers that the loopback hub does not give."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from archiver.errors import (
    MismatchError,
    NetworkError,
)
from archiver.upstream.huggingface.answers import AgainError, Asked
from archiver.upstream.huggingface.deadlines import Patience
from archiver.upstream.huggingface.stream import HubStream
from archiver.upstream.remote_file import RemoteFile
from archiver.upstream.retry import RetryPolicy


class FakeAnswer:
    """A body as a hub could send it and the loopback hub does not."""

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
    asked = Asked("a/b", "", "f.bin")
    return HubStream(session, "", file, asked, offset=0, throttle=None), session.asked


def test_a_body_without_a_length_is_measured(read):
    assert read(fake_stream(4, FakeAnswer(b"ab", b"cd"))[0]) == b"abcd"
    for chunks in ([b"ab", b"cde"], [b"abcd", b"e"]):
        with pytest.raises(MismatchError, match=r"f\.bin of a/b was listed with 4 bytes"):
            read(fake_stream(4, FakeAnswer(*chunks))[0])


def test_a_connection_that_breaks_after_the_last_byte_does_not_matter(read):
    stream, asked = fake_stream(4, FakeAnswer(b"abcd", AgainError("reset")))
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
