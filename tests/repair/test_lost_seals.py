"""A seal, a manifest or archive.json that is lost or has one flipped bit takes nothing with it."""

from __future__ import annotations

import json
import os
import random
import shutil
from datetime import timedelta

import pytest
from blake3 import blake3
from kit import handmade
from kit.archive import seals
from kit.cli import invoke
from kit.faults import empty, flip, overwrite
from kit.repository import write_folder
from repairkit import ONE, TWO, manifest, sources

from archiver import text
from archiver.archive.archive import Archive
from archiver.archive.decode import FileDecoder
from archiver.archive.quarantine import manifest_for, packs_for
from archiver.errors import UsageError

TEXT = b"a few words"


def only_seal(root, repository=ONE):
    (path,) = seals(root, repository)
    return path


def without_journal(root):
    shutil.rmtree(root / "journal")


@pytest.mark.parametrize("damage", [flip, empty, lambda path: path.unlink()])
def test_a_lost_seal_is_done_without(weights, run, tmp_path, models, damage):
    damage(only_seal(weights))
    out = tmp_path / "out"
    restored = run("restore", "--json", "-C", weights, ONE, out)
    assert restored.code == 0, restored.err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == models[ONE]
    report = restored.only("restore")
    assert report["sealed"] is False
    told = run("restore", "-C", weights, ONE, tmp_path / "again")
    assert "without a seal" in told.out + told.err
    assert run("show", "-q", "-C", weights, ONE).code == 0


