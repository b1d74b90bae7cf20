"""``head``: what was kept of the journal's heads tells of everything that was taken away since."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
from kit import processes
from kit.faults import overwrite
from kit.journal import raw_event
from signingkit import Weights, digest_of

from archiver.archive.archive import Archive

APPEND = """
import sys
from pathlib import Path
from archiver.archive.archive import Archive
from archiver.archive.events import Event
archive = Archive.open(Path(sys.argv[1]))
print(flush=True)
sys.stdin.readline()
for n in range(20):
    archive.record(Event("sighted", f"2026-12-01T00:00:{n:02}Z", sys.argv[2]))
"""


def add(weights, second, name="sighted", **detail):
    event = raw_event(name, f"2026-12-02T00:00:{second:02}Z", "test", detail=detail)
    return Archive.open(weights.root).record(event)


@pytest.fixture
def kept(weights, head, tmp_path):
    """A file with the head of a journal of five events."""
    for second in range(3):
        add(weights, second)
    path = tmp_path / "kept"
    path.write_text(head().out)
    return path


def test_one_head_vouches_for_all(head, weights, kept):
    (told,) = head().kinds("head")
    assert told["events"] == len(weights.events) == 5
    done = head("--check", kept)
    assert done.code == 0
    assert done.kinds("head-check") == [
        {"kind": "head-check", "intact": True, "events": 5, "seals": 2}
    ]
    assert head("--check", told["id"]).code == 0


def test_no_event_can_be_taken_away(head, weights, kept):
    newest = json.loads(kept.read_text())["id"]
    for path in weights.events:
        data = path.read_bytes()
        path.unlink()
        done = head("--check", kept)
        lost = "head-missing" if digest_of(path) == newest else "event-missing"
        assert (done.code, done.finding_codes) == (20, {lost}), path
        assert digest_of(path) in {finding["object"] for finding in done.kinds("finding")}
        path.write_bytes(data)
    assert head("--check", kept).code == 0


def test_no_event_can_be_changed(head, weights, kept):
    for path in weights.events:
        data = path.read_bytes()
        overwrite(path, data.replace(b'"tool":"', b'"tool":"x'))
        done = head("--check", kept)
        assert done.code == 20
        assert "event-damaged" in done.finding_codes
        overwrite(path, data)


def test_later_events_are_no_fault(head, weights, kept):
    add(weights, 9)
    assert head("--check", kept).code == 0
    assert head().kinds("head")[0]["events"] == 6


def test_the_last_events_taken_away(head, weights, kept):
    for path in weights.events[-2:]:
        path.unlink()
    # From inside nothing is wrong: only who kept the head can tell.
    assert len(head().kinds("head")) == 1
    assert head("--check", kept).finding_codes == {"head-missing"}


def test_set_back_to_an_earlier_copy(head, weights, tmp_path, run):
    before = shutil.copytree(weights.root, tmp_path / "before")
    add(weights, 1)
    (told,) = head().kinds("head")
    done = run("head", "-C", before, "--check", told["id"])
    assert (done.code, done.finding_codes) == (20, {"head-missing"})
    # Going on from there does not bring it back.
    add(Weights(before), 1, what="else")
    assert run("head", "-C", before, "--check", told["id"]).code == 20


def test_a_seal_taken_away(head, weights, kept):
    seal = weights.seals[0]
    data = seal.read_bytes()
    overwrite(seal, data[:-1])
    assert head("--check", kept).finding_codes == {"seal-damaged"}
    seal.unlink()
    done = head("--check", kept)
    assert (done.code, done.finding_codes) == (20, {"seal-missing"})
    add(weights, 10, "forgotten", snapshots=[digest_of(seal)])
    assert head("--check", kept).code == 0
    add(weights, 11, "remembered", snapshots=[digest_of(seal)])
    assert head("--check", kept).finding_codes == {"seal-missing"}
    add(weights, 12, "repaired", snapshots=[digest_of(seal)], files=[], source="x")
    assert head("--check", kept).code == 0


def test_an_event_and_its_seal_taken_away_together(head, weights, kept):
    seal = weights.seals[0]
    for path in weights.events:
        event = json.loads(path.read_bytes())
        if event["detail"].get("snapshot") == digest_of(seal):
            path.unlink()
    seal.unlink()
    assert head("--check", kept).finding_codes == {"event-missing"}


def test_processes_that_append_at_once(head, weights):
    command = [sys.executable, "-c", APPEND, str(weights.root)]
    running = [
        processes.start([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in ("a", "b")
    ]
    for one in running:
        one.stdout.readline()
    for one in running:
        one.stdin.write("\n")
        one.stdin.flush()
    for one in running:
        one.communicate()
        assert one.returncode == 0
    events = {digest_of(path): json.loads(path.read_bytes()) for path in weights.events}
    assert len(events) == 42
    assert all(before in events for event in events.values() for before in event["after"])
    joined = add(weights, 1)
    (told,) = head().kinds("head")
    assert (told["id"], told["events"]) == (joined, 43)
    for path in weights.events:
        data = path.read_bytes()
        path.unlink()
        found = Archive.open(weights.root).journal.names()
        assert len(found) == 42
        path.write_bytes(data)
    weights.events[20].unlink()
    assert head("--check", joined).code == 20


def test_two_journals_become_one(head, weights, tmp_path, run):
    other = Weights(shutil.copytree(weights.root, tmp_path / "other"))
    mine, theirs = add(weights, 1), add(other, 1, what="else")
    for path in other.events:
        target = weights.root / path.relative_to(other.root)
        if not target.exists():
            shutil.copy2(path, target)
    assert {each["id"] for each in head().kinds("head")} == {mine, theirs}
    add(weights, 2)
    (told,) = head().kinds("head")
    assert told["events"] == 5
    assert head("--check", mine, "--check", theirs, "--check", told["id"]).code == 0
    assert run("head", "-C", other.root, "--check", mine).code == 20


def test_a_signed_head_is_part_of_what_is_kept(head, weights, run, tmp_path):
    assert run("keys", "new", tmp_path / "k", "--no-password").code == 0
    assert run("sign", "-C", weights.root, "--key", tmp_path / "k.key").code == 0
    (told,) = head().kinds("head")
    assert told["event"] == "signed"
    assert weights.signature_of(weights.newest("signed")).exists()


def test_a_head_in_text(weights, capfd, run, tmp_path):
    from kit.cli import invoke

    assert invoke("head", "-C", weights.root) == 0
    (tmp_path / "kept.txt").write_text(capfd.readouterr().out)
    assert run("head", "-C", weights.root, "--check", tmp_path / "kept.txt").code == 0


def test_what_names_no_head_is_refused(head, tmp_path, weights):
    (tmp_path / "empty").write_text("\n{\n[]\n{}\n")
    for text in ("xyz", tmp_path / "empty", tmp_path, "a\0b"):
        assert head("--check", text).code == 2
    assert head("--check", "0" * 64).finding_codes == {"head-missing"}
