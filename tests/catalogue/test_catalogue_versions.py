"""An index of another version is written anew from the archive's files, never migrated."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from catalogue_dump import dump
from catalogue_samples import add_sample, make_sample
from sqlalchemy import create_engine

from archiver.archive.archive import Archive
from archiver.catalogue import database
from archiver.catalogue.database import Catalogue
from archiver.catalogue.rebuild import open_catalogue
from archiver.catalogue.schema import Base
from archiver.catalogue.sqlite_file import SCHEMA, CatalogueVersionError, damage_of
from archiver.cli.main import invoke
from archiver.progress import Progress

FROZEN = Path(__file__).parent / "frozen"


def structure(path):
    with closing(sqlite3.connect(path)) as raw:
        return sorted(
            (kind, name, " ".join((sql or "").split()))
            for kind, name, sql in raw.execute("SELECT type, name, sql FROM sqlite_master")
        )


def number_of(path):
    with closing(sqlite3.connect(path)) as raw:
        return raw.execute("PRAGMA user_version").fetchone()[0]


def thawed(name):
    def write(path):
        with closing(sqlite3.connect(path)) as raw:
            raw.executescript((FROZEN / name).read_text())

    return write


def newer(path):
    with Catalogue.open(path) as catalogue:
        add_sample(catalogue, make_sample(1))
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("CREATE TABLE of_tomorrow AS SELECT 1 AS x")
        raw.execute(f"PRAGMA user_version = {SCHEMA + 1}")


VERSIONS = {
    "older": thawed("first_version.sql"),
    "made by alembic": thawed("second_version.sql"),
    "without groups of tensors": thawed("third_version.sql"),
    "newer": newer,
}


@pytest.fixture
def old(tmp_path, request):
    path = tmp_path / "old.sqlite"
    VERSIONS[request.param](path)
    return path


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """An archive with a snapshot and its index."""
    folder = tmp_path_factory.mktemp("versions")
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    root = folder / "weights"
    assert invoke(["init", "-q", "-C", str(root)]) == 0
    words = ["import", "-q", "-C", str(root), str(folder / "model"), "--as", "org/one"]
    assert invoke([*words, "--min-free", "0B"]) == 0
    assert invoke(["stats", "-q", "-C", str(root)]) == 0  # which adds the import's event
    return root


@pytest.fixture
def old_index(archive, request):
    """The archive, with an index that another version made of something else."""
    before = dump(archive / "catalogue.sqlite")
    for path in archive.glob("catalogue.sqlite*"):
        path.unlink()
    VERSIONS[request.param](archive / "catalogue.sqlite")
    return before


class Recorder(Progress):
    def __init__(self):
        self.phases, self.bytes, self.expected, self.ended = [], 0, 0, []

    def phase(self, verb):
        self.phases.append(verb)

    def expect(self, files, size):
        self.expected += size

    def advance(self, count, *, fetched):
        self.bytes += count

    def end(self, path):
        self.ended.append(path)


def test_an_empty_file_gets_the_tables_of_the_models(path, tmp_path):
    declared = tmp_path / "declared.sqlite"
    engine = create_engine(f"sqlite:///{declared}")
    Base.metadata.create_all(engine)
    engine.dispose()
    assert structure(path) == structure(declared)
    assert number_of(path) == SCHEMA


def test_a_file_of_this_version_is_used_as_it_is(path, tmp_path):
    """Whoever changes a table raises SCHEMA, freezes a new file, and lists this one as an older version."""
    frozen = tmp_path / "frozen.sqlite"
    thawed("fourth_version.sql")(frozen)
    assert number_of(frozen) == SCHEMA
    assert structure(frozen) == structure(path)
    with Catalogue.open(path) as catalogue:
        add_sample(catalogue, make_sample(1))
    assert dump(frozen) == dump(path)


@pytest.mark.parametrize("old", VERSIONS, indirect=True)
def test_a_file_of_another_version_is_neither_used_nor_changed_nor_damaged(old):
    before = old.read_bytes()
    with pytest.raises(CatalogueVersionError, match="another version wrote it"):
        Catalogue.open(old)
    assert damage_of(old) == ""
    assert old.read_bytes() == before


@pytest.mark.parametrize("old", VERSIONS, indirect=True)
def test_a_file_of_another_version_that_may_only_be_read_is_unusable(old, monkeypatch):
    monkeypatch.setattr(database, "may_write", lambda path: False)
    with pytest.raises(CatalogueVersionError, match="another version wrote it"):
        Catalogue.open(old)


@pytest.mark.parametrize("old_index", VERSIONS, indirect=True)
def test_it_is_rebuilt_and_answers_the_same(archive, old_index, tmp_path, path):
    progress = Recorder()
    with open_catalogue(Archive.open(archive), progress) as catalogue:
        assert catalogue.path == archive / "catalogue.sqlite"
    assert dump(archive / "catalogue.sqlite") == old_index
    assert structure(archive / "catalogue.sqlite") == structure(path)
    assert number_of(archive / "catalogue.sqlite") == SCHEMA
    assert progress.phases == ["Indexing packs", "Indexing snapshots"]
    assert progress.bytes == progress.expected > 0
    assert [name.split("/")[0] for name in progress.ended] == ["packs", "snapshots"]
    again = Recorder()
    open_catalogue(Archive.open(archive), again).close()
    assert again.phases == []


@pytest.mark.parametrize("old_index", VERSIONS, indirect=True)
@pytest.mark.parametrize("words", [("stats",), ("prune", "--grace", "1d")])
def test_a_command_says_so_once_and_gives_what_it_gave(archive, old_index, capsys, words):
    told = []
    for _ in range(2):
        assert invoke([*words, "-C", str(archive)]) == 0
        told.append(capsys.readouterr())
    assert "Indexing packs …\nIndexing snapshots …\n" in told[0].err
    assert "Indexing" not in told[1].err
    assert told[0].out == told[1].out
    assert dump(archive / "catalogue.sqlite") == old_index
