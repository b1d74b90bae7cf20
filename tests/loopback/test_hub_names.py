from __future__ import annotations

import json
from urllib.parse import quote

import pytest

HOSTILE = {
    "../outside": b"1",
    "a/../../b": b"2",
    "/etc/passwd": b"3",
    "nul\x00inside": b"4",
    "back\\slash": b"5",
    "Case.txt": b"6",
    "case.txt": b"7",
    "caf\u00e9": b"8",
    "cafe\u0301": b"9",
    "./dot": b"a",
    "double//slash": b"b",
    "trailing/": b"c",
    "new\nline\x1b[31m": b"d",
    "percent%2e?query#fragment&more": b"e",
    "\u202egnp.exe": b"f",
    " ": b"g",
}


@pytest.fixture
def hostile(hub):
    hub.create("org/tiny", HOSTILE | {f"{name}.bin": data for name, data in HOSTILE.items()})
    return "org/tiny"


def test_hostile_names_are_listed_as_they_are(hostile, ask):
    entries = json.loads(ask(f"/api/models/{hostile}/tree/main?recursive=true").body)
    assert {e["path"] for e in entries if e["type"] == "file"} >= set(HOSTILE)


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_hostile_names_are_served(hub, hostile, ask, name):
    assert ask(f"/org/tiny/resolve/main/{quote(name)}").body == HOSTILE[name]
    link = ask(f"/org/tiny/resolve/main/{quote(name)}.bin")
    assert ask(link.headers["Location"]).body == HOSTILE[name]
    assert hub.requests.of(port="cdn")[-1].file == f"{name}.bin"
