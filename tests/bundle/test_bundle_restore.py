"""Straight from the media: every way to restore, what is needed for it, and what is missing or damaged."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile

import pytest
from bundlekit import LARGE, SMALL, flip, piece, replace, volumes_of
from kit.disks import mounted, needs_mount, skip_unless_mountable
from kit.repository import files_below

CORE = "volume-0002"


@pytest.fixture
def restore(run, tmp_path):
    """Restore LARGE from volumes to a folder, or what the words say."""

    def call(paths, *words, reference=LARGE):
        named = ("--snapshot", reference) if reference else ()
        return run("bundle", "restore", "-q", *paths, tmp_path / "out", *named, *words)

    return call


def without(pristine, *numbers):
    return [path for path in volumes_of(pristine) if int(path.name[-4:]) not in numbers]


def holders(volumes, what) -> set[int]:
    """The numbers of the volumes that have a file in whose name this stands."""
    return {
        int(volume.name[-4:])
        for volume in volumes
        if any(what in path.relative_to(volume).as_posix() for path in volume.rglob("*"))
    }


# ---- what is needed


def test_a_dry_run_names_packs_and_volumes(restore, pristine, tmp_path):
    done = restore([pristine], "--dry-run", "--json")
    assert done.code == 0
    plan = done.only("restore-plan")
    (pack,) = plan["packs"]
    assert pack["there"]
    assert pack["size"] == sum(p.stat().st_size for p in pristine.rglob(f"{pack['pack']}.pack*"))
    needed = holders(volumes_of(pristine), pack["pack"])
    assert {each["volume"] for each in plan["volumes"]} == needed
    assert all(each["here"] for each in plan["volumes"])
    assert not (tmp_path / "out").exists()
    said = restore([pristine], "--dry-run").out
    assert "Volumes that are needed and here: " in said
    assert "nothing was written" in said


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_whatever_volume_is_missing_it_is_named_and_the_code_is_the_same(
    restore, run, pristine, tmp_path, number
):
    rest = without(pristine, number)
    lacking = number in holders(volumes_of(pristine), ".pack.")
    planned = restore(rest, "--dry-run", "--json")
    done = restore(rest)
    assert planned.code == done.code == (3 if lacking else 0)
    assert run("bundle", "verify", "-q", *rest).code == 3
    if lacking:
        plan = planned.only("restore-plan")
        assert [v["volume"] for v in plan["volumes"] if not v["here"]] == [number]
        assert plan["lacking"] == ["config.json", "weights.bin"]
        assert f"volume {number} too" in done.err
        assert not (tmp_path / "out").exists()


def test_only_the_volumes_of_what_is_asked_for_are_needed(restore, pristine, carried, tmp_path):
    (volume,) = {path.parents[2] for path in pristine.rglob("packs/*/*.pack")}
    done = restore([volume], reference=SMALL)
    assert done.code == 0, done.err
    assert files_below(tmp_path / "out") == files_below(carried.model(SMALL))


def test_a_bundle_that_leaves_out_what_the_far_side_has(
    restore, run, carried, export, bring, far, tmp_path
):
    assert export(tmp_path / "first", references=[SMALL]).code == 0
    assert bring(tmp_path / "first").code == 0
    inventory = tmp_path / "inventory.json"
    assert run("inventory", "-q", "-C", far, "-o", inventory).code == 0
    assert export(tmp_path / "to", "--not-in", inventory, references=[SMALL]).code == 0
    done = restore([tmp_path / "to"], reference=SMALL)
    assert done.code == 3
    assert "is incremental" in done.err
    assert restore([tmp_path / "to"], "-n", reference=SMALL).code == 3
    assert restore([tmp_path / "to", tmp_path / "first"], reference=SMALL).code == 0


# ---- every layout


def test_a_tar(pristine, carried):
    words = ["bundle", "restore", "-q", pristine, "-", "--layout", "tar", "--snapshot", LARGE]
    done = subprocess.run(
        [sys.executable, "-m", "archiver", *map(str, words)], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        read = {member.name: tar.extractfile(member).read() for member in tar}
    assert read == files_below(carried.model(LARGE))


def test_a_tar_of_what_parity_mends_is_the_same(media, pristine):
    flip(piece(media / CORE))
    tars = []
    for place in (media, pristine):
        words = ["bundle", "restore", place, "-", "--layout", "tar", "--snapshot", LARGE]
        command = [sys.executable, "-m", "archiver", *map(str, words)]
        done = subprocess.run(command, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        tars.append(done.stdout)
        assert (b"read by its parity" in done.stderr) == (place is media)
    assert tars[0] == tars[1]


def test_a_hub_cache_and_chosen_files(restore, pristine, carried, tmp_path):
    done = restore([pristine], "--layout", "hf-cache", "--file", "config.json")
    assert done.code == 0
    assert "HF_HUB_OFFLINE=1" in done.out
    (link,) = (path for path in (tmp_path / "out").rglob("config.json"))
    assert link.read_bytes() == (carried.model(LARGE) / "config.json").read_bytes()


def test_overwrite(restore, pristine, carried, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/config.json").write_bytes(b"other")
    assert restore([pristine]).code == 3
    assert restore([pristine], "--overwrite").code == 0
    assert files_below(tmp_path / "out") == files_below(carried.model(LARGE))


# ---- what is damaged


def test_what_the_run_before_a_mending_wrote_was_not_there_already(restore, media, tmp_path):
    flip(piece(media / CORE))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/config.json").write_bytes(b"other")
    told = restore([media], "--overwrite", "--json").only("restore")
    assert (told["files"], told["kept"], told["replaced"]) == (2, 0, ["config.json"])


def test_rot_beyond_parity_leaves_out_what_it_hits(restore, media, tmp_path, carried):
    target = piece(media / CORE)
    flip(target, *range(0, target.stat().st_size, 100_000))
    done = restore([media], "--json")
    assert done.code == 20
    assert [each["path"] for each in done.only("restore")["failures"]] == ["weights.bin"]
    assert files_below(tmp_path / "out").keys() == {"config.json"}


def test_a_pack_that_is_gone_from_a_volume_that_is_here_is_damage(restore, media, tmp_path):
    """Not a missing volume: its own medium has lost it, and what else there is can be restored."""
    (whole,) = media.rglob("packs/*/*.pack")
    whole.unlink()
    done = restore([media], reference=SMALL)
    assert done.code == 20
    assert "could not be restored" in done.out
    assert restore([media], "-n", reference=SMALL).code == 20


@needs_mount
def test_no_room_to_mend_is_no_damage(media, tmp_path, carried):
    """The restore says which file needs room, and where; with room it goes on from there."""
    skip_unless_mountable()
    flip(piece(media / CORE))
    words = ["-m", "archiver", "bundle", "restore", media, tmp_path / "out", "--snapshot", LARGE]
    command = [sys.executable, *map(str, words)]
    small = tmp_path / "small"
    with mounted(small, "-t", "tmpfs", "-o", "size=2m", "tmpfs"):
        done = subprocess.run(
            command,
            env=os.environ | {"TMPDIR": str(small)},
            capture_output=True,
            text=True,
            check=False,
        )
        left = list(small.iterdir())
    assert done.returncode == 31, done.stderr
    assert str(small) in done.stderr
    assert "TMPDIR" in done.stderr
    assert "damaged" not in done.stderr
    assert not left
    assert files_below(tmp_path / "out").keys() == {"config.json"}
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert files_below(tmp_path / "out") == files_below(carried.model(LARGE))


@pytest.mark.parametrize("name", ["volume.json", "bundle.json"])
def test_a_damaged_list_is_said(restore, run, media, name):
    broken = media / CORE / name
    replace(broken, broken.read_bytes()[:1000])
    done = run("bundle", "restore", media, media.parent / "out", "--snapshot", LARGE)
    assert done.code == 0
    assert f"{CORE}/{name}" in done.err
    said = run("bundle", "restore", "--json", media, media.parent / "out", "--snapshot", LARGE)
    assert [json.loads(line)["kind"] for line in said.out.splitlines()][-1] == "restore"


# ---- with a bare Python


def decoded(volume, *words):
    """Run a volume's own reader with a bare Python; what it said."""
    command = [sys.executable, "-I", "-S", volume / "decode.py", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=volume)
    assert "Traceback" not in done.stderr
    return done.stderr


