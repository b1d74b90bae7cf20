"""Every cell of the damage table: what an audit says, what still comes out, and what heals it."""

from __future__ import annotations

import json

import pytest
from damagekit import (
    ANEW,
    CELLS,
    DAMAGES,
    DOES_NOT_APPLY,
    HARMLESS,
    HEALED,
    IN_PART,
    MODELS,
    SITUATIONS,
    STAYS,
    TABLE,
    TARGETS,
    losses,
    stored,
)

cells = pytest.mark.parametrize(("kind", "damage"), CELLS, ids=map(" ".join, CELLS))
situations = pytest.mark.parametrize("situation", SITUATIONS)
INFO = "archive.json"


def codes(findings, *, remarks=False):
    return sorted(finding["code"] for finding in findings if finding["remark"] == remarks)


def hit_by(result):
    """The repositories whose snapshots are hit, as the last line of an audit has them."""
    (line,) = result.kinds("audit")
    return {title.partition("@")[0] for title in line["hit"]}


def test_every_cell_is_there_or_does_not_apply():
    every = {(kind, damage) for kind in TARGETS for damage in DAMAGES}
    assert set(CELLS) | set(DOES_NOT_APPLY) == every
    assert not set(CELLS) & set(DOES_NOT_APPLY)
    assert len(every) == 56


@cells
def test_an_audit_says_exactly_this(scene, run, kind, damage):
    cell, made = TABLE[kind][damage], scene(kind)
    DAMAGES[damage](made)
    result = run("audit", made.root)
    assert codes(result.findings) == sorted(cell.codes.split()), result.out
    assert codes(result.findings, remarks=True) == sorted(cell.remarks.split())
    assert result.code == (20 if cell.codes else 0)
    assert hit_by(result) == set(cell.hit)
    if kind == "pack":
        assert losses(result.findings) == cell.lost
    for finding in result.findings:
        assert finding["remark"] or finding["hint"], finding


@cells
def test_a_restore_gives_what_is_whole_and_no_wrong_byte(scene, restored, kind, damage):
    cell, made = TABLE[kind][damage], scene(kind)
    DAMAGES[damage](made)
    comes_out(cell, made.root, restored)


def comes_out(cell, root, restored):
    """What is lost has no name, also not a temporary one; everything else is there, bit for bit."""
    for repository, files in MODELS.items():
        lost = cell.lost_files(repository)
        code, files_out = restored(root, repository)
        assert code == (cell.restore if lost else 0)
        assert files_out == {name: data for name, data in files.items() if name not in lost}


@situations
@cells
def test_a_repair_heals_what_it_can(
    scene, run, restored, statistics, pristine, kind, damage, situation
):
    cell = TABLE[kind][damage]
    made = scene(kind, parity=situation != "neither")
    before = stored(made.root)
    DAMAGES[damage](made)
    damaged = stored(made.root)
    source = ("--from", pristine) if situation == "copy" else ()
    result = run("repair", made.root, "--no-upstream", *source)
    outcome = cell.outcome[SITUATIONS.index(situation)]
    assert result.code == (0 if outcome in {HEALED, HARMLESS, ANEW} else 21), result.out
    now, after = stored(made.root), run("audit", made.root)
    if outcome == HEALED:
        assert {name: now.get(name) for name in before} == before
        assert all(name.startswith("journal/") for name in now.keys() - before.keys())
        assert not after.findings, after.out
        comes_out(cell._replace(lost=frozenset()), made.root, restored)
        same_index_and_info(made, pristine, statistics)
        return
    if outcome == ANEW:
        assert not after.findings, after.out
        comes_out(cell, made.root, restored)
        same_index_and_info(made, pristine, statistics)
        return
    changed = {name for name in damaged if now.get(name) != damaged[name]}
    if outcome == HARMLESS:
        assert not changed
        assert codes(after.findings, remarks=True) == sorted(cell.remarks.split())
        same_index_and_info(made, pristine, statistics)
    elif outcome == STAYS:
        assert not changed
        assert codes(result.findings) == codes(after.findings) == sorted(cell.codes.split())
        assert hit_by(after) == set(cell.hit)
    else:
        assert outcome == IN_PART
        assert all(name.startswith("snapshots/") for name in changed)
        assert codes(result.findings) == codes(after.findings) == sorted(cell.codes.split())
        assert hit_by(after) < set(cell.hit)
    comes_out(cell, made.root, restored)


def same_index_and_info(made, pristine, statistics):
    """What is not named by its digest says the same."""
    was, is_ = (json.loads((root / INFO).read_bytes()) for root in (pristine, made.root))
    assert {key: is_[key] for key in ("kind", "format", "archive", "features")} == {
        key: was[key] for key in ("kind", "format", "archive", "features")
    }
    if made.kind == "catalogue":
        assert statistics(made.root) == statistics(pristine)
