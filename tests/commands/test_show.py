from __future__ import annotations

import hashlib
import subprocess
import sys

from blake3 import blake3
from commandkit import HOSTILE


def test_facts_of_a_snapshot(run, small):
    found = run("show", small.reference(0))
    assert found.code == 0
    facts = {line.split("  ")[0]: line.split("  ", 1)[1].strip() for line in found.out.splitlines()}
    assert facts["repository"] == "me/Model"
    assert facts["revision"] == small.revisions[0]
    assert facts["upstream"] == "directory"
    assert facts["holds"].startswith("6 files, 6 tensors, 21.0 MB in ")
    assert facts["selection"] == "every file"
    assert facts["parent"] == "none"
    assert len(facts["manifest"]) == len(facts["seal"]) == 64


def test_the_second_snapshot_names_its_parent(run, small):
    first = run("--json", "show", small.reference(0)).records[0]
    second = run("--json", "show", small.reference(1)).records[0]
    assert second["parent"] == first["snapshot"]
    assert first["totals"]["bytes"] == sum(
        path.stat().st_size for path in small.first.rglob("*") if path.is_file()
    )


def test_files_have_the_digests_of_their_bytes(run, small):
    found = run("show", small.reference(0), "--files", "--json").kinds("file")
    assert {one["path"] for one in found} == {
        str(path.relative_to(small.first)) for path in small.first.rglob("*") if path.is_file()
    }
    for one in found:
        data = (small.first / one["path"]).read_bytes()
        assert one["sha256"] == hashlib.sha256(data).hexdigest()
        assert one["blake3"] == blake3(data).hexdigest()
        assert one["size"] == len(data)
    assert "sub/note.txt" in run("show", small.reference(0), "--files").out


def test_tensors_that_fit_the_pattern(run, small):
    found = run("show", small.reference(0), "--tensors", "[be]*", "--json").kinds("tensor")
    assert [one["name"] for one in found] == ["big", "empty", HOSTILE]
    big, empty, _ = found
    assert (big["dtype"], big["shape"], big["bytes"]) == ("BF16", [20, 1 << 19], 20 << 20)
    assert [size for size, _ in big["segments"]] == [16 << 20, 4 << 20]
    assert (empty["shape"], empty["bytes"], empty["segments"]) == ([0, 7], 0, [])


def test_every_tensor_without_a_pattern(run, small):
    assert len(run("show", small.reference(0), "--json", "--tensors").kinds("tensor")) == 6


def test_upstream_text_cannot_reach_the_terminal(run, small):
    found = run("show", small.reference(0), "--tensors")
    assert "\x1b" not in found.out
    assert "\u202e" not in found.out
    assert r"evil\x1b[31m\u202e" in found.out


def test_unknown_repository_and_revision_are_usage_errors(run, small):
    assert run("show", "me/other").code == 2
    found = run("show", "me/Model@ffffff0000")
    assert found.code == 2
    assert small.revisions[0][:12] in found.err


def test_a_damaged_manifest_is_told_and_not_shown(run, small, tmp_path):
    import shutil

    copy = shutil.copytree(small.archive, tmp_path / "copy")
    manifest = next(copy.glob(f"manifests/me/model/{small.revisions[0]}*"))
    manifest.chmod(0o644)
    data = bytearray(manifest.read_bytes())
    data[len(data) // 2] ^= 1
    manifest.write_bytes(data)
    found = run("show", small.reference(0), archive=copy)
    assert (found.code, found.out) == (20, "")


def test_as_a_program(small):
    args = [sys.executable, "-m", "archiver", "show", "-C", str(small.archive), "me/model"]
    found = subprocess.run(args, capture_output=True, text=True, check=True)
    assert "repository  me/Model" in found.stdout
