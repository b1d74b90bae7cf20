"""``status`` judges the plans that feed an archive: what is wanted, held, gone, and when it was asked."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from datetime import timedelta

import numpy as np
import pytest
from kit import processes
from kit.cli import invoke
from kit.disks import memory_disk
from kit.journal import raw_event
from statuskit import Answer

from archiver.archive.archive import Archive
from archiver.archive.events import TOOL
from archiver.loopback.hub import Hub
from archiver.text import utc_now

A, B, C = ('name = "org/a"', 'name = "org/b"', 'name = "org/c"')
NEVER = 'name = "org/never"'
PATIENCE = 120
"""Seconds for what must come; reached only if it never does."""


@pytest.fixture
def hub(monkeypatch):
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    with Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        for name in ("org/a", "org/b", "org/c"):
            hub.create(name, {"config.json": b"{}", "notes.txt": name.encode() * 99})
        yield hub


@pytest.fixture
def root(tmp_path):
    assert invoke("init", "-q", "-C", tmp_path / "plans") == 0
    return tmp_path / "plans"


@pytest.fixture
def plan(tmp_path):
    def write(*entries, name="nightly", head=""):
        text = f'[plan]\nname = "{name}"\n{head}\n'
        path = tmp_path / f"{name}.toml"
        path.write_text(text + "".join(f"[[repository]]\n{entry}\n" for entry in entries))
        return path

    return write


@pytest.fixture
def sync(ask):
    def call(*args):
        return ask("sync", "--json", "--min-free", "0B", *args)

    return call


def entries(found):
    return {entry["repository"]: entry for plan in found.kinds("plan") for entry in plan["entries"]}


def states(found):
    return {name: one["state"] for name, one in entries(found).items()}


def events(root, kind):
    return [one for _, one in Archive.open(root).events() if one.event == kind]


def test_an_empty_archive_is_not_well(ask, root):
    result = ask("status", "--json")
    assert (result.code, set(result.short)) == (24, {"empty"})
    text = ask("status").out.splitlines()
    assert text[0].startswith("NOT AS WANTED: 1 thing falls short. 0 snapshots")
    assert text[1:3] == [
        "SHORT: The archive is empty: it holds no snapshot.",
        f"    → Run 'archiver mirror -C {root} REPO'.",
    ]


def test_a_plan_is_journalled_once_and_met(ask, sync, hub, root, plan):
    path = plan(A, B + '\ninclude = ["*.json"]')
    assert [sync(path).code for _ in range(2)] == [0, 0]
    (planned,) = events(root, "planned")
    assert planned.fields["plan"] == "nightly"
    assert planned.fields["source"] == str(path)
    assert planned.fields["entries"] == [
        {"repository": "org/a"},
        {"repository": "org/b", "include": ["*.json"]},
    ]
    outcomes = [event.fields["outcomes"] for event in events(root, "synced")]
    assert outcomes == [["sealed", "sealed"], ["held", "held"]]
    assert ask("audit", "-q").code == 0
    result = ask("status", "--json")
    assert (result.code, states(result)) == (0, {"org/a": "held", "org/b": "held"})
    assert "Plan nightly: 2 of 2 repositories held; last run 20" in ask("status").out
    assert sync(plan(A, B)).code == 0
    assert len(events(root, "planned")) == 2


def test_what_a_plan_wants_and_is_not_held_falls_short(ask, sync, hub, plan):
    path = plan(A, NEVER, B)
    assert sync(path).code == 3
    assert ask("audit", "-q").code == 0
    result = ask("status", "--json")
    assert (result.code, set(result.short)) == (24, {"plan-missing"})
    assert result.short["plan-missing"][-1] == str(path)
    (short,) = result.kinds("shortfall")
    assert (short["plan"], short["entries"]) == ("nightly", ["org/never"])
    never = entries(result)["org/never"]
    assert (never["state"], never["outcome"], never["snapshot"]) == ("missing", "gone", "")
    assert entries(result)["org/a"]["snapshot"]
    line = next(line for line in ask("status").out.splitlines() if line.startswith("SHORT"))
    assert "1 of 3 repositories not held: org/never." in line
    assert line.endswith("no longer, or never had: correct the name in the plan, or take it out.")


def test_other_patterns_than_the_plans_do_not_meet_it(ask, sync, hub, plan):
    assert sync(plan(A), "--include", "*.json").code == 0
    assert states(ask("status", "--json")) == {"org/a": "missing"}
    assert sync(plan(A)).code == 0
    assert states(ask("status", "--json")) == {"org/a": "held"}


def test_what_nobody_vouched_for_does_not_meet_a_plan(ask, sync, hub, root, plan, tmp_path):
    folder = tmp_path / "from a friend"
    folder.mkdir()
    (folder / "config.json").write_bytes(b"{}")
    (folder / "notes.txt").write_bytes(b"org/a" * 99)
    result = ask("import", "-q", folder, "--as", "org/a", "--min-free", "0B")
    assert (result.code, ask("audit", "-q").code) == (0, 0)
    path = plan(A)
    place = json.loads((root / "place.json").read_bytes())["place"]
    wanted = {"plan": "nightly", "place": place, "source": str(path)}
    wanted["entries"] = [{"repository": "org/a"}]
    Archive.open(root).record(raw_event("planned", utc_now(), TOOL, detail=wanted))
    result = ask("status", "--json")
    assert (result.code, states(result)) == (24, {"org/a": "unvouched"})
    assert result.short == {"plan-unvouched": ["sync", "-C", str(root), str(path)]}
    (short,) = result.kinds("shortfall")
    assert (short["plan"], short["entries"]) == ("nightly", ["org/a"])
    lines = ask("status").out.splitlines()
    assert (
        lines[1] == "SHORT: The plan nightly: held, but nobody vouched for all of the bytes: org/a."
    )
    assert "Plan nightly: 0 of 1 repository held;" in "\n".join(lines)
    checked = ask("plan", "check", path)
    assert (checked.code, "NOBODY VOUCHED: org/a" in checked.out) == (24, True)
    assert f"    → Run 'archiver sync -C {root} {path}'." in checked.out
    assert sync(path).code == 0
    assert ask("audit", "-q").code == 0
    assert (ask("status").code, ask("plan", "check", path).code) == (0, 0)


def test_a_plan_that_is_killed_at_once_is_remembered(ask, root, plan):
    path = plan(A, B)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        environment = os.environ | {"HF_ENDPOINT": f"http://127.0.0.1:{port}"}
        command = [sys.executable, "-m", "archiver", "sync", "-C", str(root), str(path)]
        child = processes.start(command, env=environment)
        asked, _ = silent.accept()  # it asks for the first repository: nothing will answer
        child.send_signal(signal.SIGKILL)
        asked.close()
        assert child.wait(PATIENCE) == -signal.SIGKILL
    result = ask("status", "--json")
    assert (result.code, set(result.short)) == (24, {"empty", "plan-missing"})
    assert result.short["empty"][0] == "sync"
    assert states(result) == {"org/a": "missing", "org/b": "missing"}
    (told,) = result.kinds("plan")
    assert (told["ran"], told["exit_code"]) == ("", -1)


def test_an_interrupted_run_says_what_it_did_and_what_not(root, plan, ask, hub):
    path = plan(A, B, C)
    assert ask("mirror", "-q", "org/a", "--min-free", "0B").code == 0
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        environment = os.environ | {"HF_ENDPOINT": f"http://127.0.0.1:{port}"}
        command = [sys.executable, "-m", "archiver", "sync", "-C", str(root), str(path)]
        child = processes.start(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        asked, _ = silent.accept()
        child.send_signal(signal.SIGTERM)
        out, err = child.communicate(timeout=PATIENCE)
        asked.close()
    assert (child.returncode, "Traceback" in err) == (130, False)
    assert "0 of 3 repositories done: 0 new, 0 held, 0 failed, 0 gone upstream, 3 not tried" in out
    assert "Not tried: org/a, org/b, org/c." in out
    (synced,) = events(root, "synced")
    assert synced.fields["outcomes"] == ["interrupted", "not-tried", "not-tried"]
    assert synced.fields["exit_code"] == 130


def test_a_replica_does_not_judge_the_plans_of_another_place(ask, sync, hub, root, plan, tmp_path):
    assert sync(plan(A, NEVER)).code == 3
    replica = tmp_path / "replica"
    assert ask("copy", "-q", "--new", str(replica)).code == 0
    result = ask("status", "--json", "-C", str(replica))
    assert not result.kinds("plan")
    assert "plan-missing" not in result.short
    assert len(events(replica, "planned")) == 1


def test_a_retired_plan_is_judged_no_more_until_it_runs_again(ask, sync, hub, plan):
    path = plan(A, NEVER)
    assert sync(path).code == 3
    assert ask("plan", "retire", "never").code == 2
    assert ask("plan", "retire", "nightly").code == 0
    assert not ask("status", "--json").kinds("plan")
    assert ask("plan", "retire", "nightly").code == 2
    assert sync(path).code == 3
    assert "plan-missing" in ask("status", "--json").short


def test_a_last_success_that_is_too_long_ago_falls_short(ask, sync, hub, root, plan, monkeypatch):
    import archiver.archive.plans as judged

    path = plan(A, B, head='max_age = "30d"')
    assert sync(path).code == 0
    assert ask("audit", "-q").code == 0
    assert ask("status").code == 0
    asked = []

    def later(seconds):  # as if that long had passed
        asked.append(seconds)
        return "2999-01-01T00:00:00Z"

    monkeypatch.setattr(judged, "utc_before", later)
    result = ask("status", "--json")
    assert (result.code, set(result.short), set(asked)) == (24, {"plan-late"}, {30 * 86400})
    assert states(result) == {"org/a": "late", "org/b": "late"}
    assert sync(plan(A, B)).code == 0
    ask("status")
    assert asked[-1] == 7 * 86400


def test_an_answer_under_a_clock_that_was_wrong_is_not_fresh_for_years(
    ask, sync, hub, root, plan, monkeypatch
):
    from archiver import text

    clock = text.wall_clock
    monkeypatch.setattr(text, "wall_clock", lambda: clock() + timedelta(days=9999))
    assert sync(plan(A)).code == 0
    monkeypatch.setattr(text, "wall_clock", clock)
    assert ask("audit", "-q").code == 0
    result = ask("status", "--json")
    assert {"plan-late", "clock"} <= set(result.short)
    assert states(result) == {"org/a": "late"}


def test_upstream_that_cannot_be_reached_does_not_count_as_an_answer(ask, sync, hub, plan, root):
    path = plan(A, B, C)
    assert sync(path).code == 0
    before = entries(ask("status", "--json"))["org/a"]["answered"]
    hub.stop()
    result = sync(path)
    (report,) = result.kinds("sync")
    assert (result.code, report["ended"], report["not_tried"]) == (30, 30, ["org/c"])
    one = entries(ask("status", "--json"))["org/a"]
    assert (one["outcome"], one["answered"], one["state"]) == ("unreachable", before, "held")


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 24 MiB."""
    with memory_disk(tmp_path / "disk", 24 << 20) as folder:
        yield folder


