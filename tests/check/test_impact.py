"""What is missing or damaged in one pack and whole in another; what may not be read; what is told of it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from typing import get_args

import pytest
from kit.faults import flip, overwrite
from kit.repository import noise

from archiver.archive.archive import Archive
from archiver.archive.findings import Code
from archiver.storage import files
from archiver.tensors.header import header_bytes

COMMAND = r"'archiver (.+?)'(?= says|\.$| to )"
OFFLINE = {"repair": ("--no-upstream", "--dry-run")}
"""A command in a hint; what stands after it ends it, for it may have quotes of its own."""


@pytest.fixture
def twice(weights, run, pristine):
    """org/one again, as org/twin, in a pack of its own."""
    pack = weights.documents("packs")[0]
    aside = weights.root.parent / "aside.pack"
    pack.rename(aside)
    (weights.root / "catalogue.sqlite").unlink(missing_ok=True)
    source = pristine.root.parent / "one"
    copy = shutil.copytree(source, weights.root.parent / "twin")
    (copy / "more.txt").write_text("more")
    args = ["--as", "org/twin", "--min-free", "0B"]
    assert run("import", "-q", "-C", weights.root, copy, *args).code == 0
    aside.rename(pack)
    return pack


@pytest.mark.parametrize("how", ["missing", "flip", "truncate"])
@pytest.mark.parametrize("scope", [(), ("--snapshot", "org/one")])
def test_what_another_pack_has_whole_is_not_lost(twice, run, audit, weights, tmp_path, how, scope):
    if how == "missing":
        twice.unlink()
    elif how == "flip":
        flip(twice)
    else:
        overwrite(twice, twice.read_bytes()[:500])
    out = tmp_path / "out"
    result = run("restore", "-q", "-C", weights.root, "org/one", out)
    assert result.code == 0
    for path in out.iterdir():
        assert path.read_bytes() == (tmp_path / "twin" / path.name).read_bytes()
    one = ("--tensor", "body.weight")
    assert run("restore", "-q", "-C", weights.root, "org/one", tmp_path / "t", *one).code == 0
    found = audit(*scope)
    assert found.code == 20
    (pack,) = found.damage
    assert pack["code"].startswith("pack-")
    assert "Nothing is lost: every object of it is whole in other packs" in pack["message"]


def test_other_packs_are_not_opened_while_all_is_well(twice, run, weights, tmp_path, monkeypatch):
    opened = []
    real = Archive.pack
    monkeypatch.setattr(Archive, "pack", lambda self, pack: opened.append(pack) or real(self, pack))
    assert run("restore", "-q", "-C", weights.root, "org/one", tmp_path / "out").code == 0
    assert set(opened) == {twice.stem}


def test_where_no_pack_has_it_all_nothing_is_called_healed(twice, audit, weights):
    twice.unlink()
    other = {pack for pack, _ in weights.seal("twin")["packs"]} - {twice.stem}
    for pack in other:
        flip(weights.root / "packs" / pack[:2] / f"{pack}.pack")
    found = audit()
    assert "object-damaged" in found.codes
    assert not any("Nothing is lost" in one["message"] for one in found.damage)


# ---- files that may not be read


@pytest.fixture
def deny(monkeypatch):
    """Root may read everything: the system's answer is made here."""

    def call(*paths):
        real = files.os.open

        def refuse(path, *rest, **more):
            if str(path) in set(map(str, paths)):
                raise PermissionError(13, "Permission denied", str(path))
            return real(path, *rest, **more)

        monkeypatch.setattr(files.os, "open", refuse)

    return call


@pytest.mark.parametrize("kind", ["packs", "manifests", "snapshots", "journal", "README.txt"])
def test_what_may_not_be_read_is_not_damaged(audit, run, weights, deny, kind):
    path = weights.documents(kind)[0]
    deny(path)
    result = audit()
    assert (result.code, result.codes) == (4, {"file-unreadable"})
    (found,) = result.damage
    assert found["message"].endswith("cannot be opened: Permission denied.")
    assert found["hint"].startswith("Check its permissions")
    (summary,) = result.kinds("audit")
    assert (summary["intact"], summary["packs"]) == (False, 1 if kind == "packs" else 2)
    text = run("audit", "-C", weights.root)
    assert text.out.startswith("NOT ALL CHECKED: 1 finding")


def test_damage_beside_it_is_damage(audit, weights, deny):
    one, two = weights.documents("packs")
    deny(one)
    flip(two)
    result = audit()
    assert result.code == 20
    assert result.codes == {"file-unreadable", "pack-damaged", "object-damaged"}


def test_a_restore_from_a_pack_that_may_not_be_read_says_so(run, weights, deny, tmp_path):
    deny(weights.documents("packs")[0])
    result = run("restore", "-C", weights.root, "org/one", tmp_path / "out")
    assert result.code == 1
    assert "cannot be opened: Permission denied." in result.out
    assert "→ Check its permissions" in result.out


# ---- few findings, the right numbers


