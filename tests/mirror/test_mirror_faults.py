"""Whatever a hub does: a complete snapshot that restores bit for bit, or none at all."""

from __future__ import annotations

import json

import pytest
from kit.archive import seals
from kit.repository import REPO, WEIGHTS, model
from kit.worklog import assert_nothing_published

from archiver.loopback.faults import Fault

LFS = ("tokenizer.json", WEIGHTS)


def fetched(hub) -> set[str]:
    return {record.file for record in hub.requests.bodies()}


# ---- what passes by itself

PASSING = {
    "drop at once": [Fault("drop", path=WEIGHTS)],
    "drop in the middle": [Fault("drop", path=WEIGHTS, after=9_000, route="cdn", times=3)],
    "drop of a small file": [Fault("drop", path="README.md", after=100)],
    "drop of the listing": [Fault("drop", route="tree", after=10)],
    "drop of the description": [Fault("drop", route="info", after=10)],
    "reset": [Fault("reset", path=WEIGHTS, after=20_000, times=3)],
    "reset everywhere": [Fault("reset", after=3, times=9)],
    "burst of 503": [Fault("status", times=6)],
    "502 on the CDN": [Fault("status", status=502, route="cdn", times=5)],
    "500 on a file": [Fault("status", status=500, path="config.json", times=3)],
    "one flipped byte": [Fault("flip", path=WEIGHTS, route="cdn", offset=10_000)],
    "one flipped byte in git": [Fault("flip", path="README.md", offset=7)],
    "a flip in the header": [Fault("flip", path=WEIGHTS, route="cdn", offset=3)],
    "short body": [Fault("short", path=WEIGHTS, count=5_000)],
    "short git body": [Fault("short", path="README.md", count=1)],
    "expired signature": [Fault("expired", path=WEIGHTS)],
    "wrong range": [
        Fault("drop", path=WEIGHTS, route="cdn", after=5_000),
        Fault("content_range", path=WEIGHTS, route="cdn"),
    ],
    "range ignored": [
        Fault("drop", path=WEIGHTS, route="cdn", after=5_000),
        Fault("ignore_range", path=WEIGHTS, route="cdn"),
    ],
    "compressed": [Fault("gzip", path="README.md", times=None)],
    "drop, flip, 503 and expiry": [
        Fault("drop", path=WEIGHTS, route="cdn", after=12_000),
        Fault("flip", path=WEIGHTS, route="cdn", offset=20_000),
        Fault("expired", path=WEIGHTS),
        Fault("status", path=WEIGHTS),
    ],
    "one padded body": [Fault("pad", path=WEIGHTS, count=3)],
    "one padded body in git": [Fault("pad", path="config.json", count=1)],
}


@pytest.mark.parametrize("name", PASSING)
def test_what_passes_is_outlasted(hub, served, archive, mirror, restores, name):
    for fault in PASSING[name]:
        fault.hits = 0
        hub.faults.add(fault)
    result = mirror()
    assert result.code == 0, result.err
    assert name == "compressed" or all(fault.hits for fault in PASSING[name])
    assert len(seals(archive)) == 1
    restores(archive, served)


def test_a_rate_limit_is_waited_for_as_long_as_asked(hub, served, archive, mirror, restores, waits):
    hub.faults.add(Fault("rate_limit", seconds=7, times=3))
    assert mirror().code == 0
    assert len([wait for wait in waits if 7 <= wait < 8]) == 3
    restores(archive, served)


def test_a_flip_is_fetched_again_and_nothing_else_is(hub, served, mirror):
    hub.faults.add(Fault("flip", path=WEIGHTS, route="cdn", offset=10_000))
    assert mirror().code == 0
    bodies = [record.file for record in hub.requests.bodies()]
    counts = {name: bodies.count(name) for name, data in served.items() if data}
    assert counts.pop(WEIGHTS) == 2
    assert set(counts.values()) == {1}


def test_a_stall_ends_with_the_timeout(hub, served, archive, mirror, restores, monkeypatch):
    monkeypatch.setenv("ARCHIVER_TIMEOUT", "5")  # a busy machine may take long to answer, too
    hub.faults.add(Fault("stall", path=WEIGHTS, route="cdn", after=9_000, seconds=600))
    assert mirror().code == 0
    restores(archive, served)


def test_a_stall_without_end_is_given_up(hub, served, archive, mirror, monkeypatch):
    monkeypatch.setenv("ARCHIVER_TIMEOUT", "2")
    hub.faults.add(Fault("stall", path=WEIGHTS, route="cdn", seconds=600, times=None))
    result = mirror()
    assert result.code == 30
    assert WEIGHTS in result.err
    assert_nothing_published(archive)


@pytest.mark.parametrize("value", ["soon", "0", "-3", "nan", "inf"])
def test_a_senseless_timeout_is_refused(served, archive, mirror, monkeypatch, value):
    monkeypatch.setenv("ARCHIVER_TIMEOUT", value)
    result = mirror()
    assert result.code == 2
    assert "ARCHIVER_TIMEOUT" in result.err