def test_a_disk_that_fills_up_ends_a_plan_with_a_verdict(ask, hub, plan, small_disk):
    names = [f"org/m{number}" for number in range(5)]
    for seed, name in enumerate(names):
        data = np.random.default_rng(seed).integers(0, 256, 9 << 20, np.uint8).tobytes()
        hub.create(name, {"weights.bin": data})
    root = small_disk / "weights"
    assert ask("init", "-q", "-C", root).code == 0
    path = plan(*(f'name = "{name}"' for name in names))
    words = ("sync", "-C", root, "--min-free", "0B", "--effort", "fast", path)
    result = ask(*words, "--json")
    (report,) = result.kinds("sync")
    assert (result.code, report["ended"], report["new"]) == (31, 31, 2)
    assert (report["failed"], report["not_tried"]) == (["org/m2"], ["org/m3", "org/m4"])
    assert report["stored"] > 18 << 20
    again = ask(*words)
    assert again.code == 31
    assert "Plan nightly: 2 of 5 repositories done: 0 new, 2 held, 1 failed" in again.out
    assert "  Failed: org/m2.\n  Not tried: org/m3, org/m4.\n" in again.out
    state = ask("status", "-C", root, "--json")
    assert (state.code, set(state.short)) == (24, {"audit", "plan-missing"})
    assert entries(state)["org/m2"]["outcome"] == "no-space"
    assert "room" in [remark["what"] for remark in state.status["remarks"]]
    planned = ask("sync", "-C", root, "--json", "--dry-run", "--min-free", "0B", path)
    assert (planned.code, planned.kinds("sync")[0]["room"]) == (31, "too-little")


