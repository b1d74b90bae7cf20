"""One file over several connections: its ranges come in any order, and are stored in that of the file."""

from __future__ import annotations

import re
import threading
from itertools import pairwise

import pytest
from kit.archive import seals
from kit.repository import REPO, WEIGHTS, bf16, model, safetensors
from kit.worklog import assert_nothing_published, resumable_bytes, tmp_names, wait_until

from archiver.loopback.faults import Fault
from archiver.throttle import Throttle
from archiver.upstream import connections, ranges
from archiver.upstream.connections import ConnectionCount
from archiver.upstream.huggingface.client import HuggingFace
from archiver.upstream.retry import RetryPolicy

KIB = 1 << 10
MIB = 1 << 20
PIECE = 4 * KIB
WINDOW = 128 * KIB


@pytest.fixture
def small_ranges(monkeypatch):
    """All that is counted in MiB is counted in KiB, so that a small file has many ranges."""
    monkeypatch.setattr(connections, "LEAST_BYTES", 64 * KIB)
    monkeypatch.setattr(connections, "_WINDOW_BYTES", WINDOW)
    monkeypatch.setattr(connections, "PIECE", PIECE)
    monkeypatch.setattr(ranges, "RANGE_STEP", 8 * KIB)
    monkeypatch.setattr(ranges, "LONGEST_RANGE", 32 * KIB)
    monkeypatch.setattr(ranges, "SHORTEST_RANGE", 4 * KIB)


@pytest.fixture
def files(hub, small_ranges) -> dict[str, bytes]:
    """Org/model with one large file; each answer takes so long that other connections are opened."""
    served = model() | {WEIGHTS: safetensors({"a": ("BF16", (512, 1024), bf16(0, 512, 1024))})}
    hub.create(REPO, served)
    hub.delay = 0.002
    return served


def answers(hub) -> list:
    return hub.requests.of(route="cdn", file=WEIGHTS)


def parts(hub) -> list[tuple[int, int]]:
    """First byte and end of each range that was answered with 206, in the order of the file."""
    found = (re.fullmatch(r"bytes=(\d+)-(\d+)", r.range) for r in answers(hub) if r.status == 206)
    return sorted((int(match[1]), int(match[2]) + 1) for match in found if match)


def asked_of_the_hub(hub) -> int:
    return len(hub.requests.of(route="resolve", file=WEIGHTS))


def test_every_byte_comes_once_and_the_hub_is_asked_once(
    hub, files, archive, mirror, restores, monkeypatch
):
    monkeypatch.setenv("HF_TOKEN", "hf_not_for_the_cdn")
    assert mirror().code == 0
    found = parts(hub)
    assert len(found) > 16
    assert (found[0][0], found[-1][1]) == (0, len(files[WEIGHTS]))
    assert all(before[1] == after[0] for before, after in pairwise(found))
    assert asked_of_the_hub(hub) == 1
    assert {record.token for record in hub.requests.of(port="cdn")} == {""}
    assert {record.range for record in hub.requests.of(route="cdn", file="tokenizer.json")} == {""}
    restores(archive, files)


def test_one_connection_is_one_stream(hub, files, archive, mirror, restores):
    assert mirror("--connections", 1).code == 0
    assert [record.range for record in answers(hub)] == [""]
    restores(archive, files)


def test_a_hub_without_ranges_sends_one_stream(hub, files, archive, mirror, restores):
    hub.faults.add(Fault("ignore_range", path=WEIGHTS, times=None))
    assert mirror().code == 0
    assert answers(hub)[-1].range == ""
    assert answers(hub)[-1].sent == len(files[WEIGHTS])
    restores(archive, files)


@pytest.mark.parametrize("skip", [1, 5, 20])
def test_a_hub_that_gives_ranges_no_more(hub, files, archive, mirror, restores, skip):
    """What came before in the file is not fetched again; one stream goes on from there."""
    fault = hub.faults.add(Fault("ignore_range", path=WEIGHTS, skip=skip, times=None))

    def end() -> None:
        fault.times = 0

    hub.faults.add(Fault("call", path=WEIGHTS, route="resolve", skip=1, call=end))
    assert mirror().code == 0
    last = answers(hub)[-1]
    begin = int(re.fullmatch(r"bytes=(\d+)-", last.range)[1])
    assert (begin > 0, begin + last.sent) == (True, len(files[WEIGHTS]))
    restores(archive, files)


