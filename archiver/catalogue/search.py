"""Full-text search over what the catalogue tells: repositories with their cards, files, tensors.

The index is SQLite's FTS5, in memory, made anew for each search from the catalogue's plain tables. So the
file on disk, which others may have written, has no table that computes. Each text is indexed once,
however many layers, shards, repositories and revisions have it: a million tensors have some dozens.

Without SQLAlchemy, which takes longer to load than a search takes.
"""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from archiver.catalogue.groups import name_pattern

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence

Kind = Literal["repository", "file", "tensor"]
WORDS_MAX: Final = 32
WORD_MAX: Final = 200
"""Words of a search, and characters of each."""
MATCHES_MAX: Final = 20_000
"""Texts of one kind that match, and what has them: of more, the best."""

_TOKEN: Final = re.compile(r"\w")
_SIDE: Final = re.compile(r"[0-9]{1,19}")


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


def search(connection: sqlite3.Connection, query: Query) -> Hits:
    """Return what has all the words and fits the bounds; the connection is that of a catalogue."""
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("DROP VIEW IF EXISTS temp.held")
    connection.execute(_HELD)
    found: list[Hit] = []
    total: dict[str, int] = {}
    for kind in query.kinds:
        hits: list[Hit] = list(_FINDERS[kind](connection, query))
        total[kind] = len(hits)
        found += hits[: query.limit]
    return Hits(tuple(found), total)


# ---- the index

_VIEWS: Final[dict[Kind, str]] = {
    "repository": """
        CREATE VIEW temp.texts AS
        SELECT m.id AS subject, '' AS dtype, r.name || char(10) || m.licence || char(10) || m.upstream
            || char(10) || coalesce(
                c.licence || char(10) || c.title || char(10) || c.terms || char(10) || c.text, ''
            ) AS words
        FROM (SELECT DISTINCT manifest_id, repository_id FROM main.snapshots) s
        JOIN main.repositories r ON r.id = s.repository_id
        JOIN main.manifests m ON m.id = s.manifest_id
        LEFT JOIN main.cards c ON c.manifest_id = m.id
    """,
    "file": "CREATE VIEW temp.texts AS SELECT DISTINCT path AS subject, '' AS dtype, path AS words "
    "FROM main.files",
    "tensor": "CREATE VIEW temp.texts AS SELECT DISTINCT pattern AS subject, dtype, "
    "pattern || char(10) || dtype AS words FROM main.tensor_groups",
}
"""What can be found of each kind: a manifest, a path, or a pattern and its dtype, each with its words."""
_HELD: Final = """
    CREATE VIEW temp.held AS
    SELECT s.id, s.manifest_id, CAST(r.name AS TEXT) AS name, lower(hex(s.digest)) AS digest,
        lower(hex(s.revision)) AS revision, CAST(s.sealed AS TEXT) AS sealed,
        CAST(s.bytes AS INTEGER) AS bytes,
        CAST(coalesce(nullif(m.licence, ''), c.licence, '') AS TEXT) AS licence,
        CAST(coalesce(c.title, '') AS TEXT) AS title
    FROM main.snapshots s
    JOIN main.repositories r ON r.id = s.repository_id
    JOIN main.manifests m ON m.id = s.manifest_id
    LEFT JOIN main.cards c ON c.manifest_id = m.id
"""
"""The snapshots; the licence is that which upstream says, or else the card.

A value is of the type that is expected, whoever wrote the file.
"""


def _match(connection: sqlite3.Connection, kind: Kind, words: Sequence[str]) -> None:
    """Make the table ``matched``, in memory: what can be found and has all words, each with its rank."""
    connection.execute("DROP TABLE IF EXISTS temp.search")
    connection.execute("DROP TABLE IF EXISTS temp.matched")
    connection.execute("DROP VIEW IF EXISTS temp.texts")
    connection.execute(_VIEWS[kind])
    if not words:
        connection.execute(
            "CREATE TABLE temp.matched AS SELECT subject, dtype, 0.0 AS rank FROM temp.texts LIMIT ?",
            (MATCHES_MAX,),
        )
        return
    connection.execute(
        "CREATE VIRTUAL TABLE temp.search USING fts5(words, subject UNINDEXED, dtype UNINDEXED)"
    )
    connection.execute("INSERT INTO temp.search SELECT words, subject, dtype FROM temp.texts")
    connection.execute(
        "CREATE TABLE temp.matched AS SELECT subject, dtype, rank FROM temp.search "
        "WHERE search MATCH ? ORDER BY rank, rowid LIMIT ?",
        (_expression(words), MATCHES_MAX),
    )


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


