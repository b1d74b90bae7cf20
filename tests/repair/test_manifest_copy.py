"""The manifest's copy in packs: written once, needed, read where the file is lost, and repaired."""

from __future__ import annotations

import hashlib

import pytest
from blake3 import blake3
from kit.archive import as_older
from kit.cli import invoke
from kit.faults import empty, flip, overwrite
from kit.repository import write_folder
from repairkit import ONE, TWO, events, manifest, own_pack, packs, sources, stored

from archiver.archive.archive import Archive
from archiver.errors import DamageError


def test_a_seal_names_digests_of_its_manifest_and_a_copy_that_its_packs_hold(weights):
    archive = Archive.open(weights)
    for snapshot in archive.snapshots():
        ref = snapshot.seal.manifest
        plain = archive.manifest_bytes(snapshot.seal)
        assert ref.sha256 == hashlib.sha256(plain).hexdigest()
        assert ref.objects == ((len(plain), blake3(plain).hexdigest()),)
        assert archive.manifest_copy(snapshot.seal) == plain
        assert snapshot.seal.committed == archive.manifest(snapshot.seal).source.committed
        # The files' objects alone make the totals.
        entries = archive.manifest(snapshot.seal).files
        held = {digest for entry in entries for _, digest in entry.segments}
        assert snapshot.seal.totals.objects == len(held)


def test_it_lies_in_the_pack_of_the_files_and_makes_no_other(weights):
    assert len(packs(weights, ONE)) == 1


@pytest.mark.parametrize("damage", [flip, empty, lambda path: path.unlink()])
def test_a_lost_manifest_is_read_out_of_the_packs(weights, run, tmp_path, models, damage):
    damage(manifest(weights))
    out = tmp_path / "out"
    assert run("restore", "-q", "-C", weights, ONE, out).code == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == models[ONE]
    assert run("show", "-q", "-C", weights, ONE).code == 0


@pytest.mark.parametrize("more", [b"\0", b"end", b"\x50\x2a\x4d\x18\0\0\0\0", bytes(777)])
def test_what_follows_a_manifest_is_damage_too(weights, run, repair, sound, tmp_path, models, more):
    """A decoder that stops at the frame's end does not see it; the program zstd refuses the most of it."""
    path = manifest(weights)
    before = path.read_bytes()
    overwrite(path, before + more)
    audit = run("audit", "-q", "--json", "-C", weights)
    assert (audit.code, audit.codes) == (20, {"manifest-damaged"})
    out = tmp_path / "out"
    assert run("restore", "-q", "-C", weights, ONE, out).code == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == models[ONE]
    assert repair().code == 0
    assert path.read_bytes() == before
    sound(weights)


def test_a_lost_manifest_is_damage_and_the_next_command_puts_it_back(weights, run, repair, sound):
    path = manifest(weights)
    before = path.read_bytes()
    path.unlink()
    audit = run("audit", "-q", "--json", "-C", weights)
    assert (audit.code, audit.codes) == (20, {"manifest-missing"})
    (finding,) = audit.damage
    assert "a repair writes it anew" in finding["message"]
    assert finding["actions"][0]["do"] == "repair"
    mended = repair()
    assert mended.code == 0
    assert sources(mended) == {f"manifests/{ONE}/{path.name}": "its copy in packs"}
    assert path.read_bytes() == before
    sound(weights)


def test_a_copy_that_lies_is_not_taken(weights):
    archive = Archive.open(weights)
    (snapshot,) = archive.snapshots_of(ONE)
    (other,) = archive.snapshots_of(TWO)
    manifest(weights).unlink()
    from msgspec.structs import replace

    lying = replace(snapshot.seal.manifest, objects=other.seal.manifest.objects)
    with pytest.raises(DamageError, match="missing"):
        archive.manifest(replace(snapshot.seal, manifest=lying))
    for objects in (((1 << 40, "ab" * 32),), ((0, "ab" * 32),), ((1 << 24, "ab" * 32),) * 9):
        vast = replace(snapshot.seal.manifest, objects=objects)
        with pytest.raises(DamageError, match="missing"):
            archive.manifest(replace(snapshot.seal, manifest=vast))


