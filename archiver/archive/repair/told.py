"""What a repair writes into the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from archiver.archive.clock import next_time
from archiver.archive.events import Event, Repaired, new_event

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from archiver.archive.journal import Journal
    from archiver.archive.repair.whole_file import Mended

_AT_ONCE: Final = 2000
"""Names in one event: it may have 1 MiB."""


def repaired_events(
    journal: Journal, place: str, mended: Iterable[Mended], snapshots: Sequence[str] = ()
) -> Iterator[Event]:
    """One or more ``repaired`` events for each source; ``snapshots`` are the seals to be set aside.

    Their time is after that of the events that are there: also within a second a seal is first
    published, and then set aside.
    """
    time = next_time(journal.events(lambda _name, _error: None))
    by_source: dict[str, list[str]] = {}
    for one in mended:
        by_source.setdefault(one.source, []).extend(one.instead or (one.name,))
    for source, files in by_source.items():
        names = list(dict.fromkeys(files))
        for at in range(0, len(names), _AT_ONCE):
            some = tuple(names[at : at + _AT_ONCE])
            yield new_event(Repaired(some, source, place), time=time)
    for at in range(0, len(snapshots), _AT_ONCE):
        ids = tuple(snapshots[at : at + _AT_ONCE])
        yield new_event(Repaired((), place=place, snapshots=ids), time=time)
