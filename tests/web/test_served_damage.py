"""Damage beneath a server: its clients get the right bytes, or a refusal, and never wrong ones."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
from kit.cli import invoke
from kit.disks import needs_mount, read_only, skip_unless_mountable
from kit.faults import flip
from kit.repository import WEIGHTS
from kit.served import served
from servedkit import LARGE, MODEL, large

from archiver.archive.archive import Archive
from archiver.archive.layout import pack_name
from archiver.archive.packs.index import ObjectIndex

BIG = "org/large"
SEGMENT = 16 << 20


@pytest.fixture
def root(history, tmp_path):
    """The archive to damage: no parity, no copy."""
    return shutil.copytree(history.archive, tmp_path / "archive")


def damage(root: Path, repository: str, path: str, number: int) -> str:
    """Flip a bit of a file's segment in its pack; the object."""
    archive = Archive.open(root)
    snapshot = archive.find(repository)
    entry = archive.manifest(snapshot.seal).file(path)
    _, digest = entry.segments[number]
    pack, listed = ObjectIndex(archive, [pack for pack, _ in snapshot.seal.packs]).find(digest)
    flip(root / pack_name(pack), listed.offset + listed.stored // 2)
    return digest


def met(root: Path) -> list[dict]:
    paths = sorted((root / "journal").rglob("*.json"))
    events = [json.loads(path.read_bytes()) for path in paths]
    told = [event["detail"] for event in events if event["event"] == "damage-met"]
    return [each for detail in told for each in detail["objects"]]


def proof(server) -> dict:
    return json.loads(server.ask(f"/api/models/{MODEL}/proof/main").body)


def address(repository: str, path: str) -> str:
    return f"/{repository}/resolve/main/{path}"


def test_parity_gives_the_right_bytes_and_it_is_told_once(root, history):
    assert invoke("parity", "add", "-q", "-C", root, MODEL) == 0
    data = history.model[history.commits[2]][WEIGHTS]
    with served(root) as one, served(root) as two:
        digest = damage(root, MODEL, WEIGHTS, 1)
        got: list[bytes] = []

        def ask(server):
            got.extend(server.ask(address(MODEL, WEIGHTS)).body for _ in range(20))

        threads = [threading.Thread(target=ask, args=(server,)) for server in (one, two)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert got == [data] * 40
        (event,) = met(root)
        assert (event["object"], event["source"]) == (digest, "parity")
        # What is known is kept for a moment: twenty times what reading it took.
        end = time.monotonic() + 600
        while (damaged := proof(one)["damaged"]) != event["packs"]:
            assert time.monotonic() < end, damaged
        assert proof(one)["proven"] is None


def test_a_copy_elsewhere_gives_the_right_bytes(root, tmp_path):
    words = ("copy", "-q", "-C", root, "--new", tmp_path / "copy", "--min-free", "0")
    assert invoke(*words) == 0
    place = json.loads((tmp_path / "copy" / "place.json").read_bytes())["place"]
    with served(root) as server:
        digest = damage(root, BIG, LARGE, 1)
        api = HfApi(endpoint=server.endpoint, token=False)
        got = api.hf_hub_download(BIG, LARGE, local_dir=tmp_path / "got")
        assert Path(got).read_bytes() == large()[LARGE]
    ((told, source),) = [(each["object"], each["source"]) for each in met(root)]
    assert (told, source) == (digest, place)


def test_another_pack_gives_the_right_bytes_and_it_is_told(root):
    from archiver.archive.packs.writer import PackWriter

    archive = Archive.open(root)
    snapshot = archive.find(BIG)
    _, digest = archive.manifest(snapshot.seal).file(LARGE).segments[0]
    packs = [pack for pack, _ in snapshot.seal.packs]
    writer = PackWriter(archive.store, archive.info)
    writer.append(ObjectIndex(archive, packs).copy(digest))
    writer.complete()
    writer.publish()
    with served(root) as server:
        damage(root, BIG, LARGE, 0)
        answer = server.ask(address(BIG, LARGE), {"Range": "bytes=0-999"})
        assert (answer.status, answer.body) == (206, large()[LARGE][:1000])
    (event,) = met(root)
    assert (event["object"], event["source"]) == (digest, "pack")
    assert set(event["packs"]) <= set(packs)


def test_what_nobody_has_is_refused_before_the_first_byte(root, tmp_path):
    with served(root) as server:
        digest = damage(root, BIG, LARGE, 0)
        answer = server.ask(address(BIG, LARGE))
        assert answer.status == 503
        assert answer.headers["x-error-code"] == "Damaged"
        assert digest in answer.headers["x-error-message"]
        told = json.loads(answer.body)
        assert (told["code"], told["object"], told["next"]) == (
            "Damaged",
            digest,
            "archiver repair",
        )
        assert told["error"] == answer.headers["x-error-message"]
        assert str(root) not in answer.body.decode()
        # What does not need it is given: another part of the file, and other files.
        part = server.ask(address(BIG, LARGE), {"Range": f"bytes={SEGMENT}-{SEGMENT + 99}"})
        assert (part.status, part.body) == (206, large()[LARGE][SEGMENT : SEGMENT + 100])
        assert server.ask(address(BIG, "config.json")).body == b"{}"
        assert server.ask(address(BIG, LARGE), method="HEAD").status == 200
        api = HfApi(endpoint=server.endpoint, token=False)
        with pytest.raises(HfHubHTTPError, match=digest):
            api.hf_hub_download(BIG, LARGE, local_dir=tmp_path / "got")
        assert not (tmp_path / "got" / LARGE).exists()
    assert [(each["object"], each.get("source", "")) for each in met(root)] == [(digest, "")]


def test_damage_in_the_middle_breaks_the_transfer_off(root, tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)  # the client's, between its retries
    with served(root) as server:
        damage(root, BIG, LARGE, 1)
        for headers in ({}, {"Range": "bytes=5-20000000"}, {"Range": "bytes=0-9,8000000-20000000"}):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            connection.request("GET", address(BIG, LARGE), headers=headers)
            answer = connection.getresponse()
            assert answer.status in {200, 206}
            assert answer.getheader("Content-Length")
            with pytest.raises(http.client.IncompleteRead) as caught:
                answer.read()
            got = caught.value.partial
            if "," not in headers.get("Range", ""):
                start = 5 if headers else 0
                assert got == large()[LARGE][start : start + len(got)]
                assert start + len(got) <= SEGMENT
            connection.close()
        command = [
            "curl",
            "-sf",
            "--output",
            tmp_path / "curl",
            server.endpoint + address(BIG, LARGE),
        ]
        assert subprocess.run(command, check=False).returncode == 18  # "partial file"
        api = HfApi(endpoint=server.endpoint, token=False)
        with pytest.raises(Exception):  # noqa: B017, PT011 - whatever the client calls it
            api.hf_hub_download(BIG, LARGE, cache_dir=tmp_path / "cache")
        assert not [path for path in (tmp_path / "cache").rglob(LARGE) if path.exists()]
        assert server.ask(address(BIG, "config.json")).body == b"{}"


@needs_mount
def test_an_archive_that_can_only_be_read_is_healed_and_remarked(root, history):
    skip_unless_mountable()
    assert invoke("parity", "add", "-q", "-C", root, MODEL) == 0
    damage(root, MODEL, WEIGHTS, 1)
    before = len(list((root / "journal").rglob("*.json")))
    data = history.model[history.commits[2]][WEIGHTS]
    with read_only(root), served(root) as server:
        for _ in range(3):
            assert server.ask(address(MODEL, WEIGHTS)).body == data
        assert server.process.stderr
        remark = server.process.stderr.readline()
    assert "the journal cannot be told of it" in remark
    assert len(list((root / "journal").rglob("*.json"))) == before


def test_what_a_repair_mends_is_given_again(root):
    with served(root) as server:
        damage(root, BIG, LARGE, 0)
        assert server.ask(address(BIG, LARGE)).status == 503
        damage(root, BIG, LARGE, 0)
        answer = server.ask(address(BIG, LARGE))
        assert answer.body == large()[LARGE]


def test_a_repair_ends_what_a_cable_caused_and_what_is_met_again_rings_again(root):
    def code(*words: object) -> int:
        return invoke(words[0], "-q", "-C", root, *words[1:])

    assert (code("audit"), code("status")) == (0, 0)
    for seen in (1, 2):
        with served(root) as server:
            damage(root, BIG, LARGE, 0)
            assert server.ask(address(BIG, LARGE)).status == 503
        assert len(met(root)) == seen
        assert code("repair", "--no-upstream", "--dry-run") == 21
        damage(root, BIG, LARGE, 0)  # the same bit again: it is healthy
        assert code("status") == 24
        # What else is looked at does not matter, nor does what is only said.
        assert code("repair", "--no-upstream", "--snapshot", MODEL) == 0
        assert code("repair", "--no-upstream", "--dry-run") == 0
        assert code("status") == 24
        assert code("repair", "--no-upstream") == 0
        assert code("status") == 0
    events = len(list((root / "journal").rglob("*.json")))
    assert code("repair", "--no-upstream") == 0
    assert len(list((root / "journal").rglob("*.json"))) == events


def test_a_repair_ends_what_an_audit_found_and_is_whole_again(root):
    def code(*words: object) -> int:
        return invoke(words[0], "-q", "-C", root, *words[1:])

    manifest = next((root / "manifests").rglob("*.zst"))
    flip(manifest)
    damage(root, BIG, LARGE, 0)
    assert (code("audit"), code("status")) == (20, 24)
    flip(manifest)
    assert code("repair", "--no-upstream") == 21
    assert code("status") == 24  # the pack is damaged still
    damage(root, BIG, LARGE, 0)
    assert code("repair", "--no-upstream") == 0
    assert code("status") == 0
