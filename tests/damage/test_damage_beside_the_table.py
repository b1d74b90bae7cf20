"""What the table's cells leave open: less damage, whole files of another archive, and mending by hand."""

from __future__ import annotations

import pytest
from damagekit import BLOCK, MODELS, ONE, OTHER, TARGETS, TWO, add, pack, stored, swap
from kit.faults import overwrite

FOREIGN = {
    "pack": ("", "foreign-document unsealed-pack"),
    "parity": ("", "unneeded-parity"),
    "manifest": ("", "unsealed-manifest"),
    "seal": ("manifest-missing pack-missing", "foreign-document"),
    "event": ("seal-missing", ""),
}
"""A whole file of another archive: findings of damage, and remarks."""


def codes(findings, *, remarks=False):
    return sorted(finding["code"] for finding in findings if finding["remark"] == remarks)


def all_comes_out(root, restored):
    for repository, files in MODELS.items():
        assert restored(root, repository) == (0, files)


def by_hand(root, path):
    """What the documentation says: move it into the archive's folder quarantine."""
    (root / "quarantine").mkdir(exist_ok=True)
    path.rename(root / "quarantine" / path.name)


def added(made):
    """The file of garbage in the archive."""
    before = stored(made.root)
    add(made)
    (name,) = stored(made.root).keys() - before.keys()
    return made.root / name


def test_a_pack_that_is_cut_by_less_than_its_parity_bears(scene, run, restored):
    made = scene("pack")
    before = stored(made.root)
    overwrite(made.target, made.target.read_bytes()[: -BLOCK - 1])
    assert codes(run("audit", made.root).findings)[-1] == "pack-size"
    result = run("repair", made.root, "--no-upstream")
    assert result.code == 0, result.out
    now = stored(made.root)
    assert {name: now[name] for name in before} == before
    all_comes_out(made.root, restored)


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_whole_file_of_another_archive(scene, run, restored, kind):
    made = scene(kind)
    path = TARGETS[kind](made.other, OTHER)
    overwrite(made.root / path.relative_to(made.other), path.read_bytes())
    damage, remarks = FOREIGN[kind]
    result = run("audit", made.root)
    assert codes(result.findings) == damage.split(), result.out
    assert codes(result.findings, remarks=True) == remarks.split()
    assert {finding.get("snapshot", OTHER).partition("@")[0] for finding in result.findings} == {
        OTHER
    }
    all_comes_out(made.root, restored)
    result = run("repair", made.root, "--no-upstream", "--from", made.other)
    assert result.code == 0, result.out
    all_comes_out(made.root, restored)


def test_an_extra_seal_is_moved_away_by_hand(scene, run, restored):
    made = scene("seal")
    extra = added(made)
    assert run("repair", made.root, "--no-upstream").code == 21
    assert extra.exists()
    by_hand(made.root, extra)
    assert not run("audit", made.root).findings
    all_comes_out(made.root, restored)


def test_an_extra_event_is_moved_away_by_hand(scene, run):
    """Once another event was written after it, that it is gone is told: nobody can know what it was."""
    made = scene("event")
    extra = added(made)
    content = extra.read_bytes()
    by_hand(made.root, extra)
    assert not run("audit", made.root).findings
    overwrite(extra, content)
    assert codes(run("audit", made.root).findings) == ["event-damaged"]
    by_hand(made.root, extra)
    assert codes(run("audit", made.root).findings) == ["event-missing"]


@pytest.mark.parametrize("kind", ["pack", "manifest", "seal", "event"])
def test_a_dry_run_foresees_what_was_swapped(scene, run, kind):
    made = scene(kind, parity=False)
    swap(made)
    before = stored(made.root)
    result = run("repair", made.root, "--no-upstream", "--dry-run")
    assert result.code == 20, result.out
    assert {file["source"] for file in result.kinds("mended")} == {"this archive"}
    assert stored(made.root) == before


@pytest.mark.parametrize("kind", ["pack", "manifest", "seal", "event"])
def test_a_repair_that_died_between_two_that_were_swapped(scene, run, restored, kind):
    """The one is in its place again; what it displaced, which is the other, is in quarantine."""
    made = scene(kind, parity=False)
    path, second = made.target, TARGETS[kind](made.root, TWO)
    first = path.read_bytes()
    swap(made)
    quarantined = made.root / "quarantine" / "20260101t000000z" / path.relative_to(made.root)
    quarantined.parent.mkdir(parents=True)
    path.rename(quarantined)
    overwrite(path, first)
    result = run("repair", made.root, "--no-upstream")
    assert result.code == 0, result.out
    assert not run("audit", made.root).findings
    assert kind == "pack" or second.read_bytes() == quarantined.read_bytes()
    all_comes_out(made.root, restored)


def test_a_sidecar_that_something_needs_is_never_set_aside(scene, run):
    """The pack is gone: its damaged sidecar stays, for it may help still."""
    made = scene("parity")
    overwrite(made.target, made.target.read_bytes()[:-10])
    content = made.target.read_bytes()
    pack(made.root, ONE).unlink()
    assert run("repair", made.root, "--no-upstream").code == 21
    assert made.target.read_bytes() == content


def test_garbage_for_parity_is_told_what_sets_it_aside(scene, run):
    made = scene("parity")
    extra = added(made)
    result = run("audit", made.root)
    hints = [finding["hint"] for finding in result.findings if finding["code"] == "parity-damaged"]
    assert len(hints) == 1
    assert "archiver repair" in hints[0]
    assert run("repair", made.root, "--no-upstream").code == 0
    (moved,) = (made.root / "quarantine").rglob(extra.name)
    assert moved.is_file()
