"""The catalogue's tables. Every row is derived from a file of the archive and from nothing else.

Integer ids stand in for digests and names to keep rows short; they depend on the order of insertion
and never leave this package. Everything else is the same however the rows came in.

Whoever changes a table raises ``SCHEMA`` in ``sqlite_file``, and lists the columns there: a file of another
number is written anew.

::

    repositories ─< snapshots >─ manifests ─< files >─ layouts ─< tensors
    packs ─< objects    events   └─ cards              └─< tensor_groups
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Final

from sqlalchemy import ForeignKey, Index, LargeBinary, MetaData, Text, TypeDecorator
from sqlalchemy.dialects.sqlite import dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.schema import CreateIndex, CreateTable

if TYPE_CHECKING:
    from sqlalchemy import Dialect

COMPACT: Final = {"sqlite_with_rowid": False}
"""The primary key is the table: no second b-tree for it."""


# ---- column types that keep rows small


class HexDigest(TypeDecorator[str]):
    """Lowercase hex outside, bytes inside (half the room); ``""`` is NULL."""

    impl = LargeBinary
    cache_ok = True

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.length = length

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Return the bytes of ``value``. Raise ValueError when it is no digest of this length."""
        if not value:
            return None
        data = bytes.fromhex(value)
        if len(data) != self.length or data.hex() != value:
            raise ValueError(
                f"{value[:80]!r} is not a digest of {self.length} bytes in lowercase hex"
            )
        return data

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str:  # noqa: ARG002 - SQLAlchemy's signature
        """Return the hex digits of ``value``, ``""`` for NULL."""
        if value and not isinstance(value, bytes):
            raise sqlite3.DatabaseError("a digest in it is none")  # the file is not of our writing
        return value.hex() if value else ""


class Shape(TypeDecorator[tuple[int, ...]]):
    """A tensor's shape as ``"4096,11008"``; a scalar's is ``""``."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: tuple[int, ...] | None, dialect: Dialect) -> str:  # noqa: ARG002 - SQLAlchemy's signature
        """Return the shape as text."""
        return ",".join(map(str, value or ()))

    def process_result_value(self, value: str | None, dialect: Dialect) -> tuple[int, ...]:  # noqa: ARG002 - SQLAlchemy's signature
        """Return the shape as numbers."""
        try:
            return tuple(map(int, value.split(","))) if value else ()
        except (AttributeError, ValueError):
            raise sqlite3.DatabaseError("a shape in it is none") from None


# ---- tables


class Base(DeclarativeBase):
    """The base of all tables."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        }
    )


class Repository(Base):
    """A repository of which at least one snapshot is held."""

    __tablename__ = "repositories"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text, unique=True)


class ManifestRow(Base):
    """A manifest that at least one seal names."""

    __tablename__ = "manifests"

    id: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(HexDigest(32), unique=True)
    upstream: Mapped[str] = mapped_column(Text)
    endpoint: Mapped[str] = mapped_column(Text)
    committed: Mapped[str] = mapped_column(Text)
    licence: Mapped[str] = mapped_column(Text)


class Snapshot(Base):
    """A seal: a revision, whole or in part, that is held here."""

    __tablename__ = "snapshots"

    id: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(HexDigest(32), unique=True)
    repository_id: Mapped[int] = mapped_column(ForeignKey(Repository.id))
    revision: Mapped[str] = mapped_column(HexDigest(20))
    manifest_id: Mapped[int] = mapped_column(ForeignKey(ManifestRow.id))
    sealed: Mapped[str] = mapped_column(Text)
    tool: Mapped[str] = mapped_column(Text)
    parent: Mapped[str] = mapped_column(HexDigest(32), nullable=True)
    selection: Mapped[str] = mapped_column(Text)  # canonical JSON
    files: Mapped[int]
    bytes: Mapped[int]
    objects: Mapped[int]
    stored: Mapped[int]
    tensors: Mapped[int]

    __table_args__ = (
        Index(None, "repository_id", "revision"),
        Index(None, "manifest_id"),
    )


class Layout(Base):
    """A list of tensors, named by its own digest: files that agree on it share it."""

    __tablename__ = "layouts"

    id: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(HexDigest(32), unique=True)


