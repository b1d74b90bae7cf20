"""``archiver sync`` against the loopback hub: everything that a plan lists, whatever fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from kit.archive import Weights
from kit.repository import noise

from archiver.archive.archive import Archive
from archiver.loopback.faults import Fault
from archiver.loopback.hub import Hub
from archiver.storage.locks import RunLock


@pytest.fixture
def hub(monkeypatch):
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    with Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        for seed, name in enumerate(("org/a", "org/b", "org/c")):
            files = {"config.json": b"{}", "weights.bin": noise(seed, 30_000)}
            hub.create(name, files, card={"license": "mit"})
        yield hub


@pytest.fixture
def archive(run, tmp_path):
    root = tmp_path / "weights"
    assert run("init", "-q", "-C", root).code == 0
    return Weights(root)


@pytest.fixture
def plan(tmp_path):
    def write(*entries, name="nightly", head=""):
        text = f'[plan]\nname = "{name}"\n{head}\n'
        for entry in entries:
            text += f"[[repository]]\n{entry}\n"
        path = tmp_path / "plan.toml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def sync(run, archive):
    def call(*args):
        return run("sync", "-q", "--json", "-C", archive.root, "--min-free", "0B", *args)

    return call


A, B, C = ('name = "org/a"', 'name = "org/b"', 'name = "org/c"')


def held(archive):
    return sorted(one.seal.repository for one in Archive.open(archive.root).snapshots())


def test_a_plan_is_mirrored_and_a_second_run_finds_it_held(sync, hub, archive, plan):
    path = plan(A, B, C)
    first = sync(path)
    assert (first.code, held(archive)) == (0, ["org/a", "org/b", "org/c"])
    assert [one["outcome"] for one in first.kinds("mirror")] == ["sealed"] * 3
    sent = hub.requests.bytes_sent
    second = sync(path)
    assert [one["outcome"] for one in second.kinds("mirror")] == ["held"] * 3
    assert hub.requests.bytes_sent - sent < 30_000, "a listing is asked for, and no weights"
    (report,) = second.kinds("sync")
    counts = {key: report[key] for key in ("plan", "total", "done", "new", "held", "fetched")}
    assert counts == {
        "plan": "nightly",
        "total": 3,
        "done": 3,
        "new": 0,
        "held": 3,
        "fetched": 0,
    }
    assert (report["exit_codes"], report["failed"], report["not_tried"]) == ([], [], [])
    (before,) = first.kinds("sync")
    assert (before["new"], before["fetched"] > 90_000, before["stored"] > 0) == (3, True, True)
    assert before["free"] > 0


def test_entries_choose_revision_and_files(sync, hub, archive, plan):
    hub.tag("org/a", "v1")
    hub.commit("org/a", {"new.txt": b"new"})
    part = '\ninclude = ["*.json"]\npartial = true'
    path = plan(A + '\nrevision = "v1"', B + part, C + '\nexclude = ["*.json"]')
    result = sync(path)
    assert result.code == 0
    files = {one["repository"]: one["files"] for one in result.kinds("mirror")}
    assert files == {"org/a": 2, "org/b": 1, "org/c": 1}
    seals = {one.seal.repository: one.seal for one in Archive.open(archive.root).snapshots()}
    assert seals["org/b"].selection.include == ("*.json",)
    assert seals["org/c"].selection.exclude == ("*.json",)


def test_patterns_of_the_command_stand_in_for_those_of_the_plan(sync, hub, archive, plan):
    path = plan(A, B + '\ninclude = ["*.json"]')
    result = sync(path, "--include", "*.bin")
    assert [one["files"] for one in result.kinds("mirror")] == [1, 1]
    selections = {one.seal.selection.include for one in Archive.open(archive.root).snapshots()}
    assert selections == {("*.bin",)}


def test_what_fails_is_named_and_the_rest_is_done(sync, hub, archive, plan):
    result = sync(plan(A, 'name = "org/never"', C))
    assert (result.code, held(archive)) == (3, ["org/a", "org/c"])
    (error,) = result.kinds("error")
    assert error["message"].startswith("org/never: ")
    assert error["exit_code"] == 23
    assert result.kinds("sync")[0]["exit_codes"] == [23]
    assert not archive.events("gone")


def test_if_all_fail_for_one_reason_that_is_the_code(sync, hub, archive, plan):
    assert sync(plan('name = "org/x"', 'name = "org/y"')).code == 23


def test_a_damaged_file_upstream_fails_its_repository_only(sync, hub, archive, plan):
    hub.claim("org/b", "config.json", oid="0" * 40)
    result = sync(plan(A, B, C))
    assert (result.code, held(archive)) == (3, ["org/a", "org/c"])
    assert result.kinds("sync")[0]["exit_codes"] == [22]


def test_what_came_before_a_repository_failed_is_counted(sync, hub, archive, plan):
    hub.create("org/b", {"a.bin": noise(7, 70_000), "z.json": b"{}"})
    hub.claim("org/b", "z.json", oid="0" * 40)
    result = sync(plan(B))
    (report,) = result.kinds("sync")
    assert (result.code, report["failed"]) == (22, ["org/b"])
    assert report["fetched"] > 70_000
    assert report["stored"] > 70_000
    (synced,) = archive.events("synced")
    assert synced["detail"]["fetched"] == report["fetched"]


def test_what_is_sealed_though_its_entry_fails_is_counted(sync, hub, archive, plan):
    result = sync(plan(A + '\ninclude = ["*.json"]'))
    (report,) = result.kinds("sync")
    assert (result.code, report["failed"], report["fetched"]) == (3, ["org/a"], 2)


def test_a_hub_that_answers_about_another_commit_says_nothing_of_a_loss(
    sync, run, hub, archive, plan
):
    (commit,) = {one.seal.revision for one in _mirrored(run, archive, "org/a")}

    body = json.dumps({"id": "org/a", "sha": "1" * 40}).encode()
    hub.faults.add(Fault("forge", route="info", forge=lambda _: (body, {}), times=None))
    result = sync(plan(A + f'\nrevision = "{commit}"'))
    (report,) = result.kinds("sync")
    assert (result.code, report["failed"], report["gone"]) == (22, [f"org/a@{commit}"], [])
    assert "another HF_ENDPOINT" in result.kinds("error")[0]["hint"]
    known = run("acknowledge", "-C", archive.root, "gone", f"org/a@{commit}")
    assert (known.code, "does not say gone" in known.err) == (2, True)


def test_a_request_that_is_refused_cannot_be_acknowledged_as_gone(sync, run, hub, archive, plan):
    _mirrored(run, archive, "org/a")
    hub.faults.add(Fault("status", status=400, route="info", times=None))
    assert sync(plan(A)).code == 23
    known = run("acknowledge", "-C", archive.root, "gone", "org/a")
    assert (known.code, "does not say gone" in known.err) == (2, True)
    assert run("acknowledge", "-C", archive.root, "refused", "org/a").code == 0


def test_what_has_another_name_now_is_told_with_it(sync, run, hub, archive, plan):
    _mirrored(run, archive, "org/a")
    hub.rename("org/a", "org/new")
    (error,) = sync(plan(A)).kinds("error")
    assert error["hint"].startswith("Mirror org/new instead; ")
    assert "acknowledge" in error["hint"]


def _mirrored(run, archive, name):
    assert run("mirror", "-q", "-C", archive.root, name, "--min-free", "0B").code == 0
    return Archive.open(archive.root).snapshots_of(name)


def test_what_upstream_has_lost_is_journalled_once_and_kept(sync, hub, archive, plan):
    path = plan(A, B)
    assert sync(path).code == 0
    hub.delete("org/b")
    for _ in range(2):
        assert sync(path).code == 3
    (event,) = archive.events("gone")
    assert (event["repository"], event["revision"]) == ("org/b", "")
    assert event["detail"] == {"name": "main", "upstream": hub.endpoint}
    assert held(archive) == ["org/a", "org/b"]


def test_a_dry_run_journals_no_loss(sync, hub, archive, plan):
    path = plan(A, B)
    assert sync(path).code == 0
    hub.delete("org/b")
    before = sorted(archive.root.joinpath("journal").rglob("*.json"))
    assert sync(path, "--dry-run").code == 3
    assert sorted(archive.root.joinpath("journal").rglob("*.json")) == before


def test_a_repository_that_is_only_refused_is_not_gone(sync, hub, archive, plan):
    path = plan(A, B)
    assert sync(path).code == 0
    hub.disable("org/b")
    assert sync(path).code == 3
    assert not archive.events("gone")


def test_a_request_that_is_refused_and_a_listing_of_nothing_tell_of_no_loss(
    sync, hub, archive, plan
):
    """A proxy that answers 400, or a hub in a bad hour, does not say that a repository is gone."""
    path = plan(A)
    assert sync(path).code == 0
    hub.faults.add(Fault("status", status=400, route="info", times=None))
    assert sync(path).code == 23
    hub.faults.clear()
    hub.faults.add(Fault("forge", route="tree", forge=lambda _: (b"[]", {}), times=None))
    result = sync(path)
    assert result.code == 22
    assert "lists no file at all" in result.out + result.err
    assert not archive.events("gone")


def test_no_space_ends_the_run(run, hub, archive, plan):
    args = ["-q", "--json", "-C", archive.root, "--min-free", "900PB"]
    result = run("sync", *args, plan(A, B))
    assert result.code == 31
    (report,) = result.kinds("sync")
    assert (report["ended"], report["failed"], report["not_tried"]) == (31, ["org/a"], ["org/b"])
    assert len(result.kinds("error")) == 1
    (synced,) = archive.events("synced")
    assert synced["detail"]["outcomes"] == ["no-space", "not-tried"]
    text = run("sync", "-C", archive.root, "--min-free", "900PB", plan(A, B))
    assert "1 failed, 0 gone upstream, 1 not tried." in text.out
    assert "Not tried: org/b." in text.out
    assert "left on the disk, of which --min-free keeps 900 PB." in text.out


def test_a_dry_run_adds_up_and_compares_with_the_room(run, hub, archive, plan):
    path = plan(A, B)
    args = ["-C", archive.root, "--dry-run"]
    fits = run("sync", "--json", *args, "--min-free", "0B", path)
    (report,) = fits.kinds("sync")
    assert (fits.code, report["room"], report["fetched"]) == (0, "enough", 60_004)
    assert not archive.events("planned")
    lacks = run("sync", *args, "--min-free", "900PB", path)
    assert lacks.code == 31
    assert "60.0 kB to fetch; " in lacks.out
    assert "That does not fit, however well it compresses." in lacks.out


def test_a_plan_runs_once_at_a_time(sync, hub, archive, plan):
    lock = Archive.open(archive.root).store.folder.scratch("plan-nightly.lock")
    with RunLock(lock, "The plan nightly"):
        result = sync(plan(A))
        assert (result.code, held(archive)) == (11, [])
        (error,) = result.kinds("error")
        assert f"process {os.getpid()} on " in error["message"]
        assert "since 20" in error["message"]
        assert f"kill {os.getpid()}" in error["hint"]
        assert sync(plan(A, name="other")).code == 0
    assert sync(plan(A, B)).code == 0


def test_the_lock_of_a_killed_run_is_free(archive, tmp_path):
    lock = tmp_path / "lock"
    code = (
        "import os, sys; from pathlib import Path; from archiver.storage.locks import RunLock\n"
        "with RunLock(Path(sys.argv[1]), 'x'): os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(lock)], check=False, timeout=600)
    assert killed.returncode == -9
    assert json.loads(lock.read_bytes())["pid"]
    with RunLock(lock, "The plan x"):
        pass
    assert lock.read_bytes() == b""


def test_the_collection_is_compared(sync, hub, archive, plan):
    hub.collection("org/coll", ["org/a", "org/new"])
    path = plan(A, B, head='collection = "org/coll"')
    result = sync(path, "--check-collection")
    assert result.code == 0
    assert result.kinds("collection") == [
        {
            "kind": "collection",
            "collection": "org/coll",
            "new": ["org/new"],
            "absent": ["org/b"],
        }
    ]


def test_a_collection_that_cannot_be_compared_is_no_success(sync, hub, archive, plan):
    path = plan(A, head='collection = "org/gone"')
    result = sync(path, "--check-collection")
    assert (result.code, held(archive)) == (3, ["org/a"])
    assert sync(plan(A), "--check-collection").code == 2


def test_a_bad_plan_is_refused_before_anything_is_asked(sync, hub, archive, plan):
    assert sync(plan(A + "\nrev = 1")).code == 2
    assert not len(hub.requests)


def test_a_plan_that_no_event_can_hold_is_refused_before_anything_is_asked(
    sync, hub, archive, tmp_path
):
    rows = ",".join(f'{{name="o/{number}"}}' for number in range(50_000))
    path = tmp_path / "huge.toml"
    path.write_text(f'repository=[{rows}]\n[plan]\nname="huge"\n')
    result = sync(path)
    assert (result.code, len(hub.requests), archive.events("planned")) == (2, 0, [])
    assert "Split it into several plans" in result.err


def test_no_archive(run, hub, plan, tmp_path):
    assert run("sync", "-C", tmp_path / "none", plan(A)).code == 10


def test_text_output_and_the_program_itself(hub, archive, plan):
    hub.collection("org/coll", ["org/a"])
    path = plan(A, 'name = "org/never"', head='collection = "org/coll"')
    command = [sys.executable, "-m", "archiver", "sync", "-C", str(archive.root), str(path)]
    done = subprocess.run(
        [*command, "--min-free", "0B", "--check-collection"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 3
    lines = done.stdout.splitlines()
    assert lines[0] == "In the plan, not in org/coll: org/never"
    assert lines[1].startswith("org/a@")
    counts = "1 new, 0 held, 0 failed, 1 gone upstream"
    assert lines[-3] == f"Plan nightly: 1 of 2 repositories done: {counts}."
    assert lines[-2] == "  Gone upstream, or never there: org/never."
    assert "failed" not in done.stderr, "one verdict, which counts each entry once"
    assert lines[-1].endswith(" left on the disk.")
    assert "org/never" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_hub_that_cannot_be_reached_is_not_asked_for_every_repository(sync, plan, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = sync(plan(A, B, C))
    assert result.code == 30
    assert result.kinds("sync")[0]["exit_codes"] == [30, 30, 30]
    assert len(result.kinds("error")) == 2, "the verdict names the others"
    (report,) = result.kinds("sync")
    assert (report["failed"], report["not_tried"]) == (["org/a", "org/b"], ["org/c"])
