"""A CDN that gives a file out by range only, as for files of hundreds of gigabytes."""

from __future__ import annotations

import re

import pytest
from kit.archive import seals
from kit.repository import REPO, WEIGHTS, bf16, model, safetensors
from kit.worklog import assert_nothing_published, resumable_bytes, wait_until

from archiver.loopback.faults import Fault
from archiver.upstream import stream

PART = 4_000
MIB = 1 << 20


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(stream, "PART_BYTES", PART)


def only_in_parts(hub, count: int = PART, **fields) -> Fault:
    named = {"path": WEIGHTS, "route": "cdn"} | fields
    return hub.faults.add(Fault("range_only", count=count, times=None, **named))


def parts(hub, path: str = WEIGHTS, route: str = "cdn") -> list[tuple[int, int]]:
    """First and last byte of each answer with a part, in their order."""
    ranges = [r.range for r in hub.requests.of(route=route, file=path) if r.status == 206]
    found = [re.fullmatch(r"bytes=(\d+)-(\d+)", one) for one in ranges]
    return [(int(one[1]), int(one[2])) for one in found]


def assert_in_order(found: list[tuple[int, int]], begin: int, size: int, part: int = PART) -> None:
    """The parts are of bounded size, and every byte from ``begin`` on comes once."""
    at = begin
    for first, last in found:
        assert first == at
        assert last == min(first + part, size) - 1
        at = last + 1
    assert at == size


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("status", [400, 403, 413, 416])
def test_it_is_fetched_in_parts(hub, served, archive, mirror, restores, waits, status):
    refused = only_in_parts(hub, status=status)
    assert mirror().code == 0
    assert refused.hits == (2 if status == 403 else 1)
    assert len(waits) == (2 if status == 403 else 0)
    assert_in_order(parts(hub), 0, len(served[WEIGHTS]))
    assert parts(hub, "tokenizer.json") == []
    restores(archive, served)


@pytest.mark.usefixtures("small_parts")
def test_so_it_is_where_a_proxy_stands_before_the_hub(hub, served, archive, mirror, restores):
    only_in_parts(hub, path="tokenizer.json", route="resolve")
    only_in_parts(hub, path="README.md", route="resolve", count=300)
    hub.faults.add(Fault("drop", path=WEIGHTS, route="cdn", after=7_000))
    assert mirror().code == 23  # README.md is not to be had in parts of 4,000 bytes
    hub.faults.clear()
    assert mirror().code == 0
    restores(archive, served)


@pytest.mark.usefixtures("small_parts")
def test_parts_break_and_are_resumed(hub, served, archive, mirror, restores):
    hub.faults.add(Fault("drop", path=WEIGHTS, route="cdn", after=2_500, skip=2, times=2))
    only_in_parts(hub)
    assert mirror().code == 0
    begins = [first for first, _ in parts(hub)]
    assert begins[:6] == [0, 4_000, 6_500, 9_000, 13_000, 17_000]
    restores(archive, served)


LIES = {
    "another end": ("bytes 4000-7000/{size}", 30),
    "too long": ("bytes 4000-8000/{size}", 30),
    "another begin": ("bytes 4001-7999/{size}", 30),
    "no range": (None, 30),
    "another total": ("bytes 4000-7999/{more}", 30),  # 22 at first, and then from the beginning
    "a total of 5,000 digits": ("bytes 4000-7999/" + "9" * 5_000, 30),
}


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("lie", LIES)
def test_a_part_that_lies_is_not_believed(hub, served, archive, mirror, lie):
    text, code = LIES[lie]
    size = len(served[WEIGHTS])
    headers = {"Content-Range": text and text.format(size=size, more=size + 1)}
    only_in_parts(hub)
    fault = Fault("forge", path=WEIGHTS, route="cdn", forge=lambda _: (None, headers), skip=1)
    fault.times = None
    hub.faults.add(fault)
    result = mirror()
    assert result.code == code, result.err
    assert WEIGHTS in result.err
    assert fault.hits
    assert_nothing_published(archive)


@pytest.mark.usefixtures("small_parts")
def test_another_file_between_two_parts_is_noticed(hub, served, archive, mirror):
    hub.faults.add(Fault("etag", path=WEIGHTS, route="resolve", skip=3))
    only_in_parts(hub)
    result = mirror()
    assert result.code == 23
    assert "changed during the download" in result.err
    assert_nothing_published(archive)


@pytest.mark.parametrize("route", ["cdn", "resolve"])
def test_a_refusal_that_is_no_matter_of_ranges_is_told(hub, served, archive, mirror, waits, route):
    body = b"<Error><Code>Bad</Code><Message>The proxy\x1b[31m blocks weights</Message></Error>"
    fault = Fault("forge", path=WEIGHTS, route=route, forge=lambda _: (body, {}), status=400)
    fault.times = None
    hub.faults.add(fault)
    result = mirror()
    assert result.code == 23
    assert (fault.hits, waits) == (2, [])
    assert f"refuses {WEIGHTS} of {REPO}" in result.err
    assert r'HTTP 400 and says "Bad The proxy\x1b[31m blocks weights"' in result.err
    assert "look at what stands between" in result.err
    assert "gone" not in result.err
    assert_nothing_published(archive)


@pytest.mark.parametrize("route", ["info", "tree"])
def test_a_refused_listing_is_told_too(hub, served, archive, mirror, route):
    hub.faults.add(Fault("status", route=route, status=400, times=None))
    result = mirror()
    assert result.code == 23
    assert 'HTTP 400 and says "The hub has a bad day"' in result.err


def test_killed_between_parts_it_goes_on(hub, archive, zygote, restores):
    tensors = {f"t{n:02}": ("BF16", (512, 1024), bf16(n, 512, 1024)) for n in range(32)}
    files = model() | {WEIGHTS: safetensors(tensors)}
    size, part = len(files[WEIGHTS]), 2 * MIB
    hub.create(REPO, files)
    only_in_parts(hub, part)
    hub.faults.add(Fault("stall", path=WEIGHTS, route="cdn", skip=12, after=MIB, seconds=600))
    command = ("mirror", "-C", archive, REPO, "--jobs", 1, "--connections", 1, "--effort", "fast")
    first = zygote.start(*command, cores=1, part_bytes=part)
    wait_until(lambda: resumable_bytes(archive) > 3 * MIB)
    first.kill()
    assert first.wait().code == -9
    assert not seals(archive)
    kept = resumable_bytes(archive)
    hub.requests.clear()
    hub.faults.clear()
    only_in_parts(hub, part)
    second = zygote.run(*command, cores=1, part_bytes=part)
    assert second.code == 0, second.err
    assert_in_order(parts(hub), kept, size, part)
    restores(archive, files)
