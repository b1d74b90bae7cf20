"""Bytes from several hubs: where one dies in a file, another goes on, if a digest is common to both."""

from __future__ import annotations

import pytest

from archiver.loopback.faults import Fault
from archiver.upstream import connections
from archiver.upstream import ranges as parts
from archiver.upstream.failover import Hubs

REPO = "Org/Model"
WEIGHTS = "model.safetensors"
CONTENT = bytes(n * 41 % 253 for n in range(400_000))
FILES = {WEIGHTS: CONTENT, "config.json": b"{}"}


@pytest.fixture(autouse=True)
def repositories(hub, modelscope):
    hub.create(REPO, FILES)
    modelscope.create(REPO, FILES)


def dies(hub, after=150_000):
    """Have every connection for the weights end at the same byte of the file."""
    hub.faults.add(Fault("drop", route="cdn", after=after, times=1))
    hub.faults.add(Fault("status", route="cdn", status=503, times=None))


def ranges(hub):
    return [record.range for record in hub.requests.of(route="cdn") if record.status == 206]


def test_another_hub_goes_on_in_the_middle_of_a_file(hub, modelscope, archive, mirror, restores):
    dies(hub)
    result = mirror("--json", "--source", "huggingface,modelscope", REPO)
    assert result.code == 0, result
    report = result.only("mirror")
    assert {part["hub"]: part["bytes"] for part in report["fetched_from"]} == {
        "modelscope": 250_000,
        "huggingface": 150_002,
    }
    assert ranges(modelscope) == ["bytes=150000-"]
    assert report["vouched"]["upstream"] == 2
    restores(archive, FILES)


def test_another_hub_goes_on_where_many_connections_fetched_ranges(
    hub, modelscope, archive, mirror, restores, monkeypatch
):
    for name, value in (("LEAST_BYTES", 64 << 10), ("_WINDOW_BYTES", 128 << 10), ("PIECE", 4096)):
        monkeypatch.setattr(connections, name, value)
    for name, value in (("RANGE_STEP", 8192), ("LONGEST_RANGE", 32768), ("SHORTEST_RANGE", 4096)):
        monkeypatch.setattr(parts, name, value)
    hub.faults.add(Fault("status", route="cdn", status=503, skip=6, times=None))
    result = mirror("--json", "--source", "huggingface,modelscope", REPO)
    assert result.code == 0, result
    came = {part["hub"]: part["bytes"] for part in result.only("mirror")["fetched_from"]}
    assert sum(came.values()) == len(CONTENT) + 2
    assert came["huggingface"] > 2
    first = min(int(asked.removeprefix("bytes=").partition("-")[0]) for asked in ranges(modelscope))
    assert first == came["huggingface"] - 2, "no byte comes twice"
    assert len(ranges(modelscope)) > 1
    restores(archive, FILES)


def test_it_is_said_in_words(hub, mirror, cli, archive):
    dies(hub)
    result = mirror("--source", "huggingface,modelscope", REPO)
    assert "ModelScope goes on with model.safetensors from byte 150,000" in result.err
    assert "Fetched: 250 kB from ModelScope, 150 kB from Hugging Face" in result.out
    shown = cli("show", "--json", "-C", archive, REPO).only("snapshot")
    assert shown["source"]["upstream"] == "huggingface"


def test_without_a_second_source_it_fails_and_the_next_run_goes_on_from_there(
    hub, modelscope, mirror, archive, restores
):
    dies(hub)
    assert mirror(REPO).code == 30
    assert len(modelscope.requests) == 0
    result = mirror("--json", "--source", "modelscope", REPO)
    assert result.code == 0
    restores(archive, FILES)


def test_bytes_of_a_file_come_from_the_first_source_that_has_its_digest(hub, modelscope, mirror):
    assert mirror("--source", "modelscope", REPO).code == 0
    assert {record.file for record in modelscope.requests.bodies()} == {WEIGHTS}
    # Nothing tells that the other one is the same: its own hub lists a git object id.
    assert {record.file for record in hub.requests.bodies()} == {"config.json"}


def test_a_model_of_modelscope_goes_on_at_the_hub(hub, modelscope, archive, mirror, restores):
    dies(modelscope)
    result = mirror("--json", "--source", "modelscope,huggingface", f"modelscope:{REPO}")
    assert result.code == 0, result
    assert ranges(hub) == ["bytes=150000-"]
    assert {part["hub"] for part in result.only("mirror")["fetched_from"]} == {
        "modelscope",
        "huggingface",
    }
    restores(archive, FILES, f"modelscope:{REPO}")


@pytest.mark.parametrize("other", [CONTENT[:-1] + b"x", CONTENT[:-1], None])
def test_another_file_of_that_name_does_not_stand_in(hub, modelscope, mirror, other):
    files = {"config.json": b"{}"} | ({WEIGHTS: other} if other else {})
    modelscope.force_push(REPO, files)
    dies(hub)
    result = mirror("--source", "huggingface,modelscope", REPO)
    assert result.code == 30
    assert f"{WEIGHTS} of {REPO}" in result.err
    assert modelscope.requests.bodies() == []


OLD = bytes(n * 7 % 255 for n in range(300_000))


