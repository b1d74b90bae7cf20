"""Bodies of files: read past the client's parser where their length is known, else as it hands them on."""

from __future__ import annotations

import pytest
from upstreamkit import REPO, WEIGHTS

from archiver.loopback.faults import Fault
from archiver.upstream.body import Body
from archiver.upstream.deadlines import LeastRate, Patience
from archiver.upstream.http import Subject
from archiver.upstream.huggingface.http import Session
from archiver.upstream.retry import RetryableError, RetryPolicy

SILENCE = 600.0
HEAD = 128 << 10
"""What of a body may come with its head."""


@pytest.fixture
def session(hub, model) -> Session:
    policy = RetryPolicy(attempts=1, sleep=lambda _: None)
    return Session(None, hub.endpoint, Patience(), policy)


def asked(session, **headers):
    """An answer with the weights."""
    url = f"{session.endpoint}/{REPO}/resolve/main/{WEIGHTS}"
    return session.get(url, Subject(REPO, path=WEIGHTS), {"accept-encoding": "identity"} | headers)


def body_of(answer, watch=None) -> Body:
    return Body(answer, watch or LeastRate(Patience()), SILENCE)


def read_into(got: bytearray, body: Body) -> None:
    buffer = memoryview(bytearray(HEAD))
    while count := body.readinto(buffer):
        got += buffer[:count]


def test_a_body_of_known_length_goes_past_the_parser(session, read, content):
    with asked(session) as answer:
        watch = LeastRate(Patience())
        assert read(body_of(answer, watch), 1 << 20) == content
        assert answer.response.num_bytes_downloaded <= HEAD < len(content)
        assert watch._received == len(content)


def test_the_connection_serves_again(session, read, content):
    """What follows is read from its very beginning, and by the parser."""
    connections = []
    for begin in (0, 5_000, 300_000):
        with asked(session, range=f"bytes={begin}-") as answer:
            connections.append(answer.response.extensions["network_stream"])
            assert read(body_of(answer), 1 << 20) == content[begin:]
    assert connections[1:] == connections[:1] * 2


def test_a_body_that_is_left_early_takes_its_connection_along(session, read, content):
    with asked(session) as answer:
        left = answer.response.extensions["network_stream"]
        assert body_of(answer).readinto(memoryview(bytearray(HEAD)))
    with asked(session) as answer:
        assert answer.response.extensions["network_stream"] is not left
        assert read(body_of(answer)) == content


def test_a_body_that_breaks_off_is_told(hub, session, read, content):
    hub.faults.add(Fault("drop", path=WEIGHTS, after=500_000))
    got = bytearray()
    with asked(session) as answer, pytest.raises(RetryableError, match="ended after 500,000 of"):
        read_into(got, body_of(answer))
    assert bytes(got) == content[:500_000]


def test_a_silent_hub_is_told(hub, session):
    hub.faults.add(Fault("stall", path=WEIGHTS, after=500_000, seconds=600))
    with asked(session) as answer, pytest.raises(RetryableError, match="silent for too long"):
        read_into(bytearray(), Body(answer, LeastRate(Patience()), 0.1))


def test_the_parser_is_used_where_it_is_not_as_expected(session, read, content, monkeypatch):
    """Another version of the client may keep its parser elsewhere."""
    with asked(session) as answer:
        monkeypatch.delattr(answer.response.stream._stream, "_httpcore_stream")
        body = body_of(answer)
        monkeypatch.undo()
        assert read(body) == content
        assert answer.response.num_bytes_downloaded == len(content)
