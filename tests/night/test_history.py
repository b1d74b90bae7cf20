"""A month of nights, and a year of them, under a clock of their own: everything that was shown is there."""

from __future__ import annotations

import fnmatch
from collections import Counter
from typing import NamedTuple

import pytest
from kit.repository import files_below
from worldkit import FOLLOWED, SHAKY, STEADY, World

IDLE = 28
"""A day of each month on which nothing happens, and nothing is due any more."""


class Night(NamedTuple):
    """One night: what it ended with, what was new, what it cost."""

    day: int
    code: int
    new: tuple[tuple[str, str], ...]
    outcomes: dict[str, str]
    requests: int
    events: int


@pytest.fixture
def live(run, hub, archive, night, clock, plan, tmp_path, monkeypatch):
    """Lives through days; returns the world and its nights."""

    def call(days: int, seed: int = 12) -> tuple[World, list[Night]]:
        disk = tmp_path / "disk"
        root = archive.root
        settings = ("--parity", "2", "--audit-age", "10d", "--copy-age", "30d", "--copies", "1")
        assert run("policy", "set", "-q", "-C", root, *settings).code == 0
        assert run("copy", "-q", "-C", root, "--new", disk / "copy", "--min-free", "0B").code == 0
        world = World(hub, root, disk, seed)
        world.script(days)
        path = plan(
            *(name for name in (*STEADY, *SHAKY) if name not in FOLLOWED),
            night=f'parity = true\ncopies = ["{disk / "copy"}"]\n'
            'audit = { share = "100%", level = "content" }\nprometheus = "archiver.prom"',
        )
        followed = "".join(
            f'[[repository]]\nname = "{name}"\nrevisions = {list(names)}\n'.replace("'", '"')
            for name, names in FOLLOWED.items()
        )
        path.write_text(path.read_text().replace("[night]", f"{followed}[night]"))
        path.chmod(0o644)
        nights = []
        for day in range(days):
            world.history.play(day)
            asked, told = len(hub.requests), len(archive.documents("journal"))
            result = night(path)
            (summary,) = result.kinds("night")
            nights.append(
                Night(
                    day,
                    result.code,
                    tuple((fact["fact"], fact["subject"]) for fact in summary["new"]),
                    {each["step"]: each["outcome"] for each in result.kinds("step")},
                    len(hub.requests) - asked,
                    len(archive.documents("journal")) - told,
                )
            )
            if any(kind == "damaged" for kind, _ in nights[-1].new):
                repaired = run("repair", "-q", "-C", root, "--no-upstream")
                assert repaired.code == 0, repaired.err
                world.mended.append(day)
            clock.forward(days=1)
        return world, nights

    return call


def restorable(run, root, tmp_path, world):
    """Every commit that was to be seen on a night when the hub answered comes back, byte for byte."""
    wanted = {}
    for sight in world.history.seen:
        for name, refs in sight.refs.items():
            hidden = world.hub.repositories.get(name)
            if not world.is_answered(sight.day) or (hidden is None and name == "org/old-name"):
                continue
            patterns = FOLLOWED.get(name, ("main",))
            for ref, commit in refs.items():
                if any(fnmatch.fnmatchcase(ref, pattern) for pattern in patterns):
                    wanted.setdefault(commit, (name, sight.day))
    for number, (commit, (name, day)) in enumerate(wanted.items()):
        if name == "org/new-name":
            continue  # the plan does not name it
        out = tmp_path / f"restored-{number}"
        result = run("restore", "-q", "-C", root, f"{name}@{commit}", out)
        assert result.code == 0, (name, commit, day, result.err)
        assert files_below(out) == world.content[commit], (name, commit, day)
    return len(wanted)


def check(run, archive, tmp_path, world, nights, days):
    count = restorable(run, archive.root, tmp_path, world)
    assert count >= days // 2
    # each move of a branch that was seen is journalled once
    moves = Counter(
        (event["repository"], change["name"], change["after"])
        for event in archive.events("upstream-changed")
        for change in event["detail"]["changes"]
        if change["what"] == "branch" and change.get("after")
    )
    assert set(moves.values()) == {1}, moves.most_common(3)
    seen = {
        (name, "main", refs["main"])
        for sight in world.history.seen
        if world.is_answered(sight.day)
        for name, refs in sight.refs.items()
        if name in STEADY
    }
    assert seen <= set(moves)
    # nothing rings twice for one thing, and an outage rings once
    rings = Counter(fact for night in nights for fact in night.new if fact[0] == "changed")
    assert set(rings.values()) == {1}, rings.most_common(3)
    outages = [night.day for night in nights if ("upstream", "huggingface") in night.new]
    assert outages == [outage.first for outage in world.outages if outage.first < days]
    assert len(world.mended) == len(world.flipped), "every flipped bit was found and mended"
    # no rubbish
    left = {path.relative_to(archive.root / "tmp") for path in (archive.root / "tmp").rglob("*")}
    rest = {path for path in left if path.parts[0] != "reserve" and path.suffix != ".lock"}
    assert not rest
    assert run("audit", "-q", "-C", archive.root, "--level", "files").code == 0
    assert [night.day for night in nights if night.code == 24] == []
    # an idle night costs the same in every month
    idle = [night for night in nights if night.day % 30 == IDLE]
    assert {(night.code, night.requests) for night in idle} == {(0, idle[0].requests)}
    assert all(night.events <= 4 for night in idle), (
        "its sync, what was due to be proven here and at the copy, its summary"
    )
    # one more for the name that changed, and one for an old commit
    assert idle[0].requests <= 2 * (len(STEADY) + len(SHAKY)) + 2


def test_a_month_of_nights(live, run, archive, tmp_path):
    world, nights = live(30)
    check(run, archive, tmp_path, world, nights, 30)


@pytest.mark.long
def test_a_year_of_nights(live, run, archive, tmp_path):
    world, nights = live(365)
    check(run, archive, tmp_path, world, nights, 365)
