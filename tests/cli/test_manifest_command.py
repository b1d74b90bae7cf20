from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from blake3 import blake3
from commandkit import HOSTILE
from jsonschema import Draft202012Validator
from kit.archive import older_seal, seals
from kit.cli import invoke

from archiver.archive.archive import Archive
from archiver.archive.records import FileEntry, Manifest, Source
from archiver.tensors.header import Tensor

SCHEMA = json.loads(Path(__file__).parents[2].joinpath("docs/manifest.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)


def sealed_digest(small, which):
    return Archive.open(small.archive).find("me/Model", small.revisions[which]).seal.manifest.blake3


def test_what_is_exported_is_what_the_seal_names(exported, small):
    assert blake3(exported.read_bytes()).hexdigest() == sealed_digest(small, 0)
    assert b"\n" not in exported.read_bytes()


def test_a_file_that_is_there_is_left_alone(archiver, small, exported):
    before = exported.read_bytes()
    result = archiver("manifest", "export", small.reference(1), "-o", exported)
    assert result.code == 2
    assert "is there already" in result.err
    assert exported.read_bytes() == before
    assert archiver("manifest", "export", small.reference(1), "-o", exported / "x").code != 0


def test_pretty_is_the_same_document(archiver, small, exported):
    result = archiver("manifest", "export", small.reference(0), "--pretty")
    assert result.out.startswith('{\n  "files": [\n')
    assert json.loads(result.out) == json.loads(exported.read_bytes())


def test_export_reports_what_it_wrote(archiver, small, tmp_path):
    target = tmp_path / "m.json"
    result = archiver("--json", "manifest", "export", small.reference(0), "-o", target)
    (report,) = result.records
    assert report["blake3"] == sealed_digest(small, 0)
    assert (report["file"], report["bytes"]) == (str(target), target.stat().st_size)


def test_show_reads_a_file_and_a_snapshot_alike(archiver, small, exported):
    of_file = archiver("manifest", "show", exported, archive=None)
    assert of_file.code == 0
    assert of_file.out == archiver("manifest", "show", small.reference(0)).out
    assert sealed_digest(small, 0) in of_file.out
    assert "one.safetensors" in of_file.out


def test_show_tells_tensors_and_escapes_them(archiver, exported):
    result = archiver("manifest", "show", exported, "--tensors", "evil*", archive=None)
    assert "\x1b" not in result.out
    assert r"evil\x1b[31m\u202e" in result.out
    result = archiver("manifest", "show", exported, "--json", "--tensors", "evil*", archive=None)
    assert [tensor["name"] for tensor in result.kinds("tensor")] == [HOSTILE]
    assert len(result.kinds("file")) == 6
    result = archiver("manifest", "show", "--json", "--tensors", exported, archive=None)
    assert len(result.kinds("tensor")) == 6


def test_show_refuses_what_is_no_manifest(archiver, small, tmp_path):
    (tmp_path / "x.json").write_text('{"kind": "snapshot"}')
    assert archiver("manifest", "show", tmp_path / "x.json").code == 2
    for text in ("[" * 100_000, "garbage", '{"kind": 3}', ""):
        (tmp_path / "x.json").write_text(text)
        result = archiver("manifest", "show", tmp_path / "x.json")
        assert (result.code, result.out) == (2, "")
        assert "x.json is not a manifest, or it is damaged." in result.err
        assert "_Kind" not in result.err


def test_a_lost_manifest_says_what_to_do(archiver, small, tmp_path):
    copy = tmp_path / "my copy"
    shutil.copytree(small.archive, copy)
    for path in copy.glob("manifests/me/model/*"):
        path.unlink()
    for seal in seals(copy):
        older_seal(seal)  # else its packs have the manifest too
    first, two = small.reference(0), small.reference(1)
    calls = [("show", first), ("restore", first, tmp_path / "out"), ("diff", first, two)]
    for args in [*calls, ("manifest", "export", first), ("manifest", "show", first)]:
        result = archiver(*args, archive=copy)
        assert result.code == 20
        assert "archiver repair" in result.err
        title = f"me/Model@{small.revisions[0][:12]}"
        assert f"'archiver audit -C '{copy}' --snapshot {title}'" in result.err
    for path in copy.glob("snapshots/me/model/*"):
        path.chmod(0o644)
        path.write_bytes(b"")
    result = archiver("show", first, archive=copy)
    assert (result.code, "can be named instead" in result.err) == (20, False)
    assert "--explain seal-damaged" in result.err


def test_list_of_a_repository_that_is_not_held(archiver):
    result = archiver("list", "me/Nothing")
    assert (result.code, result.out) == (2, "")
    assert archiver("list", "me/model").code == 0


def test_as_a_program_whose_output_is_hashed(small):
    args = ["manifest", "export", "-C", str(small.archive), small.reference(0)]
    result = subprocess.run(
        [sys.executable, "-m", "archiver", *args], capture_output=True, check=True
    )
    assert blake3(result.stdout).hexdigest() == sealed_digest(small, 0)


def test_the_schema_is_one():
    Draft202012Validator.check_schema(SCHEMA)


def test_real_manifests_of_folders_are_valid(small, exported):
    VALIDATOR.validate(json.loads(exported.read_bytes()))
    archive = Archive.open(small.archive)
    for snapshot in archive.snapshots():
        VALIDATOR.validate(json.loads(archive.manifest_bytes(snapshot.seal)))


def test_a_real_manifest_from_a_hub_is_valid(archiver, small, tmp_path, monkeypatch):
    from archiver.loopback.hub import Hub

    target = tmp_path / "weights"
    card = {"license": "apache-2.0", "temperature": 0.5, "größe": [1, None, {"x": True}]}
    card["tags"] = ["\x1b[2J"]
    with Hub() as hub:
        hub.create(
            "me/Hub",
            {"README.md": b"# x", "one.safetensors": small.first / "two.safetensors"},
            card=card,
        )
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        assert invoke("init", "-q", "-C", target) == 0
        assert invoke("mirror", "-q", "-C", target, "me/Hub") == 0
    result = archiver("manifest", "export", "me/Hub", archive=target)
    document = json.loads(result.out)
    VALIDATOR.validate(document)
    assert document["source"]["upstream"] == "huggingface"
    assert document["source"]["card"]["temperature"] == "0.5"
    shown = archiver("show", "me/Hub", archive=target).out
    assert "licence      apache-2.0" in shown
    assert r"card tags    \x1b[2J" in shown
    assert "\x1b" not in shown


def fields(record):
    return set(record.__struct_fields__) - {"tensors", "container"}


@pytest.mark.parametrize(
    ("record", "part"),
    [(Manifest, SCHEMA), (Source, "source"), (FileEntry, "file"), (Tensor, "tensor")],
)
def test_the_schema_has_every_key_of_the_records(record, part):
    schema = SCHEMA if part is SCHEMA else SCHEMA["$defs"][part]
    assert set(schema["required"]) == fields(record)
    assert set(schema["properties"]) == set(record.__struct_fields__)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format",), 2),
        (("kind",), "seal"),
        (("source", "revision"), "main"),
        (("source", "upstream"), "ftp"),
        (("source", "committed"), "2026-01-01"),
        (("source", "card"), {"x": [0.5]}),
        (("files", 0, "path"), "../x"),
        (("files", 0, "path"), "a/./b"),
        (("files", 0, "path"), "/x"),
        (("files", 0, "path"), "a//b"),
        (("files", 0, "path"), "a\\b"),
        (("files", 0, "path"), "a/.."),
        (("files", 0, "size"), -1),
        (("files", 0, "sha256"), "0" * 63),
        (("files", 0, "oid"), "0" * 64),
        (("files", 0, "segments"), [[0, "0" * 64]]),
        (("files", 0, "segments"), [[(16 << 20) + 1, "0" * 64]]),
        (("files", 0, "segments"), [["0" * 64, 1]]),
        (("files", 0, "tensors"), [{"name": "x"}]),
        (("files", 0, "tensors"), None),
    ],
)
def test_the_schema_refuses(exported, path, value):
    document = json.loads(exported.read_bytes())
    at = document
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    assert not VALIDATOR.is_valid(document)


@pytest.mark.parametrize("name", ["..x", ".gitattributes", "a/...", "a/b.c", "größe/x y"])
def test_the_schema_allows_odd_but_harmless_paths(exported, name):
    document = json.loads(exported.read_bytes())
    document["files"][0]["path"] = name
    assert VALIDATOR.is_valid(document)