def test_a_list_names_what_has_lost_its_seal(weights, run):
    assert run("list", "-q", "-C", weights).code == 0
    lost = json.loads(only_seal(weights).read_bytes())
    only_seal(weights).unlink()
    listed = run("list", "--json", "-C", weights)
    assert listed.code == 20
    assert {row["repository"] for row in listed.kinds("snapshot")} == {TWO}
    unsealed = listed.only("unsealed")
    assert (unsealed["repository"], unsealed["manifest"]) == (ONE, lost["manifest"]["blake3"])
    assert f"without a seal: {ONE}@" in run("list", "-C", weights).err
    assert run("list", "-q", "-C", weights, TWO).code == 0
    assert run("list", "-q", "-C", weights, ONE).code == 20


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_on_a_read_only_medium_too(weights, run, tmp_path):
    only_seal(weights).unlink()
    for path in (weights, *weights.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert run("restore", "-q", "-C", weights, ONE, tmp_path / "out").code == 0


@pytest.mark.parametrize("damage", [flip, lambda path: path.unlink()])
def test_repair_makes_a_new_seal(weights, run, repair, sound, damage, monkeypatch):
    old = only_seal(weights)
    later = text.wall_clock() + timedelta(minutes=1)  # in the same second it would be the same seal
    monkeypatch.setattr(text, "_machine_clock", lambda: later)
    damage(old)
    audit = run("audit", "-q", "--json", "-C", weights)
    assert audit.codes & {"seal-missing", "seal-damaged"}
    mended = repair()
    assert mended.code == 0, mended.out
    name = str(old.relative_to(weights))
    assert sources(mended)[name] == "its manifest"
    new = only_seal(weights)
    assert new.name != old.name
    assert json.loads(new.read_bytes())["selection"] == {"exclude": [], "include": []}
    sound(weights)
    assert run("prune", "-q", "-C", weights).code == 0
    assert repair().code == 0
    assert seals(weights, ONE) == [new]


def test_which_files_were_chosen_is_told_by_the_journal(weights, run, repair, tmp_path, models):
    folder = write_folder(tmp_path / "part", models[ONE])
    words = ("import", "-q", "-C", weights, folder, "--as", "org/part", "--include", "*.json")
    assert run(*words, "--min-free", "0B").code == 0
    old = only_seal(weights, "org/part")
    chosen = json.loads(old.read_bytes())["selection"]
    assert chosen["include"] == ["*.json"]
    old.unlink()
    assert "Only chosen files" in run("show", "-C", weights, "org/part").err
    assert repair().code == 0
    new = only_seal(weights, "org/part")
    assert json.loads(new.read_bytes())["selection"] == chosen
    assert run(*words, "--min-free", "0B").code == 0
    assert seals(weights, "org/part") == [new]  # it says the same


def test_a_seal_that_comes_out_the_same_stays(weights, run, repair, tmp_path, models, monkeypatch):
    """Within the second in which it was sealed first."""
    now = text.wall_clock()
    monkeypatch.setattr(text, "_machine_clock", lambda: now)
    folder = write_folder(tmp_path / "part", models[ONE])
    assert run("import", "-q", "-C", weights, folder, "--as", "org/part").code == 0
    old = only_seal(weights, "org/part")
    data = old.read_bytes()
    old.unlink()
    assert repair().code == 0
    assert only_seal(weights, "org/part").read_bytes() == data
    assert run("audit", "-q", "-C", weights).code == 0


def test_what_older_events_do_not_tell_stays_unknown(weights, run, repair):
    """Those of older writers name the seal alone."""
    (event,) = (
        path
        for path in (weights / "journal").rglob("*.json")
        if json.loads(path.read_bytes())["repository"] == TWO
    )
    told = json.loads(event.read_bytes())
    assert told["detail"].pop("selection") == {"exclude": [], "include": []}
    data = json.dumps(told, sort_keys=True, separators=(",", ":")).encode()
    event.unlink()
    stamp = event.name.partition(".")[0]
    overwrite(event.with_name(f"{stamp}.{blake3(data).hexdigest()}.json"), data)
    only_seal(weights, TWO).unlink()
    assert "Perhaps not all files" in run("show", "-C", weights, TWO).err
    assert repair().code == 0
    new = json.loads(only_seal(weights, TWO).read_bytes())
    assert new["selection"]["completeness"] == "unknown"


@pytest.mark.parametrize("same", [True, False])
def test_another_snapshot_of_all_files_tells_which_there_are(tmp_path, same):
    root, text = tmp_path / "weights", b"some text"
    handmade.write_identity(root)
    pack = handmade.pack([(text, 0, handmade.object_frames(text, 0))])
    handmade.write_pack(root, pack)
    files = [handmade.described(name, [text]) for name in ("a.txt", "b.txt")]
    handmade.write_snapshot(root, handmade.manifest(files), [pack])
    other = json.loads(handmade.manifest(files if same else [files[0], files[0] | {"path": "c"}]))
    other["source"]["licence"] = "mit"
    lost = handmade.write_snapshot(root, handmade.canonical(other), [pack])
    next(root.glob(f"snapshots/*/*/*{lost}*")).unlink()
    (snapshot,) = Archive.open(root).unsealed()
    assert snapshot.seal.selection.whole == same


def test_a_copy_of_the_seal_comes_first(weights, replica, run, repair, sound):
    old = only_seal(weights)
    before = old.read_bytes()
    old.unlink()
    mended = repair("--from", replica)
    assert mended.code == 0
    assert old.read_bytes() == before
    assert seals(weights, ONE) == [old]
    sound(weights)


def test_another_seal_of_the_same_manifest_does(weights, run, tmp_path, models):
    """Of lesser vouchers: the very bytes are the same."""
    (path,) = seals(weights, ONE)
    seal = json.loads(path.read_bytes())
    seal["sealed"], seal["vouched"] = "2026-01-01T00:00:00Z", [[2, "nobody", ""]]
    data = json.dumps(seal, sort_keys=True, separators=(",", ":")).encode()
    other = path.with_name(f"{seal['revision']}.{blake3(data).hexdigest()}.json")
    overwrite(other, data)
    text = path.read_bytes()
    flip(path, text.index(b'"tool"') + 9)
    shown = run("show", "--json", "-C", weights, ONE).only("snapshot")
    assert shown["snapshot"] == other.name.split(".")[1]


def test_seal_and_manifest_lost(weights, replica, run, repair, sound):
    only_seal(weights).unlink()
    manifest(weights).unlink()
    assert run("show", "-q", "-C", weights, ONE).code in {2, 20}
    assert run("show", "-q", "-C", weights, TWO).code == 0
    assert repair("--from", replica).code == 0
    sound(weights)


def test_what_was_forgotten_stays_so(weights, run, tmp_path):
    assert run("forget", "-q", "-C", weights, ONE).code == 0
    assert run("restore", "-q", "-C", weights, ONE, tmp_path / "out").code == 2


def test_what_an_interrupted_run_left_is_no_snapshot(weights, tmp_path, models, run):
    """A manifest and packs that no event tells of, in an archive whose journal is whole."""
    folder = write_folder(tmp_path / "two", models[TWO])
    root = tmp_path / "other"
    assert invoke("init", "-q", "-C", root) == 0
    assert invoke("import", "-q", "-C", root, folder, "--as", TWO, "--min-free", "0B") == 0
    for name in ("manifests", "packs"):
        shutil.copytree(weights / name, root / name, dirs_exist_ok=True)
    with pytest.raises(UsageError):
        Archive.open(root).find(ONE)
    assert run("repair", "-q", "--no-upstream", "-C", root).code == 0
    assert not seals(root, ONE)


def test_without_a_journal_nothing_is_withheld(weights, run, tmp_path):
    only_seal(weights).unlink()
    without_journal(weights)
    assert run("restore", "-q", "-C", weights, ONE, tmp_path / "out").code == 0


def test_the_seals_lost_id_means_the_revision(weights, run, tmp_path):
    seal = only_seal(weights)
    digest = seal.name.split(".")[1]
    seal.unlink()
    for number, reference in enumerate((f"{ONE}@{digest[:10]}", digest[:12])):
        out = tmp_path / str(number)
        assert run("restore", "-q", "-C", weights, reference, out).code == 0


# Every single bit


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """An archive of one short file."""
    root = tmp_path_factory.mktemp("bits")
    (root / "model").mkdir()
    (root / "model" / "a.txt").write_bytes(TEXT)
    assert invoke("init", "-q", "-C", root / "weights") == 0
    words = ("import", "-q", "-C", root / "weights", root / "model", "--as", ONE)
    assert invoke(*words, "--min-free", "0B") == 0
    return root / "weights"


def restored(root) -> bytes:
    archive = Archive.open(root)
    snapshot = archive.find(ONE)
    (entry,) = manifest_for(archive, snapshot).files
    out = bytearray()
    with FileDecoder(packs_for(archive, snapshot), workers=1) as decoder:
        decoder.copy(entry, out.extend)
    return bytes(out)


KINDS = {
    "seal": only_seal,
    "manifest": manifest,
    "archive.json": lambda root: root / "archive.json",
}


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_bit_flips_the_files_come_out(small, kind):
    path = KINDS[kind](small)
    whole = path.read_bytes()
    path.chmod(0o644)
    try:
        for at in range(len(whole)):
            for bit in range(8):
                data = bytearray(whole)
                data[at] ^= 1 << bit
                path.write_bytes(data)
                assert restored(small) == TEXT, (at, bit)
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_of_them_is_repaired_by_the_command(small, tmp_path, run, kind):
    size = KINDS[kind](small).stat().st_size
    draw = random.Random(kind)
    for number in range(5):
        root = tmp_path / str(number)
        shutil.copytree(small, root)
        flip(KINDS[kind](root), draw.randrange(size), bit=1 << draw.randrange(8))
        audit = run("audit", "-q", "--json", "-C", root)
        assert audit.code in {0, 20}
        assert run("restore", "-q", "-C", root, ONE, tmp_path / f"out{number}").code == 0
        assert (tmp_path / f"out{number}" / "a.txt").read_bytes() == TEXT
        assert run("repair", "-q", "--no-upstream", "-C", root).code == 0
        assert run("audit", "-q", "-C", root).code == 0
        assert restored(root) == TEXT
