"""What is new of a night's facts, and in which order they ring."""

from __future__ import annotations

from archiver.archive.events import NightRun
from archiver.night.facts import ORDER, Fact, news
from archiver.night.result import StepResult
from archiver.night.words import step_line


def night(*facts, before=None, judged=("state",)):
    told = news(facts, before, judged)
    return told, NightRun("p", "x", told.exit_code, facts=told.standing)


def test_a_fact_that_was_soft_rings_once_it_has_an_exit_code():
    soft, before = night(Fact("copies", "", 0, "state"))
    assert (soft.exit_code, len(soft.new)) == (0, 1)
    aged, before = night(Fact("copies", "", 24, "state"), before=before)
    assert (aged.exit_code, len(aged.new)) == (24, 1)
    known, _ = night(Fact("copies", "", 24, "state"), before=before)
    assert (known.exit_code, known.new) == (0, ())


def test_the_worst_code_of_what_is_new_comes_first():
    facts = [Fact("failed", str(code), code, "state") for code in reversed(ORDER)]
    told, _ = night(*facts)
    assert [fact.exit_code for fact in told.ringing] == list(ORDER)
    assert told.exit_code == 20


def test_what_a_step_told_stands_until_it_comes_to_a_result():
    _, before = night(Fact("step", "sync", 31, "sync"), judged=("sync",))
    cut, _ = night(before=before, judged=("state",))
    assert ([fact.subject for fact in cut.known], cut.mended, cut.exit_code) == (["sync"], (), 0)
    run, _ = night(before=before, judged=("state", "sync"))
    assert [fact.subject for fact in run.mended] == ["sync"]


def test_a_token_that_was_refused_is_not_mended_by_a_hub_that_is_away():
    _, before = night(Fact("token", "", 23, "watch"), judged=("watch",))
    away, before = night(Fact("upstream", "", 30, "sync"), before=before, judged=("watch", "sync"))
    assert ([fact.fact for fact in away.known], away.mended) == (["token"], ())
    back, _ = night(before=before, judged=("watch", "sync"))
    assert [fact.fact for fact in back.mended] == ["token", "upstream"]


def test_damage_rings_though_it_is_known_and_what_happened_once_is_not_mended():
    damage = Fact("damaged", "packs/aa/x.pack", 20, "state")
    _, before = night(
        damage, Fact("changed", "o/m licence", 23, "watch"), judged=("watch", "state")
    )
    told, _ = night(damage, before=before, judged=("watch", "state"))
    assert (told.exit_code, told.new, told.mended) == (20, (), ())


def test_a_step_counts_one_thing_in_the_singular():
    counts = {"repositories": 1, "requests": 2, "read_bytes": 1}
    assert step_line(StepResult("watch", "done", counts=counts)) == (
        "watch: done, 1 repository, 2 requests, 1 B read."
    )
