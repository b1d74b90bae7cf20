"""The smoke step of a night: which models have their turn, and what a failed one rings."""

from __future__ import annotations

import json

import pytest
from kit.repository import files_below

from archiver.demo.checkpoints import write_dense


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny model in the true layout, as its files."""
    return files_below(write_dense(tmp_path_factory.mktemp("model") / "dense", vision=False))


@pytest.fixture
def models(hub, model):
    """Two models, a dataset, and a collection of them; a third model is in no list."""
    for name in ("org/first", "org/second", "datasets/org/rows", "org/other"):
        hub.create(name, model if not name.startswith("datasets/") else {"rows.csv": b"1,2"})
    hub.collection("org/all-of-them", ["org/first", "org/second", "datasets/org/rows"])
    return hub


def ran(archive):
    """The snapshots that were tested: repository, verdicts."""
    return [
        (event["repository"], event["detail"]["levels"]) for event in archive.events("smoke-tested")
    ]


def smoke_of(result):
    (step,) = [step for step in result.kinds("step") if step["step"] == "smoke"]
    return step


COLLECTION = '[[repository]]\ncollection = "org/all-of-them"\nsmoke = "forward"\n'


def test_models_that_come_by_a_collection_are_run_and_not_again_before_their_time(
    night, clock, models, archive, plan
):
    path = plan("org/other", entries=COLLECTION)
    first = night(path)
    step = smoke_of(first)
    assert (first.code, step["outcome"], step["counts"]) == (
        0,
        "done",
        {"models": 2, "run": 2, "held": 2},
    ), first.out
    held = {"structure": "held", "tokenizer": "held", "load": "held", "forward": "held"}
    assert [levels for _, levels in ran(archive)] == [held, held]
    assert "2 models ran" in first.only("night")["verdict"]
    clock.forward(days=29)
    assert smoke_of(night(path))["outcome"] == "idle"
    clock.forward(days=2)
    assert smoke_of(night(path))["counts"]["run"] == 2


def test_a_model_that_fails_rings_once_and_is_tried_again_after_a_week(
    night, clock, hub, model, archive, plan
):
    config = json.loads(model["config.json"])
    config["num_hidden_layers"] += 1
    hub.create("org/broken", {**model, "config.json": json.dumps(config).encode()})
    path = plan(entries='[[repository]]\nname = "org/broken"\nsmoke = "structure"\n')
    first = night(path)
    assert first.code == 25, first.out
    (new,) = first.only("night")["new"]
    assert (new["fact"], new["subject"].partition("@")[0]) == ("smoke", "org/broken")
    assert "failed its smoke test" in first.only("night")["verdict"]
    clock.forward(days=6)
    idle = night(path)
    assert (idle.code, smoke_of(idle)["outcome"]) == (0, "idle")
    assert "failed its smoke test" in idle.only("night")["verdict"]
    assert len(ran(archive)) == 1
    hub.commit("org/broken", {"config.json": model["config.json"]})
    clock.forward(days=2)
    mended = night(path)
    assert (mended.code, mended.only("night")["mended"][0]["subject"]) == (0, new["subject"])


def test_an_entry_of_its_own_says_how_far_its_model_is_run(night, models, archive, plan):
    own = '[[repository]]\nname = "org/first"\nsmoke = false\n'
    path = plan(entries=COLLECTION.replace("forward", "structure") + own)
    assert smoke_of(night(path))["counts"]["models"] == 1


def test_of_branches_and_tags_one_model_is_run(night, models, archive, plan):
    models.tag("org/first", "v1")
    head = models.commit("org/first", {"notes.txt": b"later"})
    path = plan(
        entries='[[repository]]\nname = "org/first"\nrevisions = ["branches", "tags"]\n'
        'smoke = "structure"\n'
    )
    result = night(path)
    assert (result.code, smoke_of(result)["counts"]["run"]) == (0, 1)
    (event,) = archive.events("smoke-tested")
    assert event["revision"] == head