def test_a_disk_that_is_full_to_the_last_byte(ask, hub, plan, small_disk):
    root = small_disk / "weights"
    assert ask("init", "-q", "-C", root).code == 0
    with (small_disk / "ballast").open("wb") as file:
        room = os.statvfs(small_disk)
        os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize)
    result = ask("sync", "-C", root, "--min-free", "0B", plan(A, B))
    assert result.code == 31
    assert "0 of 2 repositories done: 0 new, 0 held, 1 failed, 0 gone upstream, 1 not tried" in (
        result.out
    )
    assert ask("status", "-C", root).code == 24


# ---- what is known


def test_what_is_gone_and_acknowledged_is_told_and_fails_nothing(ask, sync, hub, root, plan):
    path = plan(A, B)
    assert sync(path).code == 0
    assert ask("audit", "-q").code == 0
    assert ask("acknowledge", "gone", "org/b").code == 2, "nothing says that it is gone"
    hub.delete("org/b")
    first = sync(path)
    assert first.code == 3
    (error,) = first.kinds("error")
    assert f"'archiver acknowledge -C {root} gone org/b'" in error["hint"]
    assert "name" not in error["hint"], "what is held is not mistyped"
    short = ask("status", "--json")
    assert (short.code, set(short.short)) == (24, {"plan-gone"})
    assert ask(*short.short["plan-gone"], "--note", "deleted by its owner").code == 0
    later = sync(path)
    assert (later.code, later.kinds("error")) == (0, [])
    (known,) = later.kinds("acknowledged")
    assert (known["repository"], known["fact"]) == ("org/b", "gone")
    (report,) = later.kinds("sync")
    assert (report["gone"], report["acknowledged"], report["exit_code"]) == (
        ["org/b"],
        ["org/b"],
        0,
    )
    result = ask("status")
    assert result.code == 0
    assert ", as is known: org/b; it is held here." in result.out
    assert "deleted by its owner" in ask("acknowledge").out
    assert ask("acknowledge", "gone", "org/b", "--undo").code == 0
    assert (sync(path).code, ask("status").code) == (3, 24)


