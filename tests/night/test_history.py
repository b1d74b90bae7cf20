"""A month of nights, and a year of them, under a clock of their own: everything that was shown is there."""

from __future__ import annotations

import fnmatch
import json
import sys
import threading
import tracemalloc
from collections import Counter
from datetime import timedelta
from typing import NamedTuple

import pytest
from kit.repository import files_below
from worldkit import FOLLOWED, MONTH, PLANNED, TWIN, Told, World

from archiver.archive.journal_summary import UNWRITTEN_MAX

IDLE = (27, 28, 29)
"""Days of each month on which nothing happens. What is due to be proven still is."""
MEASURED = 28
_UPSTREAM = ("upstream", "gone", "back")
"""The kinds of change by which a report tells what upstream did."""
_SEALED = ("new", "revision")


class Cost(NamedTuple):
    """What an idle night took, told by no clock: functions that were called, bytes at its peak."""

    calls: int = 0
    peak: int = 0


class Night(NamedTuple):
    """One night: what it ended with, what was new, what it cost.

    ``left`` is how many entries it had no time for, or no hub; ``journal`` how many events there were,
    and ``copied`` how many in the copy, which has some of its own; ``snapshots`` how many seals.
    """

    day: int
    code: int
    left: int
    new: tuple[tuple[str, str], ...]
    requests: int
    events: int
    journal: int
    copied: int
    snapshots: int
    reads: Counter[str]
    cost: Cost


def measured(call):
    """Return what a call returns, and its cost."""
    calls = 0

    def note(_frame, event, _argument):
        nonlocal calls
        calls += event == "call"

    tracemalloc.start()
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        result = call()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return result, Cost(calls, peak)


@pytest.fixture
def live(run, hub, modelscope, archive, night, clock, plan, readings, tmp_path):
    """Lives through days; returns the world, its nights, and what their reports told."""

    def asked():
        return len(hub.requests) + len(modelscope.requests)

    def call(days: int, seed: int = 12) -> tuple[World, list[Night], Counter[str]]:
        disk, root = tmp_path / "disk", archive.root
        settings = ("--parity", "2", "--audit-age", "10d", "--copy-age", "30d", "--copies", "1")
        assert run("policy", "set", "-q", "-C", root, *settings).code == 0
        assert run("copy", "-q", "-C", root, "--new", disk / "copy", "--min-free", "0B").code == 0
        world = World(hub, modelscope, root, disk, lambda hours: clock.forward(hours=hours), seed)
        world.script(days)
        entries = [
            f'[[repository]]\nname = "{name}"\nrevisions = {json.dumps(names)}\n'
            for name, names in FOLLOWED.items()
        ]
        entries.append(
            f'[[repository]]\nname = "{TWIN}"\nsources = ["huggingface", "modelscope"]\n'
        )
        path = plan(
            *(name for name in PLANNED if name not in {*FOLLOWED, TWIN}),
            head='window = "01:00-06:00"\ntimezone = "UTC"',
            entries="".join(entries),
            night=f'parity = true\ncopies = ["{disk / "copy"}"]\nreport = true\n'
            'audit = { share = "100%", level = "content" }\nprometheus = "archiver.prom"',
        )
        nights, told, begin = [], Counter(), clock.now
        for day in range(days):
            clock.now = begin + timedelta(days=day)
            world.play(day)
            requests, snapshots = asked(), len(archive.documents("snapshots"))
            events = len(archive.documents("journal"))
            copied = len(list((disk / "copy" / "journal").rglob("*.json")))
            readings.clear()
            if day % MONTH == MEASURED:
                result, cost = measured(lambda: night(path))
            else:
                result, cost = night(path), Cost()
            summary = result.only("night")
            nights.append(
                Night(
                    day,
                    result.code,
                    next(
                        step["counts"]["not_tried"]
                        for step in result.kinds("step")
                        if step["step"] == "sync"
                    ),
                    tuple((fact["fact"], fact["subject"]) for fact in summary["new"]),
                    asked() - requests,
                    len(archive.documents("journal")) - events,
                    events,
                    copied,
                    snapshots,
                    _by_folder(readings),
                    cost,
                )
            )
            told.update(_newly_told(root, f"{begin + timedelta(days=day):%Y-%m-%dT%H:%M:%SZ}"))
            if any(kind == "damaged" for kind, _ in nights[-1].new):
                repaired = run("repair", "-q", "-C", root, "--no-upstream")
                assert repaired.code == 0, repaired.err
                world.mended.append(day)
        return world, nights, told

    return call


def _by_folder(readings):
    counts = Counter()
    for name, count in readings.items():
        counts[name.partition("/")[0]] += count
    return counts


def _newly_told(root, since):
    """Return what a night's report tells of that night, as lines of JSON without their times."""
    changes = json.loads((root / "report.json").read_bytes())["changes"]
    fresh = [change for change in changes if change["time"] >= since]
    assert len(fresh) < 40, "none was crowded out"
    return [json.dumps({**change, "time": ""}, sort_keys=True) for change in fresh]


# ---- what must be so at the end


def wanted(world):
    """Return every commit that was to be seen on a night when its hub answered: commit -> repository, day.

    On a night on a slow line there was no time for all: what was still there on the next one is wanted.
    """
    commits = {}
    for sight in world.seen:
        if not world.is_answered(sight.hub, sight.day) or sight.day in world.slow:
            continue
        for name, refs in sight.refs.items():
            patterns = FOLLOWED.get(name, ("main",)) if name in PLANNED else ()
            for ref, commit in refs.items():
                if any(fnmatch.fnmatchcase(ref, pattern) for pattern in patterns):
                    commits.setdefault(commit, (name, sight.day))
    return commits


