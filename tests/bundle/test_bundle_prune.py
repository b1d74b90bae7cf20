"""What came in and waits for further volumes is not pruned meanwhile."""

from __future__ import annotations

import pytest
from bundlekit import Carried, files, flip, volumes_of
from kit.cli import invoke
from kit.repository import files_below, noise

TWO = "org/two"


@pytest.fixture
def grown(tmp_path):
    """A snapshot in two packs, each of which takes most of a volume."""
    made = Carried(tmp_path / "source", tmp_path)
    assert invoke("init", "-q", "-C", made.root) == 0
    model = made.model(TWO)
    model.mkdir()
    for seed in (1, 2):
        (model / f"part{seed}.bin").write_bytes(noise(seed, 5_000_000))
        words = ["--as", TWO, "--min-free", "0", "--effort", "fast"]
        assert invoke("import", "-q", "-C", made.root, model, *words) == 0
    return made


def packs(root):
    return {name for name in files(root) if name.startswith("packs/")}


def prune(run, root):
    """As often as it takes to delete for good; the exit code of the last."""
    return [run("prune", "-q", "-C", root, "--grace", "0s") for _ in range(4)][-1]


@pytest.fixture
def half(grown, export, bring, far, tmp_path):
    """The volumes; the first of them that has a pack came in, and waits."""
    to = tmp_path / "to"
    assert export(to, of=grown, references=[TWO]).code == 0
    volumes = volumes_of(to)
    (first, *_) = [volume for volume in volumes if list(volume.rglob("*.pack"))]
    assert bring(first).code == 3
    assert len(packs(far)) == 1
    return volumes


def test_packs_that_wait_are_needed(run, half, bring, far, grown, tmp_path):
    waits = packs(far)
    done = prune(run, far)
    assert done.code == 0, done.err
    assert packs(far) == waits
    assert bring(*half).code == 0
    assert run("restore", "-q", "-C", far, TWO, tmp_path / "out").code == 0
    assert files_below(tmp_path / "out") == files_below(grown.model(TWO))


def test_once_it_came_in_and_was_forgotten_they_go(run, half, bring, far):
    assert bring(*half).code == 0
    assert prune(run, far).code == 0
    assert len(packs(far)) == 2
    assert run("forget", "-q", "-C", far, TWO).code == 0
    assert prune(run, far).code == 0
    assert not packs(far)


def test_where_it_is_not_known_what_waits_nothing_is_pruned(run, half, bring, far):
    waits = packs(far)
    (note,) = (far / "bundles/received").glob("*.json")
    note.chmod(0o600)
    flip(note)
    done = prune(run, far)
    assert done.code == 20
    assert f"bundles/received/{note.name}" in done.err
    assert "import any volume of the bundle again" in done.err
    assert packs(far) == waits
    note.unlink()
    assert bring(*half).code == 0
    assert prune(run, far).code == 0
    assert len(packs(far)) == 2


def test_a_bundle_that_was_given_up_waits_no_more(run, half, far):
    (note,) = (far / "bundles/received").glob("*.json")
    note.unlink()
    assert prune(run, far).code == 0
    assert not packs(far)
