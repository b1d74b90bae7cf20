"""A repair that dies at any step: what could be restored still can be, and the next one ends the job."""

from __future__ import annotations

import pytest
from kit.archive import copy, seals
from kit.cli import invoke
from kit.faults import flip, wipe
from kit.repository import write_folder
from repairkit import ONE, TWO, manifest, model, own_pack, packs, stored

from archiver.storage.local import LocalStore
from archiver.storage.staging import LocalStaged

_WRITES = ((LocalStore, ("link", "remove", "stage")), (LocalStaged, ("write", "publish")))


class Crash(BaseException):
    """The process is dead."""


class Life:
    """Counts what is written, and dies before the n-th time; a dead process writes no more."""

    def __init__(self, monkeypatch) -> None:
        self._left = None
        self._count = 0
        for kind, names in _WRITES:
            for name in names:
                self._wrap(monkeypatch, kind, name)

    def _wrap(self, monkeypatch, kind, name) -> None:
        call = getattr(kind, name)

        def counted(*args, **options):
            self._count += 1
            if self._left is not None:
                if self._left <= 0:
                    raise Crash
                self._left -= 1
            return call(*args, **options)

        monkeypatch.setattr(kind, name, counted)

    def run(self, arguments: list, left: int | None) -> bool:
        """Whether it lived to its end."""
        self._left = left
        try:
            return invoke(*arguments) == 0
        except Crash:
            return False
        finally:
            self._left = None


@pytest.fixture
def life(monkeypatch):
    return Life(monkeypatch)


def lost_order(weights, tmp_path):
    """A damaged pack without its index: it becomes another pack, and both snapshots get new seals."""
    pack = own_pack(weights)
    data = pack.read_bytes()
    weight = data.index(b"\x28\xb5\x2f\xfd", data.index(b'"codec":1'))
    wipe(pack, weight + 20, weight + 60)
    wipe(pack, len(data) - 700, len(data))
    return write_folder(tmp_path / "folder", model(10)), (TWO,)


def whole_file(weights, tmp_path):
    """Files of which a replica has the same."""
    replica = copy(weights, tmp_path / "replica")
    flip(own_pack(weights))
    flip(manifest(weights))
    flip(seals(weights, TWO)[0])
    return replica, ()


def held_twice(weights, tmp_path):
    """Every object of the damaged pack is whole in another, on which a second seal stands."""
    pack = own_pack(weights)
    first, seal = pack.read_bytes(), seals(weights, ONE)[0]
    sealed = seal.read_bytes()
    pack.unlink()
    seal.unlink()
    folder = write_folder(tmp_path / "folder", model(10))
    args = ["import", "-q", "-C", weights, folder, "--as", ONE, "--min-free", "0B"]
    assert invoke(*args) == 0
    pack.write_bytes(first)
    seal.write_bytes(sealed)
    wipe(pack, 500, 2000)
    return folder, (ONE, TWO)


@pytest.mark.parametrize("damage", [lost_order, whole_file, held_twice])
def test_at_every_step(life, weights, tmp_path, run, models, sound, damage):
    source, restorable = damage(weights, tmp_path)
    repair = ["repair", "-q", "--no-upstream", "--from", source, "-C"]
    steps = 0
    while True:
        root = copy(weights, tmp_path / f"copy{steps}")
        lived = life.run([*repair, root], steps)
        for name in restorable:
            out = tmp_path / f"out{steps}" / name
            assert run("restore", "-q", "-C", root, name, out).code == 0, (steps, name)
            assert {path.name: path.read_bytes() for path in out.iterdir()} == models[name]
        if lived:
            break
        assert life.run([*repair, root], None), steps
        assert run("audit", "-q", "-C", root).code == 0, steps
        steps += 1
    assert steps > 5
    sound(root)


def test_old_seals_go_only_when_new_ones_are_there(life, weights, tmp_path):
    """Whatever the step, as many seals are visible as before."""
    source, _ = lost_order(weights, tmp_path)
    before = len(seals(weights))
    for steps in range(60):
        root = copy(weights, tmp_path / f"copy{steps}")
        lived = life.run(["repair", "-q", "--no-upstream", "--from", source, "-C", root], steps)
        assert len(seals(root)) >= before
        if lived:
            break
    assert lived
    assert len(packs(root)) >= 1
    assert stored(root) != stored(weights)
