"""Stored files come back from second copies and replicas, byte for byte."""

from __future__ import annotations

import json
import shutil

import pytest
from kit.archive import seals
from kit.faults import flip, overwrite
from repairkit import ONE, events, listing, manifest, only, own_pack, packs, sources, stored


def seal(root):
    return only(seals(root, ONE))


def event(root):
    """The first event: the next one names it, so that its loss is known."""
    paths = (root / "journal").rglob("*.json")
    return next(path for path in paths if not json.loads(path.read_bytes())["after"])


KINDS = {"pack": own_pack, "manifest": manifest, "seal": seal, "event": event}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


def test_nothing_to_repair_is_well(repair, weights):
    before = stored(weights)
    result = repair()
    assert result.code == 0
    assert stored(weights) == before
    assert not events(weights, "repaired")


@pytest.mark.parametrize("how", ["damaged", "missing", "emptied"])
def test_a_replica_gives_any_stored_file_back(repair, weights, replica, sound, kind, how):
    path = kind(weights)
    good = path.read_bytes()
    if how == "damaged":
        flip(path)
    elif how == "missing":
        path.unlink()
    else:
        overwrite(path, b"")
    result = repair("--from", replica)
    name = str(path.relative_to(weights))
    assert result.code == 0, result.out
    assert sources(result)[name] == str(replica)
    assert path.read_bytes() == good
    assert path.stat().st_mode & 0o777 == 0o444
    sound(weights)
    (record,) = events(weights, "repaired")
    assert record["detail"].pop("place") in (weights / "place.json").read_text()
    assert record["detail"] == {"files": [name], "source": str(replica)}


def test_what_is_replaced_stays_in_quarantine(repair, weights, replica):
    path = own_pack(weights)
    flip(path)
    bad = path.read_bytes()
    assert repair("--from", replica).code == 0
    quarantined = only((weights / "quarantine").rglob("*.pack"))
    assert quarantined.read_bytes() == bad


@pytest.mark.parametrize("folder", ["quarantine", "trash"])
def test_a_second_copy_in_the_archive_itself_is_enough(repair, weights, sound, kind, folder):
    path = kind(weights)
    copy = weights / folder / "20260101t000000z" / path.relative_to(weights)
    copy.parent.mkdir(parents=True)
    shutil.copy(path, copy)
    flip(path)
    result = repair()
    assert result.code == 0, result.out
    assert sources(result) == {str(path.relative_to(weights)): folder}
    sound(weights)


def made_anew(path) -> bool:
    """Whether it is a document that needs no copy: a manifest lies in packs too, a seal follows from it."""
    return not {"manifests", "snapshots"}.isdisjoint(path.parts)


def test_a_damaged_second_copy_does_not_help(repair, weights, kind):
    path = kind(weights)
    copy = weights / "trash" / "20260101t000000z" / path.relative_to(weights)
    copy.parent.mkdir(parents=True)
    shutil.copy(path, copy)
    flip(copy)
    path.unlink()
    result = repair()
    if made_anew(path):
        assert "trash" not in sources(result).values()
        return
    assert result.code == 21, result.out
    assert not path.exists()
    assert result.codes


def test_sources_are_asked_in_order(repair, weights, replica, tmp_path):
    other = shutil.copytree(replica, tmp_path / "other")
    path = own_pack(weights)
    flip(path)
    assert sources(repair("--from", other, "--from", replica)).popitem()[1] == str(other)
    flip(path)
    flip(own_pack(other))
    assert sources(repair("--from", other, "--from", replica)).popitem()[1] == str(replica)
    flip(path)
    copy = weights / "trash" / "20260101t000000z" / path.relative_to(weights)
    copy.parent.mkdir(parents=True)
    shutil.copy(own_pack(replica), copy)
    assert sources(repair("--from", replica)).popitem()[1] == "trash"


