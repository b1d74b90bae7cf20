"""What an idle night and a status have to do does not grow with the years that a journal has lasted.

Counted are calls of functions and files opened, which no load of the machine changes, and not seconds.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from datetime import timedelta
from typing import NamedTuple

import pytest
from kit.journal import lengthen
from kit.repository import noise

from archiver.archive.layout import JOURNAL_SUMMARY, STANDING_EVENTS
from archiver.storage import local

NIGHT = 'audit = {{ share = "100%", level = "content" }}\nparity = true\ncopies = ["{}"]'
SETTLED = 4
"""Seconds after which a file that was written is old enough for a summary to tell of it."""
SHORT, LONG = 500, 1000
"""Events: the one is longer than what is always read, the other has as many again."""


@pytest.fixture
def of_many_nights(hub, plan, tmp_path, run, clock):
    """Makes an archive, and a copy, with so many events of earlier nights; returns a night's words too."""

    def call(count):
        begin, clock.now = clock.now, clock.now - timedelta(hours=4 * count)
        root, copy = tmp_path / f"weights{count}", tmp_path / f"copy{count}"
        night = ("night", "-q", "--min-free", "0B", plan("org/m", night=NIGHT.format(copy)))
        assert run("init", "-q", "-C", root).code == 0
        assert run(*night, "-C", root).code == 0
        assert run("copy", "-q", "-C", root, "--new", copy, "--min-free", "0B").code == 0
        assert run(*night, "-C", root).code == 0
        lengthen(root, count)
        clock.now = begin
        assert run("copy", "-q", "-C", root, copy, "--min-free", "0B").code == 0
        assert run(*night, "-C", root).code == 0
        return root, copy, night

    return call


def calls_of(run, *words):
    """How often functions of this package were called, or gone on with, by their files."""
    calls = Counter()

    def note(frame, event, _):
        if event == "call" and "/archiver/" in frame.f_code.co_filename:
            calls[frame.f_code.co_filename.rpartition("/archiver/")[2]] += 1

    sys.setprofile(note)
    try:
        result = run(*words)
    finally:
        sys.setprofile(None)
    assert result.code == 0, result
    return calls


class Costs(NamedTuple):
    """Of a command: calls by files of this package, and files opened by the folder of the archive."""

    calls: Counter[str]
    opened: Counter[str]


@pytest.fixture
def costs(of_many_nights, hub, run, clock, readings, monkeypatch):
    """Command -> its costs at each length of the journal."""

    def cost(*words):
        readings.clear()
        calls = calls_of(run, *words)
        return Costs(calls, Counter(name.partition("/")[0] for name in readings.elements()))

    # Folders of the months before were last changed long ago; here all of them were a moment ago.
    monkeypatch.setattr(local, "_SETTLED", 2_000_000_000)
    hub.create("org/m", {"weights.bin": noise(1, 3_000)}, card={"license": "mit"})
    costs = {"night": {}, "status": {}}
    for count in (SHORT, LONG):
        root, copy, night = of_many_nights(count)
        time.sleep(SETTLED)
        # What earlier runs summed up hangs on how fast they were: the first night does it anew.
        for place in (root, copy):
            assert len(list((place / "journal").rglob("*.json"))) >= count
            for name in (JOURNAL_SUMMARY, STANDING_EVENTS):
                (place / name).unlink(missing_ok=True)
        for _ in range(2):
            clock.forward(days=1)
            costs["night"][count] = cost(*night, "-C", root)
        costs["status"][count] = cost("status", "-q", "-C", root)
    return costs


def test_an_idle_night_and_a_status_have_no_more_to_do_for_a_longer_journal(costs):
    """Of the archive and of its copy, whatever the years have left in their journals."""
    for command, of in costs.items():
        grown = of[LONG].calls - of[SHORT].calls
        # What is left are some folders more, of months, that are looked at.
        assert grown.total() < of[SHORT].calls.total() / 20, (command, of[SHORT].calls, grown)
        opened = [dict(of[count].opened) for count in (SHORT, LONG)]
        # Of events those that came since the summary was written.
        assert max(each.pop("journal") for each in opened) <= 40, command
        assert opened[0] == opened[1], command