def test_a_loss_that_a_mirror_saw_is_told(ask, hub, root):
    args = ("mirror", "-q", "org/a", "--min-free", "0B")
    assert ask(*args).code == 0
    assert ask("audit", "-q").code == 0
    hub.delete("org/a")
    assert [ask(*args).code for _ in range(2)] == [23, 23]
    assert len(events(root, "gone")) == 1
    result = ask("status")
    assert (result.code, "Gone upstream since 20" in result.out) == (0, True), "no plan wants it"
    assert ask("acknowledge", "gone", "org/a").code == 0
    assert ", as is known: org/a; it is held here." in ask("status").out


def test_what_is_new_rings_again(ask, sync, hub, root, plan):
    path = plan(A, B)
    assert sync(path).code == 0
    files = {"config.json": b"{}", "notes.txt": b"org/b" * 99}
    hub.delete("org/b")
    assert sync(path).code == 3
    assert ask("acknowledge", "gone", "org/b").code == 0
    hub.delete("org/a")
    result = sync(path)
    assert (result.code, [error["repository"] for error in result.kinds("error")]) == (3, ["org/a"])
    hub.create("org/b", files)
    assert sync(path).code == 3
    hub.delete("org/b")
    assert {error["repository"] for error in sync(path).kinds("error")} == {"org/a", "org/b"}


def test_that_nothing_is_acknowledged_is_said(ask, root):
    answer = ask("acknowledge")
    assert (answer.code, answer.out) == (0, "Nothing is acknowledged.\n")


def test_an_acknowledgement_ends(ask, sync, hub, root, plan):
    path = plan(A, B)
    assert sync(path).code == 0
    hub.delete("org/b")
    assert sync(path).code == 3
    assert ask("acknowledge", "gone", "org/b", "--until", "2020-01-01").code == 0
    assert sync(path).code == 3
    assert ask("acknowledge", "gone", "org/b", "--until", "90d").code == 0
    assert sync(path).code == 0
    assert ask("acknowledge", "gone", "org/b", "--until", "soon").code == 2


