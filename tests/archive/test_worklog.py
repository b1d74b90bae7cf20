"""The worklog is a hint: torn and foreign lines are passed over, and nothing of it is believed blindly."""

import threading
from pathlib import Path

import pytest

from archiver.archive.ingest.resume import Worklog
from archiver.digest import blake3_hex

A, B, C = (blake3_hex(name) for name in (b"a", b"b", b"c"))


@pytest.fixture
def log(archive):
    made = Worklog(archive.store, "hub|Org/Model|main")
    yield made
    made.close()


def again(archive) -> Worklog:
    return Worklog(archive.store, "hub|Org/Model|main")


def file_of(root) -> Path:
    (found,) = (root / "tmp").glob("work-*.jsonl")
    return found


def held(log: Worklog, path: str = "w.bin") -> list[tuple[int, str]]:
    found = list(log.segments(path))
    log.close()
    return found


def test_the_next_run_knows_what_was_stored_up_to_the_first_gap(archive, log):
    log.add("w.bin", [(5, 5, B), (0, 5, A)])
    log.add("w.bin", [(20, 5, C)])
    log.add("übersicht/🧊", [(0, 9, C)])
    assert held(again(archive)) == [(5, A), (5, B)]
    assert held(again(archive), "übersicht/🧊") == [(9, C)]
    assert held(again(archive), "other") == []


def test_what_was_forgotten_is_not_used(archive, log):
    log.add("w.bin", [(0, 5, A)])
    log.add("kept", [(0, 5, A)])
    log.forget("w.bin")
    assert held(again(archive)) == []
    assert held(again(archive), "kept") == [(5, A)]
    log.add("w.bin", [(0, 7, B)])
    assert held(again(archive)) == [(7, B)]


def test_a_line_torn_at_any_byte_costs_only_itself(archive, root, log):
    log.add("w.bin", [(0, 5, A)])
    whole = file_of(root).read_bytes()
    log.add("ü", [(5, 5, B)])
    torn = file_of(root).read_bytes()
    for cut in range(len(whole), len(torn)):
        file_of(root).write_bytes(torn[:cut])
        assert held(again(archive)) == [(5, A)]
        # what the next run appends begins on a line of its own
        following = again(archive)
        following.add("w.bin", [(5, 6, C)])
        following.close()
        assert held(again(archive)) == [(5, A), (6, C)]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\0" * 40,
        b"\xff\xfe\xfa",
        b'["\xff",0,5,"%s"]' % A.encode(),
        b"{}",
        b"null",
        b'["w.bin",0]',
        b'["w.bin",0,5,6]',
        b'["w.bin","0",5,"%s"]' % A.encode(),
        b'["w.bin",0.5,5,"%s"]' % A.encode(),
        b'["w.bin",0,9,"not a digest"]',
        b'["w.bin",0,9,"../../etc/passwd"]',
        b"[" * 3000,
    ],
    ids=range(13),
)
def test_a_foreign_line_is_passed_over(archive, root, log, line):
    log.add("w.bin", [(0, 5, A)])
    with file_of(root).open("ab") as file:
        file.write(line + b"\n")
    log.add("w.bin", [(5, 5, B)])
    assert held(again(archive)) == [(5, A), (5, B)]


def test_many_threads_and_two_runs_write_whole_lines(archive, log):
    other = again(archive)

    def note(target: Worklog, number: int) -> None:
        for step in range(50):
            target.add(f"file {number}", [(step * 5, 5, A)])

    threads = [
        threading.Thread(target=note, args=((log, other)[number % 2], number))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()
    for number in range(8):
        assert held(again(archive), f"file {number}") == [(5, A)] * 50


def test_runs_of_other_revisions_are_kept_apart(archive, log):
    log.add("w.bin", [(0, 5, A)])
    assert held(Worklog(archive.store, "hub|Org/Model|other")) == []


def test_a_run_that_ended_well_leaves_nothing(archive, root, log):
    log.add("w.bin", [(0, 5, A)])
    log.remove()
    log.remove()
    assert list((root / "tmp").iterdir()) == []


def test_a_short_write_costs_only_its_own_line(archive, log, monkeypatch):
    import os

    honest = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: honest(handle, data[:30]))
    log.add("w.bin", [(0, 5, B)])
    monkeypatch.undo()
    log.add("w.bin", [(0, 5, A)])
    assert held(again(archive)) == [(5, A)]