def test_archive_json_is_written_anew_from_the_seals(repair, weights, sound):
    (weights / "archive.json").unlink()
    result = repair()
    assert result.code == 0, result.out
    assert sources(result) == {"archive.json": "the seals"}
    sound(weights)


def test_archive_json_comes_back_from_a_replica(repair, weights, replica, sound):
    good = (weights / "archive.json").read_bytes()
    overwrite(weights / "archive.json", b"{}\n")
    result = repair("--from", replica)
    assert result.code == 0, result.out
    assert (weights / "archive.json").read_bytes() == good
    assert only((weights / "quarantine").rglob("archive.json")).read_bytes() == b"{}\n"
    sound(weights)


@pytest.mark.parametrize("name", ["README.txt", "FORMAT.md", "decode.py"])
def test_what_explains_the_archive_comes_from_the_program(repair, weights, pristine, sound, name):
    (weights / name).unlink()
    assert repair().code == 0
    assert (weights / name).read_bytes() == (pristine / name).read_bytes()
    sound(weights)


def test_an_event_that_others_name_comes_back(repair, weights, replica, run):
    """The first event is named by the second: its loss is known by its id alone."""
    path = event(weights)
    good = path.read_bytes()
    path.unlink()
    audit = run("audit", "-q", "--json", "-C", weights)
    assert audit.codes == {"event-missing"}
    assert repair("--from", replica).code == 0
    assert path.read_bytes() == good


def test_a_seal_that_comes_back_brings_what_it_names(repair, weights, replica, sound):
    """Who has lost the seal does not know that the manifest and the pack are lost too."""
    for path in (own_pack(weights), manifest(weights), seal(weights)):
        path.unlink()
    before = stored(replica)
    result = repair("--from", replica)
    assert result.code == 0, result.out
    assert stored(weights) == before
    sound(weights)


def test_damage_everywhere_at_once(repair, weights, replica, sound, pristine):
    for path in (*packs(weights), manifest(weights), seal(weights), event(weights)):
        flip(path)
    (weights / "archive.json").unlink()
    assert repair("--from", replica).code == 0
    assert stored(weights) == stored(pristine)
    sound(weights)


def test_two_damaged_archives_heal_each_other(repair, weights, replica, sound, pristine):
    flip(own_pack(weights))
    flip(manifest(replica))
    flip(own_pack(replica, "org/two"))
    assert repair("--from", replica).code == 0
    assert repair("--from", weights, root=replica).code == 0
    assert stored(weights) == stored(replica) == stored(pristine)
    sound(weights)
    sound(replica)


def test_a_dry_run_writes_nothing_and_tells(repair, weights, replica, kind):
    path = kind(weights)
    flip(path)
    name = str(path.relative_to(weights))
    before = listing(weights), listing(replica)
    result = repair("--dry-run", "--from", replica)
    assert result.code == 20, result.out
    assert sources(result) == {name: str(replica)}
    assert repair("--dry-run").code == (20 if made_anew(path) else 21)
    assert (listing(weights), listing(replica)) == before


def test_replicas_are_never_written_to(repair, weights, replica):
    before = listing(replica)
    flip(own_pack(weights))
    flip(manifest(weights))
    assert repair("--from", replica).code == 0
    assert listing(replica) == before


def test_the_archive_itself_is_no_source(repair, weights, tmp_path):
    assert repair("--from", weights).code == 2
    (tmp_path / "link").symlink_to(weights)
    assert repair("--from", tmp_path / "link").code == 2


def test_a_source_that_is_not_there_is_refused(repair, tmp_path):
    assert repair("--from", tmp_path / "nothing").code == 2


def test_only_one_repair_at_a_time(repair, weights):
    from archiver.archive.archive import Archive
    from archiver.storage.locks import RunLock

    store = Archive.open(weights).store
    with RunLock(store.folder.scratch("aside.lock"), "A repair"):
        assert repair().code == 11
        assert repair("--dry-run").code == 0
