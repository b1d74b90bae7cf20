"""What a repair tells, what it leaves alone, and what may happen beside it."""

from __future__ import annotations

import pytest
from kit.archive import as_older, copy, info_of_newer, seals
from kit.faults import flip, overwrite
from kit.repository import write_folder
from repairkit import ONE, TWO, listing, manifest, model, own_pack, sources

from archiver.archive.archive import Archive
from archiver.archive.layout import pack_name
from archiver.archive.publish import announced


@pytest.fixture
def say(run, weights):
    """Repair, as a person sees it."""

    def call(*args):
        return run("repair", "--no-upstream", "-C", weights, *args)

    return call


def test_in_words(say, weights, replica):
    assert "nothing to repair" in say().out
    as_older(weights, ONE)
    flip(manifest(weights))
    result = say("--dry-run", "--from", replica)
    assert result.code == 20
    assert result.out.startswith("Could be repaired: all of 1 finding.")
    assert "Nothing was written." in result.out
    assert "The journal knows of none of it either" in result.out
    result = say()
    assert result.code == 21
    assert result.out.startswith("NOT ALL REPAIRED: 1 finding")
    assert "manifest-damaged" in result.out
    result = say("--from", replica)
    assert result.code == 0
    assert result.out.startswith("Repaired: all of 1 finding.")
    assert f"from {replica}" in result.out


def test_a_dry_run_promises_no_pack_whose_manifests_are_gone(repair, weights):
    """Nobody knows what such a pack must hold; that is not to say that it is there."""
    pack = own_pack(weights)
    pack.unlink()
    manifest(weights, ONE).unlink()
    manifest(weights, TWO).unlink()
    result = repair("--dry-run")
    assert result.code == 21
    name = str(pack.relative_to(weights))
    assert name not in sources(result)
    assert "pack-missing" in {finding["code"] for finding in result.kinds("finding")}


def test_a_new_seal_in_words(say, weights, tmp_path):
    own_pack(weights).unlink()
    result = say("--from", write_folder(tmp_path / "full", model(10)))
    assert result.code == 0
    assert "into 1 new pack" in result.out
    assert result.out.count("new seal") == 2


def test_only_one_snapshot(repair, run, weights, replica):
    for name in (ONE, TWO):
        as_older(weights, name)
        flip(manifest(weights, name))
    assert repair("--snapshot", TWO, "--from", replica).code == 0
    assert run("audit", "-q", "--json", "-C", weights).kinds("audit")[0]["hit"] == [
        next(finding["snapshot"] for finding in repair("--dry-run").kinds("finding"))
    ]
    assert repair("--snapshot", "org/none").code == 2


def test_one_snapshot_and_a_pack_that_others_share(repair, weights, tmp_path, sound):
    """The other snapshot stands on it too: it gets a new seal as well, or the pack could not go."""
    own_pack(weights).unlink()
    folder = write_folder(tmp_path / "full", model(10))
    result = repair("--snapshot", TWO, "--from", folder)
    assert result.code == 0, result.out
    assert len(result.kinds("resealed")) == 2
    sound(weights)


def test_a_pack_that_a_writer_announced_stays(repair, weights, tmp_path):
    """Somebody is about to seal onto the damaged pack, most of which is whole."""
    path = own_pack(weights)
    data = path.read_bytes()
    flip(path, 200, len(data) - 5, len(data) - 300)
    folder = write_folder(tmp_path / "full", model(10))
    store = Archive.open(weights).store
    with announced(store, (pack_name(path.stem),)):
        result = repair("--from", folder)
    assert path.exists()
    assert str(path.relative_to(weights)) not in result.kinds("repair")[0]["aside"]
    assert repair("--from", folder).code == 0


def test_a_source_of_an_unknown_format_is_refused(repair, weights, replica):
    info = replica / "archive.json"
    overwrite(info, info_of_newer(info, format=2))
    before = listing(weights)
    assert repair("--from", replica).code == 10
    assert {
        name: facts[0] for name, facts in listing(weights).items() if not name.startswith("tmp")
    } == {name: facts[0] for name, facts in before.items() if not name.startswith("tmp")}


def test_a_replica_without_its_description_is_a_replica_still(repair, weights, replica):
    (replica / "archive.json").unlink()
    flip(seals(weights, ONE)[0])
    assert repair("--from", replica).code == 0


def test_an_empty_replica_and_an_empty_folder_do_no_harm(repair, run, weights, tmp_path):
    flip(own_pack(weights))
    assert run("init", "-q", "-C", tmp_path / "empty").code == 0
    (tmp_path / "nothing").mkdir()
    assert repair("--from", tmp_path / "empty", "--from", tmp_path / "nothing").code == 21


def test_a_hostile_replica_gives_nothing(repair, weights, replica, tmp_path):
    """Its files have the right names and other bytes: none is believed."""
    other = copy(replica, tmp_path / "hostile")
    for path in other.rglob("*"):
        if (
            path.is_file()
            and path.suffix in {".pack", ".json", ".zst"}
            and path.name != "archive.json"
        ):
            flip(path)
    names = [own_pack(weights), manifest(weights), seals(weights, TWO)[0]]
    before = [path.read_bytes() for path in names]
    for path in names:
        path.unlink()
    assert repair("--from", other).code == 21
    assert not names[1].exists()
    assert not names[2].exists()
    assert repair("--from", other, "--from", replica).code == 0
    assert [path.read_bytes() for path in names] == before


def test_a_dry_run_reads_the_events_that_would_come_back(repair, run, weights, tmp_path):
    """One of them may say that a seal is not missing at all, but forgotten."""
    assert run("forget", "-q", "-C", weights, ONE).code == 0
    replica = copy(weights, tmp_path / "replica")
    (path,) = [
        path for path in (weights / "journal").rglob("*.json") if b"forgotten" in path.read_bytes()
    ]
    flip(path)
    result = repair("--from", replica, "--dry-run")
    done = repair("--from", replica)
    assert (result.code, done.code) == (20, 0), result.out
    assert sources(result) == sources(done) == {str(path.relative_to(weights)): str(replica)}
    assert run("list", "-q", "--json", "-C", weights).out.count(ONE) == 0
