from __future__ import annotations

import multiprocessing
import os
import sqlite3
import threading
import time
from contextlib import closing

import pytest
from catalogue_dump import dump
from catalogue_samples import add_sample, make_pack, make_sample, make_snapshot

from archiver.catalogue import rebuild as rebuild_module
from archiver.catalogue import updates
from archiver.catalogue.database import Catalogue
from archiver.catalogue.queries import known_packs
from archiver.catalogue.rebuild import Counts, rebuild
from archiver.catalogue.sqlite_file import (
    COMPANIONS,
    CatalogueReadOnlyError,
    CatalogueUnusable,
    connect,
    swap_lock,
)
from archiver.errors import DamageError


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def integrity(path):
    with closing(sqlite3.connect(path)) as raw:
        return raw.execute("PRAGMA integrity_check").fetchall()


def test_a_missing_catalogue_is_written(tmp_path):
    path = tmp_path / "catalogue.sqlite"
    assert rebuild(path, *make_sample(2)) == Counts(2, 2, 2)
    assert names(tmp_path) == ["catalogue.sqlite", "catalogue.sqlite-lock"]
    with Catalogue.open(path) as catalogue:
        assert not any(add_sample(catalogue, make_sample(2)))


def test_what_the_archive_no_longer_has_is_gone(path):
    with Catalogue.open(path) as catalogue:
        add_sample(catalogue, make_sample(3))
        rebuild(path, *make_sample(1))
        assert known_packs(catalogue) == {make_pack(0)[0]}


@pytest.mark.parametrize("content", [b"", b"junk" * 999])
def test_an_unusable_file_is_replaced_with_all_that_belongs_to_it(tmp_path, content):
    path = tmp_path / "catalogue.sqlite"
    path.write_bytes(content)
    for suffix in COMPANIONS:
        (tmp_path / f"catalogue.sqlite{suffix}").write_bytes(b"left behind" * 99)
    rebuild(path, *make_sample(1))
    assert names(tmp_path) == ["catalogue.sqlite", "catalogue.sqlite-lock"]
    assert integrity(path) == [("ok",)]


def _write_and_die(path):
    catalogue = Catalogue.open(path)
    add_sample(catalogue, make_sample(20))
    os._exit(9)  # as kill -9: the log stays, unread


def test_the_log_of_a_killed_writer_is_not_replayed_into_the_new_file(path):
    killed = multiprocessing.get_context("spawn").Process(target=_write_and_die, args=(path,))
    killed.start()
    killed.join(600)
    assert killed.exitcode == 9
    assert path.with_name(f"{path.name}-wal").stat().st_size > 0
    rebuild(path, *make_sample(1))
    assert integrity(path) == [("ok",)]
    with Catalogue.open(path) as catalogue:
        assert known_packs(catalogue) == {make_pack(0)[0]}


def test_open_catalogues_go_on_with_the_new_file(path):
    with Catalogue.open(path) as first, Catalogue.open(path) as second:
        updates.add_pack(first, *make_pack(0))

        def replaced_meanwhile(conn):
            before = conn.exec_driver_sql("SELECT count(*) FROM packs").scalar()
            rebuild(path, *make_sample(3))
            return before, conn.exec_driver_sql("SELECT count(*) FROM packs").scalar()

        assert first.read(replaced_meanwhile) == (1, 1)
        assert len(known_packs(first)) == len(known_packs(second)) == 3
        updates.add_pack(second, *make_pack(7))
        assert make_pack(7)[0] in known_packs(first)
    assert integrity(path) == [("ok",)]


def test_closing_a_catalogue_whose_file_was_replaced_leaves_the_new_log_alone(path):
    old = Catalogue.open(path)
    known_packs(old)
    rebuild(path, *make_sample(1))
    with Catalogue.open(path) as new:
        updates.add_pack(new, *make_pack(5))
        old.close()
        assert path.with_name(f"{path.name}-wal").exists()
        with Catalogue.open(path) as other:
            assert len(known_packs(other)) == 2


