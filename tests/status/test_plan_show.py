"""``plan show`` says what a run of a plan would do; ``plan check`` judges patterns by the last run."""

from __future__ import annotations

import pytest
from kit.repository import noise

from archiver.loopback.faults import Fault
from archiver.loopback.hub import Hub


@pytest.fixture
def hub(monkeypatch):
    with Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        for seed, name in enumerate(("Org/Model-1B", "Org/Model-2B")):
            files = {"config.json": b'{"n":%d}' % seed, "weights.bin": noise(seed, 30_000)}
            hub.create(name, files)
        yield hub


@pytest.fixture
def root(run, tmp_path):
    root = tmp_path / "weights"
    assert run("init", "-q", "-C", root).code == 0
    return root


@pytest.fixture
def plan(tmp_path):
    def write(*entries, head=""):
        body = "".join(f"[[repository]]\n{entry}\n" for entry in entries)
        path = tmp_path / "plan.toml"
        path.write_text(f'[plan]\nname = "nightly"\n{head}\n{body}')
        return path

    return write


@pytest.fixture
def show(run, root):
    def call(*args, as_json=True):
        return run("plan", "show", *(["--json"] if as_json else []), "-C", root, *args)

    return call


@pytest.fixture
def sync(run, root):
    def call(path):
        return run("sync", "-q", "-C", root, path, "--min-free", "0B")

    return call


PATTERN = 'name = "Org/Model-*"'


def news(result):
    return {entry["repository"]: entry["news"] for entry in result.kinds("entry")}


def files_of(root):
    return sorted(
        (str(path), path.lstat().st_mtime_ns)
        for path in root.rglob("*")
        if path.is_file() and "tmp" not in path.parts
    )


def test_what_is_new_what_changed_and_what_is_held(show, sync, hub, root, plan):
    path = plan(PATTERN)
    before = files_of(root)
    first = show(path)
    assert (first.code, news(first)) == (24, {"Org/Model-1B": "new", "Org/Model-2B": "new"})
    whole = first.only("plan-show")
    assert (whole["fetch_bytes"], whole["exit_code"], whole["room"]) == (60_014, 24, "enough")
    assert not [request for request in hub.requests if request.route == "resolve"]
    assert files_of(root) == before
    sync(path)
    idle = show(path)
    assert (idle.code, news(idle)) == (0, {"Org/Model-1B": "held", "Org/Model-2B": "held"})
    hub.commit("Org/Model-1B", {"weights.bin": noise(9, 40_000), "new.txt": b"new"})
    hub.create("Org/Model-3B", {"a.txt": b"a"})
    changed = show(path)
    assert changed.code == 24
    one, _, three = changed.kinds("entry")
    counts = {key: one[key] for key in ("news", "added", "changed", "removed", "fetch_bytes")}
    assert counts == {
        "news": "changed",
        "added": 1,
        "changed": 1,
        "removed": 0,
        "fetch_bytes": 40_003,
    }
    assert (three["news"], three["appeared"], three["of"]) == ("new", True, "Org/Model-*")
    text = show(path, as_json=False)
    assert "Plan nightly: 3 entries: 1 new, 1 changed, 1 held as upstream has it." in text.out
    assert "NEW: Org/Model-3B (new for Org/Model-*): 1 file, 1 B; 1 B to fetch." in text.out
    assert "CHANGED: Org/Model-1B (Org/Model-*), " in text.out
    assert ": files: 1 added, 1 changed; 40.0 kB to fetch." in text.out


def test_each_listing_is_asked_for_once(show, hub, plan):
    show(plan(PATTERN))
    routes = sorted(request.route for request in hub.requests)
    assert routes == ["info", "info", "list", "tree", "tree"]


def test_time_and_runs_follow_from_rate_budget_and_window(show, hub, plan):
    head = (
        'budget = { bytes = "20kB", hours = 1 }\nmax_rate = "10kB"\nwindow = "01:00-06:00"\n'
        'timezone = "Europe/Berlin"'
    )
    path = plan(PATTERN, head=head)
    whole = show(path).only("plan-show")
    assert (whole["rate"], whole["rate_source"]) == (10_000, "plan")
    assert (whole["seconds"], whole["runs"]) == (7, 4)
    given = show(path, "--max-rate", "1B").only("plan-show")
    assert (given["rate"], given["seconds"], given["runs"]) == (1, 60_014, 17)
    text = show(path, as_json=False).out
    assert (
        "At 10.0 kB/s, as the plan allows, that takes 7.0 s; within the plan's budget and window, 4 runs."
        in text
    )
    unknown = show(plan(PATTERN), as_json=False).out
    assert "How long that takes is not known" in unknown


