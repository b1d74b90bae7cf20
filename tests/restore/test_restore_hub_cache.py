"""A hub cache restored to disks without symbolic links, names that clash, and restores that were killed."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from kit import processes
from kit.repository import REPO, WEIGHTS, files_below
from restorekit import CHILD

CLIENT = """
import sys
from huggingface_hub import hf_hub_download, snapshot_download
revision = sys.argv[1] or None
assert open(hf_hub_download(sys.argv[2], "config.json", revision=revision), "rb").read()
print(snapshot_download(sys.argv[2], revision=revision, local_files_only=True))
"""


@pytest.fixture
def held(served, mirror):
    assert mirror().code == 0
    return served


@pytest.fixture
def client():
    """Loads REPO as the last line of a restore says; the folder that the hub's client finds."""

    def run(said: str, revision: str = "") -> Path:
        variables = dict(one.split("=", 1) for one in said.split() if one.startswith("HF_"))
        assert variables.keys() == {"HF_HUB_CACHE", "HF_HUB_OFFLINE"}
        variables = {name: value.strip(".,") for name, value in variables.items()}
        ran = subprocess.run(
            [sys.executable, "-c", CLIENT, revision, REPO],
            env=os.environ | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return Path(ran.stdout.strip())

    return run


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS], ids=os.strerror)
def test_without_symbolic_links(held, archive, cli, client, tmp_path, monkeypatch, code):
    def refuse(*_arguments, **_named):
        raise OSError(code, os.strerror(code))

    cache = tmp_path / "cache"
    with monkeypatch.context() as without:
        without.setattr(os, "symlink", refuse)
        found = cli("restore", "-C", archive, REPO, cache, "--layout", "hf-cache")
        assert found.code == 0
        again = cli("restore", "-C", archive, REPO, cache, "--layout", "hf-cache")
        assert f"{len(held)} were there already" in again.out
    assert not any(path.is_symlink() for path in cache.rglob("*"))
    folder = client(found.out.splitlines()[-1])
    assert files_below(folder) == held
    assert not (cache / "models--org--model/blobs").exists()
    # Moved to a disk with links it is a cache all the same.
    assert cli("restore", "-C", archive, REPO, cache, "--layout", "hf-cache").code == 0
    assert files_below(folder) == held


def test_with_links_its_end_says_how_to_load_it(held, archive, cli, client, tmp_path):
    cache = tmp_path / "cache"
    found = cli("restore", "-C", archive, REPO, cache, "--layout", "hf-cache")
    assert files_below(client(found.out.splitlines()[-1])) == held


def test_names_that_need_one_place(hub, held, archive, mirror, cli, client, tmp_path):
    for name in ("main/x", "v1", "v1/final/a"):
        hub.tag(REPO, name)
        assert mirror("--revision", name, REPO).code == 0
    cache = tmp_path / "cache"
    for _ in range(2):
        found = cli("restore", "-C", archive, REPO, cache, "--layout", "hf-cache")
        assert found.code == 0
        assert found.err.count("cannot be written") == 2
        assert "main/x" in found.err
        assert "v1/final/a" in found.err
    refs = cache / "models--org--model/refs"
    assert {str(path.relative_to(refs)) for path in refs.rglob("*")} == {"main", "v1"}
    assert files_below(client(found.out.splitlines()[-1])) == held


def test_a_name_that_points_elsewhere_is_left_alone(held, archive, cli, client, tmp_path):
    cache = tmp_path / "cache"
    ref = cache / "models--org--model/refs/main"
    ref.parent.mkdir(parents=True)
    ref.write_text("ab" * 20)
    found = cli("restore", "-C", archive, REPO, cache, "--layout", "hf-cache")
    assert found.code == 0
    assert "points at another revision" in found.err
    assert ref.read_text() == "ab" * 20
    revision = found.out.rpartition("revision='")[2].partition("'")[0]
    assert files_below(client(found.out.splitlines()[-1], revision)) == held


@pytest.mark.parametrize("layout", ["plain", "hf-cache"])
def test_a_restore_that_is_killed_leaves_nothing_for_long(held, archive, cli, tmp_path, layout):
    out = tmp_path / "out"
    words = ("restore", "-C", archive, REPO, out, "--layout", layout)
    child = processes.start(
        [sys.executable, "-c", CHILD, *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        left = Path(child.stdout.readline().strip())
        assert left.is_file()
        # What a living run writes stays: both can work beside each other.
        assert cli("restore", "-C", archive, REPO, out, "--layout", layout).code == 0
        assert left.is_file()
        child.send_signal(signal.SIGKILL)
    assert left.is_file()
    older = left.with_name(".0123456789abcdef.part")
    older.write_bytes(b"of a version before")
    manifest = tmp_path / "manifest.json"
    assert cli("manifest", "export", "-C", archive, REPO, "-o", manifest).code == 0
    if layout == "plain":
        found = cli("verify", "--json", "-q", out, "--manifest", manifest)
        assert found.code == 0
        told = [one for one in found.records if one["kind"] == "finding"]
        assert {(one["code"], one["remark"]) for one in told} == {("file-unfinished", True)}
        # Others may have been under way beside it.
        assert {one["path"] for one in told} >= {left.name, older.name}
        text = cli("verify", out, "--manifest", manifest).out
        assert "Intact" in text
        assert "DAMAGED" not in text
    assert cli(*words).code == 0
    assert not left.exists()
    assert not older.exists()
    assert not list(out.rglob("*.part"))
    if layout == "plain":
        assert files_below(out) == held
        found = cli("verify", "--json", "-q", out, "--manifest", manifest)
        assert [one["kind"] for one in found.records] == ["verify"]


def test_another_programs_file_stays(held, archive, cli, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    names = (f"{WEIGHTS}.part", ".part", ".short.part", ".archiver-0123.part")
    for name in names:
        (out / name).write_bytes(b"mine")
    assert cli("restore", "-C", archive, REPO, out).code == 0
    assert files_below(out) == held | dict.fromkeys(names, b"mine")


def test_a_link_that_another_run_made_first_is_as_good(held, archive, cli, tmp_path, monkeypatch):
    honest = Path.symlink_to

    def symlink_to(link, target):
        if link.name == "config.json":
            honest(link, target)
        honest(link, target)

    monkeypatch.setattr(Path, "symlink_to", symlink_to)
    cache = tmp_path / "cache"
    done = cli("restore", "-C", archive, REPO, cache, "--layout", "hf-cache")
    assert done.code == 0, done.err
