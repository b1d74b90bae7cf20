"""Which files a prune run found unneeded, as the journal has it: they may go soon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from archiver.archive.events import Condemned, Pruned, Spared

if TYPE_CHECKING:
    from collections.abc import Iterable

    from archiver.archive.events import Event
    from archiver.archive.places import Place

CONDEMNING: Final = (Condemned, Spared, Pruned)
"""The events that ``condemned`` looks at."""


def condemned(events: Iterable[tuple[str, Event]], place: Place) -> dict[str, str]:
    """Return file -> id of the event that condemned it in the archive at ``place``; events oldest first.

    The first condemnation counts, until the file is spared or goes to the trash. One of another place,
    which came with a copy, says nothing of what is needed here.
    """
    by_file: dict[str, str] = {}
    for digest, event in events:
        match event.detail:
            case Condemned(files, condemned_at) if place.is_named(condemned_at):
                for name in files:
                    by_file.setdefault(name, digest)
            case Pruned(to=""):
                pass  # from the trash: it was none of those in use
            case Spared(files) | Pruned(files):
                for name in files:
                    by_file.pop(name, None)
    return by_file
