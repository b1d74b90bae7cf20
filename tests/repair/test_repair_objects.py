"""Packs that no place has whole are made anew from single objects."""

from __future__ import annotations

import json
import shutil

import pytest
from kit import handmade
from kit.archive import copy, seals
from kit.faults import checksums, flip, signposts, wipe
from kit.repository import write_folder
from repairkit import ONE, TWO, events, listing, model, own_pack, packs, sources, stored


def size(path):
    return path.stat().st_size


@pytest.fixture
def halves(weights, replica):
    """Both copies of a pack are damaged, at other places."""
    one, two = own_pack(weights), own_pack(replica)
    wipe(one, 1000, 3000)
    wipe(two, size(two) - 9000, size(two) - 5000)
    return one, two


def test_two_damaged_copies_of_one_pack_make_it_whole(
    repair, weights, replica, halves, sound, pristine
):
    result = repair("--from", replica)
    assert result.code == 0, result.out
    assert stored(weights) == stored(pristine)
    assert repair("--from", weights, root=replica).code == 0
    assert stored(replica) == stored(pristine)
    sound(weights)
    sound(replica)


def test_a_pack_with_a_damaged_index_needs_nobody(repair, weights, sound, pristine):
    path = own_pack(weights)
    flip(path, size(path) - 8)
    result = repair()
    assert result.code == 0, result.out
    assert stored(weights) == stored(pristine)
    sound(weights)


def test_no_lost_frame_beside_the_data_costs_anything(
    run, repair, weights, tmp_path, models, pristine
):
    """Each is named by an audit, costs a restore nothing, and comes back without any other copy."""
    path = own_pack(weights)
    for number, (begin, end) in enumerate([*signposts(path)]):
        wipe(path, begin, end)
        found = run("audit", "-q", "--json", "-C", weights)
        codes = {row["code"] for row in found.kinds("finding")} - {"index-damaged"}
        assert (found.code, codes) == (20, {"pack-damaged"}), number
        out = tmp_path / f"out{number}"
        assert run("restore", "-q", "-C", weights, ONE, out).code == 0
        assert {file.name: file.read_bytes() for file in out.iterdir()} == models[ONE]
        assert repair().code == 0
        assert stored(weights) == stored(pristine), number


def test_no_wrong_checksum_of_a_frame_costs_anything(
    run, repair, weights, tmp_path, models, pristine
):
    """Of raw blocks and of others: an object's own digest proves it, and the checksum is made again."""
    path = own_pack(weights)
    for number, (begin, _) in enumerate(checksums(path)):
        flip(path, begin + number % 4)
        found = run("audit", "-q", "--json", "-C", weights)
        assert (found.code, found.codes) == (20, {"pack-damaged"}), number
        out = tmp_path / f"out{number}"
        assert run("restore", "-q", "-C", weights, ONE, out).code == 0
        assert {file.name: file.read_bytes() for file in out.iterdir()} == models[ONE]
        assert repair().code == 0
        assert stored(weights) == stored(pristine), number


def raw_frame(plain: bytes) -> bytes:
    """A frame of one raw block, with a checksum that is wrong."""
    head = b"\x28\xb5\x2f\xfd\x24" + bytes([len(plain)])
    return head + (len(plain) << 3 | 1).to_bytes(3, "little") + plain + b"none"


@pytest.mark.parametrize("raw", [True, False])
def test_a_checksum_that_was_written_wrong_is_found_and_made_right(
    run, repair, tmp_path, monkeypatch, raw
):
    """The pack is what its name says, and its digests are right: only `zstd` refuses the frame."""
    root, plain = tmp_path / "wrong", b"some words " * 20
    bad = raw_frame(plain) if raw else handmade.frame(plain)[:-4] + b"none"
    with monkeypatch.context() as patch:
        patch.setattr(handmade, "frame", lambda _plain: bad)
        objects = [(plain, 0, handmade.object_frames(plain, 0))]
    pack = handmade.pack(objects, full=True)
    handmade.write_identity(root)
    described = handmade.manifest([handmade.described("a.txt", [plain])])
    handmade.write_snapshot(root, described, [pack])
    handmade.write_pack(root, pack)
    found = run("audit", "-q", "--json", "-C", root)
    assert (found.code, found.codes) == (20, {"index-damaged", "carried-missing"})
    assert "wrong checksum" in found.out
    assert run("restore", "-q", "-C", root, "Org/Model", tmp_path / "out").code == 0
    assert (tmp_path / "out" / "a.txt").read_bytes() == plain
    assert repair(root=root).code == 0
    assert run("audit", "-q", "-C", root, "--level", "files").code == 0
    data = b"".join(path.read_bytes() for path in packs(root, "org/model"))
    assert bad not in data
    assert bad[:-4] + handmade.frame(plain)[-4:] in data


