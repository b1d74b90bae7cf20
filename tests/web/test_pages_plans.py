"""Plans and their nights: what they brought, told and cost, and what is due."""

from __future__ import annotations

import pytest
from healthkit import words

from archiver.archive.events import (
    Acknowledged,
    NightFact,
    NightRun,
    Planned,
    PlannedEntry,
    SmokeTested,
    Synced,
)

IDLE = (("watch", "idle"), ("sync", "idle"))


@pytest.fixture
def planned(kept):
    entries = (PlannedEntry("org/one"), PlannedEntry("org/x"))
    plan = kept.record(Planned("nightly", kept.here, entries, "/etc/secret/nightly.toml"), 30)

    def sync(days, *outcomes, code=0, fetched=0, stored=0, stopped=None):
        about = {} if stopped is None else {"stopped": stopped}
        detail = Synced(
            "nightly", kept.here, plan, outcomes, code, 9, fetched, stored, 10**9, 10**6, **about
        )
        kept.record(detail, days)

    return sync


def night(kept, days, *facts, code=0, steps=IDLE, **more):
    kept.record(NightRun("nightly", kept.here, code, steps, facts, seconds=60, **more), days)


GONE = NightFact("gone", "org/x", 23, "sync")
AWAY = NightFact("place", "/mnt/usb", 0, "copies")


def test_a_night_has_the_sync_in_it_and_what_no_night_before_told(kept, planned):
    minute = 1 / 1440
    planned(3 + minute, "held", "gone", code=23, fetched=500, stored=300)
    night(kept, 3, GONE, AWAY, code=23)
    night(kept, 2, GONE, AWAY)
    night(kept, 1, AWAY)
    newest, middle, oldest = kept.standing.runs
    assert oldest.new == (GONE, AWAY)
    assert (oldest.fetched, oldest.stored, oldest.outcomes) == (500, 300, {"held": 1, "gone": 1})
    assert (middle.new, middle.mended, middle.known) == ((), (), 2)
    assert (middle.fetched, middle.outcomes) == (-1, {})
    assert (newest.new, newest.mended) == ((), (GONE,))
    page = kept.page("/plans")
    assert "exit 23: gone upstream" in words(page)
    assert "new org/x is gone upstream archiver acknowledge -C" in words(page)
    assert "mended org/x is gone upstream" in words(page)


def test_what_was_told_softly_and_rings_by_now_is_new(kept, planned):
    night(kept, 3, AWAY)
    rings = NightFact("place", "/mnt/usb", 24, "copies")
    night(kept, 2, rings, code=24)
    assert kept.standing.runs[0].new == (rings,)


def test_syncs_of_their_own_are_runs_and_quiet_ones_are_one_row(kept, planned):
    for days in (20, 19, 18):
        planned(days, "held", "held")
    planned(17, "held", "failed", code=3, fetched=7, stopped="bytes")
    for days in (12, 11, 10, 9):
        night(kept, days)
    assert len(kept.standing.runs) == 8
    page = kept.page("/plans")
    assert "2027-04-21 to 2027-04-24 well 4 quiet nights of nightly" in words(page)
    assert "2027-04-13 to 2027-04-15 well 3 quiet runs of nightly" in words(page)
    assert "its bytes were used up" in words(page)
    (year,) = [each["aria-label"] for each in page.all("svg") if each.get("role") == "img"]
    assert year == "Runs on 8 days of the last 53 weeks, 1 of them with one that rang or failed."


def test_only_the_runs_of_this_place_are_its_own(kept, planned):
    plan = kept.record(Planned("other", "elsewhere", (PlannedEntry("org/y"),)), 9)
    kept.record(Synced("other", "elsewhere", plan, ("failed",), 3, 1, 2, 3, 4, 5), 8)
    kept.record(NightRun("other", "elsewhere", 20, IDLE), 8)
    assert kept.standing.runs == ()
    page = kept.page("/plans")
    assert "No night yet" in words(page)
    assert "nightly" in words(page)
    assert "other" not in words(page).replace("another", "")


def test_a_plan_says_what_is_not_as_planned_and_no_folder_of_the_machine(kept, planned):
    planned(2, "held", "gone", code=23)
    page = kept.page("/plans")
    assert "0 of 2 repositories held" in words(
        page
    )  # as a status counts: nobody vouches for the one
    assert "2 repositories are not as planned org/one unvouched" in words(page)
    assert "org/x missing" in words(page)
    assert "nightly.toml" in words(page)
    assert "/etc/secret/nightly.toml" not in words(page).replace("archiver sync", "")


def test_what_is_due_comes_with_its_day(kept, planned):
    kept.run("policy set", "--audit-age", "60d", "--copy-age", "90d")
    kept.at(70)
    kept.run("audit")
    kept.at(0)
    kept.record(Acknowledged("gone", "main", "2027-06-01T00:00:00Z"), 5, "org/x")
    due = {(each.what, each.day, each.count, each.late) for each in kept.standing.due}
    assert due == {
        ("entries", "", 2, True),  # of one upstream gave no answer for long
        ("proofs", "2027-04-23", 1, True),
        ("acknowledgement", "2027-06-01", 1, False),
    }
    page = kept.page("/plans")
    assert "2027-04-23 due Prove packs again at level content 1" in words(page)
    assert "2027-06-01 The acknowledgement of org/x@main ends 1" in words(page)


def test_without_any_plan_the_page_says_how_one_begins(kept):
    page = kept.page("/plans")
    assert "No plan feeds this place." in words(page)
    assert "archiver sync -C" in words(page)
    assert not [each for each in page.all("svg") if each.get("role") == "img"]
    kept.record(SmokeTested("0" * 64, {"load": "passed"}), 1)
    assert "No plan feeds this place." in words(kept.page("/plans"))
