"""Where an archive lies on its machine is told to nobody elsewhere."""

from __future__ import annotations

import json
import shutil
import socket

import pytest
from kit.cli import invoke
from kit.faults import flip
from kit.served import served
from servedkit import MODEL

HTML = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def root(history, tmp_path_factory):
    """An archive with a copy that its owner named, one that nobody did, and damage that an audit found."""
    folder = tmp_path_factory.mktemp("a & b's", numbered=False)
    root = shutil.copytree(history.archive, folder / "weights")
    for words in ((folder / "named", "--as", "attic"), (folder / "unnamed",)):
        assert invoke("copy", "-q", "-C", root, "--new", *words, "--min-free", "0") == 0
    flip(next((root / "packs").rglob("*.pack")))
    assert invoke("audit", "-q", "-C", root) == 20
    return root


def test_a_proof_names_places_only_as_their_owner_did(root):
    with served(root) as server:
        for what in ("main", "main/config.json"):
            body = server.ask(f"/api/models/{MODEL}/proof/{what}").body.decode()
            assert str(root.parent) not in body
            assert socket.gethostname() not in body
            places = json.loads(body)["places"]
            assert [place["place"] for place in places] == ["", "attic", ""]
            assert all(place["id"] for place in places)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ((), True),
        (("--public",), False),
        (("--host", "0.0.0.0", "--public"), False),
        (("--allowed-host", "archive.example"), False),
    ],
)
def test_pages_say_it_to_this_machine_alone(root, history, words, shown):
    revision = f"/repositories/{MODEL}/revisions/{history.commits[2]}"
    pages = ("/", f"/repositories/{MODEL}", revision, "/status", "/fixity", "/plans", "/journal")
    with served(root, *words) as server:
        for path in (*pages, "/no/such/page"):
            answer = server.ask(path, HTML)
            assert answer.status in {200, 404}
            body = answer.body.decode()
            own = [each for each in body.split("s/weights")[1:] if not each.startswith("-")]
            assert bool(own) == shown, (path, words)
            assert "<footer" in body
        if not shown:
            assert "-C ARCHIVE" in server.ask("/status", HTML).body.decode()
