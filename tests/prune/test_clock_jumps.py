"""Clocks that go wrong: nothing goes before its grace, and an archive that lay idle can still be pruned."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from kit.journal import raw_event
from prunekit import CONTENTS, all_restore, filled

from archiver.archive import layout
from archiver.archive.events import TOOL
from archiver.archive.records import canonical, record_digest

START = datetime(2031, 3, 1, 12, tzinfo=UTC)


class Clock:
    """The machine's clock, which stands where it is set."""

    def __init__(self) -> None:
        self.now = START

    def set(self, *, year: int = 0, days: float = 0) -> None:
        """So many days after the start, or in a year that is wrong."""
        self.now = (START.replace(year=year) if year else START) + timedelta(days=days)


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr("archiver.text.wall_clock", lambda: made.now)
    return made


@pytest.fixture
def archive(clock, root):
    return filled(root)


@pytest.fixture
def run(run, clock):
    """Run a command, a second later than the last; the exit code and the records."""

    def call(name, *arguments):
        clock.now += timedelta(seconds=1)
        return run(name, *arguments)

    return call


@pytest.fixture
def prune(run):
    """Prune with the default grace; the counts of files that moved or went."""

    def call(*arguments, code=0):
        found, records = run("prune", *arguments)
        assert found == code, records
        if code:
            return records[-1]
        report = records[-1]
        return {
            step: report[step]["files"] for step in ("deleted", "swept") if report[step]["files"]
        }

    return call


def events(archive, name):
    return [event for _, event in archive.events() if event.event == name]


@pytest.mark.parametrize("year", [1970, 2060])
def test_what_was_forgotten_under_a_wrong_clock_can_be_taken_back(run, clock, archive, root, year):
    clock.set(year=year)
    assert run("forget", "org/one")[0] == 0
    clock.set(days=1)
    code, records = run("prune")
    assert code == (0 if year == 1970 else 1), records
    assert len(list(archive.store.list("trash"))) == 1
    assert run("forget", "--undo", "org/one")[0] == 0
    assert all_restore(root) == set(CONTENTS)


def test_a_prune_under_a_clock_that_ran_ahead_deletes_nothing(run, prune, clock, archive, root):
    run("forget", "org/one")
    prune()
    clock.set(days=1)
    prune()
    clock.set(year=2060)
    assert prune() == {}
    clock.set(days=2)
    refused = prune(code=1)
    assert "2060-" in refused["message"]
    assert "--trust-clock" in refused["hint"]
    assert prune("--dry-run", code=1)
    assert run("forget", "--undo", "org/one")[0] == 0
    assert all_restore(root) == set(CONTENTS)


def test_what_the_journal_has_of_the_future_is_set_aside_on_a_persons_word(
    run, prune, clock, archive
):
    clock.set(year=2060)
    run("forget", "org/one")
    clock.set(days=2)
    prune(code=1)
    assert prune("--trust-clock") == {}
    (confirmed,) = events(archive, "clock")
    assert confirmed.fields == {"confirmed": True, "since": "2060-03-01T12:00:01Z"}
    for day in range(3, 16):
        clock.set(days=day)
        assert prune() == {}
    clock.set(days=16.5)
    assert prune() == {"deleted": 1, "swept": 2}
    for day in range(17, 31):
        clock.set(days=day)
        assert prune() == {}
    clock.set(days=31)
    assert prune() == {"deleted": 2}
    # Another word is not needed, and changes nothing.
    before = archive.journal.names()
    assert prune("--trust-clock") == {}
    assert archive.journal.names() == before


def test_a_clock_that_cannot_be_right_is_not_confirmed(run, prune, clock, archive):
    clock.set(year=1970)
    assert "1970" in prune("--trust-clock", code=1)["message"]
    assert events(archive, "clock") == []
    assert run("prune", "--trust-clock", "--dry-run")[0] == 2


def test_an_archive_that_lay_idle_is_pruned_a_day_later(run, prune, clock, archive, root):
    run("forget", "org/one")
    prune()
    clock.set(days=40)
    code, records = run("prune")
    assert (code, records[-1]["leapt_from"]) == (0, "2031-03-01T12:00:02Z")
    assert [event.time for event in events(archive, "clock")] == ["2031-04-10T12:00:01Z"]
    clock.set(days=40.9)
    assert prune() == {}
    clock.set(days=41.1)
    assert prune("--dry-run") == {"deleted": 1, "swept": 2}
    assert prune() == {"deleted": 1, "swept": 2}
    clock.set(days=41.5)
    assert prune() == {}
    clock.set(days=80)
    assert prune() == {}
    clock.set(days=82)
    assert prune() == {"deleted": 2}
    assert all_restore(root) == {"org/two"}


