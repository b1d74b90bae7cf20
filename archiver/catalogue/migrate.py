"""Bringing a catalogue file to this version's schema.

Imported only when there is something to do: alembic costs as much start-up as all else together.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from alembic import command
from alembic.config import Config
from sqlalchemy import NullPool, create_engine, event

from archiver.catalogue.errors import CatalogueUnusable
from archiver.catalogue.files import connect
from archiver.catalogue.version import APPLICATION_ID, SCHEMA, schema_number

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from archiver.catalogue.files import FileConnection

STEPS = Path(__file__).parent / "migrations"


def migrate(path: Path, mode: str = "rw") -> None:
    """Run the missing steps on the file at ``path``, all or none; an empty file gets them all.

    ``mode`` is how the file is connected to. Several processes may do this at once: one does it, the
    others wait and find it done.
    """
    engine = create_engine("sqlite://", creator=lambda: connect(path, mode), poolclass=NullPool)
    event.listen(engine, "begin", lambda conn: conn.exec_driver_sql("BEGIN IMMEDIATE"))
    with engine.begin() as connection:
        if schema_number(_raw(connection), path) < SCHEMA:
            _run_steps(connection, path)


def _run_steps(connection: Connection, path: Path) -> None:
    """The steps, run without foreign keys (SQLite's default), and the proof that all are kept."""
    config = Config()
    config.set_main_option("script_location", str(STEPS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, f"{SCHEMA:04}")
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
    if broken:
        raise CatalogueUnusable(path, f"its migration left {len(broken)} rows without their parent")
    connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA}")


def _raw(connection: Connection) -> FileConnection:
    return cast("FileConnection", connection.connection.dbapi_connection)
