"""SQL over the catalogue: one SELECT, which can do nothing but read, and not for ever."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from kit.cli import invoke
from kit.repository import write_model

from archiver.catalogue.schema import Base
from archiver.catalogue.sqlite_file import SCHEMA, TABLES

PAGE = (Path(__file__).parents[2] / "docs" / "catalogue.md").read_text(encoding="utf-8")
ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT "


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sql")
    assert invoke("init", "-q", "-C", folder / "weights") == 0
    write_model(folder / "model", 1, 10)
    words = ("import", "-q", "-C", folder / "weights", folder / "model", "--as", "org/one")
    assert invoke(*words, "--min-free", "0B") == 0
    return folder / "weights"


@pytest.fixture
def sql(root, run):
    return lambda *words: run("-C", root, "sql", *words)


def test_rows_as_a_table_as_csv_and_as_json(sql, root):
    query = "SELECT path, size, NULL AS none FROM files WHERE path = 'config.json'"
    assert sql(query).out == "path         size  none\nconfig.json    11\n"
    assert sql(query, "--csv").out == "path,size,none\nconfig.json,11,\n"
    result = sql(query, "--json")
    assert result.only("row")["row"] == {"path": "config.json", "size": 11, "none": None}
    assert result.only("sql") == {
        "kind": "sql", "columns": ["path", "size", "none"], "rows": 1, "cut": False,
    }  # fmt: skip
    (pack,) = root.glob("packs/*/*.pack")
    assert sql("--csv", "SELECT digest FROM packs").out == f"digest\n{pack.stem}\n"


def test_columns_of_one_name_are_told_apart(sql):
    row = sql("--json", "SELECT 1 AS a, 2 AS a, 3 AS a_2").only("row")["row"]
    assert row == {"a": 1, "a_2": 2, "a_2_2": 3}


def test_csv_is_quoted_and_terminals_are_safe(sql):
    out = sql("--csv", "SELECT 'a,\"b\"' AS x, char(27) || '[31m' AS y").out
    assert out == 'x,y\n"a,""b""",\\x1b[31m\n'


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM packs",
        "UPDATE packs SET size = 0",
        "INSERT INTO repositories(name) VALUES ('x')",
        "DROP TABLE packs",
        "CREATE TABLE x(y)",
        "CREATE TEMP TABLE x AS SELECT 1",
        "ATTACH 'other.sqlite' AS other",
        "VACUUM INTO 'copy.sqlite'",
        "PRAGMA query_only = OFF",
        "PRAGMA user_version = 9",
        "PRAGMA journal_mode",
        "BEGIN",
        "COMMIT",
        "SELECT load_extension('x')",
        "REINDEX",
        "SELECT 1; DELETE FROM packs",
        "EXPLAIN DELETE FROM packs",
        "",
        "-- nothing",
        "SELEC",
        "SELECT nothing FROM nowhere",
        "SELECT '\0'",
        "SELECT " + "(" * 5000,
        "SELECT " + "1," * 40_000 + "1",
        "SELECT zeroblob(1000000000)",
        "SELECT :name",
        "SELECT ?",
    ],
)
def test_what_is_no_query_does_nothing(sql, root, query):
    before = sql("--csv", "SELECT count(*), sum(size) FROM packs").out
    result = sql("--json", "--", query)
    assert result.code in {1, 2}, result.out
    assert result.only("error")["message"].startswith(("The query", "That is no query"))
    assert sql("--csv", "SELECT count(*), sum(size) FROM packs").out == before
    assert not list(root.glob("*copy*"))


def test_a_query_that_runs_away_is_ended(sql):
    result = sql("--max-duration", "1s", ENDLESS + "count(*) FROM c")
    assert result.code == 1
    assert "was ended after 1.0 s" in result.err


def test_more_rows_than_the_limit_are_cut_and_said_to_be(sql):
    result = sql("--limit", "5", "--json", ENDLESS + "x FROM c")
    assert result.code == 3
    assert [row["row"]["x"] for row in result.kinds("row")] == [1, 2, 3, 4, 5]
    assert result.only("sql")["cut"] is True
    assert sql("--limit", "5", ENDLESS + "x FROM c LIMIT 5").code == 0


def test_the_columns_of_a_table_can_be_asked(sql):
    rows = sql("--json", "PRAGMA table_info(packs)").kinds("row")
    assert tuple(row["row"]["name"] for row in rows) == TABLES["packs"]


def test_another_query_of_the_same_process_still_writes(sql, root, run):
    assert sql("SELECT 1").code == 0
    assert run("-C", root, "stats", "--json").code == 0
    assert run("-C", root, "catalogue", "rebuild").code == 0


def test_the_page_has_every_table_and_column():
    documented = {
        table: tuple(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
        for table, text in re.findall(
            r"^### `(\w+)`\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL
        )
    }
    assert documented == TABLES
    kinds = {
        (table, column): kind
        for table, text in re.findall(
            r"^### `(\w+)`\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL
        )
        for column, kind in re.findall(r"^\| `(\w+)` \| (\w+) \|", text, re.MULTILINE)
    }
    declared = {
        (table.name, column.name): str(column.type.compile())
        for table in Base.metadata.sorted_tables
        for column in table.columns
    }
    names = {"VARCHAR": "TEXT", "BOOLEAN": "INTEGER"}
    assert kinds == {key: names.get(kind, kind) for key, kind in declared.items()}
    assert f"schema {SCHEMA}" in PAGE


def test_the_queries_of_the_page_run(sql):
    queries = re.findall(r"^    archiver sql -C /srv/weights \"([^\"]+)\"$", PAGE, re.MULTILINE)
    assert len(queries) >= 4
    for query in queries:
        result = sql("--json", query)
        assert result.code == 0, (query, result.err)
        assert json.loads(result.out.splitlines()[-1])["kind"] == "sql"