def require_restorable(run, root, tmp_path, world, commits):
    for number, (commit, (name, day)) in enumerate(commits.items()):
        out = tmp_path / f"restored-{number}"
        result = run("restore", "-q", "-C", root, f"{name}@{commit}", out)
        assert result.code == 0, (name, commit, day, result.err)
        assert files_below(out) == world.content[commit], (name, commit, day)


def require_told_once(archive, world, told, commits):
    """What upstream did is in the journal once, and in the reports once."""
    expected = _plain(world.expected())
    assert _plain(_journalled(archive)) == expected
    changes = [(json.loads(line), count) for line, count in told.items()]
    reported = Counter()
    for change, count in changes:
        if change["what"] in _UPSTREAM:
            assert change["upstream"], "a run told what the look had told before"
            seen = change["upstream"]
            about = seen["what"], seen.get("name", ""), seen.get("after", "")
            reported[Told(change["repository"], *about)] += count
    assert _plain(reported) == expected
    sealed = Counter()
    for change, count in changes:
        if change["what"] in _SEALED:
            sealed[change["revision"]] += count
    assert set(sealed.values()) == {1}
    assert sealed.keys() >= commits.keys()
    # What the reports told night by night is what the last one counts; what a person did came between.
    report = json.loads((archive.root / "report.json").read_bytes())
    (ever,) = [period for period in report["periods"] if period["days"] == 0]
    kinds = Counter()
    for change, count in changes:
        kinds[change["what"]] += count
    repairs = ever["changes"].pop("repairs")
    assert (ever["changes"], repairs) == (dict(kinds), len(archive.events("repaired")))
    assert kinds["damaged"] >= len(world.flipped)


def _journalled(archive):
    """Return what the journal tells of what upstream did; of a first look nothing is news."""
    return Counter(
        Told(event["repository"], change["what"], change.get("name", ""), change.get("after", ""))
        for event in archive.events("upstream-changed")
        for change in event["detail"]["changes"]
        if not event["detail"].get("first")
    )


def _plain(counts):
    """Leave out when something was called gone, and what follows from the rest, such as another card."""
    kinds = {"branch", "tag", "licence", "gating", "name", "gone", "back"}
    plain = Counter()
    for told, count in counts.items():
        if told.what in kinds:
            after = "" if told.what in {"gone", "back"} else told.after
            plain[told._replace(after=after)] += count
    return plain


def require_rung_once(world, nights):
    """Nothing rings twice for one thing, an outage rings once, and absence ages into one alarm."""
    days = len(nights)
    for hub, outages in world.outages.items():
        rung = [night.day for night in nights if ("upstream", hub) in night.new]
        assert rung == [outage.first for outage in outages if outage.first < days], hub
    assert all(nights[day].left for day in world.slow if day < days)
    assert len(world.mended) == len(world.flipped), "every flipped bit was found and mended"
    old = [night for night in nights if any(kind == "copy-old" for kind, _ in night.new)]
    long = [absence for absence in world.absences if absence.last - absence.first > 30]
    assert [night for night in nights if night.code == 24] == old
    assert len(old) == len([absence for absence in long if absence.last < days])
    assert all(night.day in absence for night, absence in zip(old, long, strict=False))
    aways = [night.day for night in nights if any(kind == "place" for kind, _ in night.new)]
    assert aways == [absence.first for absence in world.absences if absence.first < days]


def require_no_rubbish(run, *roots):
    for root in roots:
        left = {path.relative_to(root / "tmp") for path in (root / "tmp").rglob("*")}
        kept = {"reserve", "journal-summary", "standing-events"}
        assert not {path for path in left if path.parts[0] not in kept and path.suffix != ".lock"}
        audit = run("audit", "-q", "--json", "-C", root, "--level", "files")
        assert (audit.code, audit.remarks) == (0, set()), audit.out


def require_flat(nights):
    """An idle night opens as many files in every month; it takes but a moment for each that there is."""
    idle = [night for night in nights if night.day % MONTH in IDLE]
    assert {(night.code, night.requests) for night in idle} == {(0, idle[0].requests)}
    # More for the name that changed, and for commits that were left behind.
    assert idle[0].requests <= 2 * len(PLANNED) + 3
    for night in idle:
        assert night.events <= 6, "its sync, what was due to be proven, its summary"
        # Only an audit of all documents opens each event; any other night those that are in no summary yet.
        audited = night.journal + night.copied if night.reads["parity"] else 0
        assert night.reads["journal"] <= audited + 2 * (UNWRITTEN_MAX + 60), night
        assert night.reads["snapshots"] <= 6 * night.snapshots, night
        if night.day % MONTH == MEASURED:
            assert night.cost.calls <= 400_000 + 2_500 * night.journal, night
            assert night.cost.peak <= 8_000_000 + 20_000 * night.journal, night


def check(run, archive, tmp_path, world, nights, told):
    days = len(nights)
    commits = wanted(world)
    assert len(commits) >= days // 2
    require_rung_once(world, nights)
    require_told_once(archive, world, told, commits)
    require_flat(nights)
    twins = [record for record in world.modelscope.requests if record.repository == TWIN]
    rescued = [day for day in world.rescued if day < days]
    assert len([record for record in twins if record.route == "cdn"]) == len(rescued)
    require_restorable(run, archive.root, tmp_path, world, commits)
    require_no_rubbish(run, archive.root, tmp_path / "disk" / "copy")


def test_a_month_of_nights(live, run, archive, tmp_path):
    check(run, archive, tmp_path, *live(30))


@pytest.mark.long
def test_a_year_of_nights(live, run, archive, tmp_path):
    check(run, archive, tmp_path, *live(365))
