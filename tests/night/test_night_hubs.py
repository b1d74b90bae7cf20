"""A night and its hubs: which are looked at, and what one step learns of them that the next one knows."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from kit.repository import noise

from archiver.loopback.faults import Fault


def facts(result, which="new"):
    return [(fact["fact"], fact["subject"]) for fact in result.only("night")[which]]


def step(result, name):
    (found,) = [each for each in result.kinds("step") if each["step"] == name]
    return found


@pytest.fixture
def both(repositories, modelscope):
    """A repository of ModelScope as well."""
    modelscope.create("Org/Model", {"config.json": b"{}", "weights.bin": noise(7, 20_000)})
    modelscope.create("Org/Other", {"config.json": b"{}"})
    return modelscope


def test_repositories_of_every_hub_are_looked_at(night, clock, both, archive, plan):
    path = plan("org/a", "modelscope:Org/Model", "modelscope:Org/Other")
    first = night(path)
    assert (first.code, step(first, "watch")["counts"]["repositories"]) == (0, 3)
    both.describe("Org/Model", {"license": "other"})
    clock.forward(days=1)
    changed = night(path)
    assert facts(changed) == [("changed", "modelscope:Org/Model licence other")]
    both.delete("Org/Model")
    codes = []
    for _ in range(3):
        clock.forward(days=1)
        codes.append(night(path).code)
    assert codes == [0, 0, 23], "one that is not shown is called gone after three days"


def test_an_idle_night_asks_two_things_of_each_repository_of_modelscope(night, both, archive, plan):
    both.tag("Org/Model", "v1")
    entry = '[[repository]]\nname = "modelscope:Org/Model"\nrevisions = ["all"]\n'
    path = plan("modelscope:Org/Other", entries=entry)
    assert night(path).code == 0
    both.requests.clear()
    idle = night(path)
    assert (idle.code, step(idle, "sync")["outcome"]) == (0, "idle")
    asked = Counter((record.repository, record.route) for record in both.requests)
    names = ("Org/Model", "Org/Other")
    assert asked == {(name, route): 1 for name in names for route in ("info", "git")}
    both.tag("Org/Model", "v2")
    assert night(path).code == 0
    assert len(archive.events("sighted")) == 4, "master of both, v1, and now v2"


def test_a_hub_that_is_away_is_told_by_its_name_and_the_other_one_is_still_asked(
    night, repositories, both, plan
):
    path = plan("org/a", "org/b", "org/c", "modelscope:Org/Model", "modelscope:Org/Other")
    repositories.faults.add(Fault("status", times=None))
    result = night(path)
    assert (result.code, facts(result)) == (30, [("upstream", "huggingface")])
    assert "Hugging Face is unreachable" in result.only("night")["verdict"]
    counts = step(result, "sync")["counts"]
    assert (counts["new"], counts["failed"], counts["not_tried"]) == (2, 1, 2)


def test_what_the_look_learned_of_a_hub_is_not_learned_again(
    night, waits, repositories, archive, plan
):
    path = plan("org/a", "org/b", "org/c")
    repositories.faults.add(Fault("status", times=None))
    before = len(repositories.requests)
    result = night(path)
    asked = Counter(request.repository for request in list(repositories.requests)[before:])
    # All the patience of a run for the first, once more for the second; sync asks once whether it is back.
    assert (len(waits), asked) == (7, {"org/a": 8 + 1, "org/b": 1}), asked
    told = [error["subject"] for each in result.kinds("step") for error in each["errors"]]
    assert told == ["org/a", "org/b"], "told once, by who found it out"
    assert facts(result) == [("upstream", "huggingface")]


def test_a_hub_that_comes_back_within_the_night_is_asked_for_everything(
    night, repositories, archive, plan
):
    path = plan("org/a", "org/b", "org/c")
    repositories.faults.add(Fault("status", times=9))  # as many as the look sends
    result = night(path)
    assert step(result, "sync")["counts"]["new"] == 3
    assert facts(result) == [("upstream", "huggingface")]


def test_counts_of_a_night_without_its_hub_add_up(night, repositories, archive, plan):
    names = [f"org/{number}" for number in range(5)]
    for number, name in enumerate(names):
        repositories.create(name, {"a.bin": noise(number, 100)})
    patterns = "".join(
        f'[[repository]]\nname = "{pattern}"\n' for pattern in ("org/[0-9]*", "datasets/org/x*")
    )
    repositories.create("datasets/org/x", {"rows.csv": b"1"})
    path = plan(*names[:2], entries=patterns)
    assert night(path).code == 0
    repositories.faults.add(Fault("status", times=None))
    counts = step(night(path), "sync")["counts"]
    parts = ("done", "failed", "unseen", "gone", "acknowledged", "not_tried")
    assert counts["total"] == sum(counts[part] for part in parts) == 6, counts
    assert counts["unresolved"] == 2


def test_each_attempt_is_told_once_by_its_number(run, archive, plan, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    from archiver.upstream.retry import RetryPolicy

    monkeypatch.setattr(RetryPolicy, "delay", lambda *_: 0.01)
    result = run("night", "-C", archive.root, "--min-free", "0B", plan("org/a", "org/b"))
    tries = re.findall(r"try (\d+) of (\d+)", result.err)
    assert (result.code, tries) == (30, [(str(number), "5") for number in (2, 3, 4, 5)])


def test_what_is_not_shown_for_some_nights_is_no_failure_of_a_step(
    night, clock, repositories, plan
):
    path = plan("org/a", "org/b")
    assert night(path).code == 0
    repositories.hide("org/b")
    for _ in range(2):
        clock.forward(days=1)
        result = night(path)
        sync = step(result, "sync")
        assert (result.code, sync["exit_code"], sync["counts"]["unseen"]) == (0, 0, 1)


def test_a_token_that_is_not_taken_rings_once_and_says_nothing_of_any_repository(
    night, clock, repositories, plan, monkeypatch
):
    path = plan("org/a", "org/b", head='max_age = "3d"')
    monkeypatch.setenv("HF_TOKEN", "good")
    repositories.tokens = {"good": ["org/a", "org/b"]}
    repositories.hide("org/a")
    repositories.hide("org/b")
    assert night(path).code == 0
    monkeypatch.setenv("HF_TOKEN", "expired")
    nights = []
    for _ in range(6):
        clock.forward(days=1)
        nights.append(night(path))
    assert facts(nights[0]) == [("token", repositories.endpoint)]
    assert [result.code for result in nights] == [23, 0, 0, 24, 0, 0], "3 days without an answer"
    assert facts(nights[3]) == [("late", "org/a"), ("late", "org/b")]
    monkeypatch.setenv("HF_TOKEN", "good")
    clock.forward(days=1)
    back = night(path)
    assert (back.code, ("token", repositories.endpoint) in facts(back, "mended")) == (0, True)


def test_an_idle_night_asks_no_second_source(night, clock, both, repositories, archive, plan):
    both.create("org/a", {"config.json": b"{}", "weights.bin": noise(0, 30_000)})
    entry = '[[repository]]\nname = "org/a"\nsources = ["modelscope", "huggingface"]\n'
    path = plan(entries=entry)
    assert night(path).code == 0
    assert "cdn" in {record.route for record in both.requests}, "its bytes come from there"
    before = len(repositories.requests), len(both.requests)
    clock.forward(days=1)
    assert night(path).code == 0
    after = len(repositories.requests), len(both.requests)
    assert (after[0] - before[0], after[1] - before[1]) == (2, 0)
