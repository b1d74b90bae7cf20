"""``archiver parity``, and the parity that a mirror makes where the policy wants it."""

from __future__ import annotations

import json
import shutil

import pytest
from kit.faults import overwrite
from kit.journal import raw_event
from kit.repository import noise

from archiver.archive.archive import Archive
from archiver.archive.events import TOOL


def write_model(folder, seed, shared=b""):
    folder.mkdir()
    (folder / "weights.bin").write_bytes(noise(seed, 100_000))
    (folder / "config.json").write_text(f'{{"seed": {seed}}}')
    if shared:
        (folder / "tokenizer.bin").write_bytes(shared)
    return folder


def bring(run, root, folder, name, *options):
    args = ["import", "-C", root, folder, "--as", name, "--min-free", "0B", *options]
    return run(*args)


@pytest.fixture
def weights(run, tmp_path):
    root = tmp_path / "weights"
    assert run("init", "-q", "-C", root).code == 0
    assert bring(run, root, write_model(tmp_path / "one", 1), "org/one").code == 0
    assert bring(run, root, write_model(tmp_path / "two", 2), "org/two").code == 0
    return root


def sidecars(root):
    return sorted(path for path in (root / "parity").rglob("*.par"))


def files(root, kind):
    return sorted(path for path in (root / kind).rglob("*") if path.is_file())


def test_add_status_remove(run, weights):
    (before,) = run("--json", "parity", "status", "-C", weights).records
    assert (before["parity_bytes"], before["wanted"], len(before["unprotected"])) == (0, 0, 8)
    added = run("parity", "add", "-q", "-C", weights)
    assert added.code == 0
    assert added.out.startswith("Made parity for 8 files, ")
    assert len(sidecars(weights)) == 8
    (after,) = run("--json", "parity", "status", "-C", weights).records
    assert after["unprotected"] == []
    assert after["parity_bytes"] == sum(path.stat().st_size for path in sidecars(weights))
    assert {kind["name"]: kind["protected"] for kind in after["kinds"]} == {
        "packs": 2,
        "manifests": 2,
        "seals": 2,
        "events": 2,
    }
    result = run("parity", "add", "-q", "-C", weights)
    assert "Made parity for 0 files" in result.out
    assert "8 had theirs already" in result.out
    assert run("audit", "-q", "-C", weights).code == 0
    (gone,) = run("parity", "remove", "--json", "-C", weights).records
    assert len(gone["files"]) == 8
    assert sidecars(weights) == []


def test_the_text_of_status(run, weights):
    assert run("parity", "add", "-q", "-C", weights, "org/one").code == 0
    result = run("parity", "status", "-C", weights)
    assert result.code == 0
    assert "packs" in result.out
    assert "1 of 2" in result.out
    assert "5 files not protected" in result.out
    assert "The policy wants no parity." in result.out
    assert "archiver parity add" in result.err


def test_one_snapshot_only(run, weights):
    (added,) = run("--json", "parity", "add", "-C", weights, "org/one").records
    assert [name.partition("/")[0] for name in added["made"]] == ["manifests", "packs", "snapshots"]
    assert run("parity", "add", "-C", weights, "org/none").code == 2
    revision = files(weights, "snapshots")[0].name[:12]
    assert run("parity", "add", "-q", "-C", weights, f"org/one@{revision}").code == 0
    assert run("parity", "add", "-C", weights, "org/one@ffffffffff").code == 2


def test_remove_keeps_what_another_snapshot_needs(run, weights, tmp_path):
    shutil.copytree(tmp_path / "one", tmp_path / "three")
    (tmp_path / "three" / "more.txt").write_text("more")
    assert bring(run, weights, tmp_path / "three", "org/three").code == 0
    assert run("parity", "add", "-q", "-C", weights).code == 0
    count = len(sidecars(weights))
    (gone,) = run("--json", "parity", "remove", "-C", weights, "org/one").records
    assert gone["shared"] == 1
    assert len(gone["files"]) == 2
    assert len(sidecars(weights)) == count - 2


def test_shape_and_redo(run, weights):
    (report,) = run(
        "--json", "parity", "add", "-C", weights, "--parity", "1", "--group", "4"
    ).records
    assert len(report["made"]) == 8
    (two,) = run("--json", "parity", "add", "-C", weights).records
    assert len(two["made"]) == 8
    (three,) = run("--json", "parity", "add", "-C", weights, "--redo").records
    assert len(three["made"]) == 8
    assert run("parity", "add", "-C", weights, "--parity", "129").code == 2
    assert run("parity", "add", "-C", weights, "--parity", "128", "--group", "200").code == 2


