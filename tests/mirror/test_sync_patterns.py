"""Plans whose patterns, authors, collections and revisions only upstream can resolve, and their budgets."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from kit.archive import Weights
from kit.repository import noise

from archiver import text
from archiver.archive.archive import Archive
from archiver.loopback.faults import Fault
from archiver.loopback.hub import Hub
from archiver.storage.locks import RunLock


@pytest.fixture
def hub(monkeypatch):
    with Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        for seed, name in enumerate(
            ("Org/Model-1B", "Org/Model-2B", "Org/Other", "Else/Model-1B", "datasets/Org/Rows")
        ):
            files = {"config.json": b'{"seed": %d}' % seed, "weights.bin": noise(seed, 30_000)}
            hub.create(name, files)
        yield hub


@pytest.fixture
def archive(run, tmp_path):
    root = tmp_path / "weights"
    assert run("init", "-q", "-C", root).code == 0
    return Weights(root)


@pytest.fixture
def plan(tmp_path):
    def write(*entries, head="", name="nightly"):
        body = "".join(f"[[repository]]\n{entry}\n" for entry in entries)
        path = tmp_path / "plan.toml"
        path.write_text(f'[plan]\nname = "{name}"\n{head}\n{body}')
        return path

    return write


@pytest.fixture
def sync(run, archive):
    def call(*args, as_json=True):
        words = ["--json"] if as_json else []
        return run("sync", "-q", *words, "-C", archive.root, "--min-free", "0B", *args)

    return call


def held(archive):
    return sorted(one.seal.repository for one in Archive.open(archive.root).snapshots())


def planned(archive, name="nightly"):
    events = [event for event in archive.events("planned") if event["detail"]["plan"] == name]
    return [
        (entry["repository"], entry.get("revision", ""), entry.get("of", ""))
        for entry in max(events, key=lambda event: event["time"])["detail"]["entries"]
    ]


def newest(archive, kind):
    return max(archive.events(kind), key=lambda event: event["time"])["detail"]


def report(result):
    return result.only("sync")


PATTERN = 'name = "Org/Model-*"'


def test_a_pattern_stands_for_what_upstream_has(sync, hub, archive, plan):
    result = sync(plan(PATTERN))
    assert (result.code, held(archive)) == (0, ["Org/Model-1B", "Org/Model-2B"])
    assert planned(archive) == [
        ("Org/Model-1B", "", "Org/Model-*"),
        ("Org/Model-2B", "", "Org/Model-*"),
    ]
    assert report(result)["appeared"] == []


def test_an_author_and_a_collection_of_models_and_datasets(sync, hub, archive, plan):
    hub.collection("Org/both", ["Else/Model-1B", "datasets/Org/Rows"])
    result = sync(plan('author = "Org"', 'collection = "Org/both"', 'author = "datasets/Org"'))
    assert result.code == 0
    assert held(archive) == [
        "Else/Model-1B",
        "Org/Model-1B",
        "Org/Model-2B",
        "Org/Other",
        "datasets/Org/Rows",
    ]
    assert [of for *_, of in planned(archive)] == ["Org/*"] * 3 + ["collection Org/both"] * 2


def test_what_another_entry_stood_for_is_nothing_new(sync, hub, archive, plan):
    path = plan(PATTERN, 'author = "Org"')
    assert sync(path).code == 0
    assert report(sync(path))["appeared"] == []
    hub.create("Org/New", {"config.json": b"new"})
    assert report(sync(path))["appeared"] == ["Org/New"]


def test_case_does_not_count_in_a_pattern(sync, hub, archive, plan):
    assert sync(plan('name = "Org/model-?b"')).code == 0
    assert held(archive) == ["Org/Model-1B", "Org/Model-2B"]


def test_lists_of_many_pages_are_read_to_their_end(sync, hub, archive, plan):
    hub.page_size = 1
    for number in range(6):
        hub.create(f"Many/m{number}", {"a.txt": b"a"})
    assert sync(plan('author = "Many"')).code == 0
    assert len(held(archive)) == 6


def test_what_appears_is_news_and_what_vanishes_stays_in_the_plan(sync, hub, archive, plan):
    path = plan(PATTERN)
    sync(path)
    hub.create("Org/Model-3B", {"a.txt": b"a"})
    second = sync(path)
    assert (second.code, report(second)["appeared"]) == (0, ["Org/Model-3B"])
    assert "Org/Model-3B" in held(archive)
    hub.delete("Org/Model-1B")
    third = sync(path)
    assert (third.code, report(third)["gone"]) == (3, ["Org/Model-1B"])
    assert (report(third)["appeared"], len(planned(archive))) == ([], 3)
    text = sync(path, as_json=False)
    assert "Gone upstream, or never there: Org/Model-1B." in text.out


def test_revisions_are_names_patterns_and_words(sync, hub, archive, plan):
    hub.commit("Org/Other", {"new.txt": b"1"})
    hub.tag("Org/Other", "v1")
    hub.commit("Org/Other", {"new.txt": b"2"})
    hub.tag("Org/Other", "v2")
    hub.branch("Org/Other", "fp8")
    hub.commit("Org/Other", {"new.txt": b"3"})
    name = 'name = "Org/Other"\n'
    for number, (words, names) in enumerate(
        (
            ('["v*"]', ["v1", "v2"]),
            ('["main", "v1"]', ["", "v1"]),
            ('["tags"]', ["v1", "v2"]),
            ('["branches"]', ["fp8", ""]),
            ('["all"]', ["fp8", "", "v1", "v2"]),
            ('["v2", "v*"]', ["v2", "v1"]),
        )
    ):
        result = sync(plan(f"{name}revisions = {words}", name=f"p{number}"))
        assert (result.code, [revision for _, revision, _ in planned(archive, f"p{number}")]) == (
            0,
            names,
        )
    assert len(held(archive)) == 3, "three contents of it are held"


def test_an_entry_of_its_own_goes_before_a_pattern(sync, hub, archive, plan):
    own = 'name = "Org/Model-2B"\ninclude = ["*.bin"]\npartial = true'
    assert sync(plan(PATTERN, own)).code == 0
    files = {
        snapshot.seal.repository: snapshot.seal.totals.files
        for snapshot in Archive.open(archive.root).snapshots()
    }
    assert files == {"Org/Model-1B": 2, "Org/Model-2B": 1}
    assert planned(archive) == [("Org/Model-1B", "", "Org/Model-*"), ("Org/Model-2B", "", "")]


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ('name = "Org/Nothing-*"', "and none fits Org/Nothing-*"),
        ('author = "Nobody"', "Upstream lists no model of Nobody."),
        ('collection = "Org/none"', "Org/none"),
        ('name = "Org/Other"\nrevisions = ["v*"]', "has no branch or tag that fits v*"),
    ],
)
def test_what_stands_for_nothing_fails(sync, hub, archive, plan, entry, told):
    result = sync(plan(entry, 'name = "Else/Model-1B"'))
    assert (result.code, held(archive)) == (3, ["Else/Model-1B"])
    (error,) = result.kinds("error")
    assert told in error["message"]
    assert error["exit_code"] == 23
    assert len(planned(archive)) == 2


def test_while_a_list_cannot_be_had_what_it_was_before_is_mirrored(sync, hub, archive, plan):
    path = plan(PATTERN)
    sync(path)
    before = len(archive.events("planned"))
    hub.commit("Org/Model-1B", {"new.txt": b"new"})
    hub.faults.add(Fault("status", status=400, route="list", times=None))
    result = sync(path)
    assert (result.code, report(result)["new"], report(result)["unresolved"]) == (
        3,
        1,
        ["Org/Model-*"],
    )
    assert len(archive.events("planned")) == before
    assert len(newest(archive, "synced")["outcomes"]) == 2


def test_a_run_that_is_stopped_while_it_asks_has_said_what_is_wanted(
    sync, run, hub, archive, plan, monkeypatch
):
    def interrupted(*_):
        raise KeyboardInterrupt

    path = plan(PATTERN)
    monkeypatch.setattr("archiver.upstream.huggingface.client.repositories_of", interrupted)
    assert sync(path).code == 130
    assert planned(archive) == [("Org/Model-*", "", "")]
    assert newest(archive, "synced")["outcomes"] == ["not-tried"]
    status = run("status", "-C", archive.root)
    assert "1 of 1 repository not held: Org/Model-*" in status.out
    monkeypatch.undo()
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    assert sync(path).code == 0


def test_two_runs_of_a_plan_do_not_both_ask(sync, hub, archive, plan):
    lock = Archive.open(archive.root).store.folder.scratch("plan-nightly.lock")
    with RunLock(lock, "The plan nightly"):
        assert sync(plan(PATTERN)).code == 11
    assert len(hub.requests) == 0


def test_a_name_that_is_not_there_is_told_with_the_right_one(sync, hub, archive, plan):
    result = sync(plan('name = "Org/Model1B"'))
    assert result.code == 23
    assert "Did you mean Org/Model-1B?" in result.err
    assert sync(plan('name = "Org/Other"')).code == 0
    result = sync(plan('name = "org/model-1b"'))
    assert "Did you mean Org/Model-1B?" in result.err, "as the archive spells the organisation"


def test_priority_comes_first_and_then_the_order_of_the_plan(sync, hub, archive, plan):
    first = 'name = "Org/Other"\npriority = 5'
    last = 'name = "Else/Model-1B"\npriority = -1'
    result = sync(plan(last, PATTERN, first))
    assert [each["repository"] for each in result.kinds("mirror")] == [
        "Org/Other",
        "Org/Model-1B",
        "Org/Model-2B",
        "Else/Model-1B",
    ]


def test_a_run_stops_once_it_has_fetched_enough_and_the_next_goes_on(sync, run, hub, archive, plan):
    path = plan('author = "Org"', head="budget = { bytes = 30_011 }")
    first = sync(path)
    assert (first.code, report(first)["stopped"], len(held(archive))) == (0, "bytes", 1)
    assert report(first)["not_tried"] == ["Org/Model-2B", "Org/Other"]
    assert report(first)["exit_code"] == 0
    detail = newest(archive, "synced")
    assert (detail["stopped"], detail["outcomes"]) == (
        "bytes",
        ["sealed", "not-tried", "not-tried"],
    )
    log = run("log", "-C", archive.root).out
    assert "; stopped, its bytes were used up." in log
    second = sync(path, as_json=False)
    assert "Stopped, as it has fetched what it may fetch at once" in second.out
    third = sync(path, "--max-bytes", "1GB")
    assert (third.code, report(third)["stopped"], len(held(archive))) == (0, "", 3)
    assert "stopped" not in newest(archive, "synced")


def test_a_run_stops_within_a_repository(sync, hub, archive, plan):
    files = {f"{number:03}.bin": noise(number, 60_000) for number in range(40)}
    hub.create("Big/Model", files)
    path = plan('name = "Big/Model"')
    first = sync(path, "--max-bytes", "100kB", "--jobs", "1")
    assert (first.code, report(first)["stopped"], held(archive)) == (0, "bytes", [])
    assert report(first)["not_tried"] == ["Big/Model"]
    assert report(first)["fetched"] < 400_000
    assert newest(archive, "synced")["outcomes"] == ["interrupted"]
    second = sync(path)
    assert (second.code, held(archive)) == (0, ["Big/Model"])
    assert second.only("mirror")["resumed_bytes"] >= 60_000


def clock(monkeypatch, moment):
    """Let the date be this; time goes on from there."""
    real = text.wall_clock
    ahead = moment - real()
    for module in ("archiver.text", "archiver.cli.sync", "archiver.plan.budget"):
        monkeypatch.setattr(f"{module}.wall_clock", lambda: real() + ahead)


WINDOW = 'window = "01:00-06:00"\ntimezone = "Europe/Berlin"'


def test_a_closed_window_is_no_time_to_run(sync, hub, archive, plan, monkeypatch):
    path = plan(PATTERN, head=WINDOW)
    clock(monkeypatch, datetime(2026, 11, 30, 12, tzinfo=UTC))
    closed = sync(path)
    assert (closed.code, len(hub.requests), archive.events("planned")) == (4, 0, [])
    assert "opens at 2026-12-01 01:00 (Europe/Berlin)" in closed.err
    assert sync(path, "--dry-run").code == 0
    assert sync(path, "--now").code == 0


def test_a_window_that_ends_ends_the_run(sync, hub, archive, plan, monkeypatch):
    path = plan(PATTERN, head=WINDOW)
    end = datetime(2026, 12, 1, 5, tzinfo=UTC)
    clock(monkeypatch, end - timedelta(seconds=1))
    hub.faults.add(Fault("slow_head", route="list", seconds=0.05, times=None))
    result = sync(path)
    assert (result.code, report(result)["stopped"], held(archive)) == (0, "window", [])
    assert planned(archive)[0] == ("Org/Model-*", "", ""), "what was wanted when it ended is known"


def test_rate_and_room_are_as_the_plan_says_unless_the_command_does(
    run, hub, archive, plan, monkeypatch
):
    path = plan(PATTERN, head='min_free = "900PB"\nmax_rate = "1GB"')
    full = run("sync", "--json", "-C", archive.root, path)
    assert (full.code, report(full)["min_free"]) == (31, 900 * 10**15)
    assert run("sync", "--json", "-C", archive.root, path, "--min-free", "0B").code == 0


def test_a_loss_that_the_plan_knows_of_fails_no_run(sync, run, hub, archive, plan):
    path = plan(PATTERN)
    sync(path)
    hub.delete("Org/Model-1B")
    assert sync(path).code == 3
    today = text.utc_now()[:10]
    known = plan(f"{PATTERN}\ngone = {today}")
    result = sync(known)
    assert (result.code, report(result)["acknowledged"]) == (0, ["Org/Model-1B"])
    (status,) = run("status", "--json", "-C", archive.root).kinds("plan")
    states = {entry["repository"]: entry["acknowledged"] for entry in status["entries"]}
    assert states == {"Org/Model-1B": True, "Org/Model-2B": False}
    before = plan(f"{PATTERN}\ngone = 2020-01-01")
    assert sync(before).code == 3, "it was seen after that day"


def test_what_a_run_was_told_of_smoke_and_effort_is_kept(sync, hub, archive, plan):
    sync(
        plan(f'{PATTERN}\nsmoke = "forward"\neffort = "fast"', 'name = "Org/Other"\nsmoke = false')
    )
    entries = newest(archive, "planned")["entries"]
    assert [entry["smoke"] for entry in entries] == ["forward", "forward", "none"]


def test_hostile_lists_cost_little(sync, hub, archive, plan):
    names = ["Org/../x", "Org/a b", "Else/y", "Org", 3, None, "Org/" + "x" * 5000, "Org/Model-1B"]

    def listed(body):
        hub.faults.clear()
        hub.faults.add(Fault("forge", route="list", forge=lambda _: (body, {}), times=None))

    listed(json.dumps([{"id": name} for name in names if name != 3]).encode())
    assert sync(plan('author = "Org"')).code == 0
    assert planned(archive) == [("Org/Model-1B", "", "Org/*")]
    for body in (b"{}", b"[3]", b'[{"id": 3}]', b"[" * 100_000, b"no"):
        listed(body)
        assert sync(plan('author = "Org"', name="other")).code in {22, 30}


def test_a_list_that_leads_back_to_itself_ends(sync, hub, archive, plan):
    link = f'<{hub.endpoint}/api/models?author=Org&limit=1000>; rel="next"'
    forged = (b'[{"id": "Org/Other"}]', {"Link": link})
    hub.faults.add(Fault("forge", route="list", forge=lambda _: forged, times=3))
    result = sync(plan('author = "Org"'))
    assert (result.code, len([each for each in hub.requests if each.route == "list"])) == (30, 1)
    assert "leads back to a page that it had before" in result.err


def test_a_plan_mirrors_from_two_hubs_and_takes_bytes_in_its_order(
    sync, run, hub, modelscope, archive, plan
):
    files = {"config.json": b"{}", "weights.bin": noise(77, 50_000)}
    modelscope.create("Org/Model", files)
    modelscope.tag("Org/Model", "v1")
    hub.create("Org/Twin", files)
    modelscope.create("Org/Twin", files)
    twin = 'name = "Org/Twin"\nsources = ["modelscope", "huggingface"]'
    path = plan(twin, 'name = "modelscope:Org/Model"\nrevisions = ["master", "v1"]')
    result = sync(path)
    assert result.code == 0, result
    assert held(archive) == ["Org/Twin", "modelscope:Org/Model"]
    assert planned(archive)[1:] == [
        ("modelscope:Org/Model", "", "modelscope:Org/Model@master,v1"),
        ("modelscope:Org/Model", "v1", "modelscope:Org/Model@master,v1"),
    ]
    assert [record.file for record in hub.requests.bodies() if record.file == "weights.bin"] == []
    assert run("plan", "check", "-C", archive.root, path).code == 0


@pytest.mark.parametrize("serves_git", [True, False])
def test_a_plan_follows_authors_branches_and_tags_of_modelscope(
    sync, run, hub, modelscope, archive, plan, serves_git
):
    modelscope.serves_git = serves_git
    for seed, name in enumerate(
        ("Org/Model-1B", "Org/Other", "Else/Model-1B", "datasets/Org/Rows")
    ):
        modelscope.create(name, {"config.json": b'{"seed": %d}' % seed})
    modelscope.tag("Org/Model-1B", "v1")
    modelscope.commit("Org/Model-1B", {"config.json": b"{}"})
    modelscope.branch("Org/Model-1B", "dev")
    modelscope.commit("Org/Model-1B", {"config.json": b"[]"}, branch="dev")
    path = plan(
        'name = "modelscope:Org/Model-*"\nrevisions = ["all"]',
        'author = "modelscope:Org"',
        'author = "modelscope:datasets/Org"',
    )
    result = sync(path)
    assert result.code == 0, result
    assert held(archive) == [
        *["modelscope:Org/Model-1B"] * 3,
        "modelscope:Org/Other",
        "modelscope:datasets/Org/Rows",
    ]
    assert {entry[:2] for entry in planned(archive)} == {
        ("modelscope:Org/Model-1B", ""),
        ("modelscope:Org/Model-1B", "dev"),
        ("modelscope:Org/Model-1B", "v1"),
        ("modelscope:Org/Other", ""),
        ("modelscope:datasets/Org/Rows", ""),
    }
    modelscope.tag("Org/Model-1B", "v2")
    modelscope.create("Org/New", {"config.json": b"new"})
    again = sync(path)
    assert sorted(report(again)["appeared"]) == ["modelscope:Org/Model-1B@v2", "modelscope:Org/New"]
    assert len(hub.requests) == 0


def test_an_authors_list_of_many_pages_and_one_that_modelscope_cuts_off(
    sync, modelscope, archive, plan, monkeypatch
):
    from archiver.upstream.modelscope import search

    for number in range(12):
        modelscope.create(f"Org/M{number:02}", {"a": b"%d" % number})
    modelscope.create("Organic/M", {"a": b"x"})
    monkeypatch.setattr(search, "_PAGE", 5)
    assert sync(plan('author = "modelscope:Org"')).code == 0
    assert len(held(archive)) == 12
    assert len(modelscope.requests.of(route="list")) == 3
    monkeypatch.setattr(search, "LISTED_MAX", 10)
    refused = sync(plan('author = "modelscope:Org"', name="other"))
    assert (refused.code, "lists no more than 10 of them" in refused.err) == (22, True)
    missing = sync(plan('author = "modelscope:None"', name="third"))
    assert (missing.code, "Upstream lists no model of" in missing.err) == (23, True)


def test_a_collection_of_modelscope_is_refused_with_the_reason(sync, modelscope, plan):
    refused = sync(plan('collection = "modelscope:Org/all"'))
    assert refused.code == 2
    assert "of a collection its API lists skills only" in refused.err
    assert len(modelscope.requests) == 0


def test_branches_and_tags_that_nothing_lists_are_no_plan(sync, modelscope, archive, plan):
    modelscope.create("Org/Model", {"a": b"1"})
    modelscope.serves_git = False
    modelscope.faults.add(Fault("status", route="refs", status=404, times=None))
    refused = sync(plan('name = "modelscope:Org/Model"\nrevisions = ["tags"]'))
    assert "cannot be asked which branches and tags there are" in refused.err
    assert refused.code == 2


def test_a_run_whose_time_is_over_while_an_author_is_listed_ends_well(sync, hub, archive, plan):
    """A page each fifth of a second at most, of as many pages as there are names."""
    for number in range(60):
        hub.create(f"Many/{number:03}", {"config.json": b"{}"})
    hub.page_size, hub.delay = 1, 0.2
    result = sync(plan('author = "Many"'), "--max-duration", "1s")
    assert (result.code, report(result)["stopped"], held(archive)) == (0, "time", [])
    assert len(hub.requests.of(route="list")) < 60
    hub.page_size, hub.delay = 1000, 0.0
    second = sync(plan('author = "Many"'))
    assert (second.code, report(second)["new"]) == (0, 60)


@pytest.mark.parametrize("route", ["list", "info", "tree", "resolve"])
@pytest.mark.parametrize(
    "fault",
    [{"kind": "slow_head", "seconds": 0.05}, {"kind": "rate_limit", "seconds": 300}],
    ids=lambda fault: fault["kind"],
)
def test_a_hub_that_lets_us_wait_does_not_hold_a_run_past_its_time(
    sync, hub, archive, plan, route, fault
):
    hub.faults.add(Fault(**fault, route=route, times=None))
    result = sync(plan(PATTERN), "--max-duration", "1s")
    assert (result.code, report(result)["stopped"]) == (0, "time")
    hub.faults.clear()
    assert sync(plan(PATTERN)).code == 0
