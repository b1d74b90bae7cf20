"""Names of files are UTF-8, whatever the locale says."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from kit.repository import files_below

LATIN = "de_DE.ISO-8859-1"
LOCALES = (LATIN, "C", "POSIX")
NAME = "für das Modell, モデル.txt"


@pytest.fixture(scope="session")
def locales(tmp_path_factory):
    """A folder with a locale that is not UTF-8; Debian's package ``locales`` has what it is made of."""
    folder = tmp_path_factory.mktemp("locales")
    subprocess.run(["localedef", "-i", "de_DE", "-f", "ISO-8859-1", folder / LATIN], check=True)
    return folder


@pytest.fixture
def environment(locales):
    return lambda name: {"LOCPATH": str(locales), "LC_ALL": name, "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture
def named(tmp_path):
    """A folder with a name that is no ISO-8859-1, and one that would be."""
    folder = tmp_path / "named"
    folder.mkdir()
    (folder / NAME).write_bytes(b"one")
    (folder / "ü.txt").write_bytes(b"two")
    return folder


@pytest.mark.parametrize("name", LOCALES)
def test_names_are_stored_shown_verified_and_restored_as_they_are(
    disk, named, environment, tmp_path, name
):
    env, root = environment(name), disk.root
    taken = ("import", "-C", root, named, "--as", "org/model", "--min-free", "0")
    manifest = tmp_path / "manifest.json"
    exported = ("manifest", "export", "-C", root, "org/model", "-o", manifest)
    verified = ("verify", named, "--manifest", manifest)
    for words in (("init", "-C", root), taken, exported, verified):
        done = disk.run("-q", *words, env=env)
        assert done.code == 0, (words, done)
    rows = disk.run("--json", "show", "-C", root, "org/model", "--files").kinds("file")
    assert {row["path"] for row in rows} == {NAME, "ü.txt"}
    out = tmp_path / "out"
    assert disk.run("restore", "-q", "-C", root, "org/model", out, env=env).code == 0
    decode = [sys.executable, root / "decode.py", "restore", "org/model", tmp_path / "decoded"]
    subprocess.run(decode, check=True, env={"PATH": os.environ["PATH"], **env})
    for restored in (out, tmp_path / "decoded"):
        assert files_below(restored) == files_below(named)


def test_what_is_printed_is_in_the_encoding_of_the_terminal(disk, named, environment, tmp_path):
    env = environment(LATIN)
    assert disk.run("-q", "init", "-C", disk.root, env=env).code == 0
    taken = ("import", "-q", "-C", disk.root, named, "--as", "org/model", "--min-free", "0")
    assert disk.run(*taken, env=env).code == 0
    command = [sys.executable, "-m", "archiver", "-C", disk.root, "show", "org/model", "--files"]
    environ = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], **env}
    shown = subprocess.run(command, check=True, capture_output=True, env=environ).stdout
    assert "ü.txt ".encode("latin-1") in shown
    assert "ü.txt ".encode() not in shown
    assert rb"\u30e2" in shown


@pytest.mark.parametrize("name", [LATIN, "C"])
def test_a_name_that_is_no_utf8_is_refused_and_named(disk, environment, tmp_path, name):
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / os.fsdecode(b"f\xfcr.txt")).write_bytes(b"one")
    env = environment(name)
    assert disk.run("-q", "init", "-C", disk.root, env=env).code == 0
    done = disk.run("import", "-C", disk.root, folder, "--as", "org/model", env=env)
    assert done.code == 22
    assert r"f\udcfcr.txt" in done.err
    assert not list((disk.root / "snapshots").rglob("*.json"))
