"""What a hub says of a repository may be anything: a look ends, with a bounded state or a sentence."""

from __future__ import annotations

import itertools
import json

import pytest
from kit.repository import REPO, model

from archiver.archive.records import FILES_MAX
from archiver.archive.watch import BRANCHES_MAX, NAME_MAX, TAGS_MAX, RepositoryState
from archiver.errors import ArchiverError
from archiver.loopback.faults import Fault
from archiver.upstream.huggingface.client import HuggingFace

ODD = [
    *(None, True, -1, 1.5, 2**70, "", "\0", "a\x1b[2Jb", "x" * 70_000, "..", "../x", "*" * 64),
    *([], {}, [[]], [None], {"": None}, [{"name": 5}], [{"rfilename": []}], "aa" * 20),
]
INFO = {
    "_id": "1",
    "id": REPO,
    "sha": "aa" * 20,
    "gated": False,
    "private": False,
    "disabled": False,
    "cardData": {"license": "mit"},
    "siblings": [{"rfilename": "README.md", "blobId": "bb" * 20, "size": 3}],
}
REF = {"name": "main", "ref": "refs/heads/main", "targetCommit": "aa" * 20}


def fixed(body: bytes):
    """An answer that is the same each time."""

    def forge(_n: int) -> tuple[bytes, dict[str, str]]:
        return body, {"Content-Length": str(len(body))}

    return forge


@pytest.fixture
def look(hub, waits):
    """Looks at org/model, of which the hub says this."""
    hub.create(REPO, model())
    upstream = HuggingFace(endpoint=hub.endpoint)

    def call(info=INFO, refs=None) -> RepositoryState | None:
        hub.faults.clear()
        listed = {"branches": [REF], "tags": []} if refs is None else refs
        for route, document in (("info", info), ("refs", listed)):
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
            hub.faults.add(Fault("forge", route=route, forge=fixed(body), times=None))
        try:
            return upstream.look(REPO)
        except ArchiverError as error:
            failure = error
        assert failure.exit_code in {22, 23, 30}, failure.message
        assert failure.message.isprintable()
        return None

    return call


def test_odd_values_of_every_field(look):
    seen = set()
    for field, value in itertools.product(INFO, ODD):
        state = look(INFO | {field: value})
        if state:
            seen.add(field)
            assert len(state.licence) <= 200
            assert len(state.gated) <= 20
    assert seen >= {"gated", "cardData", "siblings"}
    for field, value in itertools.product(REF, ODD):
        state = look(refs={"branches": [REF, REF | {field: value}], "tags": [{field: value}]})
        if state:
            assert state.branches["main"] == "aa" * 20
            assert all(name.isprintable() for name in state.branches)
            assert not state.tags


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{", b"[" * 100_000, b"\xff", b'"\\ud800"'])
def test_answers_that_are_none(look, body):
    assert look(info=body) is None
    assert look(refs=body) is None


def test_half_characters_are_replaced(look):
    body = json.dumps(INFO | {"cardData": {"license": "a\ud800b"}}).encode()
    assert look(info=body).licence == "a?b"
    name = REF | {"name": "a\ud800b"}
    assert set(look(refs={"branches": [REF, name]}).branches) == {"main"}


def test_more_branches_and_tags_than_are_looked_at(look):
    many = [REF | {"name": f"b{n:05}"} for n in range(3000)]
    long = REF | {"name": "é" * (NAME_MAX // 2 + 1)}
    state = look(refs={"branches": [*many, long, REF], "tags": [*many, long]})
    assert (len(state.branches), len(state.tags)) == (BRANCHES_MAX, TAGS_MAX)
    assert ("main" in state.branches, state.complete, state.lists_refs) == (True, False, False)


def test_more_files_than_a_snapshot_may_have_are_not_compared(look):
    sibling = {"rfilename": "x", "lfs": {}, "blobId": "bb" * 20}
    state = look(INFO | {"siblings": [sibling] * (FILES_MAX + 1)})
    assert (state.files, state.card) == (None, None)
    state = look(INFO | {"siblings": [{"rfilename": "x"}]})
    assert (state.files, state.card) == (None, None), "without digests there is nothing to compare"


def test_refs_that_take_too_much_room_are_refused(look):
    assert look(refs=b'{"branches":[' + b"{}," * 1_500_000 + b"{}]}") is None


def test_a_hub_that_lies_about_the_name_or_leads_elsewhere_is_told_by_id(look):
    state = look(INFO | {"id": "org/other", "_id": "2"})
    assert (state.asked, state.repository, state.id) == (REPO, "org/other", "2")
    assert look(INFO | {"id": "../../etc"}) is None
