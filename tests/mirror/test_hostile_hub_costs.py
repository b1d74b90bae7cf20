"""What a hostile hub may cost: memory, measured in a child; waiting, by a clock that a read moves."""

from __future__ import annotations

import gzip
import itertools
import json
import subprocess
import sys

import pytest
from kit.repository import REPO, WEIGHTS, model
from kit.worklog import assert_nothing_published

from archiver.loopback.faults import Fault
from archiver.upstream.deadlines import Patience
from archiver.upstream.huggingface import client

LARGEST_PEAK = 400 * 1024 * 1024
MEASURED = """
import sys
from archiver.cli.main import invoke
code = invoke(sys.argv[1:])
status = open("/proc/self/status").read()
print("peak", int(status.split("VmHWM:")[1].split()[0]) * 1024)
sys.exit(code)
"""
OID = "0" * 40


def entries(*paths: str, **fields) -> list[dict]:
    return [{"type": "file", "path": path, "size": 0, "oid": OID, **fields} for path in paths]


def fixed(body: bytes, **headers: str):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: (body, named)


def endless_junk(hub, repository):
    """Pages that are right, each with 15 MB that nobody needs."""
    junk = "x" * 15_000_000

    def page(n: int):
        body = json.dumps(entries(f"f{n}", junk=junk)).encode()
        return body, {"Link": f'</api/models/{repository}/tree/main?cursor={n}>; rel="next"'}

    return Fault("forge", route="tree", forge=page)


def endless_folders(hub, repository):
    folders = [{"type": "directory", "path": f"folder{n}"} for n in range(20_000)]
    body = json.dumps(folders).encode()

    def page(n: int):
        return body, {"Link": f'</api/models/{repository}/tree/main?cursor={n}>; rel="next"'}

    return Fault("forge", route="tree", forge=page)


def many_files(hub, repository):
    def page(n: int):
        body = json.dumps(entries(*(f"{n}/{i}" for i in range(30_000)))).encode()
        return body, {"Link": f'</api/models/{repository}/tree/main?cursor={n}>; rel="next"'}

    return Fault("forge", route="tree", forge=page)


def long_paths(hub, repository):
    def page(n: int):
        paths = [f"{n}/{i}/" + "/".join("d" * 200 for _ in range(5)) for i in range(10_000)]
        body = json.dumps(entries(*paths)).encode()
        return body, {"Link": f'</api/models/{repository}/tree/main?cursor={n}>; rel="next"'}

    return Fault("forge", route="tree", forge=page)


def deep_paths(_hub, _repository):
    """15 MB of paths with 507 parts, two of which are one."""
    paths = [f"{n:05}/" + "a/" * 505 + "x" for n in range(14_000)]
    body = json.dumps(entries(*paths, paths[0]), separators=(",", ":")).encode()
    return Fault("forge", route="tree", forge=fixed(body))


def info_of(repository: str, **fields) -> bytes:
    return json.dumps({"id": repository, "sha": "1" * 40, **fields}).encode()


ATTACKS = {
    "endless-junk": (endless_junk, "is larger than 268 MB"),
    "endless-folders": (endless_folders, "more than 1,000,000 entries"),
    "many-files": (many_files, "more than 100,000 files"),
    "long-paths": (long_paths, "more than 33,554,432 bytes of paths"),
    "deep-paths": (deep_paths, "is listed twice"),
    "a-page-of-60-mb": (
        lambda *_: Fault("forge", route="tree", forge=fixed(b"[" + b"{}," * 20_000_000 + b"{}]")),
        "is larger than 16.8 MB",
    ),
    "a-page-of-16-mb": (
        lambda *_: Fault("forge", route="tree", forge=fixed(b"[" + b"{}," * 5_500_000 + b"{}]")),
        "an entry without a name or size",
    ),
    "tiny-entries": (
        lambda *_: Fault(
            "forge", route="tree", forge=fixed(b"[" + b'{"path":""},' * 1_300_000 + b'{"path":""}]')
        ),
        "without a size",
    ),
    "nested-card": (
        lambda _, name: Fault(
            "forge",
            route="info",
            forge=fixed(info_of(name)[:-1] + b',"cardData":{"a":[' + b"[]," * 20_000_000 + b"0]}}"),
        ),
        "has no revision 1111",
    ),
    "half-characters": (
        lambda _, name: Fault(
            "forge",
            route="info",
            forge=fixed(info_of(name)[:-1] + b',"x":"' + rb"\n\ud800" * 1_900_000 + b'"}'),
        ),
        "has no revision 1111",
    ),
    "gzip-bomb": (
        lambda *_: Fault(
            "forge",
            route="info",
            forge=fixed(gzip.compress(bytes(300_000_000), 1), Content_Encoding="gzip"),
        ),
        "is larger than 67.1 MB",
    ),
    "zstd": (
        lambda *_: Fault("forge", route="info", forge=fixed(b"?", Content_Encoding="zstd")),
        "compressed as zstd",
    ),
}


