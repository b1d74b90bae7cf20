"""A pack that only a newer version can read is named and skipped; nothing is deleted beside it."""

from __future__ import annotations

import json

import pytest
from kit import handmade
from kit.faults import overwrite
from kit.handmade import canonical, digest, skippable

PLAIN, OTHER = b"known " * 300, b"unknown " * 300
NEWER = [{"features": {"read": ["parchment"], "write": []}}, {"format": 2}]


def newer_pack(changes):
    head = {"archive": handmade.ARCHIVE, "features": handmade.FEATURES, "format": 1, "kind": "pack"}
    frame = skippable(0, canonical(head | changes))
    stored = handmade.object_frames(OTHER, 0)
    index = {"kind": "index", "objects": [[digest(OTHER), len(frame), len(stored), len(OTHER), 0]]}
    end = (len(frame) + len(stored)).to_bytes(8, "little")
    return frame + stored + skippable(2, canonical(index)) + skippable(3, end)


@pytest.fixture(params=NEWER, ids=["feature", "format"])
def root(request, tmp_path):
    """An archive of two models, of which one lies in a pack of a newer version."""
    root = tmp_path / "weights"
    handmade.write_identity(root)
    packs = {
        "Org/Known": (PLAIN, handmade.pack([(PLAIN, 0, handmade.object_frames(PLAIN, 0))])),
        "Org/Newer": (OTHER, newer_pack(request.param)),
    }
    for name, (plain, pack) in packs.items():
        handmade.write_pack(root, pack)
        described = handmade.manifest([handmade.described("a.txt", [plain])], name)
        handmade.write_snapshot(root, described, [pack])
    return root


def newer_path(root):
    (seal,) = (root / "snapshots/org/newer").iterdir()
    ((name, _),) = json.loads(seal.read_bytes())["packs"]
    return root / "packs" / name[:2] / f"{name}.pack"


def contents(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("level", ["structure", "stored", "content"])
def test_an_audit_names_it_and_calls_nothing_damaged(run, root, level):
    result = run("audit", "-q", "--json", "-C", root, "--level", level)
    named = [row for row in result.kinds("finding") if row["code"] == "not-understood"]
    assert [row["pack"] for row in named] == [newer_path(root).stem]
    assert named[0]["snapshot"].startswith("Org/Newer@")
    missing = {"carried-missing"}
    assert {row["code"] for row in result.kinds("finding")} - missing == {"not-understood"}


def test_a_list_names_it(run, root):
    result = run("list", "--json", "-C", root)
    assert result.code == 4
    assert len(result.kinds("snapshot")) == 2
    assert [(row["code"], row["pack"]) for row in result.findings] == [
        ("not-understood", newer_path(root).stem)
    ]
    assert newer_path(root).stem in result.err
    assert run("list", "-q", "-C", root, "Org/Known").code == 0


def test_a_restore_serves_the_rest(run, root, tmp_path):
    assert run("restore", "-q", "-C", root, "Org/Known", tmp_path / "known").code == 0
    result = run("restore", "-q", "-C", root, "Org/Newer", tmp_path / "newer")
    assert result.code == 10
    assert newer_path(root).stem[:16] in result.out
    assert "newer archiver" in result.out + result.err


def test_another_pack_with_the_object_serves_instead(run, root, tmp_path):
    handmade.write_pack(root, handmade.pack([(OTHER, 0, handmade.object_frames(OTHER, 0))]))
    assert run("restore", "-q", "-C", root, "Org/Newer", tmp_path / "newer").code == 0
    assert (tmp_path / "newer" / "a.txt").read_bytes() == OTHER


@pytest.mark.parametrize("words", [["prune"], ["repair", "--no-upstream"], ["prune", "--dry-run"]])
def test_nothing_is_deleted_or_made_anew_beside_it(run, root, words):
    before = contents(root)
    result = run(*words, "-q", "-C", root)
    assert result.code == 10
    assert newer_path(root).stem in result.err
    assert before.items() <= contents(root).items()


def test_a_flipped_bit_makes_another_number_and_no_newer_version(run, root, tmp_path):
    (seal,) = (root / "snapshots/org/known").iterdir()
    ((name, _),) = json.loads(seal.read_bytes())["packs"]
    path = root / "packs" / name[:2] / f"{name}.pack"
    overwrite(path, path.read_bytes().replace(b'"format":1', b'"format":3', 1))
    assert run("restore", "-q", "-C", root, "Org/Known", tmp_path / "known").code == 0
    assert (tmp_path / "known" / "a.txt").read_bytes() == PLAIN
    result = run("audit", "-q", "--json", "-C", root)
    hit = {row["code"] for row in result.kinds("finding") if row.get("pack") == name}
    assert hit == {"pack-damaged"}


def test_an_unknown_codec_concerns_its_object_alone(run, tmp_path):
    root = tmp_path / "weights"
    handmade.write_identity(root)
    objects = [
        (PLAIN, 0, handmade.object_frames(PLAIN, 0)),
        (OTHER, 99, handmade.object_frames(OTHER, 0, changes={"codec": 99})),
        (OTHER[1:], 0, handmade.object_frames(OTHER[1:], 0, changes={"bases": [digest(PLAIN)]})),
    ]
    pack = handmade.pack(objects)
    handmade.write_pack(root, pack)
    files = [handmade.described(f"{at}.txt", [each[0]]) for at, each in enumerate(objects)]
    handmade.write_snapshot(root, handmade.manifest(files), [pack])
    result = run("restore", "-q", "--json", "-C", root, "Org/Model", tmp_path / "out")
    assert result.code == 20
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["0.txt"]
    failures = {row["path"]: row for row in result.kinds("restore")[0]["failures"]}
    for at in (1, 2):
        assert failures[f"{at}.txt"]["object"] == digest(objects[at][0])
        assert "which is unknown" in failures[f"{at}.txt"]["reason"]