def test_the_copy_comes_back_from_the_manifest(weights, run, repair, sound):
    """A pack whose damage hits the copy alone becomes the same pack again."""
    pack = own_pack(weights)
    archive = Archive.open(weights)
    (snapshot,) = archive.snapshots_of(ONE)
    ((_, digest),) = snapshot.seal.manifest.copies
    before = pack.read_bytes()
    (entry,) = [each for each in archive.pack(pack.stem).index() if each.blake3 == digest]
    flip(pack, entry.offset + entry.stored - 9)
    audit = run("audit", "-q", "--json", "-C", weights)
    assert audit.code == 20
    assert audit.codes == {"pack-damaged", "object-damaged"}
    (hit,) = [each for each in audit.damage if each["code"] == "object-damaged"]
    assert hit["path"].startswith(f"manifests/{ONE}/")
    mended = repair()
    assert mended.code == 0, mended.out
    assert pack.read_bytes() == before
    assert not mended.kinds("resealed")
    sound(weights)


def test_manifest_and_pack_both_hit(weights, replica, repair, sound):
    """The copy is gone with its pack, and the file too: another archive has both."""
    own_pack(weights).unlink()
    manifest(weights).unlink()
    assert repair("--from", replica).code == 0
    sound(weights)


def test_what_says_the_same_writes_nothing(weights, tmp_path, models):
    before = stored(weights)
    folder = write_folder(tmp_path / "again", models[ONE])
    words = ("import", "-q", "-C", weights, folder, "--as", ONE, "--effort", "fast")
    assert invoke(*words, "--min-free", "0B") == 0
    assert stored(weights) == before


def test_a_snapshot_whose_files_are_held_gets_a_small_pack_for_its_manifest(
    weights, tmp_path, models, sound, run
):
    folder = write_folder(tmp_path / "again", models[ONE])
    words = ("import", "-q", "-C", weights, folder, "--as", "org/three", "--effort", "fast")
    assert invoke(*words, "--min-free", "0B") == 0
    new = set(packs(weights, "org/three")) - set(packs(weights, ONE))
    (pack,) = new
    assert pack.stat().st_size < 4096
    assert run("audit", "-q", "-C", weights).code == 0
    sound(weights)


def test_prune_keeps_what_only_a_manifests_copy_needs(weights, run, tmp_path, models, sound):
    folder = write_folder(tmp_path / "again", models[ONE])
    words = ("import", "-q", "-C", weights, folder, "--as", "org/three", "--effort", "fast")
    assert invoke(*words, "--min-free", "0B") == 0
    assert run("forget", "-q", "-C", weights, TWO).code == 0
    pruned = run("prune", "-q", "--json", "-C", weights)
    assert pruned.code == 0, pruned.err
    (snapshot,) = Archive.open(weights).snapshots_of("org/three")
    small = set(packs(weights, "org/three")) - set(packs(weights, ONE))
    condemned = {
        name for event in events(weights, "condemned") for name in event["detail"]["files"]
    }
    assert condemned
    assert not condemned & {str(pack.relative_to(weights)) for pack in small}
    assert Archive.open(weights).manifest_copy(snapshot.seal)


def test_an_older_seal_has_no_copy_and_says_what_it_did(weights, run):
    as_older(weights, ONE)
    manifest(weights).unlink()
    shown = run("show", "-q", "-C", weights, ONE)
    assert shown.code == 20
    assert "is missing" in shown.err


def test_a_copy_of_an_archive_has_the_manifests_copy_too(weights, tmp_path, run):
    target = tmp_path / "copy"
    assert run("copy", "-q", "-C", weights, "--new", target).code == 0
    manifest(target).unlink()
    copied = Archive.open(target)
    (snapshot,) = copied.snapshots_of(ONE)
    assert copied.manifest(snapshot.seal) == Archive.open(weights).manifest(snapshot.seal)


def test_a_model_of_many_tensors_cuts_its_manifest_in_pieces():
    """Without writing 16 MiB: the pieces are whole segments and a rest."""
    from archiver.archive.manifests import pieces_of
    from archiver.codec.segment import SEGMENT_MAX

    plain = bytes(SEGMENT_MAX * 2 + 5)
    assert [len(piece) for piece in pieces_of(plain)] == [SEGMENT_MAX, SEGMENT_MAX, 5]
    assert b"".join(piece.tobytes() for piece in pieces_of(plain)) == plain
