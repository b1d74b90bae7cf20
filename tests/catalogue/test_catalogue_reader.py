"""A catalogue that is only asked: what it reads of the archive, and when it is brought up to date first."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing

import pytest
from kit.cli import invoke
from kit.opened import opened_by
from kit.repository import write_folder

from archiver.catalogue.sqlite_file import COMPANIONS

QUERY = "SELECT name FROM repositories ORDER BY name"


def add(root, name, card="# A model\n"):
    """Take in a repository of one small file and a card."""
    folder = root.with_name("model")
    shutil.rmtree(folder, ignore_errors=True)
    write_folder(
        folder, {"config.json": f'{{"name": "{name}"}}'.encode(), "README.md": card.encode()}
    )
    assert invoke("import", "-q", "-C", root, folder, "--as", name, "--min-free", "0B") == 0


@pytest.fixture
def root(tmp_path):
    """An archive of three repositories, whose catalogue is up to date."""
    root = tmp_path / "weights"
    assert invoke("init", "-q", "-C", root) == 0
    for number in range(3):
        add(root, f"org/model{number}")
    assert invoke("search", "-q", "-C", root, "model1") == 0
    return root


@pytest.mark.parametrize("words", [["search", "model1"], ["sql", QUERY]])
def test_what_is_up_to_date_is_asked_without_reading_what_is_held(words, root):
    opened = opened_by(root, *words)
    assert not {"manifests", "snapshots", "packs", "journal"} & set(opened), opened
    left = {path.name for path in root.glob("catalogue.sqlite*")}
    assert left == {"catalogue.sqlite", "catalogue.sqlite-lock"}


def test_a_search_does_not_wait_for_the_events_of_a_night(root, run):
    assert run("-C", root, "policy", "set", "--copies", "3").code == 0
    assert not opened_by(root, "search", "model1")["journal"]
    assert opened_by(root, "sql", QUERY)["journal"]
    assert not opened_by(root, "sql", QUERY)["journal"]


def test_of_what_is_new_only_that_is_read(root):
    add(root, "org/new")
    opened = opened_by(root, "search", "model1")
    assert opened["manifests"] == 1, opened
    assert not opened_by(root, "search", "model1")["manifests"]


def test_what_comes_goes_or_is_read_later_is_known(root, run):
    def names():
        return run("-C", root, "sql", "--csv", QUERY).out.split()[1:]

    add(root, "org/new", card="# A peculiar one\n")
    assert names() == ["org/model0", "org/model1", "org/model2", "org/new"]
    assert [
        hit["title"] for hit in run("-C", root, "search", "--json", "peculiar").kinds("hit")
    ] == ["A peculiar one"]
    (seal,) = root.glob("snapshots/org/model1/*.json")
    aside = root.with_name(seal.name)
    shutil.move(seal, aside)
    assert names() == ["org/model0", "org/model2", "org/new"]
    shutil.move(aside, seal)
    assert names() == ["org/model0", "org/model1", "org/model2", "org/new"]
    assert run("-C", root, "policy", "set", "--copies", "3").code == 0
    count = run(
        "-C", root, "sql", "--csv", "SELECT count(*) FROM events WHERE event = 'policy'"
    ).out
    assert count.split() == ["count(*)", "1"]


@pytest.mark.parametrize("wrong", ["noise", "empty", "table", "row", "gone", "read-only"])
def test_a_file_that_cannot_be_asked_is_mended_first(wrong, root, run):
    path = root / "catalogue.sqlite"
    if wrong in {"table", "row"}:
        with closing(sqlite3.connect(path)) as connection:
            change = "ALTER TABLE cards ADD x" if wrong == "table" else "DELETE FROM cards"
            connection.execute(change)
            connection.commit()
    elif wrong == "read-only":
        path.chmod(0o444)
    else:
        path.write_bytes({"noise": b"x" * 9999, "empty": b"", "gone": b""}[wrong])
        if wrong == "gone":
            path.unlink()
    result = run("-C", root, "search", "--json", "model1")
    assert result.code == 0
    assert {hit["repository"] for hit in result.kinds("hit")} == {"org/model1"}
    assert not [name for name in COMPANIONS if (root / f"catalogue.sqlite{name}").exists()]


def test_while_another_process_writes_what_was_there_before_is_found(root, run):
    with closing(sqlite3.connect(root / "catalogue.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM snapshots")
        result = run("-C", root, "search", "--json", "model1")
        other.execute("ROLLBACK")
    assert [hit["repository"] for hit in result.kinds("hit") if hit["what"] == "repository"] == [
        "org/model1"
    ]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE repositories SET name = x'ff00' || name",
        "UPDATE snapshots SET bytes = 'many', sealed = x'00', revision = 7",
        "UPDATE snapshots SET digest = 'x' || id",
        "UPDATE files SET size = x'ff', blake3 = 1, path = x'ff' || path",
        "UPDATE tensor_groups SET shape = '4,x,,-1,' || printf('%.5000c', '9'), tensors = 'a'",
        "UPDATE cards SET title = x'ff', licence = 1, text = zeroblob(9999)",
        "UPDATE manifests SET licence = x'fffe'",
    ],
)
def test_rows_that_somebody_else_wrote_are_no_error(change, root, run):
    with closing(sqlite3.connect(root / "catalogue.sqlite")) as connection:
        connection.execute(change)
        connection.commit()
    for words in (["model1"], ["json"], ["--dtype", "BF16"], ["--larger", "1"]):
        result = run("-C", root, "search", *words)
        assert result.code in {0, 1}, result
