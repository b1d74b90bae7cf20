"""Audits with limits: oldest first, what is left is said, nothing is forgotten when a run is cut short."""

from __future__ import annotations

import signal

import pytest
from kit.faults import flip
from kit.journal import raw_event

from archiver.archive.archive import Archive
from archiver.archive.check import proofs
from archiver.archive.check.schedule import Budget, Limits
from archiver.archive.events import TOOL
from archiver.operations.audit import run


def proven(weights, level="content"):
    """The packs of each audit, oldest first, as the journal tells."""
    events = Archive.open(weights.root).events()
    found = [event.fields for _, event in events if event.event == "audited"]
    return [set(one["packs"]) for one in found if one["level"] == level]


def packs(weights):
    return {path.stem for path in weights.documents("packs")}


def summary(result):
    (one,) = result.kinds("audit")
    return one["proven"], one["remaining"], one["complete"]


def test_small_runs_come_round_to_everything(audit, weights):
    first = audit("--max-bytes", "1B")
    assert (first.code, summary(first)) == (0, (1, 1, False))
    assert first.kinds("audit")[0]["intact"] is False
    assert summary(audit("--max-bytes", "1B", "--max-age", "1d")) == (1, 0, True)
    one, two = proven(weights)
    assert len(one) == len(two) == 1
    assert one | two == packs(weights)


def test_what_was_proven_longest_ago_comes_first(audit, weights):
    archive = Archive.open(weights.root)
    old, new = sorted(packs(weights))
    for time, pack in (("2020-01-01T00:00:00Z", new), ("2021-01-01T00:00:00Z", old)):
        detail = {"level": "files", "packs": [pack], "snapshots": []}
        archive.record(raw_event("audited", time, TOOL, detail=detail))
    audit("--max-bytes", "1B")
    assert proven(weights) == [{new}]


def test_what_was_never_proven_comes_before_all_else(audit, weights):
    archive = Archive.open(weights.root)
    known, never = sorted(packs(weights))
    detail = {"level": "content", "packs": [known], "snapshots": []}
    archive.record(raw_event("audited", "2020-01-01T00:00:00Z", TOOL, detail=detail))
    audit("--max-bytes", "1B")
    assert proven(weights)[-1] == {never}


def test_what_the_limits_leave_out_is_looked_at_by_structure(audit, weights):
    assert summary(audit("--max-bytes", "1B")) == (1, 1, False)
    (read,) = proven(weights)[0]
    next(one for one in weights.documents("packs") if one.stem == read).unlink()
    worse = audit("--max-bytes", "1B")
    assert proven(weights)[-1] == packs(weights) - {read}
    assert (worse.code, worse.codes) == (20, {"pack-missing", "object-missing"})


def test_recent_proofs_need_no_reading_and_deeper_ones_count(audit, weights):
    assert audit("--level", "content").code == 0
    for level in ("stored", "content"):
        again = audit("--level", level, "--max-age", "30d")
        assert summary(again) == (0, 0, True)
        assert again.kinds("audit")[0]["bytes"] == 0
    assert summary(audit("--level", "files", "--max-age", "30d")) == (2, 0, True)


def test_a_sample_is_a_part_and_is_not_called_complete(audit):
    assert summary(audit("--sample", "50%")) == (1, 1, False)
    assert summary(audit("--sample", "0.1%")) == (1, 1, False)
    assert summary(audit("--sample", "100%")) == (2, 0, True)


def test_files_go_snapshot_by_snapshot(audit, weights):
    result = audit("--level", "files", "--sample", "50%")
    assert summary(result) == (1, 1, False)
    assert result.kinds("audit")[0]["files"] == 1
    rest = audit("--level", "files", "--max-age", "1d")
    assert summary(rest) == (1, 0, True)
    one, two = proven(weights, "files")
    assert one | two == packs(weights)


def test_damage_is_found_within_limits_and_is_no_proof(audit, weights):
    pack = weights.documents("packs")[0]
    flip(pack)
    result = audit("--max-age", "30d")
    assert (result.code, summary(result)) == (20, (1, 0, True))
    assert proven(weights) == [packs(weights) - {pack.stem}]
    # It is looked at again and again, for nothing proved it.
    assert audit("--max-age", "30d").code == 20


def test_a_run_that_was_cut_short_is_gone_on_with(audit, run, weights, monkeypatch):
    from archiver.cli.progress import Meter

    with monkeypatch.context() as patch:
        patch.setattr(Meter, "end", lambda self, path: signal.raise_signal(signal.SIGINT))
        assert run("audit", "-C", weights.root).code == 130
    assert summary(audit("--max-age", "1d")) == (1, 0, True)
    one, two = proven(weights)
    assert one | two == packs(weights)
    assert not one & two


