"""The tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from alembic import op

if TYPE_CHECKING:
    from sqlalchemy.schema import SchemaItem

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table, those that others point to first."""
    _keyed("repositories", "name", sa.Text)
    _keyed("layouts", "digest", sa.LargeBinary)
    _keyed("packs", "digest", sa.LargeBinary, *_integers("size", "objects"))
    _keyed(
        "manifests",
        "digest",
        sa.LargeBinary,
        *_texts("upstream", "endpoint", "committed", "licence"),
    )
    _snapshots()
    _tensors()
    _files()
    _objects()
    _events()


def _integers(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.Integer, nullable=False) for name in names]


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]


def _bytes(*names: str, nullable: bool = False) -> list[sa.Column[bytes]]:
    return [sa.Column(name, sa.LargeBinary, nullable=nullable) for name in names]


def _points(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=f"fk_{table}_{column}")


def _keyed(
    table: str,
    key: str,
    kind: type[sa.Text | sa.LargeBinary],
    *more: SchemaItem,
    points: dict[str, str] | None = None,
) -> None:
    """A table whose rows have a number, for short references, and a name of their own."""
    op.create_table(
        table,
        *_integers("id"),
        sa.Column(key, kind, nullable=False),
        *more,
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
        sa.UniqueConstraint(key, name=f"uq_{table}_{key}"),
        *(_points(table, column, target) for column, target in (points or {}).items()),
    )


def _snapshots() -> None:
    _keyed(
        "snapshots",
        "digest",
        sa.LargeBinary,
        *_integers("repository_id"),
        *_bytes("revision"),
        *_integers("manifest_id"),
        *_texts("sealed", "tool"),
        *_bytes("parent", nullable=True),
        *_texts("selection"),
        *_integers("files", "bytes", "objects", "stored", "tensors"),
        points={"repository_id": "repositories", "manifest_id": "manifests"},
    )


def _tensors() -> None:
    op.create_table(
        "tensors",
        *_integers("layout_id", "number"),
        *_texts("name", "dtype", "shape"),
        *_integers("begin", "end"),
        sa.PrimaryKeyConstraint("layout_id", "number", name="pk_tensors"),
        _points("tensors", "layout_id", "layouts"),
        sqlite_with_rowid=False,
    )


def _files() -> None:
    op.create_table(
        "files",
        *_integers("manifest_id"),
        *_texts("path"),
        *_integers("size"),
        *_bytes("sha256", "blake3"),
        *_bytes("oid", nullable=True),
        sa.Column("lfs", sa.Boolean, nullable=False),
        sa.Column("layout_id", sa.Integer, nullable=True),
        sa.PrimaryKeyConstraint("manifest_id", "path", name="pk_files"),
        _points("files", "manifest_id", "manifests"),
        _points("files", "layout_id", "layouts"),
        sqlite_with_rowid=False,
    )


def _objects() -> None:
    op.create_table(
        "objects",
        *_bytes("blake3"),
        *_integers("pack_id", "offset", "stored", "size", "codec"),
        sa.PrimaryKeyConstraint("blake3", "pack_id", "offset", name="pk_objects"),
        _points("objects", "pack_id", "packs"),
        sqlite_with_rowid=False,
    )


def _events() -> None:
    op.create_table(
        "events",
        *_bytes("digest"),
        *_texts("event", "time", "tool", "repository", "revision", "detail"),
        sa.PrimaryKeyConstraint("digest", name="pk_events"),
        sqlite_with_rowid=False,
    )
