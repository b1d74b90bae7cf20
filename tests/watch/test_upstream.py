"""``archiver upstream`` and what ``status`` and ``log`` tell: a history as it was seen, and a preview."""

from __future__ import annotations

import pytest
from kit.repository import REPO, model


def ask(held, *words):
    return held.run(*words[:1], "-C", held.archive, *words[1:])


def test_a_history_is_shown_with_what_is_held_of_it(held):
    hub = held.hub
    first = hub.repository(REPO).head().id
    hub.tag(REPO, "v1")
    held.look()
    second = hub.force_push(REPO, model(1))
    hub.untag(REPO, "v1")
    held.night()
    hub.gate(REPO)
    third = hub.describe(REPO, {"license": "other"})
    held.night()
    report = ask(held, "upstream", "ORG/Model", "--json").only("upstream")
    seen = [(one["kind"], one["name"], one["commit"], one["by"]) for one in report["commits"]]
    assert seen == [
        ("", "main", first, "mirror"),
        ("branch", "main", first, "watch"),
        ("tag", "v1", first, "watch"),
        ("branch", "main", second, "watch"),
        ("branch", "main", third, "watch"),
    ]
    assert [len(one["snapshots"]) for one in report["commits"]] == [1, 1, 1, 0, 0]
    assert [one["current"] for one in report["commits"]] == [False] * 4 + [True]
    assert report["branches"] == {"main": third}
    assert report["attributes"]["gating"] == "auto"
    assert list(report["held"]) == [first]
    text = ask(held, "upstream", REPO).out
    for words in ("rewritten", "2026-12-02", "The licence is other.", "It is gated now.", "held"):
        assert words in text, words
    log = ask(held, "log", REPO).out
    assert "The branch main was rewritten" in log
    assert "The tag v1 is gone" in log


def test_what_was_never_seen_is_a_usage_error(held):
    result = ask(held, "upstream", "org/never")
    assert (result.code, "Nothing is known of org/never" in result.err) == (2, True)
    assert "never looked at" in ask(held, "upstream", REPO).out


def test_a_preview_says_which_files_change_and_fetches_none(held):
    hub = held.hub
    changes = {
        "model.safetensors": model(3)["model.safetensors"],
        "config.json": None,
        "copy/README.md": hub.repository(REPO).head().files["README.md"].content.read(0, 500),
        "new.safetensors": bytes(5000),
    }
    commit = hub.commit(REPO, changes)
    hub.requests.clear()
    result = ask(held, "upstream", REPO, "--preview", "--json").only("preview")
    assert {request.route for request in hub.requests} == {"info", "tree"}
    assert (result["revision"], result["held"], result["news"]) == (commit, False, True)
    paths = {key: [file["path"] for file in result[key]] for key in ("added", "changed", "removed")}
    assert paths == {
        "added": ["copy/README.md", "new.safetensors"],
        "changed": ["model.safetensors"],
        "removed": ["config.json"],
    }
    size = len(changes["model.safetensors"]) + 5000
    assert (result["fetch"]["files"], result["fetch"]["weight_bytes"]) == (2, size)
    assert result["fetch"]["bytes"] == size, "what is held under another path is not fetched"
    text = ask(held, "upstream", REPO, "--preview", "main").out
    assert "model.safetensors (25.1 kB, weights)" in text
    assert "To fetch: 2 files, 30.1 kB, of which 30.1 kB of weights." in text
    assert ask(held, "mirror", REPO).code == 0
    assert "held already" in ask(held, "upstream", REPO, "--preview").out


@pytest.mark.parametrize(
    "words",
    [
        ("--preview", REPO),
        ("--preview", "main", REPO),
        ("--preview=main", REPO),
        (REPO, "--preview"),
    ],
)
def test_the_option_may_come_before_the_repository(held, words):
    assert f"{REPO}@" in ask(held, "upstream", *words).out


def test_the_option_alone_is_no_repository(held):
    for words in ((), ("--preview",)):
        result = ask(held, "upstream", *words)
        assert (result.code, "REPO" in result.err) == (2, True)


def test_a_preview_of_what_is_not_held_is_all_of_it(nights):
    nights.hub.create(REPO, model())
    text = ask(nights, "upstream", REPO, "--preview").out
    assert "nothing of it is held" in text
    assert "7 files added" in text


def test_status_tells_what_changed_for_a_week_and_what_is_not_shown(held):
    held.look()
    held.hub.commit(REPO, {"config.json": b"{}"})
    held.night()
    status = ask(held, "status", "--json").only("status")
    (changed,) = [one for one in status["remarks"] if one["what"] == "upstream"]
    assert "has new commits" in changed["message"]
    for _ in range(8):
        held.night()
    held.hub.delete(REPO)
    held.night()
    text = ask(held, "status").out
    assert "does not show org/model to us, on 1 day so far (HTTP 401)" in text
    assert "has new commits" not in text
    held.night()
    held.night()
    text = ask(held, "status").out
    assert "Gone upstream since 2026-12-" in text
    assert "does not show" not in text


def test_a_replica_of_some_snapshots_knows_their_history(held, run, tmp_path):
    held.hub.create("org/other", model(5))
    assert run("mirror", "-C", held.archive, "org/other").code == 0
    held.look()
    held.hub.gate(REPO)
    held.hub.gate("org/other")
    held.night()
    replica = tmp_path / "replica"
    assert run("copy", "-C", held.archive, "--new", replica, "--snapshot", REPO).code == 0
    report = run("upstream", "-C", replica, REPO, "--json").only("upstream")
    assert report["attributes"]["gating"] == "auto"
    assert run("upstream", "-C", replica, "org/other").code == 2


def test_a_mirror_of_what_is_watched_leaves_it_to_the_watch_to_call_it_gone(held):
    held.look()
    held.hub.delete(REPO)
    assert ask(held, "mirror", REPO).code == 23
    assert "no longer has" not in ask(held, "log", REPO).out
    held.hub.undelete(REPO)
    assert ask(held, "mirror", f"{REPO}@absent").code == 23


def test_a_run_of_a_plan_calls_it_unreachable_until_the_watch_calls_it_gone(held, tmp_path):
    plan = tmp_path / "plan.toml"
    plan.write_text(f'[plan]\nname = "p"\n[[repository]]\nname = "{REPO}"\n')

    def sync():
        return held.run("sync", "-C", held.archive, "--min-free", "0B", plan, "--json")

    assert sync().code == 0
    held.look()
    held.hub.delete(REPO)
    for _ in range(3):
        assert held.run("watch", "-C", held.archive, "org/never").code == 0
        result = sync()
        assert (result.code, result.only("sync")["gone"]) == (23, [])
        assert "called gone after three days" in result.err
        held.night()
    result = sync()
    assert (result.code, result.only("sync")["gone"]) == (23, [REPO])
    assert held.run("acknowledge", "-C", held.archive, "gone", REPO).code == 0
    assert sync().code == 0
    status = held.run("status", "-C", held.archive, "--json").only("status")
    (lost,) = status["lost_upstream"]
    assert (lost["repository"], lost["acknowledged"]) == (REPO, True)