def test_a_lost_pack_is_one_finding_for_each_file(audit, run, weights, tmp_path):
    """Two models that share every other tensor: what is lost is full of holes."""
    names = [f"t{number:02}" for number in range(40)]
    for which, seed in (("first", 100), ("second", 900)):
        tensors = [
            (name, "U8", (3, 1000), noise((100 if at % 2 else seed) + at, 3000))
            for at, name in enumerate(names)
        ]
        head = header_bytes([(n, kind, shape, len(data)) for n, kind, shape, data in tensors])
        folder = tmp_path / which
        folder.mkdir()
        body = b"".join(data for *_, data in tensors)
        (folder / "model.safetensors").write_bytes(bytes(head) + body)
        args = ["--as", f"org/{which}", "--min-free", "0B"]
        assert run("import", "-q", "-C", weights.root, folder, *args).code == 0
    first = {pack for pack, _ in weights.seal("first")["packs"]}
    (lost,) = {pack for pack, _ in weights.seal("second")["packs"]} - first
    (weights.root / "packs" / lost[:2] / f"{lost}.pack").unlink()
    result = audit()
    assert len(result.damage) == 2
    (found,) = (one for one in result.damage if one["code"] == "object-missing")
    assert found["path"] == "model.safetensors"
    assert found["tensors"] == [f"{name} rows 0..2" for name in names[::2]]
    assert "t14 rows 0..2 and 12 more." in found["message"]
    assert "t16" not in found["message"]
    places = [int(word) for word in found["message"].split() if word.isdigit()]
    offsets = places[: places.index(12)] if 12 in places else places
    assert offsets[:16] == sorted(offsets[:16])
    assert found["hint"]


@pytest.mark.parametrize("how", ["damaged", "missing"])
def test_snapshots_whose_seal_is_lost_count(run, weights, how):
    seal = weights.documents("snapshots")[0]
    flip(seal) if how == "damaged" else seal.unlink()
    result = run("audit", "-C", weights.root)
    assert result.out.startswith("DAMAGE: 1 finding, 1 of 2 snapshots hit. Read ")


def test_packs_that_are_not_there_were_not_read(audit, weights):
    weights.documents("packs")[0].unlink()
    (summary,) = audit().kinds("audit")
    assert (summary["packs"], summary["intact"]) == (1, False)


def test_a_sound_archive_is_intact(audit):
    assert audit().kinds("audit")[0]["intact"] is True


# ---- hints that can be followed


def test_the_commands_of_the_hints_work_as_they_stand(run, weights, tmp_path):
    """Typed literally, in the folder from which the archive was named."""
    root = weights.root.rename(tmp_path / "my weights")
    (pack,) = sorted(root.glob("packs/*/*.pack"))[:1]
    flip(pack)
    records = [
        json.loads(line) for line in run("audit", "--json", "-q", "-C", root).out.splitlines()
    ]
    hints = {one["hint"] for one in records if one["kind"] == "finding"}
    restored = run("restore", "--json", "-C", root, "org/one", tmp_path / "o").out
    hints |= {one["hint"] for one in json.loads(restored.splitlines()[0])["failures"]}
    shown = [one for hint in hints for one in re.findall(COMMAND, hint)]
    commands = {tuple(shlex.split(one)) for one in shown}
    assert any("--explain" in words for words in commands)
    assert all(run(*words).code == 0 for words in commands if "--explain" in words)
    commands = {words for words in commands if "--explain" not in words}
    assert all(str(root) in words for words in commands)
    codes = {words[0]: run(*words, *OFFLINE.get(words[0], ())).code for words in commands}
    assert codes == {"audit": 20, "repair": 21}


@pytest.mark.parametrize("code", get_args(Code))
def test_every_code_is_explained(run, code):
    result = run("audit", "--explain", code)
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0] == code
    assert [line[2:6] for line in lines if line.startswith("- ")][:3] == ["What", "Hit:", "Next"]


def test_explanations_of_damage_say_how_to_mend(run, tmp_path):
    text = run("audit", "--explain", "pack-damaged").out
    assert "If upstream no longer has the revision" in text
    assert "How to mend" not in run("audit", "--explain", "file-extra").out
    record = json.loads(run("audit", "--json", "--explain", "pack-size").out)
    assert (record["kind"], record["code"]) == ("explanation", "pack-size")
    wrong = run("audit", "--explain", "pack-damage")
    assert (wrong.code, "pack-damaged" in wrong.err) == (2, True)


def test_when_upstream_no_longer_has_it_what_was_set_aside_goes_back(run, weights, tmp_path):
    """As docs/findings.md says."""
    pack = weights.documents("packs")[0]
    flip(pack)
    before = run("restore", "-q", "-C", weights.root, "org/one", tmp_path / "a")
    aside = weights.root / "quarantine"
    aside.mkdir()
    moved = {path: aside / path.name for path in (pack, weights.documents("snapshots")[0])}
    for path, target in moved.items():
        path.rename(target)
    assert run("restore", "-q", "-C", weights.root, "org/one", tmp_path / "b").code == 20
    for path, target in moved.items():
        target.rename(path)
    after = run("restore", "-q", "-C", weights.root, "org/one", tmp_path / "c")
    assert before.code == after.code == 20
    assert (tmp_path / "c/config.json").read_bytes() == (tmp_path / "a/config.json").read_bytes()