@pytest.mark.parametrize("kind", ["packs", "manifests", "snapshots", "journal"])
def test_a_damaged_file_is_named_and_the_others_are_done(run, weights, kind):
    path = files(weights, kind)[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    overwrite(path, bytes(data))
    result = run("parity", "add", "-q", "-C", weights)
    assert result.code == 20
    assert path.relative_to(weights).as_posix() in result.out
    assert "archiver audit" in result.out
    assert all(path.stem.split(".")[-1] not in sidecar.name for sidecar in sidecars(weights))
    assert len(sidecars(weights)) >= 5


def test_a_missing_pack_is_named(run, weights):
    path = files(weights, "packs")[0]
    path.unlink()
    result = run("parity", "add", "-q", "-C", weights)
    assert result.code == 20
    assert "is missing" in result.out


def want(root, **policy):
    archive = Archive.open(root)
    archive.record(raw_event("policy", "2026-01-01T00:00:00Z", TOOL, detail=policy))


def test_an_import_protects_what_it_sealed_if_the_policy_wants_it(run, weights, tmp_path):
    want(weights, parity=1, parity_group=8)
    folder = write_model(tmp_path / "three", 3)
    result = bring(run, weights, folder, "org/three", "--json")
    assert result.code == 0
    (record,) = [record for record in result.records if record["kind"] == "mirror"]
    made = sidecars(weights)
    assert record["parity_bytes"] == sum(path.stat().st_size for path in made)
    assert record["unprotected"] == []
    protected = {json.loads(header(path))["file"] for path in made}
    seal = json.loads(files(weights, "snapshots/org/three")[0].read_bytes())
    assert {f"packs/{pack[:2]}/{pack}.pack" for pack, _ in seal["packs"]} <= protected
    assert files(weights, "snapshots/org/three")[0].relative_to(weights).as_posix() in protected
    assert {json.loads(header(path))["parity"] for path in made} == {1}
    # The same again seals nothing: nothing is read or made.
    assert bring(run, weights, folder, "org/three").code == 0
    assert sidecars(weights) == made
    (added,) = run("--json", "parity", "add", "-C", weights).records
    assert set(added["kept"]) == protected


def header(path):
    side = path.read_bytes()
    return side[40 : 8 + int.from_bytes(side[4:8], "little")]


def test_an_import_makes_no_parity_that_nobody_wants(run, weights):
    assert not (weights / "parity").exists()


def test_parity_that_fails_does_not_undo_the_seal_and_is_told(run, weights, tmp_path):
    want(weights, parity=2)
    # A file where the folder should be: nothing can be published below it.
    (weights / "parity").write_text("in the way")
    result = bring(run, weights, write_model(tmp_path / "three", 3), "org/three", "--json")
    assert result.code == 1
    assert [record["outcome"] for record in result.records if record["kind"] == "mirror"] == [
        "sealed"
    ]
    assert any(
        "is sealed, but" in record["message"]
        for record in result.records
        if record["kind"] == "error"
    )
    (weights / "parity").unlink()
    assert run("restore", "-q", "-C", weights, "org/three", tmp_path / "out").code == 0
    assert run("audit", "-q", "-C", weights).code == 0


def test_what_a_killed_import_had_sealed_is_protected_by_the_next(run, weights, tmp_path):
    """It died after the seal, and before the parity was made."""
    folder = write_model(tmp_path / "three", 3)
    assert bring(run, weights, folder, "org/three").code == 0
    assert sidecars(weights) == []
    want(weights, parity=1, parity_group=8)
    assert bring(run, weights, folder, "org/three").code == 0
    protected = {json.loads(header(path))["file"] for path in sidecars(weights)}
    seal = files(weights, "snapshots/org/three")[0]
    packs = {f"packs/{pack[:2]}/{pack}.pack" for pack, _ in json.loads(seal.read_bytes())["packs"]}
    assert {seal.relative_to(weights).as_posix(), *packs} <= protected


def test_a_policy_that_cannot_be_met_does_not_undo_the_seal_either(run, weights, tmp_path):
    want(weights, parity=300)
    result = bring(run, weights, write_model(tmp_path / "three", 3), "org/three", "--json")
    assert result.code == 2
    assert [record["outcome"] for record in result.records if record["kind"] == "mirror"] == [
        "sealed"
    ]
    assert "There is no parity of 300" in result.err


def test_a_read_only_archive_is_refused_at_once(run, weights, monkeypatch):
    from archiver.errors import DeniedError
    from archiver.storage.local import LocalStore

    def refuse(self):
        raise DeniedError("The archive cannot be written to.")

    monkeypatch.setattr(LocalStore, "require_writable", refuse)
    assert run("parity", "add", "-C", weights).code == 1
    assert run("parity", "remove", "-C", weights).code == 1
    assert run("parity", "status", "-C", weights).code == 0


def test_an_audit_finds_a_damaged_sidecar_and_adding_parity_again_cures_it(run, weights):
    assert run("parity", "add", "-q", "-C", weights).code == 0
    path = sidecars(weights)[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    overwrite(path, bytes(data))
    result = run("audit", "--json", "-C", weights)
    assert result.code == 20
    codes = [record["code"] for record in result.records if record["kind"] == "finding"]
    assert codes == ["parity-damaged"]
    (added,) = run("--json", "parity", "add", "-C", weights).records
    made = [name.rpartition("/")[2] for name in added["made"]]
    assert any(path.stem in name for name in made)
    assert len(added["kept"]) == 7
    assert run("audit", "-q", "-C", weights).code == 0