def test_what_is_pruned_every_week_goes_after_its_grace(run, prune, clock):
    run("forget", "org/one")
    prune()
    steps = {}
    for day in range(7, 43, 7):
        clock.set(days=day * 1.01)
        steps[day] = prune()
    assert steps == {
        7: {},
        14: {"deleted": 1, "swept": 2},
        21: {},
        28: {"deleted": 2},
        35: {},
        42: {},
    }


def test_an_audit_that_ran_ahead_makes_nothing_due(run, prune, clock, archive):
    run("forget", "org/one")
    prune()
    clock.set(year=2060)
    assert run("audit")[0] == 0
    assert prune() == {}
    clock.set(days=1)
    assert prune(code=1)
    code, records = run("status")
    assert code == 24
    (short,) = (
        record for record in records if record["kind"] == "shortfall" and record["what"] == "clock"
    )
    assert "2060-" in short["message"]
    coverage = next(record for record in records if record["kind"] == "status")["coverage"]
    assert {level["packs"] for level in coverage} == {0}
    prune("--trust-clock")
    code, records = run("status")
    assert not [record for record in records if record.get("what") == "clock"]
    # Also once that day has come: the proof is none.
    clock.set(year=2060, days=3)
    coverage = next(record for record in run("status")[1] if record["kind"] == "status")["coverage"]
    assert {level["oldest"] for level in coverage} <= {"", "2031-03-01T12:00:02Z"}


def test_a_little_ahead_is_no_matter(run, prune, clock):
    clock.set(days=0.9)
    run("forget", "org/one")
    clock.set()
    assert prune() == {}


def test_without_a_grace_clocks_do_not_matter(run, clock, archive):
    clock.set(year=2060)
    run("forget", "org/one")
    clock.set()
    for _ in range(3):
        assert run("prune", "--grace", "0d")[0] == 0
    assert list(archive.store.list("trash")) == []


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59Z", "tomorrow"])
def test_a_time_that_nobody_can_have_seen(run, prune, archive, time):
    event = raw_event("condemned", time, TOOL, detail={"files": [], "place": "x"})
    name = layout.event_name("2031-03-01T12:00:00Z", record_digest(event))
    archive.store.put_new(name, canonical(event))
    assert time in prune(code=1)["message"]
    assert prune("--trust-clock") == {}


def test_in_a_process_of_its_own(root):
    """The same through the real program, under a clock that is forty years ahead."""
    ahead = (
        "import archiver.text as text, datetime as d; now = text.wall_clock;"
        "text.wall_clock = lambda: now() + d.timedelta(days=365 * 40);"
        "from archiver.__main__ import main; main()"
    )

    def archiver(code, *arguments):
        words = [sys.executable, "-c", code, *arguments, "-C", str(root)]
        return subprocess.run(words, check=False, capture_output=True, text=True).returncode

    filled(root)
    right = "from archiver.__main__ import main; main()"
    assert archiver(right, "forget", "org/one") == 0
    assert archiver(ahead, "prune") == 0
    assert archiver(right, "prune") == 1
    assert archiver(right, "forget", "--undo", "org/one") == 0
    assert all_restore(root) == set(CONTENTS)


def test_what_follows_up_a_time_that_was_set_aside_is_no_new_trouble(run, prune, clock, archive):
    """A sighting comes after the one before it, whatever the clock says."""
    clock.set(year=2060)
    archive.record(raw_event("sighted", "2060-03-01T12:00:00Z", TOOL, "org/one", "ab" * 20))
    clock.set(days=1)
    prune(code=1)
    assert prune("--trust-clock") == {}
    archive.record(raw_event("sighted", "2060-03-01T12:00:01Z", TOOL, "org/one", "cd" * 20))
    assert prune() == {}
    run("forget", "org/one")
    clock.set(days=16)
    prune()
    clock.set(days=17.1)
    assert prune()["deleted"] == 1
    # A clock that goes wrong once more is a new matter.
    archive.record(raw_event("sighted", "2070-03-01T12:00:01Z", TOOL, "org/one", "ab" * 20))
    prune(code=1)
