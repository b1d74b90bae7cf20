"""Paths that are kept as they are, through every command; and renamed where a disk cannot hold them."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path

import pytest
from kit.repository import REPO, files_below

from archiver.archive.destination import PlainFolder, Writer

ODD = {
    "new\nline.txt": b"1",
    "back\\slash.bin": b"2",
    "\x1b]0;title\x07/\x1b[2J": b"3",
    "c1\x9b[31m.txt": b"4",
    "a:b?/c*.txt": b"5",
    " /. /end.": b"6",
    "README": b"7",
    "ReadMe": b"8",
    "percent%0A.txt": b"9",
    "-rf": b"10",
    "\u202egnp.exe": b"11",
    "#frag?query&x=%2e": b"12",
}
FILES = {"config.json": b"{}", "model.bin": bytes(range(256)) * 300, **ODD}
RENAMED = {
    "new\nline.txt": "new%0Aline.txt",
    "back\\slash.bin": "back%5Cslash.bin",
    "\x1b]0;title\x07/\x1b[2J": "%1B]0;title%07/%1B[2J",
    "c1\x9b[31m.txt": "c1%C2%9B[31m.txt",
    "a:b?/c*.txt": "a%3Ab%3F/c%2A.txt",
    " /. /end.": "%20/%2E%20/end%2E",
    "#frag?query&x=%2e": "#frag%3Fquery&x=%252e",
}
HOSTILE = {"\x1b", "\x07", "\x9b", "\u202e"}


@pytest.fixture
def held(hub, mirror):
    hub.create(REPO, FILES)
    result = mirror()
    assert result.code == 0, result
    assert not HOSTILE & set(result.out + result.err)
    return FILES


@pytest.fixture
def fat(monkeypatch):
    """A disk that has none of the characters that FAT has not, in a file's or a folder's name."""
    refused = re.compile(r'[\x00-\x1f\x7f-\x9f\\<>:"|?*]|[. ]$')
    name, mkdir = Writer._name, Path.mkdir

    def refuse(path):
        if any(refused.search(part) for part in path.parts[-3:]):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(path))

    def naming(self):
        refuse(self.path)
        name(self)

    def making(self, *words, **named):
        refuse(self)
        mkdir(self, *words, **named)

    monkeypatch.setattr(Writer, "_name", naming)
    monkeypatch.setattr(Path, "mkdir", making)


@pytest.fixture
def folding(monkeypatch):
    """A disk that does not tell upper from lower case."""
    honest = PlainFolder.visible

    def visible(self, entry):
        path = honest(self, entry)
        return self.root / path.relative_to(self.root).as_posix().casefold()

    monkeypatch.setattr(PlainFolder, "visible", visible)


def test_every_command_takes_such_paths(held, archive, cli, tmp_path, restores):
    restores(archive, held)
    for words in (
        ("show", "--files", REPO),
        ("audit", "--level", "files"),
        ("status",),
        ("stats",),
        ("manifest", "show", REPO),
        ("diff", REPO, REPO),
        ("log",),
    ):
        result = cli(*words, "-C", archive)
        assert result.code == 0, result
        assert not HOSTILE & set(result.out + result.err), words
        if words[-1] == REPO and words[0] != "diff":
            for escaped in (r"new\nline.txt", r"back\\slash.bin", r"\x1b]0;title\x07/\x1b[2J"):
                assert escaped in result.out, words
    shown = cli("show", "--json", "--files", "-C", archive, REPO)
    assert {row["path"] for row in shown.kinds("file")} == set(held)
    audit = cli("audit", "--json", "-C", archive)
    assert (audit.code, audit.remarks) == (0, {"path-unportable"})
    out, exported = tmp_path / "out", tmp_path / "m.json"
    assert cli("restore", "-C", archive, REPO, out, "--rename").code == 0
    assert files_below(out) == held, "this disk holds them all"
    assert cli("manifest", "export", "-C", archive, REPO, "-o", exported).code == 0
    assert {file["path"] for file in json.loads(exported.read_bytes())["files"]} == set(held)
    assert cli("verify", out, "--manifest", exported).code == 0
    (out / "new\nline.txt").write_bytes(b"!")
    spoilt = cli("verify", "--json", out, "--manifest", exported)
    assert [finding["path"] for finding in spoilt.damage] == ["new\nline.txt"]
    again = tmp_path / "again"
    assert cli("init", "-C", again).code == 0
    assert cli("import", "-C", again, out, "--as", "folder:o/n", "--min-free", "0B").code == 0
    restores(again, held | {"new\nline.txt": b"!"}, "folder:o/n")


def test_a_hub_cache_has_them_too(held, archive, cli, tmp_path):
    assert cli("restore", "-C", archive, REPO, tmp_path / "c", "--layout", "hf-cache").code == 0
    (snapshot,) = (tmp_path / "c/models--org--model/snapshots").iterdir()
    assert files_below(snapshot) == held
    refused = cli(
        "restore", "-C", archive, REPO, tmp_path / "c", "--layout", "hf-cache", "--rename"
    )
    assert refused.code == 2
    assert "--rename goes with none of" in refused.err
    fresh = tmp_path / "fresh"
    assert cli("init", "-C", fresh).code == 0
    assert cli("import", "-C", fresh, tmp_path / "c", "--min-free", "0B").code == 0
    out = tmp_path / "out"
    assert cli("restore", "-C", fresh, REPO, out).code == 0
    assert files_below(out) == held


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("new\nline.txt", "new\nline.txt"),
        ("new?line.txt", "new\nline.txt"),
        ("back\\slash.bin", "back\\slash.bin"),
        ("-rf", "-rf"),
        ("c1*", "c1\x9b[31m.txt"),
    ],
)
def test_patterns_can_name_them(hub, cli, archive, mirror, tmp_path, pattern, path):
    hub.create(REPO, FILES)
    assert mirror(REPO, f"--include={pattern}").code == 0
    out = tmp_path / "out"
    assert cli("restore", "-C", archive, REPO, out).code == 0
    assert set(files_below(out)) == {path}
    assert mirror(REPO).code == 0
    for seal in cli("list", "--json", "-C", archive).kinds("snapshot"):
        if seal["whole"]:
            alone = cli(
                "restore", "-C", archive, seal["snapshot"], tmp_path / "a", f"--file={pattern}"
            )
            assert alone.code == 0
    assert set(files_below(tmp_path / "a")) == {path}


def test_what_a_disk_cannot_hold_is_left_out_and_named(held, archive, cli, tmp_path, fat):
    result = cli("restore", "-C", archive, REPO, tmp_path / "out")
    assert result.code == 3
    assert files_below(tmp_path / "out").keys() == held.keys() - RENAMED.keys()
    assert not HOSTILE & set(result.out + result.err)
    assert r"new\nline.txt" in result.out
    assert "--rename" in result.err + result.out
    told = cli("restore", "--json", "-C", archive, REPO, tmp_path / "out").only("restore")
    assert {failure["path"] for failure in told["failures"]} == RENAMED.keys()
    assert told["renamed"] == []
    alone = cli("restore", "-C", archive, REPO, tmp_path / "one", "--file", "a:b?/c*.txt")
    assert alone.code == 3


def test_what_a_disk_cannot_hold_gets_another_name_if_asked_for(held, archive, cli, tmp_path, fat):
    words = ("restore", "-C", archive, REPO, tmp_path / "out", "--rename")
    told = cli(*words, "--json")
    assert told.code == 0
    report = told.only("restore")
    assert {each["path"]: each["name"] for each in report["renamed"]} == RENAMED
    assert (report["files"], report["kept"]) == (len(held), 0)
    expected = {RENAMED.get(path, path): data for path, data in held.items()}
    assert files_below(tmp_path / "out") == expected
    again = cli(*words)
    assert again.code == 0
    assert f"{len(held)} were there already" in again.out
    assert r"new\nline.txt is restored as new%0Aline.txt" in again.out
    assert not HOSTILE & set(again.out + again.err)
    assert files_below(tmp_path / "out") == expected
    (tmp_path / "out/a%3Ab%3F/c%2A.txt").write_bytes(b"mine")
    refused = cli(*words)
    assert refused.code == 3
    assert (tmp_path / "out/a%3Ab%3F/c%2A.txt").read_bytes() == b"mine"


def test_the_later_of_twins_gets_a_number(held, archive, cli, tmp_path, folding):
    left_out = cli("restore", "-C", archive, REPO, tmp_path / "out")
    assert left_out.code == 3
    told = cli("restore", "--json", "-C", archive, REPO, tmp_path / "out", "--rename")
    assert told.code == 0
    assert told.only("restore")["renamed"] == [{"path": "ReadMe", "name": "ReadMe~2"}]
    files = files_below(tmp_path / "out")
    assert (files["readme"], files["readme~2"]) == (b"7", b"8")
    assert len(files) == len(held)
