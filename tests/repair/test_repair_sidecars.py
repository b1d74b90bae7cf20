"""Parity as a source, sidecars made anew, signatures from replicas, and the SQL index."""

from __future__ import annotations

import pytest
from kit.archive import copy, seals
from kit.faults import flip, overwrite, wipe
from kit.repository import write_folder
from repairkit import ONE, events, listing, manifest, model, own_pack, packs, sources, stored

KINDS = {"pack": own_pack, "manifest": manifest, "seal": lambda root: seals(root, ONE)[0]}


@pytest.fixture
def protected(run, weights):
    assert run("parity", "add", "-q", "-C", weights).code == 0
    return weights


def sidecar(root, path):
    digest = path.name.split(".")[
        1 if "journal" not in path.parts and path.suffix != ".pack" else 0
    ]
    return root / "parity" / digest[:2] / f"{digest}.par"


@pytest.mark.parametrize("kind", KINDS)
def test_parity_brings_any_stored_file_back(repair, protected, sound, kind):
    path = KINDS[kind](protected)
    good = path.read_bytes()
    flip(path)
    name = str(path.relative_to(protected))
    before = listing(protected)
    predicted = repair("--dry-run")
    assert predicted.code == 20, predicted.out
    assert listing(protected) == before
    result = repair()
    assert result.code == 0, result.out
    assert sources(result) == sources(predicted) == {name: "parity"}
    assert path.read_bytes() == good
    sound(protected)


def test_a_missing_manifest_comes_from_parity_alone(repair, protected, sound):
    path = manifest(protected)
    good = path.read_bytes()
    path.unlink()
    assert repair().code == 0
    assert path.read_bytes() == good
    sound(protected)


def test_copies_are_asked_before_parity(repair, protected, replica):
    flip(own_pack(protected))
    assert list(sources(repair("--from", replica)).values()) == [str(replica)]


def test_the_parity_of_a_replica_helps_too(repair, run, protected, replica, pristine):
    """Nothing is left here, and the other copy is damaged: its own sidecar makes it whole."""
    path = own_pack(protected)
    assert run("parity", "add", "-q", "-C", replica).code == 0
    path.unlink()
    sidecar(protected, path).unlink()
    flip(own_pack(replica))
    result = repair("--from", replica)
    assert result.code == 0, result.out
    assert sources(result) == {str(path.relative_to(protected)): f"{replica}/parity"}
    assert stored(protected) == stored(pristine)


def test_damage_beyond_parity_is_still_healed_elsewhere(repair, protected, tmp_path, sound):
    path = own_pack(protected)
    wipe(path, 0, path.stat().st_size - 1000)
    assert repair().code == 21
    assert repair("--from", write_folder(tmp_path / "full", model(10))).code == 0
    sound(protected)


@pytest.mark.parametrize("place", ["first", "middle"])
def test_a_damaged_sidecar_is_made_anew(repair, protected, sound, place):
    path = sidecar(protected, own_pack(protected))
    good = path.read_bytes()
    flip(path, 60 if place == "first" else len(good) // 2)
    before = listing(protected)
    assert repair("--dry-run").code == 20
    assert listing(protected) == before
    result = repair()
    assert result.code == 0, result.out
    assert list(sources(result)) == [str(path.relative_to(protected))]
    assert path.read_bytes() == good
    sound(protected)


def test_file_and_sidecar_damaged_at_once(repair, protected, replica, sound):
    path = own_pack(protected)
    flip(path)
    flip(sidecar(protected, path))
    assert repair("--from", replica).code == 0
    sound(protected)


def test_what_is_new_gets_the_parity_that_the_policy_wants(run, repair, weights, tmp_path, sound):
    assert run("policy", "set", "-q", "-C", weights, "--parity", "2").code == 0
    assert run("parity", "add", "-q", "-C", weights).code == 0
    own_pack(weights).unlink()
    sidecar(weights, own_pack(weights)).unlink()
    assert repair("--from", write_folder(tmp_path / "full", model(10))).code == 0
    for path in (*packs(weights), *seals(weights)):
        assert sidecar(weights, path).exists(), path
    sound(weights)


def test_a_damaged_signature_comes_from_a_replica(run, repair, weights, tmp_path, sound):
    key = tmp_path / "key"
    assert run("keys", "new", "-q", "--no-password", key).code == 0
    assert run("sign", "-q", "-C", weights, "--key", f"{key}.key").code == 0
    replica = copy(weights, tmp_path / "signed")
    path = min((weights / "signatures").rglob("*.minisig"))
    good = path.read_bytes()
    flip(path, 3)
    assert repair().code == 21
    result = repair("--from", replica)
    assert result.code == 0, result.out
    assert path.read_bytes() == good
    sound(weights)


def test_a_damaged_index_is_written_anew(run, repair, weights):
    assert run("stats", "-q", "-C", weights).code == 0
    database = weights / "catalogue.sqlite"
    overwrite(database, b"no database" * 500)
    database.chmod(0o644)
    assert repair().code == 0
    assert database.read_bytes().startswith(b"SQLite format 3")
    assert not events(weights, "repaired")
