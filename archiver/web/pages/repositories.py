"""The page of all repositories: searched, filtered and sorted."""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.archive.layout import SNAPSHOTS
from archiver.catalogue.search import FileHit, Query, TensorHit, usable
from archiver.digest import blake3_hex
from archiver.errors import ArchiverError
from archiver.operations.overview import Overview, RepositoryOverview, overview
from archiver.operations.search import repository_index, search_archive
from archiver.progress import Progress
from archiver.web.pages.rendering import page, paging, with_query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.requests import Request
    from starlette.responses import Response

    from archiver.archive.archive import Archive
    from archiver.catalogue.search import Hit, RepositoryIndex

_TEXT_MAX: Final = 200
"""Characters of a search that count,"""
_CHOICES_MAX: Final = 200
"""choices of a filter,"""
_HITS_MAX: Final = 200
"""and files and tensors that are named."""
_GB: Final = 10**9
SIZES: Final[dict[str, tuple[str, int, int]]] = {
    "-1": ("under 1 GB", 0, _GB),
    "1-10": ("1 to 10 GB", _GB, 10 * _GB),
    "10-100": ("10 to 100 GB", 10 * _GB, 100 * _GB),
    "100-": ("100 GB and more", 100 * _GB, 1 << 62),
}
"""The sizes that one can choose: words, from, and below."""


class Column(NamedTuple):
    """A column that can be sorted by: its heading, its key, and whether the greatest come first."""

    title: str
    key: Callable[[RepositoryOverview], object]
    falling: bool
    numeric: bool


COLUMNS: Final[dict[str, Column]] = {
    "name": Column(
        "Repository", lambda row: row.repository.casefold(), falling=False, numeric=False
    ),
    "size": Column("Size", lambda row: row.bytes, falling=True, numeric=True),
    "stored": Column("Stored", lambda row: row.stored, falling=True, numeric=True),
    "revisions": Column("Revisions", lambda row: row.revisions, falling=True, numeric=True),
    "sealed": Column("Last sealed", lambda row: row.sealed, falling=True, numeric=False),
}


class Heading(NamedTuple):
    """A column's heading: where it leads, and how the list is sorted by it, as ``aria-sort`` says it."""

    title: str
    href: str
    sort: str
    numeric: bool


class Choice(NamedTuple):
    """A choice of a filter; so many ``repositories`` have it."""

    value: str
    title: str
    repositories: int
    chosen: bool


class Filters(NamedTuple):
    """What is asked for; ``""`` where it is all the same."""

    words: str
    family: str
    dtype: str
    size: str
    licence: str
    sort: str
    rising: bool
    everywhere: bool

    @classmethod
    def of(cls, request: Request) -> Filters:
        """Return what a query asks for; what means nothing counts as not asked."""

        def text(key: str) -> str:
            return " ".join(request.query_params.get(key, "")[:_TEXT_MAX].split())

        sort, _, way = text("sort").partition("-")
        sort = sort if sort in COLUMNS else "name"
        falling = COLUMNS[sort].falling
        return cls(
            words=text("q"),
            family=text("family"),
            dtype=text("dtype"),
            size=text("size") if text("size") in SIZES else "",
            licence=text("licence"),
            sort=sort,
            rising=way == "up" or (way != "down" and not falling),
            everywhere=text("in") == "everything",
        )

    @property
    def narrowed(self) -> bool:
        """Whether anything is left out."""
        return bool(self.words or self.family or self.dtype or self.size or self.licence)

    def takes(self, row: RepositoryOverview) -> bool:
        """Return whether a repository has what is asked for, besides the words."""
        _, least, below = SIZES.get(self.size, ("", 0, 1 << 63))
        return (
            self.family in {"", row.family}
            and self.licence in {"", row.licence}
            and (not self.dtype or self.dtype in dict(row.dtypes))
            and least <= row.bytes < below
        )


