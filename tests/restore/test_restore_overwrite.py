"""--overwrite and --stop-on-damage: what is wrong is replaced by what is proven, or left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from kit import processes
from kit.repository import REPO, WEIGHTS, files_below
from restorekit import CHILD, rot

PLACE = "sub/folder/notes.txt"


@pytest.fixture
def held(served, mirror):
    assert mirror().code == 0
    return served


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def overwrite(cli, archive, out):
    return lambda *words: cli("restore", "-C", archive, REPO, out, "--overwrite", *words)


def test_what_differs_is_replaced_and_what_is_right_is_kept(held, overwrite, out):
    assert overwrite().code == 0
    right = (out / "README.md").stat().st_ino
    (out / "config.json").write_bytes(b"x" * len(held["config.json"]))
    (out / PLACE).write_bytes(b"shorter")
    (out / "mine.txt").write_bytes(b"mine")
    os.link(out / PLACE, out / "link")  # another name of the file that is replaced
    done = overwrite()
    assert done.code == 0
    assert "config.json had other content, and is replaced" in done.out
    assert f"{len(held) - 2} were there already" in done.out
    assert files_below(out) == held | {"mine.txt": b"mine", "link": b"shorter"}
    assert (out / "README.md").stat().st_ino == right
    (out / PLACE).write_bytes(b"again")
    assert overwrite("--json").only("restore")["replaced"] == [PLACE]


@pytest.mark.parametrize("target", ["file", "folder", "nothing"])
def test_a_link_is_replaced_itself(held, overwrite, out, tmp_path, target):
    elsewhere = tmp_path / "elsewhere"
    if target == "file":
        elsewhere.write_bytes(b"mine")
    elif target == "folder":
        elsewhere.mkdir()
        (elsewhere / "a").write_bytes(b"mine")
    out.mkdir()
    (out / "config.json").symlink_to(elsewhere)
    assert overwrite().code == 0
    assert files_below(out) == held
    assert not (out / "config.json").is_symlink()
    assert elsewhere.exists() == (target != "nothing")
    if target == "file":
        assert elsewhere.read_bytes() == b"mine"


def test_a_folder_in_the_way_stays(held, overwrite, out):
    (out / "config.json").mkdir(parents=True)
    (out / "config.json/mine").write_bytes(b"mine")
    (out / "sub").write_bytes(b"a file in the place of a folder")
    done = overwrite()
    assert done.code == 3
    assert "is a folder" in done.out
    assert (out / "config.json/mine").read_bytes() == b"mine"
    assert (out / "sub").is_file()


def test_nothing_is_replaced_behind_a_link_to_a_folder(held, overwrite, out, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "folder").mkdir(parents=True)
    (elsewhere / "folder/notes.txt").write_bytes(b"mine")
    out.mkdir()
    (out / "sub").symlink_to(elsewhere)
    done = overwrite()
    assert done.code == 3
    assert "behind the link" in done.out
    assert (elsewhere / "folder/notes.txt").read_bytes() == b"mine"


def test_a_destination_that_is_a_link_is_as_good(held, archive, cli, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real/config.json").write_bytes(b"wrong")
    (tmp_path / "out").symlink_to(tmp_path / "real")
    assert cli("restore", "-C", archive, REPO, tmp_path / "out", "--overwrite").code == 0
    assert files_below(tmp_path / "real") == held


def test_what_cannot_be_proven_replaces_nothing(held, overwrite, archive, out):
    assert overwrite().code == 0
    rot(archive, held[PLACE])
    (out / PLACE).write_bytes(b"what I have")
    done = overwrite()
    assert done.code == 20
    assert "replaced" not in done.out
    assert (out / PLACE).read_bytes() == b"what I have"
    assert not list(out.rglob("*.part"))


def test_a_kill_leaves_the_old_file(held, overwrite, archive, out):
    assert overwrite().code == 0
    wrong = b"w" * len(held[WEIGHTS])
    (out / WEIGHTS).write_bytes(wrong)
    words = ("restore", "-C", archive, REPO, out, "--overwrite")
    child = processes.start(
        [sys.executable, "-c", CHILD, *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    left = Path(child.stdout.readline().strip())
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert left.is_file()
    assert (out / WEIGHTS).read_bytes() == wrong
    assert overwrite().code == 0
    assert files_below(out) == held


def test_a_hub_cache_is_mended(held, overwrite, out):
    """A blob of other bytes, and a link that leads elsewhere; a name stays where it points."""
    assert overwrite("--layout", "hf-cache").code == 0
    (repository,) = out.iterdir()
    (snapshot,) = (repository / "snapshots").iterdir()
    blob = (snapshot / WEIGHTS).resolve()
    blob.write_bytes(b"w" * len(held[WEIGHTS]))
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to("README.md")
    (repository / "refs/main").write_text("ab" * 20)
    done = overwrite("--layout", "hf-cache")
    assert done.code == 0, done.out
    assert files_below(snapshot) == held
    assert (snapshot / WEIGHTS).is_symlink()
    assert (repository / "refs/main").read_text() == "ab" * 20
    assert not list(out.rglob("*.part"))


def test_a_tensor(held, overwrite, out):
    words = ("--tensor", "norm.weight")
    assert overwrite(*words).code == 0
    (file,) = out.iterdir()
    right = file.read_bytes()
    file.write_bytes(b"wrong")
    assert overwrite(*words).code == 0
    assert file.read_bytes() == right


def test_stop_on_damage(held, archive, cli, out):
    rot(archive, held[PLACE])
    done = cli("restore", "-C", archive, REPO, out, "--json", "--stop-on-damage")
    assert done.code == 20
    report = done.only("restore")
    assert [failure["path"] for failure in report["failures"]] == [PLACE]
    assert report["files"] + report["untried"] == len(held) - 1
    assert PLACE not in files_below(out)
    assert not list(out.rglob("*.part"))
    # Without it, all others are restored.
    assert cli("restore", "-C", archive, REPO, out).code == 20
    assert files_below(out) == {name: data for name, data in held.items() if name != PLACE}
