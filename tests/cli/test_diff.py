from __future__ import annotations

import subprocess
import sys

from archiver.archive.records import FileEntry, Manifest, Source
from archiver.operations.diff import diff
from archiver.tensors.header import Tensor


def test_a_revision_and_itself_are_the_same(archiver, small):
    result = archiver("diff", small.reference(0), small.reference(0))
    assert result.code == 0
    assert result.out.endswith("are the same: 6 files the same; 6 tensors the same.\n")


def test_every_fate_of_files_and_tensors(archiver, small):
    result = archiver("diff", small.reference(0), small.reference(1))
    assert result.code == 1
    *lines, verdict = result.out.splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "~ config.json",
        "+ new.txt",
        "- old.txt",
        "~ one.safetensors",
        "~ two.safetensors",
        "~ tensor cast",
        "- tensor gone",
        "+ tensor new",
        "~ tensor small",
    ]
    assert "F32 [4] → BF16 [2, 4]" in lines[5]
    assert lines[8].endswith("F32 [2, 3], other bytes")
    assert verdict.endswith(
        "differ: 2 files the same, 3 changed, 1 removed, 1 added; "
        "3 tensors the same (3 moved), 2 changed, 1 removed, 1 added."
    )


def test_json_tells_the_same(archiver, small):
    result = archiver("--json", "diff", small.reference(0), small.reference(1))
    assert result.code == 1
    verdict = result.kinds("diff")[0]
    assert (verdict["same"], verdict["same_tensors"], verdict["moved_tensors"]) == (False, 3, 3)
    changed = {tensor["name"]: tensor["differs"] for tensor in result.kinds("tensor")}
    assert changed == {"cast": ["dtype", "shape"], "gone": [], "new": [], "small": ["bytes"]}
    sizes = {file["path"]: (file["size_a"], file["size_b"]) for file in result.kinds("file")}
    assert sizes["config.json"] == (2, 3)
    assert sizes["new.txt"] == (None, 3)


def test_what_is_not_held_is_a_usage_error(archiver, small):
    assert archiver("diff", small.reference(0), "me/other").code == 2


def test_as_a_program(small):
    both = [small.reference(0), small.reference(1)]
    args = [sys.executable, "-m", "archiver", "diff", "-C", str(small.archive), *both]
    assert subprocess.run(args, capture_output=True, check=False).returncode == 1


def manifest(**files):
    """A manifest of files that are given as {tensor: digest letter}."""
    entries = []
    for path, tensors in files.items():
        segments = tuple((8, letter * 64) for letter in tensors.values())
        spans = tuple(
            Tensor(name, "F32", (2,), at * 8, at * 8 + 8) for at, name in enumerate(tensors)
        )
        digest = "".join(tensors.values()).ljust(64, "0")
        size = 8 * len(segments)
        entries.append(FileEntry(path, size, digest, digest, segments=segments, tensors=spans))
    return Manifest(Source("directory", "", "me/x", "0" * 40), tuple(entries))


def test_one_name_in_two_files_is_two_tensors():
    manifest_ = manifest(unet={"w": "a"}, text={"w": "b"})
    assert diff(manifest_, manifest_).same
    result = diff(manifest_, manifest(unet={"w": "a"}, text={"w": "c"}))
    assert (result.same_tensors, result.moved) == (1, 0)
    assert [(change.what, change.path_a) for change in result.tensors] == [("changed", "text")]


def test_two_tensors_that_swap_their_files_are_changed():
    result = diff(
        manifest(unet={"w": "a"}, text={"w": "b"}), manifest(unet={"w": "b"}, text={"w": "a"})
    )
    assert result.same_tensors == 0
    assert [change.what for change in result.tensors] == ["changed", "changed"]


def test_resharding_moves_each_of_two_tensors_of_one_name():
    result = diff(manifest(a={"w": "a"}, b={"w": "b"}), manifest(c={"w": "b"}, d={"w": "a"}))
    assert (result.same_tensors, result.moved, result.tensors) == (2, 2, ())
    assert not result.same


def test_a_name_that_occurs_once_less_is_a_removal():
    result = diff(manifest(a={"w": "a"}, b={"w": "b"}), manifest(c={"w": "b"}))
    assert (result.same_tensors, result.moved) == (1, 1)
    assert [(change.what, change.path_a) for change in result.tensors] == [("removed", "a")]


def test_another_offset_in_the_same_file_is_a_move():
    result = diff(manifest(a={"v": "a", "w": "b"}), manifest(a={"w": "b", "v": "a"}))
    assert (result.same_tensors, result.moved) == (2, 2)
    assert [change.what for change in result.files] == ["changed"]