class RepositoriesPage:
    """The page, and what it knows of the archive as long as nothing is added to it."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._lock = threading.Lock()
        self._known: tuple[str, Overview] | None = None
        self._searching = threading.Lock()
        self._index: tuple[str, RepositoryIndex] | None = None

    def answer(self, request: Request) -> Response:
        """Return the page, as its query asks for it."""
        filters = Filters.of(request)
        held = self.overview()
        rows, files, tensors = self._found(held, filters)
        column = COLUMNS[filters.sort]
        rows.sort(key=lambda row: row.repository.casefold())
        rows.sort(key=column.key, reverse=not filters.rising)  # type: ignore[arg-type] # one kind each
        shown = paging(request, len(rows))
        every = held.repositories
        facts = {
            "filters": filters,
            "held": held,
            "total": len(every),
            "revisions": sum(row.revisions for row in every),
            "bytes": sum(row.bytes for row in every),
            "stored": sum(row.stored for row in every),
            "rows": rows[shown.begin : shown.last],
            "paging": shown,
            "headings": {name: self._heading(request, filters, name) for name in COLUMNS},
            "sorts": [
                Choice(name, column.title, 0, name == filters.sort)
                for name, column in COLUMNS.items()
            ],
            "families": _choices((row.family for row in every), filters.family),
            "dtypes": _choices((name for row in every for name, _ in row.dtypes), filters.dtype),
            "licences": _choices((row.licence for row in every), filters.licence),
            "sizes": _sizes(every, filters.size),
            "files": files[:_HITS_MAX],
            "tensors": tensors[:_HITS_MAX],
        }
        return page(request, "repositories.html", facts, archive=self._archive)

    def overview(self) -> Overview:
        """Return what is held; it is read anew once a seal or an event was added."""
        archive = self._archive
        names = "\n".join((*archive.store.list(SNAPSHOTS), *archive.journal.names()))
        state = blake3_hex(names.encode(errors="surrogateescape"))
        with self._lock:
            if self._known is None or self._known[0] != state:
                self._known = state, overview(archive, Progress())
            return self._known[1]

    @property
    def _state(self) -> str:
        """What the archive holds, as a digest, when it was last looked at."""
        return self._known[0] if self._known else ""

    def _found(
        self, held: Overview, filters: Filters
    ) -> tuple[list[RepositoryOverview], list[FileHit], list[TensorHit]]:
        """Return the repositories, and the files and tensors, that have what is asked for."""
        rows = [row for row in held.repositories if filters.takes(row)]
        words = filters.words.casefold().split()
        if not words:
            return rows, [], []
        files: list[FileHit] = []
        tensors: list[TensorHit] = []
        by_card: set[str] = set()
        asked = usable(words)
        if held.catalogued and asked:
            by_card = set(self._by_card(asked))
            taken = {row.repository for row in rows}
            hits = self._in_files(asked) if filters.everywhere else ()
            files = [hit for hit in hits if isinstance(hit, FileHit) and hit.repository in taken]
            tensors = [
                hit for hit in hits if isinstance(hit, TensorHit) and hit.repository in taken
            ]
        return (
            [row for row in rows if row.repository in by_card or _has(row, words)],
            files,
            tensors,
        )

    def _by_card(self, words: tuple[str, ...]) -> list[str]:
        """Return the repositories whose name, licence or card has all words."""
        with self._searching:
            if self._index is None or self._index[0] != self._state:
                try:
                    made = repository_index(self._archive, Progress())
                except (ArchiverError, sqlite3.Error):
                    return []
                self._index = self._state, made
            return self._index[1].find(words)

    def _in_files(self, words: tuple[str, ...]) -> tuple[Hit, ...]:
        query = Query(words, ("file", "tensor"), limit=_HITS_MAX)
        with self._searching:  # each makes an index of its own, in memory
            try:
                return search_archive(self._archive, query, Progress()).hits
            except (ArchiverError, sqlite3.Error):
                return ()

    @staticmethod
    def _heading(request: Request, filters: Filters, name: str) -> Heading:
        """Return a heading, which sorts by its column, or the other way round if that is so already."""
        column = COLUMNS[name]
        current = filters.sort == name
        way = ("down" if filters.rising else "up") if current else ""
        order = ("ascending" if filters.rising else "descending") if current else ""
        href = with_query(request, sort=f"{name}-{way}".rstrip("-"), page="")
        return Heading(column.title, href, order, column.numeric)


def _has(row: RepositoryOverview, words: Iterable[str]) -> bool:
    text = f"{row.repository}\n{row.family}\n{row.title}\n{row.licence}".casefold()
    return all(word in text for word in words)


def _choices(values: Iterable[str], chosen: str) -> list[Choice]:
    """Return the values by their names; of very many, those that most repositories have."""
    counts = Counter(value for value in values if value)
    if chosen and chosen not in counts:
        counts[chosen] = 0
    common = [value for value, _ in counts.most_common(_CHOICES_MAX)]
    if chosen and chosen not in common:
        common.append(chosen)
    return [
        Choice(value, value, counts[value], value == chosen)
        for value in sorted(common, key=str.casefold)
    ]


def _sizes(rows: Iterable[RepositoryOverview], chosen: str) -> list[Choice]:
    listed = list(rows)
    return [
        Choice(key, title, sum(least <= row.bytes < below for row in listed), key == chosen)
        for key, (title, least, below) in SIZES.items()
    ]
