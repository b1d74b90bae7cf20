from __future__ import annotations

import json

import pytest
from damagekit import MODELS, OTHER, TARGETS, Scene, model, sidecar
from kit.archive import copy
from kit.cli import invoke
from kit.repository import write_folder


def build(folder, models):
    root = folder / "weights"
    assert invoke("init", "-q", "-C", root) == 0
    for name, files in models.items():
        source = write_folder(folder / "from" / name, files)
        args = ["import", "-q", "-C", str(root), str(source), "--as", name, "--min-free", "0B"]
        # One file after the other: so the objects lie in the pack in a known order.
        assert invoke(*args, "--jobs", "1") == 0
    assert invoke("parity", "add", "-q", "-C", root) == 0
    # An event that comes after the others.
    assert invoke("audit", "-q", "-C", root) == 0
    return root


@pytest.fixture(scope="session")
def pristine(tmp_path_factory):
    """An archive of two snapshots in two packs, of which one has an object that both need."""
    return build(tmp_path_factory.mktemp("pristine"), MODELS)


@pytest.fixture(scope="session")
def other(tmp_path_factory):
    """An archive that has nothing to do with the first."""
    return build(tmp_path_factory.mktemp("other"), {OTHER: model(30)})


@pytest.fixture
def scene(pristine, other, tmp_path):
    """Makes an archive to damage, with or without parity."""

    def make(kind: str, *, parity: bool = True) -> Scene:
        made = Scene(copy(pristine, tmp_path / "weights"), copy(other, tmp_path / "others"), kind)
        # A damaged sidecar is there whether it could help or not.
        sidecars = {sidecar(made.root, name) for name in MODELS} if kind == "parity" else set()
        for path in (made.root / "parity").rglob("*.par") if not parity else ():
            if path not in sidecars:
                path.unlink()
        assert made.target == TARGETS[kind](made.root, next(iter(MODELS)))
        return made

    return make


@pytest.fixture
def run(run):
    """Run a command in this process, as JSON lines."""

    def call(command, root, *args):
        return run(*command.split(), "-q", "--json", "-C", root, *args)

    return call


@pytest.fixture
def restored(run, tmp_path):
    """Restores a snapshot: the exit code, and what is there afterwards, under whatever name."""
    count = 0

    def call(root, repository):
        nonlocal count
        count += 1
        out = tmp_path / f"restored{count}"
        code = run("restore", root, repository, out).code
        paths = {
            path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()
        }
        return code, {name: path.read_bytes() for name, path in paths.items()}

    return call


@pytest.fixture
def statistics(run):
    """What the catalogue says of an archive."""

    def call(root):
        result = run("stats", root)
        assert result.code == 0, result.err
        return [json.loads(line) for line in result.out.splitlines()]

    return call
