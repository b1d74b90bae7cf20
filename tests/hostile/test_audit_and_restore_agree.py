"""Audit and restore agree: what restore would refuse an audit finds, and what is kept comes out."""

from __future__ import annotations

import json
import os

import pytest
from hostilekit import (
    BY_HAND,
    LIES,
    NEVER,
    OK,
    SOME_FILESYSTEMS,
    TEXT,
    good_pack,
    tensor_file,
    write_archive,
)
from kit import handmade
from kit.memory import decode

REPO = "Org/Model"
GOOD = {"config.json": OK, "model.safetensors": tensor_file()[0], "text.bin": TEXT}


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def audited(run, root, level="files"):
    return run("audit", "-q", "--json", "-C", root, "--level", level)


def agree(run, root, tmp_path):
    """The invariant: an audit that ends with 0 means a restore that ends with 0, by either reader."""
    audit = audited(run, root)
    restore = run("restore", "-q", "-C", root, REPO, tmp_path / "out")
    assert audit.code in {0, 4, 10, 20}, audit
    assert "Traceback" not in audit.err + restore.err
    if audit.code == 0:
        assert restore.code == 0, restore
    else:
        assert restore.code in {0, 2, 10, 20}, (
            restore
        )  # some damage heals: other copies, lost indexes
    return audit, restore


@pytest.mark.parametrize("case", NEVER)
def test_what_is_never_legitimate_is_found_at_the_first_level(run, tmp_path, case):
    root = write_archive(tmp_path / "archive", NEVER[case])
    structure = audited(run, root, "structure")
    assert structure.code == 20, structure
    assert structure.codes <= {"manifest-invalid", "manifest-damaged", "seal-damaged"}
    assert structure.damage[0]["hint"]
    _, restore = agree(run, root, tmp_path)
    assert restore.code == 20
    assert not (tmp_path / "out").exists() or not tree(tmp_path / "out")
    if BY_HAND.isdisjoint(case.split()):
        assert decode(root, "restore", REPO, tmp_path / "by-hand").code == 20
    assert not (tmp_path / "by-hand").exists() or not tree(tmp_path / "by-hand")


def test_a_copy_and_a_status_tell_of_it_too(run, tmp_path):
    root = write_archive(tmp_path / "archive", NEVER["parent"])
    assert audited(run, root, "structure").codes == {"manifest-invalid"}
    assert "had 1 finding" in run("status", "-C", root).out
    assert run("status", "-C", root).code in {20, 24}
    assert run("init", "-q", "-C", tmp_path / "there").code == 0
    copied = run("copy", "-q", "--json", "-C", root, tmp_path / "there")
    assert copied.code == 20, copied
    assert "manifest-invalid" in copied.codes
    assert not list((tmp_path / "there").glob("snapshots/*/*/*"))
    # What helps: the snapshot is taken out of use.
    assert run("forget", "-C", root, REPO).code == 0
    assert audited(run, root).code == 0


@pytest.mark.parametrize("case", SOME_FILESYSTEMS)
def test_what_one_filesystem_can_hold_is_kept_and_comes_out(run, tmp_path, case):
    root = write_archive(tmp_path / "archive", SOME_FILESYSTEMS[case])
    audit, restore = agree(run, root, tmp_path)
    assert (audit.code, restore.code) == (0, 0), (audit, restore)
    assert tree(tmp_path / "out").items() >= GOOD.items()
    (manifest,) = (root / "manifests/org/model").iterdir()
    assert len(tree(tmp_path / "out")) == len(paths_of(manifest))
    remarked = "path-unportable" in audit.remarks
    assert remarked == (case not in {"reserved", "other scripts", "long", "like an option"})


def paths_of(manifest):
    import zstandard

    data = zstandard.ZstdDecompressor().decompress(manifest.read_bytes())
    return {file["path"] for file in json.loads(data)["files"]}


@pytest.mark.parametrize("case", LIES)
def test_what_could_be_right_and_is_not_is_found_by_making_the_files(run, tmp_path, case):
    root = write_archive(tmp_path / "archive", LIES[case])
    audit, restore = agree(run, root, tmp_path)
    # Of a file's two digests a restore compares one: bytes with that SHA-256 are the file.
    assert (audit.code, restore.code) == (20, 0 if case == "wrong BLAKE3" else 20)