def test_the_reader_of_a_volume_names_those_that_are_not_here(pristine, media, tmp_path):
    (tmp_path / "alone").mkdir()
    alone = (media / "volume-0003").rename(tmp_path / "alone/volume-0003")
    for words, numbers in (((), "1, 2, 4"), (("--packs", media / "volume-0001"), "2, 4")):
        said = decoded(alone, *words, "restore", LARGE, tmp_path / "out")
        assert f"it is on volumes {numbers}: name the folder with --packs" in said
    said = decoded(alone, "--packs", media, "restore", LARGE, tmp_path / "out")
    assert "name the folder" not in said
    assert (tmp_path / "out/weights.bin").is_file()


@pytest.mark.parametrize("number", [b'"number":[3]', b'"number":{}', b'"numbers":3'])
def test_the_reader_believes_no_list(media, tmp_path, number):
    volume = media / "volume-0003"
    data = (volume / "volume.json").read_bytes()
    assert b'"number":3' in data
    replace(volume / "volume.json", data.replace(b'"number":3', number))
    (tmp_path / "alone").mkdir()
    alone = volume.rename(tmp_path / "alone/volume-0003")
    assert "it is on volumes 1, 2" in decoded(alone, "restore", LARGE, tmp_path / "out")


def test_the_reader_says_of_a_pack_that_is_lost_where_it_should_be(media, tmp_path):
    (whole,) = media.rglob("packs/*/*.pack")
    whole.unlink()
    for parity in media.rglob("*.par"):
        parity.unlink()
    number = int(whole.parents[2].name[-4:])
    said = decoded(media / CORE, "restore", SMALL, tmp_path / "out")
    assert f"it should be on volume {number}, which is here" in said


def test_the_reader_of_an_incremental_volume_says_that_it_is_one(
    run, carried, export, bring, far, tmp_path
):
    assert export(tmp_path / "first", references=[SMALL]).code == 0
    assert bring(tmp_path / "first").code == 0
    inventory = tmp_path / "inventory.json"
    assert run("inventory", "-q", "-C", far, "-o", inventory).code == 0
    assert export(tmp_path / "to", "--not-in", inventory, references=[SMALL]).code == 0
    volume = tmp_path / "to/volume-0001"
    said = decoded(volume, "restore", SMALL, tmp_path / "out")
    assert "this bundle leaves it out: name the volumes of the one before it with --packs" in said
    decoded(volume, "--packs", tmp_path / "first", "restore", SMALL, tmp_path / "out")
    assert files_below(tmp_path / "out") == files_below(carried.model(SMALL))
