"""ModelScope is watched by the same code: refs, licence, card, gate, name, and what it does not show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from kit.repository import REPO, model

from archiver.loopback.faults import Fault
from archiver.loopback.modelscope import commit_id

if TYPE_CHECKING:
    from watchkit import Nights

MODEL, OTHER = "modelscope:Org/Model", "modelscope:Org/Other"


@pytest.fixture
def both(nights, modelscope, run) -> Nights:
    """Repositories of both hubs are held."""
    nights.hub.create(REPO, model())
    modelscope.create("Org/Model", model(1), card={"license": "apache-2.0"})
    modelscope.create("Org/Other", model(2))
    assert run("mirror", "-C", nights.archive, REPO, MODEL, OTHER).code == 0
    return nights


def own(modelscope, name="Org/Model", revision="main"):
    return commit_id(modelscope.repository(name).head(revision))


def test_both_hubs_are_looked_at_with_two_requests_a_repository(both, modelscope):
    modelscope.requests.clear()
    first, second = both.look("--json").kinds("watch")
    assert [len(first["repositories"]), len(second["repositories"])] == [1, 2]
    assert [first["requests"], second["requests"]] == [2, 4]
    assert {record.route for record in modelscope.requests} == {"info", "git"}
    events = both.events()
    for _ in range(5):
        assert both.night("--json").kinds("watch")[1]["requests"] == 4
    assert both.events() == events, "what is told once is not told again"


def test_a_new_commit_and_a_force_push_come_with_evidence(both, modelscope):
    both.look()
    before = own(modelscope)
    modelscope.commit("Org/Model", {"new.safetensors": bytes(100), "config.json": b"{}"})
    after = own(modelscope)
    both.night()
    (moved,) = both.records(MODEL)
    assert (moved.what, moved.name, moved.before, moved.after) == (
        "branch",
        "master",
        before,
        after,
    )
    assert (moved.history, moved.files.added, moved.files.changed) == ("continued", 1, 1)
    assert moved.files.weights == 1
    modelscope.force_push("Org/Model", model(3))
    assert both.night().code == 23
    rewritten = [change for change in both.records(MODEL) if change.what == "branch"][-1]
    assert (rewritten.history, rewritten.status) == ("rewritten", 404)
    assert both.changes(MODEL)[-1] == ("commit-lost", "", before, ""), (
        "its turn came the same night"
    )
    assert both.night().code == 0


@pytest.mark.parametrize(
    "way",
    ["git", "commits of the API", "each name asked for"],
)
def test_branches_and_tags_appear_move_and_go(both, modelscope, way):
    modelscope.serves_git = way == "git"
    modelscope.lists_commits = way == "commits of the API"
    first = own(modelscope)
    modelscope.tag("Org/Model", "v1")
    modelscope.branch("Org/Model", "release/1.0")
    both.look()
    modelscope.commit("Org/Model", {"config.json": b"{}"})
    second = own(modelscope)
    modelscope.tag("Org/Model", "v1")
    modelscope.branch("Org/Model", "dev")
    both.night()
    modelscope.untag("Org/Model", "v1")
    modelscope.drop_branch("Org/Model", "dev")
    both.night()
    assert both.changes(MODEL) == [
        ("branch", "dev", "", second),
        ("branch", "master", first, second),
        ("tag", "v1", first, second),
        ("branch", "dev", second, ""),
        ("tag", "v1", second, ""),
    ]


def test_where_nothing_lists_them_the_main_branch_is_watched(both, modelscope):
    modelscope.serves_git = False
    modelscope.faults.add(Fault("status", route="refs", status=404, times=None))
    modelscope.tag("Org/Model", "v1")
    both.look()
    before = own(modelscope)
    modelscope.commit("Org/Model", {"config.json": b"{}"})
    modelscope.untag("Org/Model", "v1")
    both.night()
    assert both.changes(MODEL) == [("branch", "master", before, own(modelscope))]


@pytest.mark.parametrize("serves_git", [True, False])
def test_a_hub_that_lists_no_commits_loses_none(both, modelscope, serves_git):
    modelscope.serves_history = False
    modelscope.serves_git = serves_git
    both.look()
    before = own(modelscope)
    modelscope.commit("Org/Model", {"config.json": b"{}"})
    for _ in range(3):
        assert both.night().code == 0
    (moved,) = both.records(MODEL)
    assert (moved.before, moved.after, moved.history) == (before, own(modelscope), "")
    modelscope.force_push("Org/Model", model(3))
    codes = [both.night().code for _ in range(2)]
    assert 23 in codes, "the listing of that commit is asked for, and it is not there"
    assert both.changes(MODEL)[-1][0] == "commit-lost"


def test_a_hub_that_serves_no_git_is_not_asked_for_it_again_and_again(both, modelscope, run):
    modelscope.serves_git = False
    for number in range(4):
        modelscope.create(f"Org/M{number}", {"config.json": b"{}"})
    run("watch", "-C", both.archive, *(f"modelscope:Org/M{number}" for number in range(4)))
    asked = [record.repository for record in modelscope.requests.of(route="git")]
    assert asked == ["Org/M0"] * 2 + ["Org/M1"] * 2, "by both addresses, of two"


def test_more_names_than_are_asked_for_one_by_one_are_not_taken_for_gone(both, modelscope):
    for number in range(30):
        modelscope.tag("Org/Model", f"v{number:02}")
    both.look()
    modelscope.serves_git = False
    assert both.night().code == 0
    assert both.changes(MODEL) == []


def test_licence_card_gate_privacy_and_name_are_each_told_once(both, modelscope, monkeypatch):
    modelscope.tokens = {"ms-t": {"Org/Model", "Org/Renamed"}}
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "ms-t")
    both.look()
    modelscope.describe("Org/Model", {"license": "other"})
    modelscope.gate("Org/Model")
    modelscope.rename("Org/Model", "Org/Renamed")
    result = both.night()
    changed = {what: (before, after) for what, _, before, after in both.changes(MODEL)}
    assert changed["licence"] == ("apache-2.0", "other")
    assert changed["gating"] == ("", "yes")
    assert changed["name"] == ("", "modelscope:Org/Renamed")
    assert changed["card"][0] != changed["card"][1]
    assert "It is called modelscope:Org/Renamed now." in result.out
    modelscope.gate("Org/Renamed", gated=False)
    modelscope.hide("Org/Renamed")
    both.night()
    changed = {what: (before, after) for what, _, before, after in both.changes(MODEL)}
    assert (changed["gating"], changed["privacy"]) == (("yes", ""), ("", "private"))
    count = len(both.changes(MODEL))
    both.night()
    assert len(both.changes(MODEL)) == count


def test_git_gets_the_token_as_a_password(both, modelscope, monkeypatch):
    modelscope.tokens = {"ms-t": {"Org/Model"}}
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "ms-t")
    modelscope.hide("Org/Model")
    modelscope.requests.clear()
    both.look(MODEL)
    asked = [(record.route, record.token, record.status) for record in modelscope.requests]
    assert asked == [("info", "ms-t", 200), ("git", "ms-t", 200)]


def test_weights_that_patterns_leave_out_are_told_when_they_come(both, modelscope, run, tmp_path):
    plan = tmp_path / "plan.toml"
    plan.write_text(f'[plan]\nname = "p"\n[[repository]]\nname = "{MODEL}"\nexclude = ["*.gguf"]\n')
    both.look("--plan", plan)
    modelscope.commit("Org/Model", {"more.gguf": b"x"})
    both.night("--plan", plan)
    (told,) = [change for change in both.records(MODEL) if change.what == "left-out"]
    assert told.paths == ("more.gguf",)


def test_what_is_shown_to_everybody_is_the_control(both, modelscope):
    both.look()
    modelscope.delete("Org/Model")
    codes = [both.night().code for _ in range(4)]
    assert codes == [0, 0, 23, 0]
    (gone,) = both.records(MODEL)
    assert (gone.what, gone.status, gone.control) == ("gone", 404, "openapi/v1/models")
    log = both.run("log", "-C", both.archive, MODEL).out
    assert log.count("not shown to us, 1 repository: modelscope:Org/Model") == 2
    assert "not shown" not in both.run("log", "-C", both.archive, OTHER).out


def test_a_hub_that_refuses_also_what_it_shows_to_everybody_says_nothing(both, modelscope):
    both.look()
    modelscope.delete("Org/Model")
    modelscope.faults.add(Fault("status", route="list", status=401, times=None))
    for _ in range(4):
        both.night()
    assert both.changes(MODEL) == []


def test_without_that_request_another_repository_is_the_control(both, modelscope):
    modelscope.faults.add(Fault("status", route="list", status=404, times=None))
    both.look()
    modelscope.delete("Org/Model")
    assert [both.night().code for _ in range(4)] == [0, 0, 23, 0]
    (gone,) = both.records(MODEL)
    assert (gone.what, gone.control) == ("gone", OTHER)
    modelscope.delete("Org/Other")
    for _ in range(5):
        both.night()
    assert both.changes(OTHER) == [], "nothing else was shown, so nothing is known"


def test_a_token_that_is_not_taken_says_nothing(both, modelscope, monkeypatch):
    both.look()
    modelscope.tokens = {"good": []}
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "bad")
    for _ in range(4):
        result = both.night()
        assert (result.code, "The token is not taken" in result.out) == (23, True)
    assert both.changes(MODEL) == []


def test_a_preview_asks_the_repositorys_own_hub(both, modelscope, run):
    modelscope.commit("Org/Model", {"new.safetensors": bytes(2000)})
    text = run("upstream", "-C", both.archive, MODEL, "--preview").out
    assert "(master), against" in text
    assert "To fetch: 1 file, 2.00 kB, of which 2.00 kB of weights." in text
