"""``archiver watch``: what upstream does is journalled once, with evidence, and nothing is fetched."""

from __future__ import annotations

from datetime import timedelta

from kit.repository import REPO, model

from archiver.loopback.faults import Fault


def test_nothing_new_is_nothing_journalled_and_costs_two_requests(held):
    held.hub.requests.clear()
    first = held.look("--json").only("watch")
    assert (first["requests"], first["repositories"][0]["outcome"]) == (2, "first")
    events = held.events()
    assert len(events) == 1
    for _ in range(5):
        report = held.night("--json").only("watch")
        assert (report["requests"], report["repositories"][0]["outcome"]) == (2, "same")
    assert held.events() == events
    assert {request.route for request in held.hub.requests} == {"info", "refs"}


def test_a_new_commit_is_told_with_the_files_that_it_changes(held):
    held.look()
    before = held.hub.repository(REPO).head().id
    after = held.hub.commit(REPO, {"config.json": b"{}", "new.safetensors": bytes(100)})
    result = held.night()
    assert (result.code, held.changes()) == (0, [("branch", "main", before, after)])
    (change,) = held.records()
    assert (change.history, change.files.added, change.files.changed) == ("continued", 1, 1)
    assert (change.files.weights, change.files.bytes) == (1, 102)
    assert "has new commits" in result.out
    assert "1 file added, 1 file changed, 1 of them weights" in result.out
    assert "as before" in held.night().out
    assert len(held.changes()) == 1


def test_what_moved_since_it_was_mirrored_is_news_at_the_first_look(held):
    before = held.hub.repository(REPO).head().id
    after = held.hub.commit(REPO, {"config.json": b"{}"})
    held.look()
    assert held.changes() == [("branch", "main", before, after)]


def test_a_force_push_is_told_with_the_commit_that_is_gone(held):
    held.look()
    before = held.hub.repository(REPO).head().id
    after = held.hub.force_push(REPO, model(1))
    result = held.night()
    (change,) = held.records()
    assert (change.before, change.after, change.history) == (before, after, "rewritten")
    assert (change.status, change.code) == (404, "RevisionNotFound")
    assert result.code == 23
    assert "was rewritten" in result.out
    assert held.night().code == 0, "known by now, also in the rotation of old commits"
    assert len(held.changes()) == 1


def test_a_branch_set_back_is_rewritten_though_its_commit_is_still_there(held):
    hub = held.hub
    old = hub.repository(REPO).head().id
    new = hub.commit(REPO, {"config.json": b"{}"})
    held.look()
    hub.branch(REPO, "main", old)
    hub.branch(REPO, "other", new)
    held.night()
    moved = next(
        change for change in held.records() if change.name == "main" and change.after == old
    )
    assert (moved.history, moved.status) == ("rewritten", 0)


def test_tags_and_branches_appear_move_and_go(held):
    hub = held.hub
    first = hub.repository(REPO).head().id
    hub.tag(REPO, "v1")
    held.look()
    second = hub.commit(REPO, {"config.json": b"{}"}, branch="main")
    hub.tag(REPO, "v1")
    hub.branch(REPO, "dev")
    held.night()
    hub.untag(REPO, "v1")
    hub.drop_branch(REPO, "dev")
    held.night()
    assert held.changes() == [
        ("branch", "dev", "", second),
        ("branch", "main", first, second),
        ("tag", "v1", first, second),
        ("branch", "dev", second, ""),
        ("tag", "v1", second, ""),
    ]


def test_licence_card_gate_and_name_are_each_told_once(held):
    hub = held.hub
    held.look()
    hub.describe(REPO, {"license": "other"})
    hub.gate(REPO, "manual")
    hub.rename(REPO, "org/renamed")
    result = held.night()
    changed = {what: (before, after) for what, _, before, after in held.changes()}
    assert changed["licence"] == ("", "other")
    assert changed["gating"] == ("", "manual")
    assert changed["name"] == ("", "org/renamed")
    assert changed["card"][0] != changed["card"][1]
    assert "It is called org/renamed now." in result.out
    count = len(held.changes())
    held.night()
    hub.gate("org/renamed", gated=False)
    held.night()
    assert held.changes()[count:] == [("gating", "", "manual", "")]


def test_a_licence_that_changed_since_it_was_mirrored_is_news_at_the_first_look(nights, run):
    nights.hub.create(REPO, model(), card={"license": "apache-2.0"})
    assert run("mirror", "-C", nights.archive, REPO).code == 0
    nights.hub.describe(REPO, {"license": "proprietary"})
    nights.look()
    assert ("licence", "", "apache-2.0", "proprietary") in nights.changes()


def test_another_repository_under_the_same_name_is_told_by_its_id(held):
    held.look()
    held.hub.delete(REPO)
    held.hub.create(REPO, model(2))
    result = held.night()
    changed = {what: (before, after) for what, _, before, after in held.changes()}
    assert len(set(changed["identity"])) == 2
    assert result.code == 23
    assert "Another repository has this name" in result.out


def test_what_upstream_switches_off_is_told_and_what_it_switches_on_again(held):
    held.look()
    held.hub.disable(REPO)
    assert held.night().code == 23
    assert held.night().code == 0
    held.hub.disable(REPO, disabled=False)
    held.night()
    assert held.changes() == [
        ("disabled", "", "", "disabled"),
        ("disabled", "", "disabled", ""),
    ]