def test_a_restore_by_segments_cannot_see_a_wrong_digest_of_the_file(run, tmp_path):
    root = write_archive(tmp_path / "archive", LIES["wrong SHA-256"])
    words = ("restore", "-q", "--json", "-C", root, REPO)
    by_segments = run(*words, tmp_path / "segments", "--check", "segments")
    assert by_segments.code == 0
    assert by_segments.kinds("restore")[0]["proof"] == "segments"
    assert tree(tmp_path / "segments").items() >= GOOD.items()
    by_files = run(*words, tmp_path / "files")
    assert by_files.code == 20
    assert by_files.kinds("restore")[0]["proof"] == "files"
    assert tree(tmp_path / "files") == {
        path: data for path, data in GOOD.items() if path != "text.bin"
    }


@pytest.mark.parametrize(
    "case", ["object of another size", "object that is not there", "files swapped"]
)
def test_a_restore_by_segments_sees_all_else(run, tmp_path, case):
    root = write_archive(tmp_path / "archive", LIES[case])
    done = run("restore", "-C", root, REPO, tmp_path / "out", "--check", "segments")
    assert done.code == 20
    assert len(tree(tmp_path / "out")) < len(GOOD)


def overlapping(pack):
    """An index whose objects lie over each other."""
    begin = int.from_bytes(pack[-8:], "little")
    index = json.loads(pack[begin + 8 : -16])
    index["objects"] = [[*row[:1], index["objects"][0][1], *row[2:]] for row in index["objects"]]
    return pack[:begin] + handmade.skippable(2, handmade.canonical(index)) + pack[-16:]


PACKS = {
    "whole": good_pack(),
    "no index": good_pack()[:-200],
    "half": good_pack()[: len(good_pack()) // 2],
    "nothing": b"",
    "index overlaps": overlapping(good_pack()),
    "an object is another": good_pack().replace(TEXT[:200], TEXT[1:201]),
    "a header claims too much": good_pack().replace(b'"frames":[', b'"frames":[9'),
}


@pytest.mark.parametrize("case", PACKS)
def test_packs_that_lie(run, tmp_path, case):
    root = write_archive(tmp_path / "archive", pack=PACKS[case])
    agree(run, root, tmp_path)


SEALS = {
    "totals": {
        "totals": dict.fromkeys(("files", "bytes", "objects", "stored", "tensors"), 10**400)
    },
    "negative totals": {
        "totals": dict.fromkeys(("files", "bytes", "objects", "stored", "tensors"), -1)
    },
    "another format": {"format": 2},
    "a feature": {"features": {"read": ["x"], "write": []}},
    "a selection": {"selection": {"include": ["*"] * 20_000, "exclude": []}},
    "another repository": {"repository": "Org/Other"},
    "a time": {"sealed": "x"},
}


@pytest.mark.parametrize("case", SEALS)
def test_seals_that_lie(run, tmp_path, case):
    root = write_archive(tmp_path / "archive", **SEALS[case])
    agree(run, root, tmp_path)


# ---- a filesystem that cannot hold all names


@pytest.fixture
def folding(monkeypatch):
    """A filesystem that does not tell upper from lower case: each name is looked up by its folded form."""
    from archiver.archive.destination import PlainFolder

    honest = PlainFolder.visible

    def visible(self, entry):
        path = honest(self, entry)
        return self.root / path.relative_to(self.root).as_posix().casefold()

    monkeypatch.setattr(PlainFolder, "visible", visible)


@pytest.mark.parametrize("case", ["case", "case of folders"])
def test_a_filesystem_that_folds_case_leaves_a_twin_out_and_names_it(run, tmp_path, folding, case):
    root = write_archive(tmp_path / "archive", SOME_FILESYSTEMS[case])
    restore = run("restore", "-C", root, REPO, tmp_path / "out")
    assert restore.code == 3, restore
    assert (
        "where case and forms of Unicode do not count" in restore.out or "same name" in restore.out
    )
    assert "Restore this one with --file" in restore.out
    assert len(tree(tmp_path / "out")) == 3 + (case == "case of folders")


def test_a_name_too_long_for_the_place_is_left_out_and_named(run, tmp_path):
    """A path of a thousand bytes fits the format, and not below a folder of three thousand."""
    root = write_archive(tmp_path / "archive", SOME_FILESYSTEMS["long"])
    deep = tmp_path
    handle = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(15):
            os.mkdir("d" * 220, dir_fd=handle)
            inner = os.open("d" * 220, os.O_RDONLY, dir_fd=handle)
            os.close(handle)
            handle, deep = inner, deep / ("d" * 220)
        restore = run("restore", "-C", root, REPO, deep / "out")
    finally:
        os.close(handle)
    assert restore.code == 3, restore
    assert "cannot hold the name" in restore.out
    assert set(tree(deep / "out")) == {*GOOD, "x" * 255}