def test_what_an_unfinished_run_stored_is_not_fetched_again(show, run, hub, root, plan):
    hub.create("Big/Model", {f"{n:03}.bin": noise(n, 60_000) for n in range(20)})
    path = plan('name = "Big/Model"')
    words = ("--max-bytes", "500kB", "--jobs", "1", "--min-free", "0B")
    assert run("sync", "-q", "-C", root, path, *words).code == 0
    (entry,) = show(path).kinds("entry")
    assert entry["resumed_bytes"] >= 60_000
    assert entry["fetch_bytes"] + entry["resumed_bytes"] == entry["bytes"] == 1_200_000
    assert " stored by an earlier run." in show(path, as_json=False).out


def test_what_cannot_fit_is_told(show, hub, plan):
    path = plan(PATTERN, head='min_free = "900PB"')
    assert show(path).code == 31
    assert "That does not fit, however well it compresses." in show(path, as_json=False).out
    assert show(path, "--min-free", "0B").code == 24


def test_failures_are_told_and_known_ones_ring_no_more(show, sync, run, hub, root, plan):
    path = plan(PATTERN)
    sync(path)
    hub.delete("Org/Model-1B")
    failed = show(path)
    assert (failed.code, news(failed)["Org/Model-1B"]) == (3, "failed")
    assert failed.kinds("entry")[0]["exit_code"] == 23
    assert "FAILED: Org/Model-1B (Org/Model-*): " in show(path, as_json=False).out
    known = plan(f'{PATTERN}\nacknowledge = ["gone"]')
    assert (show(known).code, news(show(known))["Org/Model-1B"]) == (0, "known")
    assert show(plan('name = "Org/x-*"')).code == 23
    hub.faults.add(Fault("status", status=400, route="list", times=None))
    listless = show(plan(PATTERN))
    assert (listless.code, len(listless.kinds("entry"))) == (3, 3)


def test_patterns_that_miss_are_a_failure_before_anything_is_fetched(show, hub, plan):
    result = show(plan('name = "Org/Model-1B"\ninclude = ["*.json"]'))
    assert (result.code, news(result)) == (3, {"Org/Model-1B": "failed"})


def test_a_check_judges_a_pattern_by_the_last_run(run, sync, hub, root, plan, monkeypatch):
    path = plan(PATTERN, 'name = "Org/Other"\nrevisions = ["main", "v1"]')

    def check(as_json=True):
        return run("plan", "check", *(["--json"] if as_json else []), "-C", root, path)

    before = check()
    states = [
        (entry["repository"], entry["wanted"], entry["state"]) for entry in before.kinds("entry")
    ]
    assert before.code == 24
    assert states == [
        ("Org/Model-*", "", "unresolved"),
        ("Org/Other", "", "missing"),
        ("Org/Other", "v1", "missing"),
    ]
    assert "NOT YET ASKED FOR: Org/Model-*." in check(as_json=False).out
    hub.create("Org/Other", {"a.txt": b"a"})
    hub.tag("Org/Other", "v1")
    assert sync(path).code == 0
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    after = check()
    assert (after.code, [entry["state"] for entry in after.kinds("entry")]) == (0, ["held"] * 4)
    assert after.kinds("entry")[0]["of"] == "Org/Model-*"
    assert after.only("plan-check")["besides"] == []


def test_a_check_names_the_right_spelling(run, sync, hub, root, plan):
    sync(plan(PATTERN))
    path = plan('name = "org/model-1b"', 'name = "Org/Model-2C"', 'name = "Qwen/Qwen3.5-08B"')
    result = run("plan", "check", "--json", "-C", root, path)
    entries = {
        entry["repository"]: (entry["state"], entry["spelled"]) for entry in result.kinds("entry")
    }
    assert entries["org/model-1b"] == ("held", "Org/Model-1B")
    assert entries["Org/Model-2C"] == ("missing", "Org/Model-2B")
    assert entries["Qwen/Qwen3.5-08B"][0] == "missing"
    text = run("plan", "check", "-C", root, path).out
    assert "Its name is spelled Org/Model-1B." in text
    assert "MISSING: Org/Model-2C. Did you mean Org/Model-2B?" in text


def test_every_file_is_listed_with_whether_it_is_held(show, sync, hub, plan):
    path = plan(f'{PATTERN}\nexclude = ["*.txt"]')
    assert sync(path).code == 0
    changed = {"weights.bin": noise(9, 40_000), "copy.bin": noise(0, 30_000), "note.txt": b"n"}
    hub.commit("Org/Model-1B", changed)
    result = show(path, "--files")
    one = [file for file in result.kinds("file") if file["repository"] == "Org/Model-1B"]
    assert {file["path"]: (file["size"], file["held"]) for file in one} == {
        "config.json": (7, True),
        "copy.bin": (30_000, True),
        "weights.bin": (40_000, False),
    }
    assert sum(file["size"] for file in one if not file["held"]) == 40_000
    assert result.kinds("entry")[0]["fetch_bytes"] == 40_000
    assert not show(path).kinds("file")
    text = show(path, "--files", as_json=False).out
    assert "Org/Model-1B  weights.bin" in text
    assert text.count("to fetch") == 3, "in the sums, of the entry, and of the file"
