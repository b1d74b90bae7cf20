from __future__ import annotations

import hashlib
import subprocess
import sys

from blake3 import blake3
from commandkit import HOSTILE
from kit.archive import older_seal, seals
from kit.gguf_files import gguf_file, tensor_bytes


def test_facts_of_a_snapshot(archiver, small):
    result = archiver("show", small.reference(0))
    assert result.code == 0
    facts = {
        line.split("  ")[0]: line.split("  ", 1)[1].strip() for line in result.out.splitlines()
    }
    assert facts["repository"] == "me/Model"
    assert facts["revision"] == small.revisions[0]
    assert facts["upstream"] == "directory"
    assert facts["holds"].startswith("6 files, 6 tensors, 21.0 MB in ")
    assert facts["selection"] == "every file"
    assert facts["parent"] == "none"
    assert len(facts["manifest"]) == len(facts["seal"]) == 64


def test_the_second_snapshot_names_its_parent(archiver, small):
    first = archiver("--json", "show", small.reference(0)).records[0]
    second = archiver("--json", "show", small.reference(1)).records[0]
    assert second["parent"] == first["snapshot"]
    assert first["totals"]["bytes"] == sum(
        path.stat().st_size for path in small.first.rglob("*") if path.is_file()
    )


def test_files_have_the_digests_of_their_bytes(archiver, small):
    files = archiver("show", small.reference(0), "--files", "--json").kinds("file")
    assert {file["path"] for file in files} == {
        str(path.relative_to(small.first)) for path in small.first.rglob("*") if path.is_file()
    }
    for file in files:
        data = (small.first / file["path"]).read_bytes()
        assert file["sha256"] == hashlib.sha256(data).hexdigest()
        assert file["blake3"] == blake3(data).hexdigest()
        assert file["size"] == len(data)
    assert "sub/note.txt" in archiver("show", small.reference(0), "--files").out


def test_tensors_that_fit_the_pattern(archiver, small):
    result = archiver("show", small.reference(0), "--tensors", "[be]*", "--json").kinds("tensor")
    assert [tensor["name"] for tensor in result] == ["big", "empty", HOSTILE]
    big, empty, _ = result
    assert (big["dtype"], big["shape"], big["bytes"]) == ("BF16", [20, 1 << 19], 20 << 20)
    assert [size for size, _ in big["segments"]] == [16 << 20, 4 << 20]
    assert (empty["shape"], empty["bytes"], empty["segments"]) == ([0, 7], 0, [])


def test_every_tensor_without_a_pattern(archiver, small):
    for words in ((small.reference(0), "--tensors"), ("--tensors", small.reference(0))):
        assert len(archiver("show", "--json", *words).kinds("tensor")) == 6
    assert archiver("show", "--tensors").code == 2


def test_upstream_text_cannot_reach_the_terminal(archiver, small):
    result = archiver("show", small.reference(0), "--tensors")
    assert "\x1b" not in result.out
    assert "\u202e" not in result.out
    assert r"evil\x1b[31m\u202e" in result.out


def test_unknown_repository_and_revision_are_usage_errors(archiver, small):
    assert archiver("show", "me/other").code == 2
    result = archiver("show", "me/Model@ffffff0000")
    assert result.code == 2
    assert small.revisions[0][:12] in result.err


def test_a_damaged_manifest_is_reported_and_not_shown(archiver, small, tmp_path):
    import shutil

    copy = shutil.copytree(small.archive, tmp_path / "copy")
    for seal in seals(copy):
        older_seal(seal)  # else its packs have the manifest too
    manifest = next(copy.glob(f"manifests/me/model/{small.revisions[0]}*"))
    manifest.chmod(0o644)
    data = bytearray(manifest.read_bytes())
    data[len(data) // 2] ^= 1
    manifest.write_bytes(data)
    result = archiver("show", small.reference(0), archive=copy)
    assert (result.code, result.out) == (20, "")


def test_as_a_program(small):
    args = [sys.executable, "-m", "archiver", "show", "-C", str(small.archive), "me/model"]
    result = subprocess.run(args, capture_output=True, text=True, check=True)
    assert "repository  me/Model" in result.stdout


def test_metadata_of_a_gguf_file(run, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    told = {
        "general.name": "Tiny\x1b[31m",
        "tokenizer.chat_template": "two\nlines",
        "llama.block_count": 3,
        "llama.rope.freq_base": float("inf"),
        "tokenizer.ggml.tokens": [f"w{number}" for number in range(20_000)],
    }
    tensors = {"t": ("Q8_0", (2, 32), tensor_bytes("Q8_0", (2, 32)))}
    (folder / "tiny.gguf").write_bytes(gguf_file(tensors, told))
    (folder / "other.gguf").write_bytes(b"no such file")
    root = tmp_path / "weights"
    assert run("init", "-q", "-C", root).code == 0
    words = ("import", "-q", "-C", root, folder, "--as", "org/tiny", "--min-free", "0")
    assert run(*words).code == 0
    gguf = run("show", "--json", "-C", root, "org/tiny", "--metadata").only("gguf")
    assert (gguf["path"], gguf["left_out"]) == ("tiny.gguf", 0)
    values = {value["key"]: value for value in gguf["metadata"]}
    assert values["general.name"]["value"] == told["general.name"]
    assert values["llama.block_count"] == {"key": "llama.block_count", "type": "uint32", "value": 3}
    assert values["llama.rope.freq_base"]["value"] == "inf"
    tokens = values["tokenizer.ggml.tokens"]
    assert (tokens["value"], tokens["elements"]) == (told["tokenizer.ggml.tokens"][:8], 20_000)
    shown = run("show", "-C", root, "org/tiny", "--metadata").out
    assert "20,000 of string: w0, w1," in shown
    assert "3 (uint32)" in shown
    assert "\ntiny.gguf\n" in shown
    assert "two\\nlines" in shown
    assert "\x1b" not in shown
    assert not run("show", "--json", "-C", root, "org/tiny").kinds("gguf")