@pytest.mark.parametrize("times", [1, 6])
@pytest.mark.parametrize("skip", [0, 1, 20])
@pytest.mark.parametrize("status", [400, 404, 416])
def test_a_range_that_is_refused(hub, files, archive, mirror, restores, status, skip, times):
    fault = Fault("status", path=WEIGHTS, route="cdn", status=status, skip=skip, times=times)
    hub.faults.add(fault)
    code = mirror().code
    assert fault.hits
    if code:  # Refused by the hub itself, or more often than it is asked for: as with one stream.
        assert code in {22, 23}
        assert (times, skip) != (1, 20)
        assert_nothing_published(archive)
        hub.faults.clear()
        assert mirror().code == 0
    restores(archive, files)


BROKEN = {
    "dropped": Fault("drop", after=3_000),
    "dropped at once": Fault("drop"),
    "reset": Fault("reset", after=3_000),
    "short": Fault("short", count=1_000),
    "stalled": Fault("stall", after=3_000, seconds=60),
    "no range": Fault("content_range", count=1),
    "refused": Fault("status", status=500),
    "an expired link": Fault("expired"),
    "another file at the CDN": Fault("etag"),
}


@pytest.mark.parametrize("skip", [0, 2, 9])
@pytest.mark.parametrize("how", BROKEN)
def test_a_range_that_breaks_is_asked_for_again(
    hub, files, archive, mirror, restores, how, skip, monkeypatch
):
    monkeypatch.setenv("ARCHIVER_TIMEOUT", "2" if how == "stalled" else "600")
    broken = BROKEN[how]
    fault = Fault(broken.kind, path=WEIGHTS, route="cdn", skip=skip, times=2)
    fault.after, fault.count, fault.status = broken.after, broken.count, broken.status
    fault.seconds = broken.seconds
    hub.faults.add(fault)
    assert mirror().code == 0
    assert fault.hits == 2
    assert hub.requests.bytes_sent <= len(files[WEIGHTS]) + 2 * WINDOW
    restores(archive, files)


@pytest.mark.parametrize("attempts", [1, None], ids=["once", "always"])
def test_another_total_in_one_range_is_another_file(
    hub, files, archive, mirror, restores, attempts
):
    """Once: the file is fetched anew. Always: it is refused, and nothing is published."""
    total = {"Content-Range": f"bytes 0-8191/{len(files[WEIGHTS]) + 1}"}
    fault = Fault("forge", path=WEIGHTS, route="cdn", forge=lambda _: (None, total))
    fault.times = attempts
    hub.faults.add(fault)
    result = mirror()
    if attempts:
        assert result.code == 0
        restores(archive, files)
    else:
        assert result.code == 22
        assert f"{len(files[WEIGHTS]) + 1:,} bytes" in result.err
        assert_nothing_published(archive)


def test_another_file_at_the_hub_is_noticed(hub, files, archive, mirror):
    hub.faults.add(Fault("etag", path=WEIGHTS, route="resolve", skip=1))
    hub.faults.add(Fault("drop", path=WEIGHTS, route="cdn", skip=6))
    result = mirror()
    assert result.code == 23
    assert "changed during the download" in result.err
    assert_nothing_published(archive)


def test_a_flipped_bit_in_one_range_is_noticed(hub, files, archive, mirror, restores):
    fault = hub.faults.add(Fault("flip", path=WEIGHTS, route="cdn", offset=100_000))
    assert mirror().code == 0
    assert fault.hits == 1
    assert hub.requests.bytes_sent > 2 * len(files[WEIGHTS])
    restores(archive, files)


@pytest.mark.parametrize("status", [429, 503])
def test_too_many_connections_become_fewer(hub, files, archive, mirror, restores, waits, status):
    """What was refused is done by a connection that there is already, when it has waited as asked."""
    kind = "rate_limit" if status == 429 else "status"
    fault = Fault(kind, path=WEIGHTS, route="cdn", skip=1, times=3, status=status, seconds=7)
    hub.faults.add(fault)
    assert mirror().code == 0
    assert fault.hits == 3
    if status == 429:
        assert max(waits) == pytest.approx(7, abs=1)
    restores(archive, files)


