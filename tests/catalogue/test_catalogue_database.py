from __future__ import annotations

import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from contextlib import closing
from pathlib import Path

import pytest
from catalogue_dump import dump
from catalogue_samples import add_sample, digest, make_pack, make_sample
from kit.users import NOBODY, python_as
from sqlalchemy import text

from archiver.catalogue import database, sqlite_file, updates
from archiver.catalogue.database import Catalogue
from archiver.catalogue.queries import known_packs, known_snapshots
from archiver.catalogue.sqlite_file import CatalogueReadOnlyError, CatalogueUnusable
from archiver.catalogue.stats import stats
from archiver.errors import LockedError, NoSpaceError


def pragma(catalogue, name):
    return catalogue.read(lambda conn: conn.exec_driver_sql(f"PRAGMA {name}").scalar())


def test_every_connection_is_set_up(catalogue):
    assert pragma(catalogue, "journal_mode") == "wal"
    assert pragma(catalogue, "synchronous") == 1
    assert pragma(catalogue, "busy_timeout") <= 1_000
    assert pragma(catalogue, "foreign_keys") == 1


def test_closing_leaves_one_file_and_its_lock(path):
    with Catalogue.open(path) as catalogue:
        updates.add_pack(catalogue, *make_pack(0))
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name, f"{path.name}-lock"]


def test_threads_that_read_and_then_write_lose_no_update(catalogue):
    updates.add_pack(catalogue, digest("counter"), 0, [])

    def increment(conn):
        size = conn.scalar(text("SELECT size FROM packs"))
        conn.execute(text("UPDATE packs SET size = :size"), {"size": size + 1})

    def work():
        for _ in range(50):
            catalogue.write(increment)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)
    assert stats(catalogue).pack_bytes == 200


def test_a_writing_transaction_has_the_lock_before_it_reads(catalogue, monkeypatch):
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0)

    def try_to_write_as_another(conn):
        with closing(sqlite_file.connect(catalogue.path, "rw")) as other:
            other.execute("BEGIN IMMEDIATE")

    def is_locked(conn):
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            try_to_write_as_another(conn)

    catalogue.read(try_to_write_as_another)
    catalogue.write(is_locked)


def test_a_busy_file_is_waited_for_longer_than_sqlite_waits(path, monkeypatch):
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0.01)
    with Catalogue.open(path) as catalogue, closing(sqlite_file.connect(path, "rw")) as other:
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.3, other.rollback)
        release.start()
        assert updates.add_pack(catalogue, *make_pack(0))
        release.join()


def test_a_file_that_stays_busy_is_given_up(path, monkeypatch):
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0.01)
    monkeypatch.setattr(database, "RETRY_SECONDS", 0.1)
    with Catalogue.open(path) as catalogue, closing(sqlite_file.connect(path, "rw")) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LockedError):
            updates.add_pack(catalogue, *make_pack(0))
        assert known_packs(catalogue) == set()


def test_a_reader_sees_one_state_while_others_write(catalogue):
    def look_twice(conn):
        before = conn.scalar(text("SELECT count(*) FROM packs"))
        updates.add_pack(catalogue, *make_pack(before))
        return before == conn.scalar(text("SELECT count(*) FROM packs"))

    assert catalogue.read(look_twice)
    assert len(known_packs(catalogue)) == 1


def test_a_full_disk_is_told_as_such(catalogue):
    limit = pragma(catalogue, "page_count") + 1

    def fill(conn):
        conn.exec_driver_sql(f"PRAGMA max_page_count = {limit}")
        conn.execute(text("CREATE TABLE t AS SELECT zeroblob(1000000)"))

    with pytest.raises(NoSpaceError):
        catalogue.write(fill)


def _add_from_another_process(path, first):
    with Catalogue.open(path) as catalogue:
        sample = make_sample(8)
        turned = type(sample)(*(items[first:] + items[:first] for items in sample))
        add_sample(catalogue, turned)


def run_processes(target, arguments):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=target, args=args) for args in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(600)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.close()
    return codes


def test_processes_that_create_and_fill_one_file_at_once_lose_nothing(tmp_path, blank):
    path = tmp_path / "catalogue.sqlite"
    arguments = [(path, first) for first in (0, 2, 4, 6)]
    assert run_processes(_add_from_another_process, arguments) == [0, 0, 0, 0]
    alone = shutil.copy(blank, tmp_path / "alone.sqlite")
    with Catalogue.open(alone) as catalogue:
        add_sample(catalogue, make_sample(8))
    assert dump(path) == dump(alone)
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize("state", ["missing", "empty"])
def test_a_missing_file_is_created_and_an_empty_one_filled(tmp_path, state):
    path = tmp_path / "catalogue.sqlite"
    if state == "empty":
        path.touch()
    with Catalogue.open(path) as catalogue:
        assert known_packs(catalogue) == set()
        assert updates.add_pack(catalogue, *make_pack(0))


