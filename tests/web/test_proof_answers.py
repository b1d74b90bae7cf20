"""Proof with every answer: headers beside each file, and JSON of a revision and of a file."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import time

import pytest
from blake3 import blake3
from kit.archive import seals
from kit.cli import invoke
from kit.faults import flip
from kit.repository import WEIGHTS
from kit.served import served
from servedkit import DATASET, LARGE, MODEL

from archiver.archive.archive import Archive
from archiver.text import utc_now


@pytest.fixture(scope="module")
def archive(history, tmp_path_factory):
    """The archive, with a policy that trusts a key, by which it is signed, and a copy elsewhere."""
    folder = tmp_path_factory.mktemp("proof")
    root = folder / "archive"
    shutil.copytree(history.archive, root)
    key = folder / "key"
    assert invoke("keys", "new", "-q", "--no-password", key) == 0
    words = ("policy", "set", "-q", "-C", root, "--copies", "2", "--trust", f"{key}.pub")
    assert invoke(*words) == 0
    assert invoke("sign", "-q", "-C", root, "--key", f"{key}.key") == 0
    assert invoke("copy", "-q", "-C", root, "--new", folder / "copy", "--min-free", "0") == 0
    return root


@pytest.fixture(scope="module")
def server(archive):
    with served(archive) as running:
        yield running


@pytest.fixture(scope="module")
def commit(history):
    return history.commits[2]


def proof(server, what: str, kind: str = "models") -> dict:
    answer = server.ask(f"/api/{kind}/{what}")
    assert answer.status == 200, answer
    assert answer.headers["content-type"] == "application/json"
    return json.loads(answer.body)


def until(tell, holds):
    """What is told once it holds: what is known is kept for a moment, twenty times what reading it took."""
    end = time.monotonic() + 600
    while not holds(told := tell()):
        assert time.monotonic() < end, told
        time.sleep(0.1)
    return told


def test_headers_name_seal_manifest_and_digests(server, archive, history, commit):
    (seal,) = [path for path in seals(archive, MODEL) if path.name.startswith(commit)]
    manifest = json.loads(seal.read_bytes())["manifest"]["blake3"]
    for path, data in history.model[commit].items():
        for method, headers in (("GET", {}), ("HEAD", {}), ("GET", {"Range": "bytes=0-0"})):
            if headers and not data:
                continue
            told = server.ask(f"/{MODEL}/resolve/main/{path}", headers, method).headers
            assert told["x-archiver-seal"] == blake3(seal.read_bytes()).hexdigest()
            assert told["x-archiver-manifest"] == manifest
            assert told["x-archiver-blake3"] == blake3(data).hexdigest()
            # RFC 9530: of the whole file, also where a part of it is sent.
            sha256 = base64.b64encode(hashlib.sha256(data).digest()).decode()
            assert told["repr-digest"] == f"sha-256=:{sha256}:"
            address = f"/api/models/{MODEL}/proof/{commit}/{path}"
            assert told["link"] == f'<{address}>; rel="describedby"; type="application/json"'


def test_headers_name_who_vouched(server):
    def vouched(path):
        return server.ask(f"/{MODEL}/resolve/main/{path}").headers["x-archiver-vouched"]

    assert vouched(WEIGHTS) == "upstream; digest=sha256"
    assert vouched("config.json") == "upstream; digest=git-sha1"


def test_the_proof_of_a_revision(server, archive, history, commit):
    told = proof(server, f"{MODEL}/proof/main")
    files = history.model[commit]
    assert (told["id"], told["type"], told["revision"]) == (MODEL, "model", commit)
    assert (told["files"], told["bytes"]) == (len(files), sum(map(len, files.values())))
    assert told["vouched"] == "upstream"
    assert told["vouching"]["upstream"] == len(files)
    assert len(told["signed"]) == 1
    here, copy = told["places"]
    assert (here["here"], here["counts"]) == (True, True)
    assert here["id"] == json.loads((archive / "place.json").read_bytes())["place"]
    copied = json.loads((archive.parent / "copy" / "place.json").read_bytes())["place"]
    # On the same disk, and so not counted; but proven there as it was copied.
    assert (copy["id"], copy["standing"]) == (copied, "same-device")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", copy["proven"])
    assert (told["damaged"], told["tested"]) == ([], None)
    assert proof(server, f"{MODEL}/proof/{commit}") == told
    assert proof(server, f"{DATASET}/proof/main", "datasets")["type"] == "dataset"


def test_the_proof_of_a_file(server, history, commit):
    told = proof(server, f"{MODEL}/proof/main/{WEIGHTS}")
    data = history.model[commit][WEIGHTS]
    assert told.pop("file") == {
        "path": WEIGHTS,
        "size": len(data),
        "blake3": blake3(data).hexdigest(),
        "sha256": hashlib.sha256(data).hexdigest(),
        "oid": told_oid(server, commit),
        "lfs": True,
        "vouched": "upstream",
        "compared": "sha256",
    }
    assert told == proof(server, f"{MODEL}/proof/main")


def told_oid(server, commit):
    files = json.loads(server.ask(f"/api/models/{MODEL}/tree/{commit}").body)
    return next(each["oid"] for each in files if each["path"] == WEIGHTS)


def test_what_is_not_held_has_no_proof(server):
    for path, code in (
        (f"{MODEL}/proof/nothing", "RevisionNotFound"),
        (f"{MODEL}/proof/main/nothing", "EntryNotFound"),
        ("org/nothing/proof/main", "RepoNotFound"),
    ):
        answer = server.ask(f"/api/models/{path}")
        assert (answer.status, answer.headers["x-error-code"]) == (404, code)


def test_a_proof_is_as_new_as_the_journal(server, archive):
    def told():
        header = server.ask(f"/{MODEL}/resolve/main/{WEIGHTS}").headers["x-archiver-proven"]
        return header, proof(server, f"{MODEL}/proof/main")

    place = json.loads((archive / "place.json").read_bytes())["place"]
    # The copy read every pack of it, and no audit did yet.
    header, document = told()
    assert header == f'{document["places"][0]["proven"]}; level=stored; place="{place}"'
    assert list(document["levels"]) == ["structure", "stored"]
    for level in ("content", "files"):
        # Where much happens in one second, the journal's times run ahead of the clock by some of these: the
        # copy would be newer than an audit that came after it.
        latest = max(event.time for _, event in Archive.open(archive).events())
        until(utc_now, lambda now, latest=latest: now > latest)
        assert invoke("audit", "-q", "-C", archive, "--level", level) == 0
        header, document = until(told, lambda now, level=level: f"level={level}" in now[0])
        when = document["proven"]["time"]
        assert header == f'{when}; level={level}; place="{place}"'
        assert document["proven"] == {"time": when, "level": level}
        assert document["levels"]["stored"] == when
        assert ("files" in document["levels"]) == (level == "files")
    # Damage that was found takes the proof away, from what stands on it.
    (large,) = seals(archive, "org/large")
    packs = [pack for pack, _ in json.loads(large.read_bytes())["packs"]]
    flip(archive / "packs" / packs[0][:2] / f"{packs[0]}.pack")
    assert invoke("audit", "-q", "-C", archive) == 20
    document = until(
        lambda: proof(server, "org/large/proof/main"), lambda now: bool(now["damaged"])
    )
    assert (document["damaged"], document["proven"]) == ([packs[0]], None)
    told_of = server.ask(f"/org/large/resolve/main/{LARGE}", method="HEAD").headers
    assert told_of["x-archiver-proven"] == "never"
