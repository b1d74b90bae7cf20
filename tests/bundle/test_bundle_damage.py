"""What goes wrong with media: each thing is named by volume, file and next step, and the rest comes in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from bundlekit import LARGE, SMALL, flip, piece, replace, volumes_of
from kit.repository import files_below

CORE = "volume-0002"


def shorten(path):
    """What is lost of it lies in one block or two of its parity."""
    replace(path, path.read_bytes()[:-50_000])


def faults(done) -> list[tuple[int, str, bool]]:
    bundles = done.only("bundle-verify")["bundles"]
    return [(f["volume"], f["kind"], f["healed"]) for b in bundles for f in b["faults"]]


@pytest.fixture
def verify(run):
    return lambda *paths: run("bundle", "verify", "-q", "--json", *paths)


def test_rot_that_parity_mends(run, media, verify, bring, far, same, tmp_path, carried):
    """In a pack that lies whole, and in a piece of one whose parity lies on another volume."""
    assert bring(media / "volume-0001").code == 3
    (whole,) = media.rglob("packs/*/*.pack")
    flip(piece(media / CORE))
    if "pieces" not in whole.parts:
        flip(whole)
    done = verify(media)
    assert done.code == 20
    assert faults(done)
    assert all(kind == "damaged" and healed for _, kind, healed in faults(done))
    out = tmp_path / "out"
    restored = run("bundle", "restore", media, out, "--snapshot", LARGE)
    assert restored.code == 0
    assert "read by its parity" in restored.err
    assert files_below(out) == files_below(carried.model(LARGE))
    assert bring(media / CORE).code == 20  # a piece alone cannot be mended
    came = bring(media)
    assert came.code == 0
    assert all(fault["healed"] for fault in came.only("bundle-import")["faults"])
    same(far)


@pytest.mark.parametrize("spoil", [flip, shorten])
def test_a_bare_python_reads_past_rot(media, tmp_path, carried, spoil):
    spoil(piece(media / CORE))
    words = ["-I", media / CORE / "decode.py", "restore", LARGE, tmp_path / "out"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "from parity" in done.stderr
    assert files_below(tmp_path / "out") == files_below(carried.model(LARGE))


def test_a_piece_that_lost_its_end_moves_no_other(media, verify, bring, far, same):
    shorten(piece(media / CORE))
    assert faults(verify(media)) == [(2, "truncated", True)]
    assert bring(media).code == 0
    same(far)


def test_a_whole_pack_is_mended_on_its_way_in(media, bring, far, same):
    (whole,) = (path for path in media.rglob("packs/*/*.pack") if path.stat().st_size < 1 << 20)
    flip(whole)
    assert bring(media).code == 0
    same(far)


def test_rot_beyond_parity(media, verify, bring, far, same, pristine):
    flipped = piece(media / CORE)
    flip(flipped, *range(0, flipped.stat().st_size, 100_000))
    done = verify(media)
    assert (done.code, faults(done)) == (20, [(2, "damaged", False)])
    came = bring(media)
    assert came.code == 20
    (fault,) = came.only("bundle-import")["faults"]
    assert (fault["volume"], fault["kind"]) == (2, "damaged")
    assert flipped.name in fault["name"]
    (published,) = came.only("bundle-import")["published"]
    assert published.startswith(SMALL)
    # A better medium of the same volume is all that is needed.
    assert bring(pristine / CORE).code == 0
    same(far)


def damage(kind, volume):
    target = piece(volume)
    if kind == "missing":
        target.unlink()
    elif kind == "truncated":
        replace(target, target.read_bytes()[:-7_000_000])
    elif kind == "unlisted":
        (volume / "autorun.inf").write_text("[autorun]\nopen=evil.exe\n")
    elif kind == "link":
        (volume / "packs" / "zz").symlink_to("/etc")
    else:
        os.mkfifo(volume / "pipe")


@pytest.mark.parametrize("kind", ["missing", "truncated", "unlisted", "link", "pipe"])
def test_each_fault_is_told(run, media, verify, bring, kind):
    (media / CORE / "packs").mkdir(exist_ok=True)
    damage(kind, media / CORE)
    done = verify(media)
    expected = kind if kind in {"missing", "truncated"} else "unlisted"
    assert (done.code, faults(done)) == (20, [(2, expected, False)])
    said = run("bundle", "verify", "-q", media).out
    assert "volume 2" in said
    assert "→" in said
    came = bring(media)
    told = [(f["volume"], f["kind"]) for f in came.only("bundle-import")["faults"]]
    # What no list has is not looked at.
    assert told == ([(2, kind)] if kind in {"missing", "truncated"} else [])
    assert came.code == (20 if told else 0)


def test_what_a_desktop_leaves_is_no_fault(media, verify):
    (media / CORE / "System Volume Information").mkdir()
    (media / CORE / "System Volume Information" / "IndexerVolumeGuid").write_text("x")
    (media / CORE / ".DS_Store").write_text("x")
    assert verify(media).code == 0


@pytest.mark.parametrize("name", ["volume.json", "bundle.json"])
def test_a_damaged_list_is_told_and_done_without(media, verify, bring, far, same, name):
    flip(media / CORE / name)
    done = verify(media)
    assert done.code == 20
    assert (2, "damaged", False) in faults(done)
    came = bring(media)
    # The files still have their own proofs.
    same(far)
    assert came.code == 20
    assert [(f["volume"], f["name"]) for f in came.only("bundle-import")["faults"]] == [(2, name)]


@pytest.mark.parametrize("name", ["volume.json", "bundle.json"])
def test_a_damaged_list_is_told_though_a_copy_of_its_volume_is_whole(
    media, verify, bring, far, same, tmp_path, name
):
    shutil.copytree(media / CORE, tmp_path / "twin" / CORE)
    flip(media / CORE / name, 1)
    for done, kind in (
        (verify(media, tmp_path / "twin"), "bundle-verify"),
        (bring(media, tmp_path / "twin"), "bundle-import"),
    ):
        assert done.code == 20
        assert done.out.count(f'"name": "{name}"') == 1, kind
    same(far)


def test_volumes_of_two_bundles(media, verify, export, tmp_path, bring):
    assert export(tmp_path / "other", references=[SMALL]).code == 0
    shutil.rmtree(media / CORE)
    (tmp_path / "other" / "volume-0001").rename(media / CORE)
    done = verify(media)
    assert done.code == 3
    bundles = done.only("bundle-verify")["bundles"]
    assert sorted(bundle["missing"] for bundle in bundles) == [[], [2]]
    assert "2 bundles" in verify(media).err or len(bundles) == 2


def test_a_volume_that_was_not_written_to_its_end(media, verify, bring, run):
    (media / CORE / "volume.json").unlink()
    done = verify(media)
    assert (done.code, faults(done)) == (3, [])
    (bundle,) = done.only("bundle-verify")["bundles"]
    assert [each["unfinished"] for each in bundle["present"]] == [False, True, False, False]
    came = bring(media)
    assert came.code == 20
    states = {v["number"]: v["state"] for v in came.only("bundle-import")["volumes"]}
    assert states == {1: "taken", 2: "refused", 3: "taken", 4: "taken"}


def test_an_export_mends_what_is_not_right(media, export, verify):
    flip(piece(media / CORE))
    (media / "volume-0003" / "MANIFEST.md").unlink()
    assert export(media, "--parity", "2").only("bundle-export")["again"]
    assert verify(media).code == 0


@pytest.mark.parametrize("which", [min, max])
def test_a_damaged_pack_is_not_carried(carried, tmp_path, export, which):
    """Neither whole nor in pieces."""
    source = tmp_path / "source"
    shutil.copytree(carried.root, source)
    flip(which(source.rglob("*.pack"), key=lambda path: path.stat().st_size))
    done = export(tmp_path / "to", of=carried._replace(root=source))
    assert done.code == 20
    assert "archiver repair" in done.out
    volumes = volumes_of(tmp_path / "to")
    assert not all((volume / "volume.json").exists() for volume in volumes)


def test_where_no_volume_is(run, tmp_path):
    done = run("bundle", "verify", "-q", tmp_path)
    assert done.code == 2
    assert "no volume" in done.err


def test_volumes_are_not_written_over_another_bundle(export, media):
    done = export(media, references=[SMALL])
    assert done.code == 2
    assert "another bundle" in done.out