def test_a_repository_that_is_not_shown_is_gone_after_three_days(held):
    held.look()
    held.hub.delete(REPO)
    for night in (1, 2):
        result = held.night()
        assert (result.code, held.changes()) == (0, [])
        assert f"does not show it to us (HTTP 401), on {night} day" in result.out
        held.look()
        held.look()
    result = held.night()
    (gone,) = held.records()
    assert (gone.what, gone.status, gone.control) == ("gone", 401, "models?limit=1")
    assert [time[:10] for time in gone.since] == ["2026-12-02", "2026-12-03", "2026-12-04"]
    assert result.code == 23
    count = len(held.events())
    assert count == 4, "the first look, two nights, and that it is gone"
    for _ in range(3):
        assert held.night().code == 0
    assert len(held.events()) == count
    held.hub.undelete(REPO)
    assert "It is shown again" in held.night().out
    assert [change.what for change in held.records()] == ["gone", "back"]
    held.night()
    assert len(held.events()) == count + 1


def test_a_night_without_a_control_request_does_not_count(held):
    held.look()
    held.hub.delete(REPO)
    held.night()
    held.hub.faults.add(Fault("status", route="list", status=403, times=None))
    for _ in range(4):
        held.night()
    held.hub.faults.clear()
    assert held.changes() == []
    held.night()
    assert held.changes() == []
    held.night()
    assert [change[0] for change in held.changes()] == ["gone"]


def test_a_token_that_has_expired_makes_nothing_gone(held, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_ours")
    held.hub.tokens = {"hf_ours": [REPO]}
    held.hub.hide(REPO)
    held.look()
    held.hub.expired.add("hf_ours")
    for _ in range(5):
        result = held.night()
        assert result.code == 23
        assert "The token is not taken" in result.out
    assert len(held.events()) == 1
    held.hub.expired.clear()
    assert held.night().code == 0
    assert len(held.events()) == 1


def test_access_that_was_taken_away_is_gone_or_private_with_a_token_that_is_good(held, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_ours")
    held.hub.tokens = {"hf_ours": [REPO]}
    held.look()
    held.hub.tokens = {"hf_ours": []}
    held.hub.hide(REPO)
    for _ in range(3):
        held.night()
    (gone,) = held.records()
    assert (gone.what, gone.status, gone.code) == ("gone", 404, "RepoNotFound")
    assert gone.control == "whoami-v2"


def test_a_flapping_hub_does_not_make_it_gone_and_does_not_fill_the_journal(held):
    held.look()
    for _ in range(6):
        held.hub.delete(REPO)
        held.night()
        held.hub.undelete(REPO)
        held.night()
    assert held.changes() == []
    assert len(held.events()) == 1 + 12, "one a night at most, for all repositories together"


def test_what_goes_to_and_fro_is_told_twice_a_month(held):
    held.look()
    for night in range(20):
        held.hub.gate(REPO, gated=not night % 2)
        held.night()
    assert [change[0] for change in held.changes()] == ["gating"] * 4


def test_trouble_with_the_network_is_soft_and_told(held):
    held.look()
    held.hub.stop()
    result = held.night("--json")
    assert result.code == 30
    assert result.only("watch")["repositories"][0]["outcome"] == "unreachable"
    assert len(held.events()) == 1
    held.hub.start()
    assert held.night().code == 0


def test_one_old_commit_is_asked_for_each_night_in_turn(held):
    hub = held.hub
    commits = [hub.repository(REPO).head().id]
    held.look()
    for n in range(3):
        commits.append(hub.commit(REPO, {"config.json": b"%d" % n}))
        held.night()
    hub.requests.clear()
    asked = set()
    for _ in range(3):
        report = held.night("--json").only("watch")
        assert report["requests"] == 3
        asked.add(report["old_commit"][1])
    assert asked == set(commits[:3])
    del hub.repository(REPO).commits[commits[1]]
    codes = [held.night().code for _ in range(4)]
    assert sorted(codes) == [0, 0, 0, 23]
    assert held.changes()[-1] == ("commit-lost", "", commits[1], "")


def test_a_clock_that_jumps_makes_no_days(held):
    held.look()
    held.hub.delete(REPO)
    held.night()
    held.now += timedelta(days=4000)
    held.look()
    held.now -= timedelta(days=4000)
    count = len(held.events())
    for _ in range(3):
        held.look()
        held.night()
    assert held.changes() == [], "the journal's days are two so far"
    assert len(held.events()) == count
    assert held.run("prune", "-C", held.archive, "--trust-clock").code == 0
    for _ in range(3):
        held.night()
    assert [change[0] for change in held.changes()] == ["gone"], "once a person said what day it is"


def test_weights_that_a_plan_leaves_out_are_told_once(held, tmp_path):
    plan = tmp_path / "plan.toml"
    plan.write_text(f'[plan]\nname = "p"\n[[repository]]\nname = "{REPO}"\ninclude = ["*.json"]\n')
    result = held.look("--plan", plan)
    assert "leave out 1 file of weights: model.safetensors" in result.out
    held.night("--plan", plan)
    (told,) = held.records()
    assert (told.what, told.count) == ("left-out", 1)


def test_a_pattern_of_a_plan_stands_for_what_it_last_stood_for(nights, tmp_path):
    for name in ("org/model-a", "org/model-b", "org/other"):
        nights.hub.create(name, model())
    plan = tmp_path / "plan.toml"
    plan.write_text('[plan]\nname = "p"\n[[repository]]\nname = "org/model-*"\n')
    assert "Nothing to look at" in nights.look("--plan", plan).out
    assert nights.run("sync", "-C", nights.archive, "--min-free", "0B", plan).code == 0
    report = nights.look("--plan", plan, "--json").only("watch")
    names = [entry["repository"] for entry in report["repositories"]]
    assert (names, report["requests"]) == (["org/model-a", "org/model-b"], 4)