def test_no_listing_takes_much_memory(hub, archive):
    """One run meets them all, so that one peak counts for all."""
    names = [f"org/{attack}" for attack in ATTACKS]
    for name, (make, _) in zip(names, ATTACKS.values(), strict=True):
        hub.create(name, {"config.json": b"{}"})
        fault = make(hub, name)
        fault.repository, fault.times = name, None
        hub.faults.add(fault)
    hub.create(REPO, model())
    command = [sys.executable, "-c", MEASURED, "mirror", "-C", str(archive), *names, REPO]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 3, ended.stderr
    for name, (_, said) in zip(names, ATTACKS.values(), strict=True):
        lines = [line for line in ended.stderr.splitlines() if name in line or said in line]
        assert any(said in line for line in lines), (name, ended.stderr)
    assert f"{REPO}@" in ended.stdout
    peak = int(ended.stdout.split("peak ")[1])
    assert peak < LARGEST_PEAK


def enveloped(data: bytes) -> bytes:
    return b'{"Code":200,"Success":true,"Data":' + data + b"}"


MODELSCOPE_ATTACKS = {
    "licence": ("info", enveloped(b'{"License":[' + b"[]," * 20_000_000 + b"0]}")),
    "message": ("info", b'{"Code":404,"Message":"' + b"x" * 60_000_000 + b'"}'),
    "date": (
        "commits",
        enveloped(b'{"Commit":[{"Id":"","CommittedDate":[' + b"[]," * 5_000_000 + b"0]}]}"),
    ),
    "tiny": ("tree", enveloped(b'{"Files":[' + b'{"Path":""},' * 1_300_000 + b'{"Path":""}]}')),
    "large": ("tree", enveloped(b'{"Files":[' + b"{}," * 8_000_000 + b"{}]}")),
}


def test_no_listing_of_modelscope_takes_much_memory(modelscope, archive):
    for name, (route, body) in MODELSCOPE_ATTACKS.items():
        modelscope.create(f"org/{name}", {"config.json": b"{}"})
        fault = Fault("forge", route=route, forge=fixed(body), repository=f"org/{name}", times=None)
        modelscope.faults.add(fault)
    names = [f"modelscope:org/{name}" for name in MODELSCOPE_ATTACKS]
    command = [sys.executable, "-c", MEASURED, "mirror", "-C", str(archive), *names]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 3, ended.stderr
    assert len([name for name in names if name in ended.stderr]) == len(names) - 1, ended.stderr
    assert int(ended.stdout.split("peak ")[1]) < LARGEST_PEAK


# ---- waiting: the clock goes on by a second with each read, and with nothing else


@pytest.fixture
def patience(monkeypatch):
    """Gives the hub's client a clock of its own."""

    def set_up(**changes):
        seconds = itertools.count()
        chosen = Patience(clock=lambda: float(next(seconds)), **changes)
        monkeypatch.setattr(client, "chosen_patience", lambda: chosen)

    set_up()
    return set_up


PAUSE = 0.001
SLOW = {
    "the head of the info": (Fault("slow_head", route="info", seconds=PAUSE), "no whole head"),
    "the head of the listing": (Fault("slow_head", route="tree", seconds=PAUSE), "no whole head"),
    "the head of a file": (
        Fault("slow_head", path=WEIGHTS, route="cdn", seconds=PAUSE),
        "no whole head",
    ),
    "103 now and then": (Fault("interim", route="info", seconds=PAUSE), "no whole head"),
    "103 as fast as can be": (Fault("interim", route="tree"), "no "),
    "the info": (Fault("drip", route="info", seconds=PAUSE), "less than 1.00 kB a second"),
    "the listing": (Fault("drip", route="tree", seconds=PAUSE), "less than 1.00 kB a second"),
    "a file from the hub": (
        Fault("drip", path="README.md", seconds=PAUSE),
        "less than 1.00 kB a second",
    ),
    "a file from the CDN": (
        Fault("drip", path=WEIGHTS, route="cdn", seconds=PAUSE),
        "less than 1.00 kB a second",
    ),
    "a byte and the end": (
        Fault("drop", path=WEIGHTS, route="cdn", after=1),
        "of 25,085 bytes, 8 times in a row",
    ),
}


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("what", SLOW)
def test_what_comes_at_a_byte_a_second_is_given_up(hub, served, archive, mirror, restores, what):
    fault, said = SLOW[what]
    fault.hits, fault.times = 0, None
    hub.faults.add(fault)
    result = mirror()
    assert result.code == 30, result.err
    assert said in result.err
    assert fault.hits == 8
    assert_nothing_published(archive)
    hub.faults.clear()
    assert mirror().code == 0
    restores(archive, served)