# ---- what stays wrong

LASTING = {
    "flip": (Fault("flip", path=WEIGHTS, route="cdn", offset=10_000, times=None), 22),
    "flip of the last byte": (
        Fault("flip", path=WEIGHTS, route="cdn", offset=len(model()[WEIGHTS]) - 1, times=None),
        22,
    ),
    "flip in git": (Fault("flip", path="config.json", offset=3, times=None), 22),
    "flip in LFS text": (
        Fault("flip", path="tokenizer.json", route="cdn", offset=30, times=None),
        22,
    ),
    "pad": (Fault("pad", path=WEIGHTS, route="cdn", count=9, times=None), 22),
    "pad in git": (Fault("pad", path="README.md", count=9, times=None), 22),
    "short": (Fault("short", path=WEIGHTS, route="cdn", count=30_000, times=None), 30),
    "503": (Fault("status", path=WEIGHTS, times=None), 30),
    "expired": (Fault("expired", path=WEIGHTS, times=None), 30),
    "404": (Fault("status", status=404, path="config.json", times=None), 23),
    "403": (Fault("status", status=403, path="config.json", times=None), 23),
}


@pytest.mark.parametrize("name", LASTING)
def test_what_stays_wrong_is_named_and_nothing_is_sealed(
    hub, served, archive, mirror, restores, name
):
    fault, code = LASTING[name]
    fault.hits = 0
    hub.faults.add(fault)
    result = mirror()
    assert result.code == code, result.err
    assert fault.path in result.err
    assert "was not sealed: 1 of 7 files failed" in result.err
    assert_nothing_published(archive)
    # The next run fetches what failed, and nothing else.
    hub.faults.clear()
    hub.requests.clear()
    assert mirror().code == 0
    assert fetched(hub) == {fault.path}
    restores(archive, served)


def test_every_file_that_fails_is_named(hub, served, archive, mirror):
    for path in LFS:
        hub.faults.add(Fault("flip", path=path, route="cdn", offset=9, times=None))
    result = mirror()
    assert result.code == 22
    assert all(path in result.err for path in LFS)
    assert_nothing_published(archive)


def test_a_wrong_etag_changes_nothing_that_counts(hub, served, archive, mirror, restores):
    hub.faults.add(Fault("etag", times=None))
    assert mirror().code == 0
    restores(archive, served)


def test_an_etag_that_changes_on_the_way_is_another_file(hub, served, archive, mirror, restores):
    hub.faults.add(Fault("drop", path=WEIGHTS, route="cdn", after=9_000))
    hub.faults.add(Fault("etag", path=WEIGHTS, route="resolve", skip=1, times=None))
    result = mirror()
    assert result.code == 23
    assert WEIGHTS in result.err
    assert_nothing_published(archive)
    hub.faults.clear()
    assert mirror().code == 0
    restores(archive, served)


@pytest.mark.parametrize("lie", ["sha256", "oid", "size"])
def test_a_listing_that_lies(hub, served, archive, mirror, lie):
    lfs = {"oid": "0" * 64, "size": len(served[WEIGHTS]), "pointerSize": 130}
    claims = {
        "sha256": (WEIGHTS, {"lfs": lfs}),
        "oid": ("config.json", {"oid": "0" * 40}),
        "size": ("config.json", {"size": 5}),
    }
    path, fields = claims[lie]
    hub.claim(REPO, path, **fields)
    result = mirror()
    assert result.code == 22
    assert path in result.err
    assert_nothing_published(archive)


# ---- upstream is gone, closed, or changed

