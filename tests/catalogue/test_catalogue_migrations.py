from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from catalogue_samples import add_sample, make_sample
from sqlalchemy import create_engine

import archiver.catalogue
from archiver.catalogue import database, migrate, version
from archiver.catalogue.database import Catalogue
from archiver.catalogue.dump import dump
from archiver.catalogue.errors import CatalogueUnusable
from archiver.catalogue.schema import Base

FROZEN = Path(__file__).parent / "frozen" / "first_version.sql"


def thaw(path):
    with closing(sqlite3.connect(path)) as raw:
        raw.executescript(FROZEN.read_text())


def structure(path):
    with closing(sqlite3.connect(path)) as raw:
        return sorted(
            (kind, name, " ".join((sql or "").split()))
            for kind, name, sql in raw.execute("SELECT type, name, sql FROM sqlite_master")
            if "alembic_version" not in name
        )


def test_an_empty_file_gets_the_tables_of_the_models(path, tmp_path):
    declared = tmp_path / "declared.sqlite"
    engine = create_engine(f"sqlite:///{declared}")
    Base.metadata.create_all(engine)
    engine.dispose()
    assert structure(path) == structure(declared)


def test_alembic_finds_nothing_to_change(path):
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    engine.dispose()


def test_the_schema_number_is_the_newest_step():
    config = Config()
    config.set_main_option("script_location", str(migrate.STEPS))
    script = ScriptDirectory.from_config(config)
    assert script.get_current_head() == f"{version.SCHEMA:04}"
    assert len(list(script.walk_revisions())) == version.SCHEMA


def test_a_file_of_the_first_version_is_migrated_with_its_rows(tmp_path, path):
    old = tmp_path / "old.sqlite"
    thaw(old)
    with Catalogue.open(path) as catalogue:
        add_sample(catalogue, make_sample(1))
    assert list(dump(old)) == list(dump(path))
    assert structure(old) == structure(path)
    with closing(sqlite3.connect(old)) as raw:
        assert raw.execute("PRAGMA user_version").fetchone() == (version.SCHEMA,)
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert raw.execute("SELECT * FROM alembic_version").fetchall() == [("0002",)]


def test_an_old_file_that_may_only_be_read_is_unusable(tmp_path, monkeypatch):
    thaw(tmp_path / "old.sqlite")
    monkeypatch.setattr(database, "may_write", lambda path: False)
    with pytest.raises(CatalogueUnusable, match="older"):
        Catalogue.open(tmp_path / "old.sqlite")


STEP = """
from alembic import op
revision, down_revision = "0003", "0002"
def upgrade():
    op.execute("CREATE TABLE extra (id)")
    op.execute("{statement}")
"""


@pytest.fixture
def third_step(tmp_path, monkeypatch):
    """Lets a test pretend that this version has a third step, which runs the given SQL."""

    def pretend(statement):
        steps = shutil.copytree(migrate.STEPS, tmp_path / "100% steps")
        (steps / "versions" / "v0003_extra.py").write_text(STEP.format(statement=statement))
        monkeypatch.setattr(migrate, "STEPS", steps)
        for module in (migrate, version, database):
            monkeypatch.setattr(module, "SCHEMA", 3)
        monkeypatch.setitem(version.TABLES, "extra", ("id",))

    return pretend


def test_a_step_that_rewrites_a_parent_runs_without_foreign_keys(path, third_step):
    with Catalogue.open(path) as catalogue:
        add_sample(catalogue, make_sample(1))
    before = list(dump(path))
    third_step("UPDATE packs SET id = id")
    with Catalogue.open(path):
        assert list(dump(path)) == before
    assert ("table", "extra", "CREATE TABLE extra (id)") in structure(path)


@pytest.mark.parametrize("statement", ["DELETE FROM packs", "SELECT * FROM nothing"])
def test_a_step_that_fails_or_breaks_a_reference_changes_nothing(path, third_step, statement):
    with Catalogue.open(path) as catalogue:
        add_sample(catalogue, make_sample(1))
    tables = structure(path)
    third_step(statement)
    with pytest.raises(CatalogueUnusable):
        Catalogue.open(path)
    assert structure(path) == tables
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA user_version").fetchone() == (2,)
        assert raw.execute("SELECT count(*) FROM packs").fetchone() == (1,)


def test_the_steps_lie_in_the_package():
    assert migrate.STEPS.parent == Path(archiver.catalogue.__file__).parent
    assert (migrate.STEPS / "env.py").is_file()