def test_a_hub_that_refuses_for_good_is_given_up(hub, files, archive, mirror):
    hub.faults.add(Fault("rate_limit", path=WEIGHTS, skip=8, times=None))
    result = mirror()
    assert result.code == 30
    assert re.search(rf"{WEIGHTS} of {REPO}.* stopped at byte [\d,]+ of", result.err)
    assert "8 times in a row" in result.err
    assert_nothing_published(archive)


def test_a_wait_of_more_than_a_day_is_not_begun(hub, files, archive, mirror):
    hub.faults.add(
        Fault("rate_limit", path=WEIGHTS, route="cdn", skip=1, times=None, seconds=100_000)
    )
    result = mirror()
    assert result.code == 30
    assert "asks to wait" in result.err
    assert_nothing_published(archive)


@pytest.mark.parametrize("started", [0, 2])
def test_a_system_without_threads_to_spare(
    hub, files, archive, mirror, restores, monkeypatch, started
):
    honest, left = ranges._Connection.start, started

    def start(connection):
        nonlocal left
        left -= 1
        if left < 0:
            raise RuntimeError("can't start new thread")
        honest(connection)

    monkeypatch.setattr(ranges._Connection, "start", start)
    assert mirror().code == 0
    assert started or [record.range for record in answers(hub)] == [""]
    restores(archive, files)


def test_resumed_in_the_middle_with_several_connections(hub, archive, zygote, restores):
    """With real sizes: killed while ranges are on their way, it goes on from what was stored."""
    tensors = {f"t{n:02}": ("BF16", (512, 1024), bf16(n, 512, 1024)) for n in range(40)}
    files = model() | {WEIGHTS: safetensors(tensors)}
    size = len(files[WEIGHTS])
    hub.create(REPO, files)
    hub.faults.add(Fault("stall", path=WEIGHTS, route="cdn", skip=4, after=MIB, seconds=600))
    command = ("mirror", "-C", archive, REPO, "--jobs", 1, "--effort", "fast")
    first = zygote.start(*command, cores=1)
    wait_until(lambda: resumable_bytes(archive) > 8 * MIB)
    first.kill()
    assert first.wait().code == -9
    assert not seals(archive)
    kept = resumable_bytes(archive)
    hub.requests.clear()
    hub.faults.clear()
    second = zygote.run(*command, cores=1)
    assert second.code == 0, second.err
    found = parts(hub)
    assert (found[0][0], found[-1][1]) == (kept, size)
    assert all(before[1] == after[0] for before, after in pairwise(found))
    assert tmp_names(archive) == []
    restores(archive, files)


# ---- the window, and how many connections there are


def test_what_comes_too_early_is_bounded(hub, files):
    """The first range stalls. The others go on until the window is full, and wait then."""
    fault = Fault("stall", path=WEIGHTS, route="cdn", skip=1, after=PIECE, seconds=600)
    hub.faults.add(fault)
    upstream = HuggingFace(endpoint=hub.endpoint, connections=8)
    listing = upstream.list(REPO)
    file = next(file for file in listing.files if file.path == WEIGHTS)
    pool = upstream._pool
    got = bytearray()
    with upstream.open(listing, file) as stream:
        buffer = memoryview(bytearray(1000))
        reader = threading.Thread(target=lambda: read_all(stream, buffer, got))
        reader.start()
        wait_until(lambda: pool.full)
        assert pool._lent * PIECE <= WINDOW + 8 * PIECE
        hub.stop()  # which cuts the connection that is silent
        hub.start()
        reader.join()
    assert bytes(got) == files[WEIGHTS]
    wait_until(lambda: not pool._lent)
    assert not pool._idle


def read_all(stream, buffer: memoryview, got: bytearray) -> None:
    while count := stream.readinto(buffer):
        got += buffer[:count]


