from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
from blake3 import blake3

from archiver.archive.records import canonical

MIB = 1 << 20


@pytest.fixture
def folder(small, tmp_path):
    """A copy of the first revision that a test may spoil."""
    return shutil.copytree(small.first, tmp_path / "folder")


@pytest.fixture
def verify(archiver, folder, exported):
    """Verify the folder; the findings as (code, path), and the whole result."""

    def call(*options, manifest=exported, where=folder):
        args = ("verify", where, "--manifest", manifest, "--json", *options)
        result = archiver(*args, archive=None)
        return [
            (finding["code"], finding.get("path", "")) for finding in result.kinds("finding")
        ], result

    return call


def flip(path, at):
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x10]))


def tensor_at(path, name):
    """Where a tensor begins in its file."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        return 8 + size + json.loads(file.read(size))[name]["data_offsets"][0]


def test_an_intact_folder(archiver, verify, folder, exported):
    findings, result = verify()
    assert (findings, result.code) == ([], 0)
    (verdict,) = result.records
    assert verdict["intact"] is True
    assert verdict["read_files"] == verdict["files"] == 6
    assert verdict["read_bytes"] == sum(
        path.stat().st_size for path in folder.rglob("*") if path.is_file()
    )
    assert verdict["manifest"] == blake3(exported.read_bytes()).hexdigest()
    text = archiver("verify", folder, "--manifest", exported, archive=None)
    assert text.out.startswith("Intact: every byte is as me/Model@")


def test_the_archives_own_file_and_a_readable_export_do_as_well(archiver, small, verify, tmp_path):
    stored = next(small.archive.glob(f"manifests/me/model/{small.revisions[0]}*.json.zst"))
    pretty = tmp_path / "pretty.json"
    assert archiver("manifest", "export", small.reference(0), "--pretty", "-o", pretty).code == 0
    digests = {verify(manifest=path)[1].records[0]["manifest"] for path in (stored, pretty)}
    assert digests == {stored.name.split(".")[1]}


def test_a_flipped_bit_names_the_tensor_and_its_rows(archiver, verify, folder, exported):
    shard = folder / "one.safetensors"
    flip(shard, tensor_at(shard, "big") + 17 * MIB)
    findings, result = verify()
    assert (findings, result.code) == ([("file-damaged", "one.safetensors")], 20)
    (finding,) = result.kinds("finding")
    assert (finding["tensor"], finding["rows"]) == ("big", [16, 19])
    segments = next(
        entry for entry in json.loads(exported.read_bytes())["files"] if entry["path"] == shard.name
    )["segments"]
    assert finding["object"] in {digest for _, digest in segments}
    text = archiver("verify", folder, "--manifest", exported, archive=None)
    assert "tensor big rows 16..19" in text.out


def test_every_damaged_place_is_named(verify, folder):
    shard = folder / "one.safetensors"
    for name in ("big", "small"):
        flip(shard, tensor_at(shard, name))
    flip(shard, 9)
    result = verify()[1].kinds("finding")
    assert [(finding.get("tensor", ""), finding.get("rows")) for finding in result] == [
        ("", None),
        ("big", [0, 15]),
        ("small", [0, 1]),
    ]
    assert "(the header)" in result[0]["message"]


def test_missing_extra_and_wrong_sizes_are_told_all_at_once(archiver, verify, folder, exported):
    (folder / "old.txt").unlink()
    (folder / "sub/more.txt").write_text("x")
    (folder / "config.json").write_text("{}\n")
    (folder / "nothing").write_text("!")
    os.mkfifo(folder / "pipe")
    assert verify()[0] == [
        ("file-size", "config.json"),
        ("file-size", "nothing"),
        ("file-missing", "old.txt"),
        ("file-extra", "pipe"),
        ("file-extra", "sub/more.txt"),
    ]
    text = archiver("verify", folder, "--manifest", exported, archive=None).out
    assert text.startswith("DAMAGED: 5 paths not as me/Model@")
    assert "archiver restore -C ARCHIVE me/Model@" in text


def test_a_missing_shard_does_not_hide_another_ones_damage(verify, folder):
    (folder / "one.safetensors").unlink()
    flip(folder / "two.safetensors", (folder / "two.safetensors").stat().st_size - 1)
    assert verify()[0] == [
        ("file-missing", "one.safetensors"),
        ("file-damaged", "two.safetensors"),
    ]


def test_ignored_files_may_be_there_but_listed_ones_stay_checked(verify, folder):
    (folder / ".cache/huggingface").mkdir(parents=True)
    (folder / ".cache/huggingface/x.lock").write_text("")
    assert verify()[0] == [("file-extra", ".cache/huggingface/x.lock")]
    assert verify("--ignore", ".cache/*")[0] == []
    flip(folder / "old.txt", 0)
    assert verify("--ignore", "*")[0] == [("file-damaged", "old.txt")]


def test_the_manifest_itself_may_lie_in_the_folder(verify, folder, exported):
    inside = shutil.copy(exported, folder / "MANIFEST.json")
    assert verify(manifest=inside)[0] == []
    assert verify()[0] == [("file-extra", "MANIFEST.json")]


def test_links_out_of_the_folder_are_not_followed(verify, folder, tmp_path):
    outside = shutil.copy(folder / "old.txt", tmp_path / "outside.txt")
    (folder / "old.txt").unlink()
    (folder / "old.txt").symlink_to(outside)
    (folder / "secret").symlink_to("/etc/passwd")
    (folder / "loop").symlink_to("loop")
    (folder / "away").symlink_to(tmp_path)
    assert sorted(verify()[0]) == [
        ("file-extra", "loop"),
        ("link-escapes", "away"),
        ("link-escapes", "old.txt"),
        ("link-escapes", "secret"),
    ]


def test_links_within_the_folder_are_read(verify, folder):
    (folder / "old.txt").rename(folder / "real.txt")
    (folder / "old.txt").symlink_to("real.txt")
    (folder / "folder").symlink_to("sub")
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("nowhere")
    assert verify()[0] == [
        ("file-missing", "config.json"),
        ("file-extra", "folder"),
        ("file-extra", "real.txt"),
    ]


def hub_cache(small, root):
    """The first revision as a hub client keeps it: links into a folder of blobs."""
    repository = root / "models--me--Model"
    snapshot = repository / "snapshots" / small.revisions[0]
    for path in (path for path in small.first.rglob("*") if path.is_file()):
        data = path.read_bytes()
        blob = repository / "blobs" / blake3(data).hexdigest()
        link = snapshot / path.relative_to(small.first)
        for parent in (blob.parent, link.parent):
            parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


def test_a_snapshot_of_a_hub_cache(verify, small, tmp_path):
    snapshot = hub_cache(small, tmp_path / "hub")
    assert verify(where=snapshot)[0] == []
    blob = (snapshot / "old.txt").resolve()
    flip(blob, 0)
    findings, result = verify(where=snapshot)
    assert findings == [("file-damaged", "old.txt")]
    assert result.kinds("verify")[0]["command"].endswith(f"{tmp_path / 'hub'} --layout hf-cache")


def test_a_hub_cache_may_link_to_its_own_blobs_only(verify, small, tmp_path):
    snapshot = hub_cache(small, tmp_path / "hub")
    note, old = snapshot / "sub/note.txt", snapshot / "old.txt"
    absolute = note.resolve()
    note.unlink()
    note.symlink_to(absolute)  # inside all the same
    other = tmp_path / "hub/other"
    old.resolve().rename(other)
    old.unlink()
    old.symlink_to(os.path.relpath(other, snapshot))
    blob = (snapshot / "config.json").resolve()
    blob.unlink()
    blob.symlink_to("/etc/passwd")
    assert verify(where=snapshot)[0] == [
        ("link-escapes", "config.json"),
        ("link-escapes", "old.txt"),
    ]


def changed(exported, target, change):
    """The manifest, rewritten after ``change``."""
    document = json.loads(exported.read_bytes())
    change({entry["path"]: entry for entry in document["files"]}, document)
    target.write_bytes(canonical(document))
    return target


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("segments", [[2, "0" * 64]]),
        ("segments", [[4, "0" * 64], [-1, "0" * 64]]),
        ("size", 1 << 60),
        ("sha256", "0"),
        ("tensors", [{"name": "t", "dtype": "U8", "shape": [9], "begin": 0, "end": 9}]),
    ],
)
def test_an_entry_that_contradicts_itself(verify, exported, tmp_path, key, value):
    def change(files, _):
        files["old.txt"][key] = value

    findings = verify(manifest=changed(exported, tmp_path / "m.json", change))[0]
    assert findings == [("manifest-damaged", "old.txt")]


@pytest.mark.parametrize("key", ["sha256", "blake3"])
def test_right_segments_and_a_wrong_digest_of_the_file(verify, exported, tmp_path, key):
    def change(files, _):
        files["one.safetensors"][key] = "0" * 64

    findings = verify(manifest=changed(exported, tmp_path / "m.json", change))[0]
    assert findings == [("manifest-damaged", "one.safetensors")]


@pytest.mark.parametrize("path", ["../outside.txt", "/etc/passwd", "a\0b", "sub/./note.txt"])
def test_hostile_paths_are_named_and_never_opened(verify, exported, tmp_path, path):
    (tmp_path / "outside.txt").write_text("old")

    def change(files, _):
        files["old.txt"]["path"] = path

    findings = verify(manifest=changed(exported, tmp_path / "m.json", change))[0]
    assert sorted(findings) == sorted([("path-hostile", path), ("file-extra", "old.txt")])


def test_two_entries_for_one_path(verify, exported, tmp_path):
    def change(files, document):
        document["files"].append(files["old.txt"])

    findings, result = verify(manifest=changed(exported, tmp_path / "m.json", change))
    assert findings == [("path-hostile", "")]
    assert result.code == 20


@pytest.mark.parametrize("spoil", ["cut", "flipped", "text", "name"])
def test_a_manifest_that_cannot_be_read_checks_nothing(verify, small, tmp_path, spoil):
    stored = next(small.archive.glob(f"manifests/me/model/{small.revisions[0]}*.json.zst"))
    data, name = bytearray(stored.read_bytes()), stored.name
    if spoil == "cut":
        data = data[: len(data) // 2]
    elif spoil == "flipped":
        data[len(data) // 2] ^= 1
    elif spoil == "text":
        data, name = b"{not json", "m.json"
    else:
        other = next(small.archive.glob(f"manifests/me/model/{small.revisions[1]}*.json.zst"))
        data = other.read_bytes()
    (tmp_path / name).write_bytes(data)
    findings, result = verify(manifest=tmp_path / name)
    assert findings == [("manifest-damaged", str(tmp_path / name))]
    assert result.code == 20
    assert result.kinds("verify")[0]["read_files"] == 0


def test_what_was_typed_wrongly(verify, small, tmp_path):
    seal = next(small.archive.glob("snapshots/me/model/*.json"))
    assert verify(manifest=tmp_path / "none")[1].code == 2
    assert verify(manifest=seal)[1].code == 2
    assert verify(where=tmp_path / "none")[1].code == 2
    (tmp_path / "later.json").write_text('{"kind": "manifest", "format": 2}')
    assert verify(manifest=tmp_path / "later.json")[1].code == 10


def test_names_that_are_no_text_are_told(verify, folder):
    (folder / os.fsdecode(b"bad\xff")).write_text("")
    assert verify()[0] == [("file-extra", "bad\\xff")]


def test_a_file_that_cannot_be_read(verify, folder, monkeypatch):
    real = os.preadv

    def failing(handle, buffers, offset):
        if os.fstat(handle).st_size == len("note"):
            raise OSError(5, "Input/output error")
        return real(handle, buffers, offset)

    monkeypatch.setattr(os, "preadv", failing)
    findings, result = verify()
    assert findings == [("file-unreadable", "sub/note.txt")]
    assert "Input/output error" in result.out


def test_as_a_program_where_there_is_no_archive(folder, exported, tmp_path):
    flip(folder / "old.txt", 0)
    args = ["verify", str(folder), "--manifest", str(exported), "-q"]
    result = subprocess.run(
        [sys.executable, "-m", "archiver", *args],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert (result.returncode, result.stderr) == (20, "")
    assert "file-damaged" in result.stdout


def test_every_finding_has_the_same_keys_as_json(verify, folder):
    (folder / "old.txt").unlink()
    (folder / "more.txt").write_text("x")
    _, result = verify()
    for finding in result.kinds("finding"):
        assert {"code", "message", "hint", "remark"} <= finding.keys()
        assert finding["remark"] is False
    assert {finding["hint"] == "" for finding in result.kinds("finding")} == {True, False}


@pytest.mark.parametrize(
    ("data", "words", "hint"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 21\n",
            "Git LFS",
            "lfs pull",
        ),
        (b"<!doctype HTML><p>Sign in", "an HTML page", "download the file again"),
    ],
)
def test_what_lies_in_the_place_of_weights_is_named(verify, folder, data, words, hint):
    (folder / "one.safetensors").write_bytes(data)
    findings, result = verify()
    assert findings == [("file-size", "one.safetensors")]
    (finding,) = result.kinds("finding")
    assert words in finding["message"]
    assert hint in finding["hint"]


def test_what_programs_left_is_extra_and_told_as_that(verify, folder):
    for name in (".DS_Store", "one.safetensors.aria2", ".cache/huggingface/x"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    findings, result = verify()
    assert sorted(findings) == [
        ("file-extra", ".DS_Store"),
        ("file-extra", ".cache/huggingface/x"),
        ("file-extra", "one.safetensors.aria2"),
    ]
    messages = {finding["path"]: finding["message"] for finding in result.kinds("finding")}
    assert "an operating system leaves" in messages[".DS_Store"]
    assert "a download tool" in messages[".cache/huggingface/x"]
    assert "did not end" in messages["one.safetensors.aria2"]