class RepositoryIndex:
    """The index of repositories alone, for who searches them again and again; threads may share it.

    It is in memory, has no text of its own, and knows what the catalogue had when it was made.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        import sqlite3  # noqa: PLC0415 - whoever only searches once has a connection

        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("DROP VIEW IF EXISTS temp.texts")
        connection.execute(_VIEWS["repository"])
        self._lock = threading.Lock()
        self._names: dict[int, str] = {}
        self._index = sqlite3.connect(":memory:", check_same_thread=False)
        self._index.execute("CREATE VIRTUAL TABLE search USING fts5(words, content='')")
        rows = connection.execute(
            "SELECT t.subject, t.words, CAST(r.name AS TEXT) FROM temp.texts t "
            "JOIN main.snapshots s ON s.manifest_id = t.subject "
            "JOIN main.repositories r ON r.id = s.repository_id GROUP BY t.subject, r.name"
        )
        for number, (_, words, name) in enumerate(rows, 1):
            self._index.execute("INSERT INTO search(rowid, words) VALUES (?, ?)", (number, words))
            self._names[number] = name

    def find(self, words: Sequence[str]) -> list[str]:
        """Return the repositories of which a snapshot has all words, the best first."""
        with self._lock:
            rows = self._index.execute(
                "SELECT rowid FROM search WHERE search MATCH ? ORDER BY rank, rowid LIMIT ?",
                (_expression(words), MATCHES_MAX),
            ).fetchall()
        return list(dict.fromkeys(self._names[number] for (number,) in rows))


# ---- what was found


def _repositories(connection: sqlite3.Connection, query: Query) -> Iterator[RepositoryHit]:
    _match(connection, "repository", query.words)
    rows = connection.execute(
        "SELECT s.name, s.digest, s.revision, s.licence, s.title, s.bytes, s.sealed "
        "FROM temp.matched f JOIN temp.held s ON s.manifest_id = f.subject "
        "ORDER BY f.rank, s.sealed DESC, s.digest LIMIT ?",
        (MATCHES_MAX,),
    )
    best: dict[str, list[tuple[str, RepositoryHit]]] = {}
    for name, snapshot, revision, licence, title, size, sealed in rows:
        hit = RepositoryHit(name, snapshot, revision, licence, title, size, 1)
        if _fits(query, size, licence) and not query.dtype:
            best.setdefault(name, []).append((sealed, hit))
    for hits in best.values():
        _, newest = max(hits, key=lambda pair: pair[0])
        yield msgspec.structs.replace(newest, snapshots=len(hits))


def _files(connection: sqlite3.Connection, query: Query) -> Iterator[FileHit]:
    _match(connection, "file", query.words)
    rows = connection.execute(
        "SELECT s.name, s.digest, s.revision, CAST(t.path AS TEXT), CAST(t.size AS INTEGER), "
        "lower(hex(t.blake3)), s.licence "
        "FROM temp.matched f JOIN main.files t ON t.path = f.subject "
        "JOIN temp.held s ON s.manifest_id = t.manifest_id "
        "ORDER BY f.rank, s.name, t.path, s.sealed DESC LIMIT ?",
        (MATCHES_MAX,),
    )
    best: dict[tuple[str, str, str], FileHit] = {}
    for name, snapshot, revision, path, size, blake3, licence in rows:
        if not _fits(query, size, licence) or query.dtype:
            continue
        key = name, path, blake3
        known = best.get(key) or FileHit(name, snapshot, revision, path, size, blake3, 0)
        best[key] = msgspec.structs.replace(known, snapshots=known.snapshots + 1)
    yield from best.values()


def _tensors(connection: sqlite3.Connection, query: Query) -> Iterator[TensorHit]:
    # Numbers are not told apart: the words are made a pattern as the names were.
    words = usable([name_pattern(word).replace("#", " ") for word in query.words])
    if query.words and not words:
        return
    _match(connection, "tensor", words)
    rows = connection.execute(
        "SELECT s.name, s.digest, s.revision, s.sealed, s.licence, CAST(g.pattern AS TEXT), "
        "CAST(g.dtype AS TEXT), CAST(g.shape AS TEXT), CAST(sum(g.tensors) AS INTEGER), "
        "CAST(sum(g.bytes) AS INTEGER), count(*), min(f.rank) AS best "
        "FROM temp.matched f "
        "JOIN main.tensor_groups g ON g.pattern = f.subject AND g.dtype = f.dtype "
        "JOIN main.files t ON t.layout_id = g.layout_id "
        "JOIN temp.held s ON s.manifest_id = t.manifest_id "
        "WHERE :dtype IN ('', g.dtype) GROUP BY s.id, g.pattern, g.dtype, g.shape "
        "ORDER BY best, s.name, s.sealed DESC, g.pattern LIMIT :most",
        {"dtype": query.dtype, "most": MATCHES_MAX},
    )
    known: dict[tuple[str, ...], str] = {}
    for name, digest, revision, sealed, licence, *group, _ in rows:
        pattern, dtype, shape, count, size, files = group
        # Of a repository's snapshots the newest one stands for all.
        if known.setdefault((name, pattern, dtype, shape), sealed) != sealed:
            continue
        if _fits(query, size, licence):
            sides = tuple(int(side) for side in shape.split(",") if _SIDE.fullmatch(side))
            yield TensorHit(name, digest, revision, pattern, dtype, sides, count, size, files)


def _fits(query: Query, size: int, licence: str) -> bool:
    return (
        size >= query.larger
        and (not query.smaller or size <= query.smaller)
        and query.licence.casefold() in licence.casefold()
    )


_FINDERS: Final[dict[Kind, Callable[[sqlite3.Connection, Query], Iterator[Hit]]]] = {
    "repository": _repositories,
    "file": _files,
    "tensor": _tensors,
}
