"""Full-text search over what the catalogue tells: repositories with their cards, files, tensors.

The index is SQLite's FTS5, in memory, made anew for each search from the catalogue's plain tables: the
tensors of a million come in some thousand groups that only numbers tell apart. So the file on disk,
which others may have written, has no table that computes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal

import msgspec
from sqlalchemy import (
    Column,
    ColumnElement,
    Integer,
    MetaData,
    Table,
    Text,
    and_,
    bindparam,
    func,
    insert,
    literal,
    select,
    text,
)

from archiver.catalogue.schema import (
    Card,
    FileRow,
    ManifestRow,
    Repository,
    Snapshot,
    TensorGroup,
)
from archiver.catalogue.updates import name_pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Connection, Select

    from archiver.catalogue.database import Catalogue

Kind = Literal["repository", "file", "tensor"]
WORDS_MAX: Final = 32
WORD_MAX: Final = 200
"""Words of a search, and characters of each."""
_CANDIDATES_MAX: Final = 20_000
"""Matches of one kind that are looked at; of more, the best."""

_INDEX: Final = (
    "CREATE VIRTUAL TABLE temp.search USING "
    "fts5(words, kind UNINDEXED, ref UNINDEXED, number UNINDEXED)"
)
_search = Table(
    "search",
    MetaData(schema="temp"),
    Column("rowid", Integer),
    Column("words", Text),
    Column("kind", Text),
    Column("ref", Integer),
    Column("number", Text),
    Column("rank", Integer),
)
_TOKEN: Final = re.compile(r"\w")


class Query(msgspec.Struct, frozen=True):
    """What is looked for: all ``words``, as beginnings of words, in one place.

    ``dtype`` is that of a tensor, ``licence`` a part of a repository's, ``larger`` and ``smaller`` bounds
    of bytes (0: none) of a snapshot, a file, or a group of tensors.
    """

    words: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = ("repository", "file", "tensor")
    dtype: str = ""
    licence: str = ""
    larger: int = 0
    smaller: int = 0
    limit: int = 50


class RepositoryHit(msgspec.Struct, frozen=True, tag_field="what", tag="repository"):
    """A repository whose name, licence or card has the words; the rest is of its newest snapshot."""

    repository: str
    snapshot: str
    revision: str
    licence: str
    title: str
    bytes: int
    snapshots: int


class FileHit(msgspec.Struct, frozen=True, tag_field="what", tag="file"):
    """A file whose path has the words, in the newest of the ``snapshots`` that have it."""

    repository: str
    snapshot: str
    revision: str
    path: str
    bytes: int
    blake3: str
    snapshots: int


class TensorHit(msgspec.Struct, frozen=True, tag_field="what", tag="tensor"):
    """Tensors of a repository that only numbers in their names tell apart, in its newest such snapshot.

    ``pattern`` has ``#`` for each number. ``bytes`` are of all ``tensors`` together.
    """

    repository: str
    snapshot: str
    revision: str
    pattern: str
    dtype: str
    shape: tuple[int, ...]
    tensors: int
    bytes: int
    files: int


Hit = RepositoryHit | FileHit | TensorHit


class Hits(msgspec.Struct, frozen=True):
    """What was found, kind by kind, the best of each first; ``total`` counts what was left out, too."""

    hits: tuple[Hit, ...]
    total: dict[str, int]


def search(catalogue: Catalogue, query: Query) -> Hits:
    """Return what has all the words and fits the bounds."""

    def work(connection: Connection) -> Hits:
        _index(connection, query.kinds)
        found: list[Hit] = []
        total: dict[str, int] = {}
        for kind in query.kinds:
            hits: list[Hit] = list(_FINDERS[kind](connection, query))
            total[kind] = len(hits)
            found += hits[: query.limit]
        return Hits(tuple(found), total)

    return catalogue.read(work)


def licences(catalogue: Catalogue) -> dict[str, str]:
    """Return id of a snapshot -> its licence; those that have none are left out."""
    query = (
        select(Snapshot.digest, _licence())
        .join(ManifestRow, ManifestRow.id == Snapshot.manifest_id)
        .outerjoin(Card, Card.manifest_id == ManifestRow.id)
    )
    rows = catalogue.read(lambda connection: list(connection.execute(query)))
    return {snapshot: licence for snapshot, licence in rows if licence}


# ---- the index


def _index(connection: Connection, kinds: Sequence[Kind]) -> None:
    """Make the index in memory, of these kinds: one document a manifest, a path of it, or a group."""
    connection.execute(text("PRAGMA temp_store = MEMORY"))
    connection.execute(text("DROP TABLE IF EXISTS temp.search"))
    connection.execute(text(_INDEX))
    into = insert(_search)
    columns = ("words", "kind", "ref", "number")
    if "repository" in kinds:
        words = (
            Repository.name + "\n" + ManifestRow.licence + "\n" + ManifestRow.upstream + "\n"
            + func.coalesce(Card.licence + "\n" + Card.title + "\n" + Card.terms + "\n" + Card.text, "")
        )  # fmt: skip
        rows = (
            select(words, literal("repository"), ManifestRow.id, literal(""))
            .join(Snapshot, Snapshot.manifest_id == ManifestRow.id)
            .join(Repository, Repository.id == Snapshot.repository_id)
            .outerjoin(Card, Card.manifest_id == ManifestRow.id)
            .distinct()
        )
        connection.execute(into.from_select(columns, rows))
    if "file" in kinds:
        rows = select(FileRow.path, literal("file"), FileRow.manifest_id, FileRow.path)
        connection.execute(into.from_select(columns, rows))
    if "tensor" in kinds:
        words = TensorGroup.pattern + "\n" + TensorGroup.dtype
        rows = select(words, literal("tensor"), TensorGroup.layout_id, TensorGroup.number)
        connection.execute(into.from_select(columns, rows))


def _matching(kind: Kind, words: Sequence[str]) -> Select[tuple[int, str, float]]:
    """Return the query for reference, number and rank of the documents of a kind that have all words."""
    rank = _search.c.rank if words else literal(0.0)
    query = select(_search.c.ref, _search.c.number, rank.label("rank")).where(
        _search.c.kind == kind
    )
    if words:
        match = text("search MATCH :words").bindparams(bindparam("words", _expression(words)))
        query = query.where(match).order_by(_search.c.rank, _search.c.rowid)
    return query.limit(_CANDIDATES_MAX)


def _expression(words: Sequence[str]) -> str:
    """Return the words for FTS5: each a phrase in quotes, of which the last part may go on.

    So no sign of a word means anything to it but a quote, which is doubled.
    """
    return " ".join(f'"{word.replace(chr(34), chr(34) * 2)}"*' for word in words)


def usable(words: Sequence[str]) -> tuple[str, ...]:
    """Return the words that have a letter or a digit: the index knows no others."""
    return tuple(word[:WORD_MAX].replace("\0", " ") for word in words if _TOKEN.search(word))[
        :WORDS_MAX
    ]


# ---- what was found


def _licence() -> ColumnElement[str]:
    """Return the licence as upstream says it, or else the card."""
    return func.coalesce(func.nullif(ManifestRow.licence, ""), Card.licence, "")


def _repositories(connection: Connection, query: Query) -> Iterator[RepositoryHit]:
    matched = _matching("repository", query.words).subquery()
    rows = connection.execute(
        select(
            Repository.name, Snapshot.digest, Snapshot.revision, _licence(),
            func.coalesce(Card.title, ""), Snapshot.bytes, Snapshot.sealed, matched.c.rank,
        )
        .join(Snapshot, Snapshot.repository_id == Repository.id)
        .join(ManifestRow, ManifestRow.id == Snapshot.manifest_id)
        .join(matched, matched.c.ref == ManifestRow.id)
        .outerjoin(Card, Card.manifest_id == ManifestRow.id)
        .order_by(matched.c.rank, Snapshot.sealed.desc(), Snapshot.digest)
    )  # fmt: skip
    best: dict[str, list[tuple[str, RepositoryHit]]] = {}
    for name, snapshot, revision, licence, title, size, sealed, _ in rows:
        hit = RepositoryHit(name, snapshot, revision, licence, title, size, 1)
        if _fits(query, size, licence) and not query.dtype:
            best.setdefault(name, []).append((sealed, hit))
    for hits in best.values():
        _, newest = max(hits, key=lambda pair: pair[0])
        yield msgspec.structs.replace(newest, snapshots=len(hits))


def _files(connection: Connection, query: Query) -> Iterator[FileHit]:
    matched = _matching("file", query.words).subquery()
    rows = connection.execute(
        select(
            Repository.name, Snapshot.digest, Snapshot.revision, FileRow.path, FileRow.size,
            FileRow.blake3, Snapshot.sealed, _licence(),
        )
        .join(Snapshot, Snapshot.repository_id == Repository.id)
        .join(ManifestRow, ManifestRow.id == Snapshot.manifest_id)
        .join(FileRow, FileRow.manifest_id == Snapshot.manifest_id)
        .join(matched, and_(matched.c.ref == FileRow.manifest_id, matched.c.number == FileRow.path))
        .outerjoin(Card, Card.manifest_id == ManifestRow.id)
        .order_by(matched.c.rank, Repository.name, FileRow.path, Snapshot.sealed.desc())
    )  # fmt: skip
    best: dict[tuple[str, str, str], FileHit] = {}
    for name, snapshot, revision, path, size, blake3, _, licence in rows:
        if not _fits(query, size, licence) or query.dtype:
            continue
        key = name, path, blake3
        known = best.get(key) or FileHit(name, snapshot, revision, path, size, blake3, 0)
        best[key] = msgspec.structs.replace(known, snapshots=known.snapshots + 1)
    yield from best.values()


def _tensors(connection: Connection, query: Query) -> Iterator[TensorHit]:
    # Numbers are not told apart: the words are made a pattern as the names were.
    words = usable([name_pattern(word).replace("#", " ") for word in query.words])
    if query.words and not words:
        return
    matched = _matching("tensor", words).subquery()
    wanted = TensorGroup.dtype == query.dtype if query.dtype else literal(1) == 1
    rows = connection.execute(
        select(
            Repository.name, Snapshot.digest, Snapshot.revision, Snapshot.sealed, _licence(),
            TensorGroup.pattern, TensorGroup.dtype, TensorGroup.shape,
            func.sum(TensorGroup.tensors), func.sum(TensorGroup.bytes), func.count(),
            func.min(matched.c.rank).label("best"),
        )
        .join(Snapshot, Snapshot.repository_id == Repository.id)
        .join(ManifestRow, ManifestRow.id == Snapshot.manifest_id)
        .join(FileRow, FileRow.manifest_id == Snapshot.manifest_id)
        .join(TensorGroup, TensorGroup.layout_id == FileRow.layout_id)
        .join(
            matched,
            and_(matched.c.ref == TensorGroup.layout_id, matched.c.number == TensorGroup.number),
        )
        .outerjoin(Card, Card.manifest_id == ManifestRow.id)
        .where(wanted)
        .group_by(Snapshot.id, TensorGroup.pattern, TensorGroup.dtype, TensorGroup.shape)
        .order_by("best", Repository.name, Snapshot.sealed.desc(), TensorGroup.pattern)
    )  # fmt: skip
    known: dict[tuple[str, str, str, tuple[int, ...]], str] = {}
    for (
        name,
        snapshot,
        revision,
        sealed,
        licence,
        pattern,
        dtype,
        shape,
        count,
        size,
        files,
        _,
    ) in rows:
        key = name, pattern, dtype, shape
        # Of a repository's snapshots the newest one stands for all.
        if known.setdefault(key, sealed) != sealed or not _fits(query, size, licence):
            continue
        yield TensorHit(name, snapshot, revision, pattern, dtype, shape, count, size, files)


def _fits(query: Query, size: int, licence: str) -> bool:
    return (
        size >= query.larger
        and (not query.smaller or size <= query.smaller)
        and query.licence.casefold() in licence.casefold()
    )


_FINDERS: Final[dict[Kind, Callable[[Connection, Query], Iterator[Hit]]]] = {
    "repository": _repositories,
    "file": _files,
    "tensor": _tensors,
}