def test_a_pack_with_an_index_of_older_writers_is_made_again_as_it_was(repair, tmp_path):
    """Entries of five elements: what stands around the objects is part of the pack's name."""
    root, plain = tmp_path / "old", b"text " * 300
    objects = [(plain, 0, handmade.object_frames(plain, 0))]
    pack = handmade.pack(objects)
    handmade.write_identity(root)
    described = handmade.manifest([handmade.described("a.txt", [plain])])
    handmade.write_snapshot(root, described, [pack])
    path = handmade.write_pack(root, pack)
    for begin, end in [*signposts(path)][1:]:
        wipe(path, begin, end)
        assert repair(root=root).code == 0
        assert path.read_bytes() == pack


def test_a_replica_with_other_packs(run, repair, weights, tmp_path, models, sound):
    """The same repositories, archived independently, in the other order."""
    other = tmp_path / "other"
    assert run("init", "-q", "-C", other).code == 0
    for name in (TWO, ONE):
        folder = write_folder(tmp_path / "again" / name, models[name])
        args = ("import", "-q", "-C", other, folder, "--as", name, "--min-free", "0B")
        assert run(*args).code == 0
    assert not {pack.name for pack in packs(other)} & {pack.name for pack in packs(weights)}
    own_pack(weights).unlink()
    result = repair("--from", other)
    assert result.code == 0, result.out
    assert result.kinds("resealed")
    sound(weights)


def test_a_restored_folder_gives_what_it_still_has(run, repair, weights, tmp_path, sound, pristine):
    out = tmp_path / "out"
    assert run("restore", "-q", "-C", weights, ONE, out).code == 0
    path = own_pack(weights)
    wipe(path, 1000, 3000)
    file = out / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-100:] = bytes(100)
    file.write_bytes(data)
    before = listing(out)
    result = repair("--from", out)
    assert result.code == 0, result.out
    assert str(out) in sources(result).popitem()[1]
    assert listing(out) == before
    assert stored(weights) == stored(pristine)
    sound(weights)


def test_an_object_is_encoded_as_it_was(repair, weights, tmp_path, models, pristine):
    """The archive was made with less effort: the index tells, and the pack is the same again."""
    path = own_pack(weights)
    frames = path.read_bytes().index(b"\x28\xb5\x2f\xfd", path.read_bytes().index(b'"codec":1'))
    wipe(path, frames + 20, frames + 60)
    result = repair("--from", write_folder(tmp_path / "full", models[ONE]))
    assert result.code == 0, result.out
    assert stored(weights) == stored(pristine)


def test_a_hub_cache_gives_what_it_has(run, repair, weights, tmp_path, sound):
    out = tmp_path / "cache"
    assert run("restore", "-q", "-C", weights, ONE, out, "--layout", "hf-cache").code == 0
    wipe(own_pack(weights), 1000, 3000)
    assert repair("--from", out).code == 0
    sound(weights)


def test_what_nobody_has_stays_and_is_named(run, repair, weights, tmp_path, models):
    """Half of what is lost is found: it is kept, and no seal or pack goes away."""
    path = own_pack(weights)
    wipe(path, 1000, size(path) - 1000)
    folder = write_folder(tmp_path / "part", {"config.json": models[ONE]["config.json"]})
    before = stored(weights)
    result = repair("--from", folder)
    assert result.code == 21
    assert before.items() <= stored(weights).items()
    assert {"object-damaged", "object-missing"} & result.codes
    named = {row["path"] for row in result.kinds("finding")}
    assert named == {"model.safetensors", f"packs/{path.parent.name}/{path.name}"}
    (report,) = result.kinds("repair")
    assert report["whole"] is False
    out = tmp_path / "out"
    assert run("restore", "-q", "-C", weights, ONE, out).code == 20
    assert (out / "config.json").read_bytes() == models[ONE]["config.json"]


