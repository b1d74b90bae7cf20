from __future__ import annotations

import hashlib

import pytest
from upstreamkit import REPO, TOKEN, WEIGHTS

from archiver.upstream.huggingface.client import HuggingFace
from archiver.upstream.retry import RetryPolicy


@pytest.fixture
def slept():
    """The seconds that upstreams built by `connect` slept, which nobody waited for."""
    return []


@pytest.fixture
def connect(hub, slept):
    def build(token=TOKEN, *, attempts=4, timeout=60.0, **others):
        policy = RetryPolicy(attempts=attempts, sleep=slept.append, jitter=lambda: 0.0)
        return HuggingFace(token, hub.endpoint, timeout=timeout, retry=policy, **others)

    return build


@pytest.fixture
def content():
    """Bytes that differ everywhere, so that a join at the wrong place shows."""
    return b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(30_000))


@pytest.fixture
def read():
    def everything(stream, size=100_000):
        buffer = memoryview(bytearray(size))
        got = bytearray()
        while count := stream.readinto(buffer):
            got += buffer[:count]
        return bytes(got)

    return everything


@pytest.fixture
def model(hub, content):
    card = {"license": "apache-2.0", "tags": ["a"]}
    return hub.create(REPO, {WEIGHTS: content, "config.json": b"{}", "empty": b""}, card=card)
