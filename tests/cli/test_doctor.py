"""What the doctor looks at, and what each check says where something is wrong."""

from __future__ import annotations

import pytest
from kit.cli import Result, invoke
from kit.disks import memory_disk, skip_unless_mountable

from archiver.operations import doctor as operation
from archiver.storage import trial


@pytest.fixture
def checks(capsys, archive, hub, monkeypatch):
    """The checks by their subjects, and the exit code."""
    monkeypatch.setattr(operation, "installed", lambda _: [])

    def look(*words, place=archive) -> tuple[dict[str, dict], int]:
        capsys.readouterr()
        code = invoke("doctor", "--json", "-C", place, *words)
        done = Result(code, *capsys.readouterr())
        rows = done.kinds("check")
        assert sum(done.only("doctor")[outcome] for outcome in OUTCOMES) == len(rows)
        assert all(row["remedy"] for row in rows if row["outcome"] == "failed")
        return {row["subject"]: row for row in rows}, done.code

    return look


OUTCOMES = ("ok", "note", "failed", "unknown")


def test_where_all_is_well_it_ends_with_0_and_leaves_nothing(checks, archive):
    before = sorted(archive.rglob("*"))
    found, code = checks()
    assert code == 0, found
    assert found["hub-clock"]["problem"] == "no-date"  # this hub tells none
    for subject in ("clock", "room", "access", "filesystem", "hub", "versions"):
        assert found[subject]["outcome"] == "ok", found[subject]
    assert found["timer"]["problem"] == "no-timer"
    assert sorted(archive.rglob("*")) == before


def test_a_hub_that_is_not_there(checks, hub, monkeypatch):
    hub.stop()
    found, code = checks()
    assert (found["hub"]["problem"], code) == ("hub-unreachable", 24)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found, code = checks()
    assert (found["hub"]["problem"], code) == ("hub-not-asked", 4)


def test_the_hubs_of_a_plan_are_those_of_its_entries_too(checks, hub, tmp_path):
    plan = tmp_path / "plan.toml"
    plan.write_text('[plan]\nname = "p"\n[[repository]]\nauthor = "org"\n')
    found, code = checks("--plan", plan)
    assert (found["hub"]["outcome"], code) == ("ok", 0)
    hub.stop()
    found, code = checks("--plan", plan)
    assert (found["hub"]["problem"], code) == ("hub-unreachable", 24)


@pytest.mark.parametrize(
    ("status", "problem"), [(200, ""), (401, "token-refused"), (404, "token-not-judged")]
)
def test_a_token_is_judged_by_the_hub(checks, status, problem, monkeypatch):
    from archiver.upstream.http import Session

    monkeypatch.setattr(Session, "status_of", lambda *_: (status, {"date": "x"}))
    found, code = checks("--token", "hf_x")
    assert found["token"]["problem"] == problem
    assert found["hub-clock"]["problem"] == "no-date"
    assert code == (24 if problem == "token-refused" else 0)


def test_a_clock_that_differs_or_is_behind_the_journal(checks, monkeypatch):
    from archiver.upstream.http import Session

    past = {"date": "Sun, 01 Nov 2026 00:00:00 GMT"}
    monkeypatch.setattr(Session, "status_of", lambda *_: (200, past))
    monkeypatch.setattr(operation, "ahead_of_clock", lambda _: "2031-01-01T00:00:00Z")
    found, code = checks()
    assert found["hub-clock"]["problem"] == "clock-differs"
    assert found["clock"]["problem"] == "clock-behind-journal"
    assert code == 24


def test_little_room_and_few_inodes(checks, archive, tmp_path, cli):
    skip_unless_mountable()
    with memory_disk(tmp_path / "disk", 16 << 20) as disk:
        place = disk / "archive"
        assert cli("init", "-C", place).code == 0
        found, code = checks(place=place)
        assert (found["room"]["problem"], code) == ("little-room", 24)
        assert "are free" in found["room"]["message"]
        assert found["inodes"]["problem"] in {"", "few-inodes"}


def test_rights(checks, archive):
    archive.chmod(0o777)
    found, code = checks()
    assert (found["access"]["problem"], code) == ("others-may-write", 24)


@pytest.mark.parametrize(
    ("lacking", "problem"),
    [("file_sync", "no-file-sync"), ("renames", "no-rename"), ("cases", "disk-lacks")],
)
def test_what_a_disk_lacks(checks, lacking, problem, monkeypatch):
    whole = trial.Trial(*[True] * 8)
    monkeypatch.setattr(operation, "try_out", lambda _: whole._replace(**{lacking: False}))
    found, _ = checks()
    assert found["filesystem"]["problem"] == problem


def test_no_problem_is_without_words():
    from typing import get_args

    from archiver.cli import doctor as words

    assert {*words._PROBLEMS, "", "disk-lacks"} == set(get_args(operation.Problem))
    assert set(words._ALL_WELL) == set(get_args(operation.Subject))
    named = {name.replace("_", "-") for name in trial.Trial._fields}
    assert set(words._LACKING) == named - {"file-sync", "renames"}