def test_a_new_seal_stands_in_for_the_old_one(repair, weights, tmp_path, sound, models):
    """A pack that is gone without a trace: its order is not known, so it is another one now."""
    (old,) = seals(weights, ONE)
    own_pack(weights).unlink()
    folder = write_folder(tmp_path / "full", models[ONE])
    result = repair("--from", folder)
    assert result.code == 0, result.out
    (new,) = seals(weights, ONE)
    assert new != old
    assert (
        json.loads(new.read_bytes())["manifest"]
        == json.loads(next((weights / "quarantine").rglob(old.name)).read_bytes())["manifest"]
    )
    recorded = [event["detail"].get("snapshots", []) for event in events(weights, "repaired")]
    assert any(old.name.split(".")[1] in ids for ids in recorded)
    sound(weights)
    assert repair().code == 0


def test_a_shared_pack_gives_each_of_its_snapshots_a_new_seal(
    repair, weights, tmp_path, models, sound
):
    shared = (set(packs(weights, ONE)) & set(packs(weights, TWO))).pop()
    shared.unlink()
    folder = write_folder(tmp_path / "one", models[ONE])
    before = {path.name for path in seals(weights)}
    result = repair("--from", folder)
    assert result.code == 0, result.out
    assert len(result.kinds("resealed")) == 2
    assert not {path.name for path in seals(weights)} & before
    sound(weights)


def test_a_part_keeps_its_patterns(run, weights, repair, tmp_path, models, sound):
    folder = write_folder(tmp_path / "third", model(30))
    args = ("import", "-q", "-C", weights, folder, "--as", "org/third", "--min-free", "0B")
    assert run(*args, "--include", "*.safetensors", "--effort", "fast").code == 0
    (old,) = seals(weights, "org/third")
    (own,) = set(packs(weights, "org/third")) - set(packs(weights, ONE))
    own.unlink()
    result = repair("--from", folder)
    assert result.code == 0, result.kinds("finding")
    (new,) = seals(weights, "org/third")
    assert new != old
    assert json.loads(new.read_bytes())["selection"]["include"] == ["*.safetensors"]
    sound(weights)


def test_a_dry_run_foresees_objects(repair, weights, replica, halves, tmp_path, models):
    before = listing(weights)
    assert repair("--dry-run").code == 21
    result = repair("--dry-run", "--from", replica)
    assert result.code == 20, result.out
    folder = write_folder(tmp_path / "full", models[ONE])
    assert repair("--dry-run", "--from", folder).code == 20
    assert listing(weights) == before


def test_a_damaged_pack_that_nothing_needs_is_set_aside(repair, weights, tmp_path, run, sound):
    """All its objects are whole elsewhere: the seal is what is missing to call the archive whole."""
    path = own_pack(weights, TWO)
    extra = copy(path.parent, tmp_path / "kept") / path.name
    for seal in seals(weights, TWO):
        seal.unlink()
    shutil.rmtree(weights / "journal")
    wipe(path, 1000, 3000)
    result = repair()
    assert result.code == 0, result.out
    assert not path.exists()
    assert extra.exists()
    sound(weights, (ONE,))


def test_the_catalogue_follows(run, repair, weights, tmp_path, models):
    assert run("stats", "-q", "--json", "-C", weights).code == 0
    own_pack(weights).unlink()
    assert repair("--from", write_folder(tmp_path / "full", models[ONE])).code == 0
    result = run("stats", "-q", "--json", "-C", weights)
    assert result.code == 0
    folder = write_folder(tmp_path / "again", models[ONE])
    args = ("import", "--json", "-C", weights, folder, "--as", ONE, "--min-free", "0B")
    (report,) = run(*args).kinds("mirror")
    assert report["stored_bytes"] == 0
