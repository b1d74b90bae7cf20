"""ModelScope is watched by the same code: its main branch, its licence, and what it does not show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from kit.repository import REPO, model

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


def test_both_hubs_are_looked_at_with_two_requests_a_repository(both, modelscope):
    first, second = both.look("--json").kinds("watch")
    assert [len(first["repositories"]), len(second["repositories"])] == [1, 2]
    assert [first["requests"], second["requests"]] == [2, 4]
    before = commit_id(modelscope.repository("Org/Model").head())
    modelscope.describe("Org/Model", {"license": "other"})
    after = commit_id(modelscope.repository("Org/Model").head())
    both.night()
    assert both.changes(MODEL) == [
        ("licence", "", "apache-2.0", "other"),
        ("branch", "master", before, after),
    ]
    assert both.records(MODEL)[1].history == "continued"
    modelscope.force_push("Org/Model", model(3))
    assert both.night().code == 23
    rewritten = [change for change in both.records(MODEL) if change.what == "branch"][-1]
    assert (rewritten.history, rewritten.status) == ("rewritten", 404)
    assert both.changes(MODEL)[-1] == ("commit-lost", "", before, ""), (
        "its turn came the same night"
    )
    assert both.night().code == 0


def test_another_repository_that_is_shown_is_the_control(both, modelscope):
    both.look()
    modelscope.delete("Org/Model")
    codes = [both.night().code for _ in range(4)]
    assert codes == [0, 0, 23, 0]
    (gone,) = both.records(MODEL)
    assert (gone.what, gone.status, gone.control) == ("gone", 404, OTHER)
    log = both.run("log", "-C", both.archive, MODEL).out
    assert log.count("not shown to us, 1 repository: modelscope:Org/Model") == 2
    assert "not shown" not in both.run("log", "-C", both.archive, OTHER).out


def test_without_another_nothing_is_known(both, modelscope):
    both.look()
    modelscope.delete("Org/Model")
    modelscope.delete("Org/Other")
    for _ in range(5):
        assert both.night().code == 0
    assert (both.changes(MODEL), both.changes(OTHER)) == ([], [])


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
