"""What a night costs on which nothing is new: two requests a repository, and no look at what it holds."""

from __future__ import annotations

import time
from collections import Counter
from datetime import timedelta

import pytest
from kit.cli import invoke
from kit.journal import lengthen
from kit.opened import opened_by
from kit.repository import noise

from archiver.archive.layout import JOURNAL_SUMMARY

NIGHT = 'audit = {{ share = "100%", level = "content" }}\nparity = true\ncopies = ["{}"]'
MANY = 150
"""Events: more than are read from their own files before they are summed up."""
SEALS_READ = 8
"""Times that a seal is read: by watch, sync, each chore, and the look at it all in the end."""


@pytest.fixture
def idle(hub, plan, tmp_path, run):
    """Makes an archive of so many repositories, and a copy; says what an idle night opens in each."""

    def call(count):
        names = [f"org/m{number}" for number in range(count)]
        for number, name in enumerate(names):
            files = {"config.json": b"{}", "weights.bin": noise(number, 3_000)}
            hub.create(name, files, card={"license": "mit"})
        root, copy = tmp_path / f"weights{count}", tmp_path / f"copy{count}"
        assert invoke("init", "-q", "-C", root) == 0
        night = ("night", "-q", "--min-free", "0B", plan(*names, night=NIGHT.format(copy)))
        assert invoke(*night, "-C", root) == 0
        assert invoke("copy", "-q", "-C", root, "--new", copy) == 0
        assert invoke(*night, "-C", root) == 0
        result = run(*night, "--json", "-C", root)
        steps = {step["step"]: step for step in result.kinds("step")}
        assert {step["outcome"] for step in steps.values()} == {"idle"}, steps
        assert steps["watch"]["counts"]["requests"] == 2 * count
        return opened_by(root, *night), opened_by(root, *night, inside=copy)

    return call


@pytest.mark.parametrize("count", [2, 5])
def test_an_idle_night_reads_no_manifest_and_no_pack(idle, count):
    for opened in idle(count):
        assert not {"manifests", "packs", "parity", "signatures"} & set(opened), opened
        assert opened["snapshots"] <= SEALS_READ * count, opened


# ---- the length of the journal


SETTLED = 4
"""Seconds after which a file that was written is old enough for a summary to tell of it."""


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


def test_an_idle_night_opens_no_more_files_for_a_longer_journal(
    of_many_nights, hub, run, clock, readings
):
    """As many as ever, of the archive and of its copy, whatever the years have left in their journals."""
    hub.create("org/m", {"weights.bin": noise(1, 3_000)}, card={"license": "mit"})
    opened = {}
    for count in (MANY, 4 * MANY):
        root, copy, night = of_many_nights(count)
        time.sleep(SETTLED)
        # What earlier runs summed up hangs on how fast they were: the first night does it anew.
        for place in (root, copy):
            (place / JOURNAL_SUMMARY).unlink(missing_ok=True)
        for _ in range(2):
            clock.forward(days=1)
            readings.clear()
            assert run(*night, "-C", root).code == 0
        events = len(list((root / "journal").rglob("*.json")))
        assert min(events, len(list((copy / "journal").rglob("*.json")))) >= count
        opened[count] = Counter(name.partition("/")[0] for name in readings.elements())
    assert opened[MANY] == opened[4 * MANY]
    assert opened[MANY]["journal"] <= 40, opened
    readings.clear()
    assert run("status", "-q", "-C", root).code == 0
    assert sum(name.startswith("journal/") for name in readings.elements()) <= 20