def test_whoever_waits_for_room_fetches_what_the_reader_waits_for(hub, files):
    """The first range is refused when the window is full: nobody else has anything to do."""
    hub.faults.add(Fault("drop", path=WEIGHTS, route="cdn", after=PIECE + 1000))
    refusal = Fault("status", path=WEIGHTS, route="cdn")
    others: list[memoryview] = []  # what another file of the run has in the window meanwhile

    def sleep(_seconds: float) -> None:
        if not refusal.hits:
            wait_until(lambda: pool.full)
            others.extend(pool.take_buffer() for _ in range(8))
            hub.faults.add(refusal)

    policy = RetryPolicy(sleep=sleep)
    upstream = HuggingFace(endpoint=hub.endpoint, connections=8, retry=policy)
    listing = upstream.list(REPO)
    file = next(file for file in listing.files if file.path == WEIGHTS)
    pool = upstream._pool
    got = bytearray()
    with upstream.open(listing, file) as stream:
        read_all(stream, memoryview(bytearray(1000)), got)
    assert bytes(got) == files[WEIGHTS]
    assert refusal.hits == 1
    wait_until(lambda: pool._lent == len(others))


def test_a_stream_that_is_left_early_leaves_nothing(hub, files):
    upstream = HuggingFace(endpoint=hub.endpoint, connections=8, retry=RetryPolicy(attempts=1))
    listing = upstream.list(REPO)
    file = next(file for file in listing.files if file.path == WEIGHTS)
    hub.rate = 400_000
    with upstream.open(listing, file) as stream:
        assert stream.readinto(memoryview(bytearray(10)))
    hub.rate = None
    wait_until(lambda: not [t for t in threading.enumerate() if t.name == "range"])
    wait_until(lambda: not upstream._pool._lent)


def test_all_connections_share_the_throttle(hub, files):
    slept = []
    limit = Throttle(1_000_000, 0, clock=lambda: 0.0, sleep=slept.append)
    upstream = HuggingFace(endpoint=hub.endpoint, connections=8, throttle=limit)
    listing = upstream.list(REPO)
    file = next(file for file in listing.files if file.path == WEIGHTS)
    got = bytearray()
    with upstream.open(listing, file) as stream:
        read_all(stream, memoryview(bytearray(5000)), got)
    assert bytes(got) == files[WEIGHTS]
    assert max(slept) == pytest.approx(len(got) / 1_000_000)


class Link:
    """A made-up link, and the count of connections that is used on it."""

    def __init__(self, most: int, *, each: float, together: float, size: int = 0) -> None:
        self.now = 100.0
        self.each, self.together = each, together
        self.count = ConnectionCount(most, lambda: self.now, size)
        self.count.began()

    def run(self, seconds: float, *, waiting: float = 1.0) -> int:
        for _ in range(int(seconds * 20)):
            self.now += 0.05
            self.count.waited(0.05 * waiting)
            rate = min(self.each * self.count.number, self.together)
            self.count.received(int(rate * 0.05))
        return self.count.number


@pytest.mark.parametrize(
    ("each", "together", "number"), [(25e6, 1e9, 8), (25e6, 110e6, 4), (100e6, 100e6, 4)]
)
def test_there_are_as_many_connections_as_bring_more(each, together, number):
    assert Link(8, each=each, together=together).run(3) == number


@pytest.mark.parametrize(("size", "number"), [(40 * MIB, 4), (100 * MIB, 6), (1 << 30, 8)])
def test_a_large_file_begins_with_more(size, number):
    link = Link(8, each=25e6, together=1e9, size=size)
    assert link.count.number == number
    link.count.refused(3)
    assert link.run(20) == 3


def test_one_bad_moment_of_a_machine_decides_nothing():
    link = Link(8, each=25e6, together=1e9)
    while link.run(0.05) < 8:
        pass
    link.together = 50e6
    assert link.run(0.3) == 8
    link.together = 1e9
    assert link.run(5) == 8


def test_a_reader_that_does_not_wait_needs_no_more():
    assert Link(8, each=25e6, together=1e9).run(3, waiting=0.1) == 4


def test_a_refusal_is_remembered_for_a_while():
    link = Link(8, each=25e6, together=1e9)
    assert link.run(3) == 8
    link.count.refused(3)
    assert link.run(20) == 3
    assert link.run(20) == 8
