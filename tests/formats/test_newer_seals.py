"""A seal that only a newer version can read is passed over, by `archiver` and by `decode.py` alike."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from kit import handmade
from kit.repository import files_below

CARRIED = Path(__file__).parents[2] / "archiver" / "carried" / "decode.py"
OLD, NEW, OTHER = "a" * 40, "b" * 40, "c" * 40
LATER = "2030-01-01T00:00:00Z"
NEWER = {"format": 2, "sealed": LATER}
CHOSEN = {"selection": {"include": ["*.txt"], "exclude": []}}


def text_of(revision: str) -> bytes:
    return revision.encode() * 9


def add(root: Path, revision: str, **changes: object) -> str:
    """A snapshot of one file that says of which revision it is; its seal's id."""
    plain = text_of(revision)
    pack = handmade.pack([(plain, 0, handmade.object_frames(plain, 0))], full=True)
    handmade.write_pack(root, pack)
    described = handmade.manifest([handmade.described("a.txt", [plain])], revision=revision)
    return handmade.write_snapshot(root, described, [pack], **changes)


def sighted(root: Path, revision: str) -> None:
    event = {
        "after": [],
        "detail": {"name": "main", "upstream": "https://hub.example"},
        "event": "sighted",
        "format": 1,
        "kind": "event",
        "repository": "Org/Model",
        "revision": revision,
        "time": "2026-01-05T00:00:00Z",
        "tool": "handmade 1",
    }
    data = handmade.canonical(event)
    path = root / "journal" / "2026" / "01" / f"20260105t000000z.{handmade.digest(data)}.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)


@pytest.fixture
def root(tmp_path) -> Path:
    handmade.write_identity(tmp_path / "archive")
    return tmp_path / "archive"


@pytest.fixture
def read(root, run, tmp_path):
    """Both readers restore a reference: exit code and revision, which must be the same."""
    count = 0

    def call(reference: str) -> tuple[int, str]:
        nonlocal count
        count += 1
        outs = [tmp_path / f"{reader}{count}" for reader in ("ours", "decoder")]
        ours = run("restore", "-q", "--json", "-C", root, reference, outs[0])
        words = [sys.executable, "-I", CARRIED, "-C", root, "restore", reference, outs[1]]
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            env={"PATH": "/nowhere"},
        )
        given = [files_below(out).get("a.txt", b"")[:40].decode() for out in outs]
        assert (ours.code, given[0]) == (done.returncode, given[1]), done.stderr
        told = [row for row in ours.kinds("finding") if row["code"] == "not-understood"]
        assert "passed over" in done.stderr or not told
        call.told = [(Path(row["path"]).name[0], row["remark"]) for row in told]
        return ours.code, given[0]

    return call


def test_the_best_of_the_others_is_given_and_it_is_said(root, read):
    add(root, OLD)
    add(root, OTHER, sealed="2026-02-01T00:00:00Z")
    add(root, NEW, **NEWER)
    assert read("Org/Model") == (3, OTHER)
    assert read.told == [("b", False)]


def test_what_was_asked_for_by_name_is_not_replaced(root, read):
    add(root, OLD)
    newer = add(root, NEW, **NEWER)
    assert read(f"Org/Model@{NEW[:8]}") == (10, "")
    assert read(f"Org/Model@{newer[:12]}") == (10, "")
    assert read(f"Org/Model@{OLD[:8]}") == (0, OLD)
    assert read.told == []


def test_alone_it_is_refused_and_its_manifest_does_not_stand_in(root, read):
    add(root, NEW, **NEWER)
    assert read("Org/Model") == (10, "")


def test_another_seal_of_all_files_of_the_revision_is_as_good(root, read):
    add(root, NEW)
    add(root, NEW, **NEWER)
    for reference in ("Org/Model", f"Org/Model@{NEW}"):
        assert read(reference) == (0, NEW)
        assert read.told == [("b", True)]


def test_one_of_chosen_files_is_not(root, read):
    add(root, NEW, **CHOSEN)
    add(root, NEW, **NEWER)
    assert read("Org/Model") == (3, NEW)
    assert read.told == [("b", False)]


def test_where_upstream_last_had_another_revision_it_was_not_meant(root, read):
    add(root, OLD)
    add(root, NEW, **NEWER)
    sighted(root, OLD)
    assert read("Org/Model") == (0, OLD)
    assert read.told == []


def test_where_upstream_last_had_that_revision_it_was(root, read):
    add(root, OLD)
    add(root, OTHER, sealed="2026-02-01T00:00:00Z")
    add(root, NEW, **NEWER)
    sighted(root, NEW)
    assert read("Org/Model") == (3, OTHER)


def test_other_readers_end_so_too(root, run):
    add(root, OLD)
    add(root, NEW, **NEWER)
    for words in (["show", "Org/Model"], ["manifest", "show", "Org/Model"]):
        result = run(*words, "-C", root)
        assert result.code == 3
        assert "passed over" in result.err
        assert f"Org/Model@{OLD[:12]} is given instead" in result.err
    assert run("diff", "-q", "-C", root, "Org/Model", f"Org/Model@{OLD}").code == 3


def test_another_damaged_seal_was_not_meant_where_upstream_had_this_one(root, run, tmp_path):
    add(root, OLD)
    damaged = add(root, NEW, sealed=LATER)
    sighted(root, OLD)
    (seal,) = root.glob(f"snapshots/*/*/*{damaged}*")
    seal.write_bytes(seal.read_bytes()[:-1])
    (manifest,) = root.glob(f"manifests/*/*/{NEW}*")
    manifest.unlink()
    assert run("restore", "-q", "-C", root, "Org/Model", tmp_path / "out").code == 0
    assert files_below(tmp_path / "out") == {"a.txt": text_of(OLD)}
