"""What came in and waits for further volumes is not pruned meanwhile."""

from __future__ import annotations

import pytest
from bundlekit import Carried, files, flip, take_in, volumes_of
from kit.cli import invoke
from kit.repository import files_below, noise

from archiver.archive.archive import Archive

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


def test_what_an_incremental_bundle_stands_on_is_needed(run, grown, export, bring, far, tmp_path):
    """Nothing else needs it any more, and the bundle that waits leaves it out."""
    (first,) = [each for each in Archive.open(grown.root).snapshots() if len(each.seal.packs) == 1]
    before, after = tmp_path / "before", tmp_path / "after"
    assert export(before, of=grown, references=[first.title]).code == 0
    assert bring(before).code == 0
    model = grown.model(TWO)
    (model / "part3.bin").write_bytes(noise(3, 5_000_000))
    take_in(grown.root, model, TWO)
    inventory = tmp_path / "inventory.json"
    assert run("inventory", "-q", "-C", far, "-o", inventory).code == 0
    assert export(after, "--not-in", inventory, of=grown, references=[TWO]).code == 0
    (part, *_) = [volume for volume in volumes_of(after) if list(volume.rglob("*.pack"))]
    assert bring(part).code == 3
    waits = packs(far)
    assert len(waits) == 2
    assert run("forget", "-q", "-C", far, first.title).code == 0
    assert prune(run, far).code == 0
    assert packs(far) == waits
    assert bring(after).code == 0


def test_packs_that_wait_for_a_seal_that_was_damaged_are_needed(
    run, grown, export, bring, far, tmp_path
):
    to = tmp_path / "to"
    assert export(to, of=grown, references=[TWO]).code == 0
    (first, *_) = [volume for volume in volumes_of(to) if list(volume.rglob("*.pack"))]
    for seal in [path for path in (first / "snapshots").rglob("*") if path.is_file()]:
        flip(seal)
    assert bring(first).code == 20
    waits = packs(far)
    assert len(waits) == 1
    assert prune(run, far).code == 0
    assert packs(far) == waits


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