def test_a_clock_that_ran_ahead_proves_nothing(audit, weights):
    detail = {"level": "files", "packs": sorted(packs(weights)), "snapshots": []}
    Archive.open(weights.root).record(
        raw_event("audited", "2999-01-01T00:00:00Z", TOOL, detail=detail)
    )
    assert summary(audit("--max-age", "30d")) == (2, 0, True)


@pytest.mark.parametrize(
    "detail",
    [
        {"level": "deep", "packs": ["x"]},
        {"level": ["content"], "packs": "abc"},
        {"level": "content", "packs": {"a": 1}, "snapshots": [1, None, ["x"]]},
        {},
    ],
)
def test_events_that_say_something_odd_prove_nothing(audit, weights, detail):
    Archive.open(weights.root).record(
        raw_event("audited", "2020-01-01T00:00:00Z", TOOL, detail=detail)
    )
    assert summary(audit("--max-age", "30d")) == (2, 0, True)


def test_what_is_too_much_for_one_event_goes_on_in_another(audit, weights, monkeypatch):
    for module in (proofs, run):
        monkeypatch.setattr(module, "LISTED_MAX", 1)
    assert audit("--level", "files").code == 0
    found = proven(weights, "content") + proven(weights, "files")
    assert all(len(one) <= 1 for one in found)
    assert set().union(*proven(weights, "content")) == packs(weights)
    monkeypatch.undo()
    assert summary(audit("--level", "files", "--max-age", "1d")) == (0, 0, True)


@pytest.mark.parametrize(
    "words",
    [
        ("--level", "structure", "--max-age", "1d"),
        ("--max-age", "30"),
        ("--max-duration", "soon"),
        ("--max-bytes", "0"),
        ("--max-duration", "0s"),
        ("--max-duration", "0.5s"),
        ("--sample", "0%"),
        ("--sample", "101%"),
        ("--sample", "5"),
        ("--max-age", "99999999d"),
    ],
)
def test_limits_that_mean_nothing_are_usage_errors(audit, words):
    assert audit(*words).code == 2


def test_text_says_what_is_left(run, weights):
    result = run("audit", "-C", weights.root, "--max-bytes", "1B")
    assert result.out.startswith("All is well so far: 2 snapshots")
    assert "1 pack proven at level content; 1 pack left for the next run" in result.out


def test_what_was_proven_lately_is_not_called_read(audit, run, weights):
    assert audit("--max-bytes", "1B").kinds("audit")[0]["recent"] == 0
    rest = audit("--max-age", "30d").kinds("audit")[0]
    assert (rest["proven"], rest["recent"], rest["complete"], rest["intact"]) == (1, 1, True, True)
    done = run("audit", "-C", weights.root, "--max-age", "30d")
    assert done.code == 0
    assert done.out.startswith("Nothing was due, and nothing wrong is known: 2 snapshots")
    assert "2 packs were proven at level content within --max-age, and not read now" in done.out
    weights.documents("packs")[0].unlink()
    lost = audit("--max-age", "30d")
    assert (lost.code, lost.kinds("audit")[0]["recent"]) == (20, 1)
    assert lost.kinds("audit")[0]["intact"] is False


def test_files_of_a_damaged_pack_are_made_again_however_recent_their_proof(audit, weights):
    assert audit("--level", "files").code == 0
    flip(weights.documents("packs")[0])
    assert audit("--level", "files", "--max-age", "30d").code == 0  # nothing is due
    assert audit().code == 20
    assert audit("--level", "files", "--max-age", "30d").code == 20


def test_limits_go_with_one_snapshot(audit, weights):
    result = audit("--snapshot", "org/one", "--max-age", "1d")
    assert summary(result) == (1, 0, True)
    assert summary(audit("--max-age", "1d")) == (1, 0, True)


def test_a_budget_lets_the_first_thing_through_whatever_its_size():
    budget = Budget(Limits(size=10))
    assert [budget.allows(size) for size in (100, 1)] == [True, False]
    other = Budget(Limits(size=10))
    assert [other.allows(size) for size in (4, 6, 1)] == [True, True, False]
    assert not Budget(Limits(seconds=0)).allows(0)


def test_packs_that_were_read_without_their_files_are_not_all(audit, weights):
    one = weights.documents("snapshots")[0].name.split(".")[1]
    detail = {"level": "files", "packs": [], "snapshots": [one]}
    Archive.open(weights.root).record(
        raw_event("audited", "2020-01-01T00:00:00Z", TOOL, detail=detail)
    )
    # org/two comes first; what is left then is enough for the smaller pack, not for its files.
    size = sum(path.stat().st_size for path in weights.documents("packs")) + 2000
    result = audit("--level", "files", "--max-bytes", f"{size}B")
    assert summary(result) == (2, 0, False)
    assert result.kinds("audit")[0]["files"] == 0