@pytest.mark.parametrize("own", ["huggingface", "modelscope"])
@pytest.mark.parametrize("there", ["the same tag", "another tag", "a branch", "a commit"])
def test_an_older_tag_goes_on_at_whatever_revision_has_its_digest(
    hub, modelscope, archive, mirror, restores, own, there
):
    first, second = (hub, modelscope) if own == "huggingface" else (modelscope, hub)
    name = "Org/Aged"
    for registry in (first, second):
        registry.create(name, FILES | {WEIGHTS: OLD})
    first.tag(name, "v1")
    match there:
        case "the same tag":
            second.tag(name, "v1")
        case "another tag":
            second.tag(name, "release-1")
        case "a branch":
            second.branch(name, "v1.x")
    for registry in (first, second):
        registry.commit(name, {WEIGHTS: CONTENT})
    if there in {"another tag", "a branch"}:
        # Nothing else leads to that commit: the history of the main branch is a new one.
        second.force_push(name, FILES)
    dies(first, 100_000)
    repository = name if own == "huggingface" else f"modelscope:{name}"
    order = "huggingface,modelscope" if own == "huggingface" else "modelscope,huggingface"
    result = mirror("--json", "--source", order, f"{repository}@v1")
    assert result.code == 0, result
    assert ranges(second) == ["bytes=100000-"]
    restores(archive, FILES | {WEIGHTS: OLD}, repository)
    listings = len(second.requests.of(route="tree"))
    assert listings == (1 if there == "the same tag" else 2), "the tag of that name, or main and it"


def test_the_commit_that_is_nearest_in_time_is_listed_first(hub, modelscope, mirror):
    for registry in (hub, modelscope):
        registry.create("Org/Long", {WEIGHTS: b"0" * 100_000})
        for number in range(1, 40):
            registry.commit("Org/Long", {WEIGHTS: b"%d" % (number % 10) * (100_000 + number)})
            if number == 20:
                registry.tag("Org/Long", "mine" if registry is hub else "theirs")
    dies(hub, 50_000)
    result = mirror("--source", "huggingface,modelscope", "Org/Long@mine")
    assert result.code == 0, result
    assert len(modelscope.requests.of(route="tree")) == 2


@pytest.mark.parametrize("serves", ["git and history", "neither"])
def test_only_so_many_revisions_are_listed(hub, modelscope, mirror, serves):
    modelscope.serves_git = modelscope.serves_history = serves != "neither"
    if serves == "neither":
        modelscope.lists_commits = True
    modelscope.create("Org/Long", {"config.json": b"{}"})
    for number in range(20):
        modelscope.commit("Org/Long", {WEIGHTS: b"%d" % number})
    hub.create("Org/Long", FILES | {"second.safetensors": OLD})
    result = mirror("--source", "modelscope,huggingface", "Org/Long")
    assert result.code == 0
    assert len(modelscope.requests.of(route="tree")) == (8 if serves != "neither" else 1)
    assert modelscope.requests.bodies() == []


def test_a_second_hub_that_sends_other_bytes_than_it_lists_is_found_out(
    hub, modelscope, mirror, archive, restores
):
    dies(hub)
    modelscope.faults.add(Fault("flip", route="cdn", offset=300_000, times=None))
    result = mirror("--source", "huggingface,modelscope", REPO)
    assert result.code == 22
    hub.faults.clear()
    result = mirror("--json", "--source", "huggingface,modelscope", REPO)
    assert result.code == 0
    came = {part["hub"]: part["bytes"] for part in result.only("mirror")["fetched_from"]}
    assert came == {"huggingface": len(CONTENT)}, "nothing is left of what was wrong"
    restores(archive, FILES)


def test_a_first_source_that_sends_other_bytes_than_it_lists_is_asked_last_then(
    hub, modelscope, mirror, archive, restores
):
    modelscope.faults.add(Fault("flip", route="cdn", offset=300_000, times=None))
    result = mirror("--source", "modelscope,huggingface", REPO)
    assert result.code == 0, result
    assert [record.file for record in modelscope.requests.bodies()] == [WEIGHTS]
    assert sorted(record.file for record in hub.requests.bodies()) == ["config.json", WEIGHTS]
    restores(archive, FILES)


@pytest.mark.parametrize("name", ["lone-model", "datasets/lone-data"])
def test_a_name_that_another_hub_cannot_have_comes_from_its_own(
    hub, modelscope, cli, archive, restores, name
):
    hub.create(name, FILES)
    result = cli("mirror", "-C", archive, "--source", "modelscope,huggingface", name)
    assert result.code == 0, result
    assert len(modelscope.requests) == 0
    restores(archive, FILES, name)


def test_a_second_hub_that_is_not_there_changes_nothing(hub, modelscope, mirror, archive, restores):
    modelscope.stop()
    result = mirror("--source", "modelscope,huggingface", REPO)
    assert result.code == 0
    assert "ModelScope does not give" in result.err
    restores(archive, FILES)


def test_what_both_refuse_is_told_by_the_first(hub, modelscope, mirror):
    dies(hub)
    dies(modelscope)
    result = mirror("--source", "huggingface,modelscope", REPO)
    assert result.code == 30
    assert "stopped at byte 150,000" in result.err


@pytest.mark.parametrize("source", ["elsewhere", "huggingface,", "folder"])
def test_a_source_that_is_no_hub(hub, mirror, source):
    assert mirror("--source", source, REPO).code == 2
    assert len(hub.requests) == 0


def test_a_hub_that_could_not_be_reached_is_asked_last_for_a_while():
    now = 0.0
    hubs = Hubs({}, clock=lambda: now)
    assert not hubs.rests("modelscope")
    hubs.rest("modelscope")
    assert hubs.rests("modelscope")
    now = 601.0
    assert not hubs.rests("modelscope")


def test_many_files_are_not_all_tried_at_a_hub_that_is_down(
    hub, modelscope, archive, mirror, waits
):
    files = {f"{n}.safetensors": b"%d" % n * 1000 for n in range(9)}
    for registry in (hub, modelscope):
        registry.create("Org/Many", files)
    hub.faults.add(Fault("status", route="cdn", status=503, times=None))
    result = mirror("--json", "--jobs", "1", "--source", "huggingface,modelscope", "Org/Many")
    assert result.code == 0
    assert len({record.file for record in hub.requests.of(route="cdn")}) == 1
