"""An archive whose store is no folder of this machine: what only reads works, the rest says why not."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from kit.cli import invoke
from kit.faults import flip
from kit.store import Remote
from safetensors.numpy import load_file, save_file

from archiver.archive import archive as archive_module
from archiver.archive.archive import Archive
from archiver.errors import NotLocalError
from archiver.storage.local import LocalStore
from archiver.storage.store import local_folder

WEIGHTS = {"embed": random.Random(1).randbytes(8000)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("folder")
    tensor = np.frombuffer(WEIGHTS["embed"], np.float16).reshape(40, 100)
    save_file({"embed": tensor}, place / "model.safetensors")
    (place / "notes.txt").write_bytes(b"notes")
    return place


@pytest.fixture
def root(folder, tmp_path):
    """The folder of an archive that commands see as a store elsewhere from now on."""
    root = tmp_path / "archive"
    assert invoke("init", "-q", "-C", root) == 0
    words = ["-C", str(root), str(folder), "--as", "org/model", "--min-free", "0B"]
    assert invoke("import", "-q", *words) == 0
    return root


@pytest.fixture
def remote(root, monkeypatch):
    local = archive_module.LocalStore
    monkeypatch.setattr(
        archive_module,
        "LocalStore",
        lambda path: Remote(local(path)) if path == root else local(path),
    )
    return root


READING = [
    ("list",),
    ("show", "org/model", "--files", "--tensors"),
    ("manifest", "show", "org/model"),
    ("manifest", "export", "org/model"),
    ("diff", "org/model", "org/model"),
    ("log",),
    ("head",),
    ("stats",),
    ("audit", "--level", "files"),
    ("audit", "--report", "{out}"),
    ("prune", "--dry-run"),
    ("repair", "--dry-run"),
]


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_what_reads_works_on_any_store(run, remote, tmp_path, words):
    words = [word.format(out=tmp_path / "report.json") for word in words]
    done = run(*words, "-C", remote)
    assert done.code == 0, done.err


def test_a_status_tells_of_it(run, remote):
    done = run("status", "--json", "-C", remote)
    assert "Traceback" not in done.err
    assert done.code in {0, 24}, done.err
    places = [json.loads(line) for line in done.out.splitlines()]
    assert Remote.address in str(places)


def test_files_and_tensors_are_restored_from_any_store(run, folder, remote, tmp_path):
    plain, cache, tensor = tmp_path / "plain", tmp_path / "cache", tmp_path / "embed.safetensors"
    assert run("restore", "-C", remote, "org/model", plain).code == 0
    for path in folder.iterdir():
        assert (plain / path.name).read_bytes() == path.read_bytes()
    assert run("restore", "-C", remote, "org/model", cache, "--layout", "hf-cache").code == 0
    assert run("restore", "-C", remote, "org/model", tensor, "--tensor", "embed").code == 0
    assert load_file(tensor)["embed"].tobytes() == WEIGHTS["embed"]


def test_damage_is_found_and_its_commands_name_the_address(run, remote, tmp_path):
    (pack,) = remote.glob("packs/*/*.pack")
    flip(pack, 3000)
    audit = run("audit", "-q", "--json", "-C", remote)
    assert audit.code == 20
    assert "pack-damaged" in audit.codes
    assert f"-C {Remote.address}" in audit.out
    restored = run("restore", "-C", remote, "org/model", tmp_path / "out")
    assert restored.code == 20
    assert f"-C {Remote.address}" in restored.out


def test_a_copy_from_any_store_is_whole(run, remote, tmp_path):
    replica = tmp_path / "replica"
    assert run("copy", "-C", remote, "--new", replica, "--min-free", "0B").code == 0
    assert run("audit", "-q", "-C", replica, "--level", "files").code == 0


def test_what_needs_a_folder_says_so(run, remote):
    before = sorted(path for path in remote.rglob("*") if path.is_file())
    done = run("forget", "-C", remote, "org/model")
    assert done.code == 1
    assert f"{Remote.address} is no folder of this machine" in done.err
    assert sorted(path for path in remote.rglob("*") if path.is_file()) == before


def test_a_folder_is_asked_for_by_name(remote):
    store = Archive.open(remote).store
    with pytest.raises(NotLocalError) as raised:
        local_folder(store)
    assert raised.value.address == Remote.address
    assert local_folder(LocalStore(remote)).path == remote
