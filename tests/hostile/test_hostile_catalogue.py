"""A catalogue that somebody else wrote: it is set aside and made anew, and nothing in it runs."""

from __future__ import annotations

import shutil
import sqlite3

import pytest
from kit.memory import archiver

from archiver.catalogue.schema import Base
from archiver.catalogue.sqlite_file import TABLES

BOMB = (
    "WITH RECURSIVE n(x, y) AS (SELECT 1, zeroblob(30000000) UNION ALL SELECT x + 1, zeroblob(30000000 + x)"
    " FROM n WHERE x < 2000) SELECT"
)


def rewritten(*statements):
    """SQL that is run on the catalogue with the schema laid open."""

    def spoil(path):
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA writable_schema = ON")
            for statement in statements:
                connection.execute(statement)
        connection.close()

    return spoil


def as_view(table, columns):
    view = f"CREATE VIEW {table} AS {BOMB} {columns} FROM n"
    return rewritten("PRAGMA foreign_keys = OFF", f"DROP TABLE {table}", view)


SCHEMAS = {
    "events is a view": as_view(
        "events",
        "y AS digest, 'x' AS event, '' AS time, '' AS tool,"
        " '' AS repository, '' AS revision, '{}' AS detail",
    ),
    "packs is a view": as_view("packs", "x AS id, y AS digest, 1 AS size, 1 AS objects"),
    "trigger": rewritten(
        "CREATE TRIGGER evil AFTER INSERT ON events BEGIN INSERT INTO repositories (id, name) "
        "SELECT random(), hex(randomblob(50000000)) FROM sqlite_master; END"
    ),
    "computed column": rewritten(
        "ALTER TABLE packs ADD COLUMN more GENERATED ALWAYS AS (hex(zeroblob(90000000))) VIRTUAL"
    ),
    "default": rewritten("ALTER TABLE packs ADD COLUMN more DEFAULT 7"),
    "check": rewritten(
        "ALTER TABLE packs ADD COLUMN more CHECK (length(hex(zeroblob(90000000))) > 5)"
    ),
    "partial index": rewritten("CREATE INDEX evil ON packs (size) WHERE size > 5"),
    "index of what is computed": rewritten("CREATE INDEX evil ON packs (abs(size))"),
    "another table": rewritten("CREATE TABLE evil (x)"),
    "virtual table": rewritten("CREATE VIRTUAL TABLE evil USING fts5(x)"),
}


def many_entries(count):
    """A schema of so many entries, each of which SQLite keeps in memory once it has read it."""

    def spoil(path):
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA writable_schema = ON")
            more = " " * 300
            connection.executemany(
                "INSERT INTO sqlite_master VALUES ('table', ?1, ?1, 0, ?2)",
                ((f"e{n}", f"CREATE VIRTUAL TABLE e{n} USING x({more})") for n in range(count)),
            )
        connection.close()

    return spoil


def long_entries(size):
    """A schema with entries of so many bytes."""
    return rewritten(f"UPDATE sqlite_master SET sql = sql || printf('%{size}s', '')")


LONG = {"many entries": many_entries(30_000), "long entries": long_entries(8 << 20)}


def precious(path):
    return {one: one.read_bytes() for one in path.parent.glob("precious*")}


@pytest.mark.parametrize("case", SCHEMAS)
def test_a_schema_that_is_not_ours_is_never_run(run, weights, case):
    path = weights.root / "catalogue.sqlite"
    SCHEMAS[case](path)
    audit = run("audit", "-q", "--json", "-C", weights.root, "--level", "structure")
    assert (audit.code, audit.remarks) == (0, {"catalogue-damaged"}), audit
    assert run("prune", "-q", "-C", weights.root, "--grace", "0s").code == 0
    with sqlite3.connect(path) as connection:
        names = {row[0] for row in connection.execute("SELECT tbl_name FROM sqlite_master")}
    connection.close()
    assert names == set(TABLES)
    assert run("audit", "-q", "--json", "-C", weights.root).remarks == set()


@pytest.mark.parametrize("case", ["events is a view", "packs is a view"])
@pytest.mark.parametrize("command", ["prune", "stats", "audit"])
def test_a_view_in_place_of_a_table_costs_little(weights, case, command):
    SCHEMAS[case](weights.root / "catalogue.sqlite")
    found = archiver(command, "-q", "-C", weights.root).cheap()
    assert found.code == 0, found


@pytest.mark.parametrize("case", LONG)
def test_a_schema_as_large_as_the_file_is_not_read_whole(weights, case):
    LONG[case](weights.root / "catalogue.sqlite")
    audit = archiver("audit", "-q", "--json", "-C", weights.root, "--level", "structure").cheap()
    assert (audit.code, audit.remarks) == (0, {"catalogue-damaged"}), audit
    assert audit.peak < 150, audit.peak
    assert archiver("stats", "-q", "-C", weights.root).cheap().code == 0


@pytest.mark.parametrize(
    "name", ["catalogue.sqlite", "catalogue.sqlite-wal", "catalogue.sqlite-lock"]
)
@pytest.mark.parametrize("kind", ["link", "folder"])
def test_a_link_is_not_followed_and_a_folder_is_in_nobodys_way(run, weights, tmp_path, name, kind):
    outside = tmp_path / "precious.sqlite"
    shutil.copy(weights.root / "catalogue.sqlite", outside)
    before = precious(outside)
    path = weights.root / name
    path.unlink(missing_ok=True)
    if kind == "link":
        path.symlink_to(outside)
    else:
        path.mkdir()
        (path / "mine").write_text("kept")
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "a.txt").write_text("new")
    for command in (
        ("import", folder, "--as", "org/new", "--min-free", "0B"),
        ("stats",),
        ("prune", "--grace", "0s"),
        ("catalogue", "rebuild"),
        ("audit",),
    ):
        found = run(command[0], *command[1:], "-C", weights.root)
        assert found.code == 0, (command, found)
    assert precious(outside) == before
    if kind == "folder":
        assert [one.read_text() for one in weights.root.rglob("mine")] == ["kept"]


def test_the_tables_that_are_looked_for_are_those_that_are_made():
    made = {name: tuple(table.columns.keys()) for name, table in Base.metadata.tables.items()}
    assert made == TABLES