def test_a_writer_is_let_finish_before_the_swap(path):
    order = []
    with closing(connect(path, "rw")) as writer:
        writer.execute("BEGIN IMMEDIATE")
        thread = threading.Thread(
            target=lambda: (rebuild(path, *make_sample(1)), order.append("swapped"))
        )
        thread.start()
        time.sleep(0.4)
        order.append("written")
        writer.rollback()
        thread.join(600)
    assert order == ["written", "swapped"]


@pytest.mark.parametrize(
    ("exclusive", "other"),
    [
        (True, lambda path: Catalogue.open(path).close()),
        (False, lambda path: rebuild(path, *make_sample(1))),
    ],
)
def test_opening_and_swapping_wait_for_each_other(path, exclusive, other):
    thread = threading.Thread(target=other, args=(path,))
    with swap_lock(path, exclusive=exclusive):
        thread.start()
        thread.join(0.4)
        assert thread.is_alive()
    thread.join(600)
    assert not thread.is_alive()


def _add_again_and_again(path, first, stop):
    with Catalogue.open(path) as catalogue:
        number = first
        while not stop.is_set():
            updates.add_pack(catalogue, *make_pack(number))
            known_packs(catalogue)
            number += 3


def test_processes_that_write_during_rebuilds_meet_no_error(path):
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    processes = [
        context.Process(target=_add_again_and_again, args=(path, first, stop))
        for first in (0, 1, 2)
    ]
    for process in processes:
        process.start()
    sample = make_sample(2)
    with Catalogue.open(path) as catalogue:
        while len(known_packs(catalogue)) < 20:
            time.sleep(0.02)
        for _ in range(6):
            rebuild(path, *sample)
            time.sleep(0.05)
        stop.set()
        for process in processes:
            process.join(600)
        assert [process.exitcode for process in processes] == [0, 0, 0]
        assert known_packs(catalogue) >= {pack[0] for pack in sample.packs}
    assert integrity(path) == [("ok",)]


def test_a_failed_rebuild_leaves_the_old_catalogue_and_nothing_else(path):
    with Catalogue.open(path) as catalogue:
        add_sample(catalogue, make_sample(2))
    before, there = dump(path), names(path.parent)
    bad = [*make_sample(1).packs, ("no digest", 1, [])]
    with pytest.raises(DamageError):
        rebuild(path, bad, [], [])
    assert dump(path) == before
    assert names(path.parent) == there


def test_a_new_file_that_came_out_wrong_is_not_put_in_place(path, monkeypatch):
    def break_it(conn, *pack):
        conn.exec_driver_sql("PRAGMA writable_schema = 1")
        conn.exec_driver_sql("DELETE FROM sqlite_master WHERE name = 'ix_events_time'")
        conn.exec_driver_sql("PRAGMA writable_schema = RESET")
        return True

    monkeypatch.setattr(updates, "put_pack", break_it)
    before = dump(path)
    with pytest.raises(CatalogueUnusable, match="came out wrong"):
        rebuild(path, [make_pack(0)], [], [])
    assert dump(path) == before


def test_records_are_taken_one_at_a_time(tmp_path):
    alive = []

    def listed():
        for number in range(5):
            snapshot = make_snapshot(number)
            alive.append(number)
            yield snapshot

    def packs():
        yield make_pack(0)
        assert alive == []

    rebuild(tmp_path / "catalogue.sqlite", packs(), listed(), [])
    assert alive == [0, 1, 2, 3, 4]


def test_what_killed_rebuilds_left_is_removed_once_it_is_old(path):
    old, recent = (path.with_name(f"{path.name}.{name}.new") for name in ("aa", "bb"))
    for left in (old, recent, path.with_name(f"{old.name}-wal")):
        left.touch()
    os.utime(old, (1, 1))
    rebuild(path, [], [], [])
    assert recent.exists()
    assert not old.exists()
    assert not path.with_name(f"{old.name}-wal").exists()


def test_a_catalogue_that_may_only_be_read_is_not_rebuilt(path, monkeypatch):
    monkeypatch.setattr(rebuild_module, "may_replace", lambda path: False)
    with pytest.raises(CatalogueReadOnlyError):
        rebuild(path, [], [], [])