class TensorRow(Base):
    """One tensor of a layout; ``number`` counts in file order."""

    __tablename__ = "tensors"
    __table_args__ = COMPACT

    layout_id: Mapped[int] = mapped_column(ForeignKey(Layout.id), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    dtype: Mapped[str] = mapped_column(Text)
    shape: Mapped[tuple[int, ...]] = mapped_column(Shape)
    begin: Mapped[int]
    end: Mapped[int]


class TensorGroup(Base):
    """Tensors of a layout that differ only in the numbers within their names, such as those of all layers.

    ``pattern`` has ``#`` for each number; ``""`` stands for all that are beyond the bound. ``bytes`` are
    of all ``tensors`` of the group together.
    """

    __tablename__ = "tensor_groups"
    __table_args__ = COMPACT

    layout_id: Mapped[int] = mapped_column(ForeignKey(Layout.id), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    pattern: Mapped[str] = mapped_column(Text)
    dtype: Mapped[str] = mapped_column(Text)
    shape: Mapped[tuple[int, ...]] = mapped_column(Shape)
    tensors: Mapped[int]
    bytes: Mapped[int]


class Card(Base):
    """What a manifest's README.md says, as far as it was read; ``""`` where it says nothing.

    ``terms`` are the tags, languages, base models and the like of its front matter, one a line.
    """

    __tablename__ = "cards"

    manifest_id: Mapped[int] = mapped_column(ForeignKey(ManifestRow.id), primary_key=True)
    licence: Mapped[str] = mapped_column(Text)
    title: Mapped[str] = mapped_column(Text)
    terms: Mapped[str] = mapped_column(Text)
    text: Mapped[str] = mapped_column(Text)


class FileRow(Base):
    """One file of a manifest; no layout when its tensors are not known."""

    __tablename__ = "files"

    manifest_id: Mapped[int] = mapped_column(ForeignKey(ManifestRow.id), primary_key=True)
    path: Mapped[str] = mapped_column(Text, primary_key=True)
    size: Mapped[int]
    sha256: Mapped[str] = mapped_column(HexDigest(32))
    blake3: Mapped[str] = mapped_column(HexDigest(32))
    oid: Mapped[str] = mapped_column(HexDigest(20), nullable=True)
    lfs: Mapped[bool]
    layout_id: Mapped[int | None] = mapped_column(ForeignKey(Layout.id))

    __table_args__ = (
        Index(None, "sha256", "size"),
        Index(None, "oid", "size"),
        COMPACT,
    )


class Pack(Base):
    """A pack whose index was read."""

    __tablename__ = "packs"

    id: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(HexDigest(32), unique=True)
    size: Mapped[int]
    objects: Mapped[int]


class ObjectRow(Base):
    """One stored copy of an object: the same object may lie in several packs."""

    __tablename__ = "objects"
    __table_args__ = COMPACT

    blake3: Mapped[str] = mapped_column(HexDigest(32), primary_key=True)
    pack_id: Mapped[int] = mapped_column(ForeignKey(Pack.id), primary_key=True)
    offset: Mapped[int] = mapped_column(primary_key=True)
    stored: Mapped[int]
    size: Mapped[int]
    codec: Mapped[int]


class EventRow(Base):
    """One event of the journal; ``detail`` is its JSON as it is stored."""

    __tablename__ = "events"

    digest: Mapped[str] = mapped_column(HexDigest(32), primary_key=True)
    event: Mapped[str] = mapped_column(Text)
    time: Mapped[str] = mapped_column(Text)
    tool: Mapped[str] = mapped_column(Text)
    repository: Mapped[str] = mapped_column(Text)
    revision: Mapped[str] = mapped_column(Text)
    detail: Mapped[str] = mapped_column(Text)

    __table_args__ = (
        Index(None, "repository", "time"),
        Index(None, "time"),
        COMPACT,
    )


def create_statements() -> list[str]:
    """Return the SQL that makes every table and index, those that others point to first."""
    tables = Base.metadata.sorted_tables
    indexes = sorted(
        (index for table in tables for index in table.indexes), key=lambda index: str(index.name)
    )
    ddl: list[CreateTable | CreateIndex] = [*map(CreateTable, tables), *map(CreateIndex, indexes)]
    return [str(statement.compile(dialect=dialect())) for statement in ddl]
