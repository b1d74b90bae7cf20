"""Files that are not the archive's: a system's litter stops nobody, a seal's other name is told by all."""

from __future__ import annotations

import shlex
import subprocess

import pytest

APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(200)
LITTER = ("._{}", ".DS_Store", "Thumbs.db", "desktop.ini", ".nfs000000000012", ".fuse_hidden0001")
FOLDERS = ("snapshots", "manifests", "packs", "journal", "parity", "signatures")


def findings(run):
    code, records = run("audit")
    told = [
        record.get("path", record["message"]) for record in records if record["kind"] == "finding"
    ]
    assert len(told) == len(set(told))
    return code, {record.get("path"): record for record in records if record["kind"] == "finding"}


def test_what_a_system_leaves_beside_every_file_stops_nobody(run, root):
    left = set()
    files = [path for folder in FOLDERS for path in (root / folder).rglob("*") if path.is_file()]
    for path in files:
        for name in LITTER:
            (path.parent / name.format(path.name)).write_bytes(APPLE_DOUBLE)
            left.add(f"{path.parent.relative_to(root)}/{name.format(path.name)}")
    code, found = findings(run)
    assert code == 0
    assert found.keys() == left
    assert {finding["code"] for finding in found.values()} == {"unknown-file"}
    assert all("may be deleted" in finding["hint"] for finding in found.values())
    assert run("repair", "--no-upstream")[0] == 0
    assert run("forget", "org/one")[0] == 0
    steps = [run("prune", "--grace", "0d") for _ in range(3)]
    assert [code for code, _ in steps] == [0, 0, 0]
    assert [steps[-1][1][-1][step]["files"] for step in ("deleted", "swept")] == [2, 0]
    # What is nobody's business was left alone.
    assert sum(path.is_file() for path in root.rglob("._*")) == len(files)


@pytest.mark.parametrize("folder", FOLDERS)
def test_other_files_are_told_with_what_to_do(run, root, folder):
    (root / folder).mkdir(exist_ok=True)
    (root / folder / "notes.txt").write_text("mine")
    code, found = findings(run)
    assert code == 0
    assert "Move it out" in found[f"{folder}/notes.txt"]["hint"]
    assert run("prune")[0] == 0


def test_a_seal_under_another_name_stops_prune_and_the_audit_says_so(run, root):
    """It came without its event, as by hand: only it says what it needs."""
    (path,) = (root / "snapshots/org/one").iterdir()
    copy = path.with_name(f"{path.stem} (1).json")
    copy.write_bytes(path.read_bytes())
    code, found = findings(run)
    name = str(copy.relative_to(root))
    assert "Move it out" in found[name]["hint"]  # the seal itself is there
    assert run("prune")[0] == 0
    for event in (root / "journal").rglob("*.json"):
        event.unlink()
    path.unlink()
    code, found = findings(run)
    assert code == 0
    assert "prune deletes nothing" in found[name]["message"]
    code, records = run("prune")
    assert code == 20
    move = found[name]["hint"].partition("'mv -n ")[2].partition("'")[0]
    assert move in records[-1]["message"]
    subprocess.run(["mv", "-n", *shlex.split(move)], check=True)
    assert path.is_file()
    assert findings(run) == (0, {})
    assert run("prune")[0] == 0
