"""The journal, as the page shows it: its events in words, newest first, filtered, and page by page.

A page begins after an event that is named by its id, so that what is appended meanwhile moves nothing.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.report.event_words import sentence
from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from archiver.archive.events import Event

PAGE: Final = 50
"""Events of a page."""
KINDS_MAX: Final = 100
"""Kinds to choose from: another writer may have made up any number."""
QUERY_MAX: Final = 200
"""Characters of what is looked for."""
_SENTENCE_MAX: Final = 2000


class Line(NamedTuple):
    """An event: its id, and what is said of it, without its repository. All but ``id`` is foreign text."""

    id: str
    time: str
    kind: str
    repository: str
    revision: str
    text: str


class Filter(NamedTuple):
    """Which events are wanted; empty: no matter. All are compared without case."""

    kind: str = ""
    repository: str = ""
    text: str = ""

    def takes(self, line: Line) -> bool:
        """Return whether the line is wanted: of this kind, and with these words in it."""
        return (
            (not self.kind or line.kind == self.kind)
            and self.repository.casefold() in line.repository.casefold()
            and self.text.casefold()
            in f"{line.kind} {line.repository}@{line.revision} {line.text} {line.id}".casefold()
        )


class JournalPage(NamedTuple):
    """A page: its lines, newest first, of ``found`` that are wanted, of ``total``.

    ``first`` counts, from 1, its first line among those that are wanted. ``older`` and ``newer`` are the
    ids after which the next page and the one before begin: None if there is none, ``""`` for the beginning.
    """

    lines: tuple[Line, ...]
    total: int
    found: int
    first: int
    older: str | None
    newer: str | None


def lines_of(events: Iterable[tuple[str, Event]], known: Iterable[Line] = ()) -> tuple[Line, ...]:
    """Return a line for each event (id and event, oldest first), the newest first.

    ``known`` are lines of before: an event never changes, and so is not put into words again.
    """
    # Of another time if a clock was confirmed since.
    before = {(line.id, line.time): line for line in known}
    # The sort is stable: within a second the journal's own order tells.
    ordered = sorted(events, key=lambda entry: entry[1].time)
    return tuple(
        before.get((digest, event.time)) or _line(digest, event)
        for digest, event in reversed(ordered)
    )


def _line(digest: str, event: Event) -> Line:
    return Line(
        digest,
        printable(event.time, 20),
        printable(event.event, 60),
        printable(event.repository),
        printable(event.revision[:64], 64),
        sentence(event)[:_SENTENCE_MAX],
    )


def kinds_of(lines: Iterable[Line]) -> list[tuple[str, int]]:
    """Return each kind that is there and how often, by name; of very many the commonest."""
    counts = Counter(line.kind for line in lines)
    return sorted(counts.most_common(KINDS_MAX))


def page_of(
    lines: Sequence[Line], wanted: Filter, after: str = "", size: int = PAGE
) -> JournalPage:
    """Return the page that follows the event ``after``; the first one if there is no such event."""
    found = [line for line in lines if wanted.takes(line)] if any(wanted) else list(lines)
    begin = 0
    if after:
        # The event itself need not be among those that are wanted.
        known = next((at for at, line in enumerate(lines) if line.id == after), -1)
        before = {line.id for line in lines[: known + 1]}
        begin = sum(line.id in before for line in found)
    shown = found[begin : begin + size]
    newer = None
    if begin:
        newer = found[begin - size - 1].id if begin > size else ""
    older = shown[-1].id if begin + size < len(found) else None
    return JournalPage(tuple(shown), len(lines), len(found), begin + 1, older, newer)