def test_a_plan_says_what_is_known(ask, sync, hub, plan):
    path = plan(A, B + '\nacknowledge = ["gone", "refused"]')
    assert sync(path).code == 0
    assert ask("audit", "-q").code == 0
    hub.disable("org/b")
    assert (sync(path).code, ask("status").code) == (0, 0)
    hub.delete("org/b")
    assert (sync(path).code, ask("status").code) == (0, 0)


def test_what_never_came_cannot_be_acknowledged_away(ask, sync, hub, plan):
    path = plan(A, NEVER + '\nacknowledge = ["gone"]')
    assert sync(path).code == 3
    assert set(ask("status", "--json").short) >= {"plan-missing"}
    answer = ask("acknowledge", "gone", "org/never")
    assert (answer.code, "take it out of the plan" in answer.err) == (2, True)


@pytest.mark.parametrize(
    "fact", ["damage", "copies", "missing", "pack-damaged", "audit", "", "\x1b"]
)
def test_damage_and_missing_copies_cannot_be_acknowledged(ask, fact):
    answer = ask("acknowledge", fact, "org/a")
    assert (answer.code, "mended, not acknowledged" in answer.err) == (2, True)
    assert "\x1b" not in answer.err


def test_a_plan_cannot_acknowledge_damage(ask, sync, hub, plan):
    answer = sync(plan(A + '\nacknowledge = ["damage"]'))
    assert (answer.code, "not acknowledged" in answer.err) == (2, True)


def test_a_night_without_a_network_makes_nothing_better(ask, sync, hub, plan):
    path = plan(A, B)
    assert sync(path).code == 0
    assert ask("audit", "-q").code == 0
    hub.delete("org/b")
    assert sync(path).code == 3
    hub.stop()
    assert sync(path).code == 30
    result = ask("status", "--json")
    assert (result.code, set(result.short)) == (24, {"plan-gone"})
    assert entries(result)["org/b"]["outcome"] == "unreachable"
    assert ask("acknowledge", "gone", "org/b").code == 0
    assert ask("status").code == 0


# ---- what another writer left


@pytest.mark.parametrize(
    "detail",
    [
        {},
        {"plan": 1, "place": 2, "entries": 3},
        {"plan": "x", "place": "", "entries": [{"repository": 5}]},
        {"plan": "x", "place": "", "entries": [["org/a"]]},
    ],
)
def test_events_that_cannot_be_understood_count_for_nothing(ask, root, detail):
    archive = Archive.open(root)
    for kind in ("planned", "synced", "plan-retired", "acknowledged", "sighted", "gone"):
        archive.record(raw_event(kind, "2020-01-01T00:00:00Z", TOOL, "org/a", detail=detail))
    result = ask("status", "--json")
    assert (result.code, set(result.short)) == (24, {"empty"})


def test_hostile_text_in_a_plans_events_is_escaped(ask, root):
    archive = Archive.open(root)
    place = json.loads((root / "place.json").read_bytes())["place"]
    detail = {
        "plan": "\x1b[2J",
        "place": place,
        "source": "\x1b]0;x\x07",
        "entries": [{"repository": "o\x1b/\u202ex", "include": ["\x1b"]}],
    }
    archive.record(raw_event("planned", "2020-01-01T00:00:00Z", TOOL, detail=detail))
    told = ask("status")
    assert (told.code, "\x1b" in told.out, "\u202e" in told.out) == (24, False, False)


def test_low_room_and_no_policy_are_told(ask, root, monkeypatch):
    from archiver.storage.local import LocalStore

    monkeypatch.setattr(LocalStore, "free_bytes", lambda _self: 5 << 20)
    result = ask("status", "--json")
    assert [remark["what"] for remark in result.status["remarks"]] == ["policy", "room"]
    assert result.status["free"] == 5 << 20
    assert ask("policy", "set", "-q", "--copies", "2").code == 0
    assert [remark["what"] for remark in ask("status", "--json").status["remarks"]] == ["room"]
    assert isinstance(ask("status"), Answer)
    assert "remark: The disk is nearly full: 5.24 MB are free" in ask("status").out
