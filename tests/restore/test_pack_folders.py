"""Packs that lie in further folders: found by their names, proven as any other, never written to."""

from __future__ import annotations

import json
import shutil

import pytest
from kit.archive import of_two_models
from kit.faults import flip
from kit.repository import write_model

LAYOUTS = {
    "flat": lambda name: name,
    "by digits": lambda name: f"{name[:2]}/{name}",
    "as an archive": lambda name: f"packs/{name[:2]}/{name}",
}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return of_two_models(tmp_path_factory.mktemp("folders"), (40, 40))


@pytest.fixture
def weights(pristine, tmp_path):
    return pristine.copy(tmp_path / "weights")


@pytest.fixture
def model(tmp_path):
    folder = write_model(tmp_path / "model", 0, 40)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def move_packs(weights, folder, place=LAYOUTS["flat"], take=shutil.move):
    """The pack of org/one lies elsewhere now."""
    path = weights.documents("packs")[0]
    target = folder / place(path.name)
    target.parent.mkdir(parents=True)
    take(path, target)
    return target


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("place", LAYOUTS.values(), ids=LAYOUTS)
def test_a_pack_elsewhere_is_restored_from(run, weights, model, tmp_path, place):
    disk = tmp_path / "disk"
    move_packs(weights, disk, place)
    out = tmp_path / "out"
    words = ("restore", "-q", "-C", weights.root, "org/one")
    assert run(*words, tmp_path / "without").code == 20
    empty = tmp_path / "other"
    move_packs_of_two = empty / "x.pack"
    move_packs_of_two.parent.mkdir()
    shutil.copy(weights.documents("packs")[1], empty / weights.documents("packs")[1].name)
    assert run(*words, out, "--packs", empty, "--packs", disk).code == 0
    assert files(out) == model


def test_an_audit_misses_what_lies_elsewhere_only_without(run, weights, tmp_path):
    disk = tmp_path / "disk"
    path = move_packs(weights, disk)
    before = weights.documents("journal")
    with_folder = run("audit", "-q", "--json", "-C", weights.root, "--packs", disk)
    assert (with_folder.code, with_folder.kinds("finding")) == (0, [])
    assert weights.documents("journal") == before
    without = run("audit", "-q", "--json", "-C", weights.root)
    assert without.code == 20
    missing = {row["pack"] for row in without.kinds("finding") if row["code"] == "pack-missing"}
    assert missing == {path.stem}


def test_what_is_damaged_there_is_found(run, weights, tmp_path):
    disk = tmp_path / "disk"
    path = move_packs(weights, disk)
    flip(path)
    result = run("audit", "-q", "--json", "-C", weights.root, "--packs", disk)
    assert result.code == 20
    assert {row["code"] for row in result.kinds("finding")} == {"pack-damaged", "object-damaged"}
    out = tmp_path / "out"
    assert run("restore", "-q", "-C", weights.root, "org/one", out, "--packs", disk).code == 20


def test_a_pack_at_both_places_is_read_there_where_the_own_one_is_damaged(
    run, weights, model, tmp_path
):
    disk, out = tmp_path / "disk", tmp_path / "out"
    path = move_packs(weights, disk, take=shutil.copy)
    flip(path)
    words = ("restore", "-q", "-C", weights.root, "org/one", "--packs", disk)
    assert run(*words, out).code == 0
    assert files(out) == model
    flip(path)  # whole again
    flip(weights.documents("packs")[0])
    shutil.rmtree(out)
    assert run(*words, out).code == 0
    assert files(out) == model


def test_a_copy_takes_packs_from_there(run, weights, model, tmp_path):
    disk, target = tmp_path / "disk", tmp_path / "replica"
    move_packs(weights, disk)
    words = ("copy", "-q", "-C", weights.root, target, "--new", "--min-free", "0B")
    assert run(*words, "--packs", disk).code == 0
    assert run("restore", "-q", "-C", target, "org/one", tmp_path / "out").code == 0
    assert files(tmp_path / "out") == model
    assert not weights.documents("packs")[0].exists()


def test_a_repair_brings_packs_back_from_there(run, weights, pristine, tmp_path):
    disk = tmp_path / "disk"
    path = move_packs(weights, disk)
    before = path.read_bytes()
    words = ("repair", "-q", "--no-upstream", "-C", weights.root)
    assert run(*words).code == 21
    assert run(*words, "--from", disk).code == 0
    assert weights.documents("packs")[0].read_bytes() == path.read_bytes() == before


def test_a_repair_takes_single_objects_from_there(run, weights, tmp_path):
    disk = tmp_path / "disk"
    path = move_packs(weights, disk, take=shutil.copy)
    own = weights.documents("packs")[0]
    before = own.read_bytes()
    flip(own)
    flip(path, 300)  # of another object
    assert run("repair", "-q", "--no-upstream", "-C", weights.root, "--from", disk).code == 0
    assert own.read_bytes() == before


@pytest.mark.parametrize("kind", ["missing", "a file", "empty", "no pack"])
@pytest.mark.parametrize("command", ["restore", "audit", "copy", "smoke-test"])
def test_a_folder_without_packs_is_a_usage_error(run, weights, tmp_path, command, kind):
    disk = tmp_path / "disk"
    if kind == "a file":
        disk.write_bytes(b"")
    elif kind != "missing":
        disk.mkdir()
        if kind == "no pack":
            (disk / "other.pack").write_bytes(b"")
    words = {
        "restore": ["org/one", tmp_path / "out"],
        "audit": [],
        "copy": [tmp_path / "to", "--new"],
    }
    more = words.get(command, ["org/one"])
    result = run(command, "-q", "-C", weights.root, *more, "--packs", disk)
    assert result.code == 2
    assert str(disk) in result.err
    assert "mounted" in result.err
    assert not (tmp_path / "out").exists()


def test_a_smoke_test_reads_packs_from_there(run, weights, tmp_path):
    disk = tmp_path / "disk"
    move_packs(weights, disk)
    words = ("smoke-test", "-q", "--json", "-C", weights.root, "org/one", "--level", "structure")
    assert run(*words).code == 20
    result = run(*words, "--packs", disk)
    assert result.code != 20, json.dumps(result.out)