def _foreign(path):
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("CREATE TABLE packs (id)")


def _foreign_with_a_version(path):
    _foreign(path)
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA user_version = 2")


def _newer(path):
    Catalogue.open(path).close()
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA user_version = 999")


def _no_database(path):
    path.write_bytes(b"this is no database, but longer than SQLite's own header is. " * 99)


def _truncated(path):
    with Catalogue.open(path) as catalogue:
        add_sample(catalogue, make_sample(9))
    os.truncate(path, 4096 * 3)


def _header_flipped(path):
    Catalogue.open(path).close()
    data = bytearray(path.read_bytes())
    data[100:140] = bytes(40)
    path.write_bytes(data)


@pytest.mark.parametrize(
    "make", [_foreign, _foreign_with_a_version, _newer, _no_database, _truncated, _header_flipped]
)
def test_what_is_no_usable_catalogue_is_said_so_and_left_alone(tmp_path, make):
    path = tmp_path / "catalogue.sqlite"
    make(path)
    before = path.read_bytes()
    wanted = pytest.raises(CatalogueUnusable, match="cannot be used")
    with wanted as caught, Catalogue.open(path) as catalogue:
        stats(catalogue)
    assert "archiver catalogue rebuild" in caught.value.hint
    assert path.read_bytes() == before


def test_damage_inside_the_file_is_met_when_it_is_read(path):
    with Catalogue.open(path) as catalogue:
        add_sample(catalogue, make_sample(30))
    data = bytearray(path.read_bytes())
    for page in range(4096, len(data), 4096):
        data[page : page + 200] = b"\xff" * 200
    path.write_bytes(data)
    with pytest.raises(CatalogueUnusable), Catalogue.open(path) as catalogue:
        known_snapshots(catalogue)


def test_a_file_that_may_only_be_read_is_read(path, monkeypatch):
    with Catalogue.open(path) as catalogue:
        updates.add_pack(catalogue, *make_pack(0))
    monkeypatch.setattr(database, "may_write", lambda path: False)
    with Catalogue.open(path) as catalogue:
        assert known_packs(catalogue) == {make_pack(0)[0]}
        with pytest.raises(CatalogueReadOnlyError):
            updates.add_pack(catalogue, *make_pack(1))


READ_WITHOUT_RIGHTS = """
import sys
from pathlib import Path
from archiver.catalogue.database import Catalogue
from archiver.catalogue.queries import known_packs
from archiver.catalogue.sqlite_file import CatalogueUnusable
path = Path(sys.argv[1])
with Catalogue.open(path) as catalogue:
    assert catalogue.read_only
    print(*known_packs(catalogue))
try:
    Catalogue.open(path.with_name("missing"))
except CatalogueUnusable:
    print("unusable")
"""


def test_a_folder_that_may_only_be_read_serves_a_user_without_rights(blank):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(shutil.copy(blank, folder))
        with Catalogue.open(path) as catalogue:
            updates.add_pack(catalogue, *make_pack(0))
        Path(f"{path}-lock").unlink()
        path.chmod(0o444)
        Path(folder).chmod(0o555)
        python = [sys.executable] if os.geteuid() else python_as(NOBODY)
        command = [*python, "-c", READ_WITHOUT_RIGHTS, path]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
        Path(folder).chmod(0o755)
    assert (done.stdout.split(), done.stderr) == ([make_pack(0)[0], "unusable"], "")


FOOTPRINT = """
import gc, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from catalogue_samples import make_file, make_snapshot, make_tensors
from archiver.catalogue.database import Catalogue
from archiver.catalogue.updates import add_snapshot
from archiver.catalogue.stats import stats

def peak():
    (line,) = (l for l in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in l)
    return int(line.split()[1])

file = make_file("model.safetensors", 1, lfs=True, tensors=make_tensors(190_000))
with Catalogue.open(sys.argv[1]) as catalogue:
    add_snapshot(catalogue, *make_snapshot(1))
    snapshot = make_snapshot(2, [file])
    before = peak()
    add_snapshot(catalogue, *snapshot)
    assert stats(catalogue).dtypes["BF16"].tensors == 190_003
    print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's own count")
def test_190_000_tensors_are_added_in_little_memory_and_room(path):
    here = Path(__file__).parent
    command = [sys.executable, "-c", FOOTPRINT, path, here, here.parent]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    assert int(done.stdout) < 24 * 1024  # KiB; the rows as a list would take more than 100 MiB
    assert path.stat().st_size < 190_000 * 120


def test_the_package_itself_imports_no_sql_and_the_file_no_sqlalchemy():
    code = "import sys, archiver.catalogue\n"
    code += "assert not {'sqlalchemy', 'sqlite3'} & set(sys.modules)\n"
    code += "import archiver.catalogue.sqlite_file\nassert 'sqlalchemy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)