CHANGES = {
    "deleted": lambda hub: hub.delete(REPO),
    "force-pushed": lambda hub: hub.force_push(REPO, {"x": b"x"}),
    "disabled": lambda hub: hub.disable(REPO),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_between_listing_and_download(hub, served, archive, mirror, change):
    hub.after_listing(REPO, lambda: CHANGES[change](hub))
    result = mirror()
    assert result.code == 23, result.err
    assert_nothing_published(archive)


def test_a_rename_between_listing_and_download_is_no_harm(hub, served, archive, mirror, restores):
    hub.after_listing(REPO, lambda: hub.rename(REPO, "org/moved"))
    assert mirror().code == 0  # the same commit, every digest right
    restores(archive, served)


def test_a_renamed_repository_is_not_taken_for_the_old_one(hub, served, archive, mirror):
    hub.rename(REPO, "org/moved")
    result = mirror()
    assert result.code == 23
    assert "org/moved" in result.err
    assert_nothing_published(archive)


def test_gated_without_a_token(hub, archive, mirror):
    hub.create(REPO, model(), gated=True)
    result = mirror()
    assert result.code == 23
    assert "token" in result.err
    assert_nothing_published(archive)


def test_gated_with_a_digest_of_64_asterisks(hub, archive, mirror):
    hub.create(REPO, model(), masked=True)
    result = mirror()
    assert result.code == 23
    assert "token" in result.err
    assert_nothing_published(archive)


@pytest.mark.parametrize("kind", ["private", "gated"])
def test_with_a_token_that_opens_it(hub, archive, mirror, restores, kind):
    files = model()
    hub.create(REPO, files, **{kind: True})
    hub.tokens = {"hf_right": {REPO}, "hf_wrong": set()}
    assert mirror("--token", "hf_wrong").code == 23
    assert mirror("--token", "hf_unknown").code == 23
    assert_nothing_published(archive)
    result = mirror("--token", "hf_right")
    assert result.code == 0
    restores(archive, files)
    stored = b"".join(path.read_bytes() for path in archive.rglob("*") if path.is_file())
    assert b"hf_right" not in stored + (result.out + result.err).encode()


def test_the_token_from_the_environment(hub, archive, mirror, restores, monkeypatch):
    files = model()
    hub.create(REPO, files, private=True)
    hub.tokens = {"hf_right": {REPO}}
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert mirror().code == 0
    restores(archive, files)
    assert {r.token for r in hub.requests if r.port == "cdn"} == {""}


@pytest.mark.parametrize(
    ("reference", "said"),
    [("org/absent", "org/absent"), (f"{REPO}@gone", "gone"), (f"{REPO}@{'a' * 40}", "a" * 40)],
)
def test_no_such_thing(served, archive, mirror, reference, said):
    result = mirror(reference)
    assert result.code == 23
    assert said in result.err
    assert_nothing_published(archive)


@pytest.mark.parametrize("reference", ["org/../model", "a/b/c", "org/model@", "-/x", "/etc/passwd"])
def test_no_name_of_a_repository(archive, mirror, reference):
    assert mirror(reference).code == 2
    assert_nothing_published(archive)


def test_a_hub_that_is_not_there(hub, served, archive, mirror):
    hub.stop()
    result = mirror()
    assert result.code == 30
    assert hub.endpoint in result.err
    assert_nothing_published(archive)


def test_a_hub_that_goes_away_and_comes_back(hub, served, archive, mirror, restores):
    hub.faults.add(Fault("status", path=WEIGHTS, times=None))
    assert mirror().code == 30
    hub.stop()
    assert mirror().code == 30
    assert_nothing_published(archive)
    hub.faults.clear()
    hub.start()
    assert mirror().code == 0
    restores(archive, served)


def test_no_hub_at_all(archive, mirror, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "not an address")
    assert mirror().code == 2


def test_offline(hub, served, archive, mirror, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = mirror()
    assert result.code == 30
    assert "HF_HUB_OFFLINE" in result.err
    assert not len(hub.requests)
    assert_nothing_published(archive)


# ---- several at once


def test_one_bad_repository_does_not_stop_the_others(hub, served, archive, mirror, restores):
    result = mirror("org/absent", REPO)
    assert result.code == 3
    assert "1 of 2 repositories failed" in result.err
    restores(archive, served)


def test_all_bad_for_one_reason(hub, archive, mirror):
    assert mirror("org/absent", "org/none").code == 23


def test_errors_as_json(hub, served, archive, mirror):
    hub.faults.add(Fault("flip", path=WEIGHTS, route="cdn", offset=9, times=None))
    result = mirror("--json")
    assert result.records[-1]["kind"] == "error"
    assert result.records[-1]["exit_code"] == result.code == 22
    assert json.dumps(WEIGHTS)[1:-1] in result.records[-1]["message"]


# ---- a fault of our own


def test_a_segment_that_cannot_be_stored_costs_its_file_and_no_other(
    served, archive, mirror, restores, monkeypatch
):
    """Every buffer has one owner at a time, also when a file fails in the middle."""
    from archiver.archive.ingest import object_store, pipeline
    from archiver.errors import ArchiverError

    put, take, give = (
        object_store.ObjectStore.put,
        pipeline.BufferPool.take,
        pipeline.BufferPool.give_back,
    )
    lent: set[int] = set()

    def spoilt(self, plain, dtype):
        if dtype is not None:
            raise ArchiverError("This segment does not decode to what it was encoded from.")
        return put(self, plain, dtype)

    def taken(self):
        buffer = take(self)
        assert id(buffer) not in lent
        lent.add(id(buffer))
        return buffer

    def given(self, buffer):
        lent.remove(id(buffer))
        give(self, buffer)

    monkeypatch.setattr(pipeline.BufferPool, "take", taken)
    monkeypatch.setattr(pipeline.BufferPool, "give_back", given)
    with monkeypatch.context() as patch:
        patch.setattr(object_store.ObjectStore, "put", spoilt)
        patch.setattr("archiver.archive.ingest.pipeline._BATCH_BYTES", 1000)
        result = mirror()
    assert result.code == 1
    assert f"1 of 7 files failed. {WEIGHTS}: " in result.err
    assert not lent
    assert_nothing_published(archive)
    assert mirror().code == 0
    restores(archive, served)