def test_a_slow_listing_ends(hub, served, archive, mirror, patience):
    def page(n: int):
        link = f'</api/models/{REPO}/tree/main?cursor={n}>; rel="next"'
        return json.dumps(entries(f"f{n}")).encode(), {"Link": link}

    patience(listing=600.0, least_rate=0.0)
    fault = hub.faults.add(Fault("forge", route="tree", forge=page, times=None))
    result = mirror()
    assert result.code == 30
    assert "took more than 10 min" in result.err
    assert "ARCHIVER_TIMEOUT" in result.err
    assert fault.hits < 700
    assert_nothing_published(archive)


def test_no_rate_is_wanted_where_the_user_says_so(hub, served, archive, mirror, patience, restores):
    patience(least_rate=0.0)
    hub.faults.add(Fault("drip", path="README.md", times=None))
    assert mirror().code == 0
    restores(archive, served)


@pytest.mark.parametrize("value", ["-1", "nan", "fast"])
def test_a_least_rate_that_is_none(served, archive, mirror, monkeypatch, value):
    monkeypatch.setenv("ARCHIVER_LEAST_RATE", value)
    result = mirror()
    assert result.code == 2
    assert "ARCHIVER_LEAST_RATE" in result.err


# ---- listings that go round, waits of years, redirects without end


@pytest.mark.parametrize("cursor", ["", "?cursor=0", "/../main"])
def test_a_page_that_leads_to_itself(hub, served, archive, mirror, cursor):
    link = f'</api/models/{REPO}/tree/main{cursor}>; rel="next"'
    body = json.dumps(entries("a")).encode()
    fault = hub.faults.add(Fault("forge", route="tree", forge=fixed(body, Link=link), times=None))
    result = mirror()
    assert result.code in {22, 30}
    assert fault.hits <= 3
    assert_nothing_published(archive)


def test_a_path_on_every_page(hub, served, archive, mirror):
    def page(n: int):
        link = f'</api/models/{REPO}/tree/main?cursor={n}>; rel="next"'
        return json.dumps(entries(f"f{n}", "again")).encode(), {"Link": link}

    fault = hub.faults.add(Fault("forge", route="tree", forge=page, times=None))
    result = mirror()
    assert result.code == 22
    assert "'again' is listed twice" in result.err
    assert fault.hits == 2
    assert_nothing_published(archive)


@pytest.mark.parametrize(
    "headers",
    [
        {"RateLimit": '"api";r=0;t=999999999'},
        {"Retry-After": "99999999"},
        {"Retry-After": "Fri, 01 Jan 2999 00:00:00 GMT"},
    ],
    ids=str,
)
@pytest.mark.parametrize("route", ["tree", "cdn"])
def test_a_wait_of_years_is_not_waited(hub, served, archive, mirror, waits, route, headers):
    hub.faults.add(Fault("forge", route=route, forge=lambda _: (b"{}", headers), status=429))
    result = mirror()
    assert result.code == 30
    assert "which asks to wait" in result.err
    assert waits == []
    assert_nothing_published(archive)


def test_a_redirect_is_not_read_to_its_end(hub, served, archive, mirror, restores):
    fault = Fault("forge", route="resolve", path=WEIGHTS, forge=fixed(bytes(50_000_000)))
    hub.faults.add(fault)
    assert mirror().code == 0
    [record] = [r for r in hub.requests.of(route="resolve", file=WEIGHTS) if r.status == 302]
    assert record.sent < 50_000_000
    restores(archive, served)


def test_a_listing_of_nothing_is_not_sealed(hub, served, archive, mirror):
    hub.faults.add(Fault("forge", route="tree", forge=fixed(b"[]"), times=None))
    result = mirror()
    assert result.code == 22
    assert "lists no file at all" in result.err
    assert_nothing_published(archive)
    hub.create("org/empty", {})
    assert mirror("org/empty").code == 22
