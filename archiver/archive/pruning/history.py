"""The journal as deleting must see it: whole, or nothing is deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from archiver.archive import layout
from archiver.archive.advice import command, moving
from archiver.archive.events import Condemned, Pruned, Spared
from archiver.archive.fixity.chain import Chain, StandIns
from archiver.archive.foreign import foreign_files
from archiver.archive.journal import policy_of
from archiver.errors import DamageError, PolicyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from archiver.archive.archive import Archive, Snapshot
    from archiver.archive.events import Event
    from archiver.archive.place import Place

History = list[tuple[str, "Event"]]
"""Every event with its id, oldest first."""

CONDEMNING: Final = (Condemned, Spared, Pruned)
"""The events that ``condemned`` looks at."""

_TOLD: Final = 8
_BATCH: Final = 2000
"""Names in one event, so that none becomes too large."""


def deletable_history(archive: Archive) -> History:
    """The whole journal, of an archive that allows deleting.

    Raises:
        DamageError: An event is damaged or missing: what it said, "append only" perhaps, is not known.
        PolicyError: The policy is append-only, or cannot be understood.
    """
    problems: list[str] = []
    chain = Chain()
    history = list(archive.events(lambda _name, error: problems.append(error.message)))
    for digest, event in history:
        chain.add(digest, event)
    if not problems:
        problems = [f"The event {digest} is missing." for digest, _ in chain.missing()]
    require_none(archive, problems)
    _require_allowed(history)
    return history


def _require_allowed(history: History) -> None:
    try:
        append_only = policy_of(history).append_only
    except DamageError as error:
        raise PolicyError(
            f"{error.message} Whether anything may be deleted is not known.",
            hint="Nothing was deleted, and nothing can be with this version.",
        ) from error
    if append_only:
        raise PolicyError(
            "The policy of this archive is append-only: nothing is ever deleted.",
            hint="Copy what you want to keep into a new archive, if this one is to be smaller.",
        )


def require_none(archive: Archive, problems: Sequence[str]) -> None:
    """Raise DamageError that tells the problems, if there are any."""
    if not problems:
        return
    more = f" And {len(problems) - _TOLD} more." if len(problems) > _TOLD else ""
    place = archive.store.describe()
    raise DamageError(
        f"The archive is not whole, so what it needs is not known: {' '.join(problems[:_TOLD])}{more}",
        hint=f"Nothing was deleted. Run {command('audit', place)}, then {command('repair', place)}.",
    )


def lost_seals(archive: Archive, history: History, live: Iterable[Snapshot]) -> Iterator[str]:
    """A sentence for each seal that the journal tells of, that is gone, and that nobody set aside."""
    chain = Chain()
    for digest, event in history:
        chain.add(digest, event)
    seals = list(live)
    there = {one.id for one in seals}
    stand_ins = StandIns(archive, seals)
    place, deleted = archive.store.describe(), chain.deleted()
    for event in chain.sealed():
        if event.snapshot not in there and not stand_ins.cover(event):
            title = f"{event.repository}@{event.revision[:12]}"
            if event.snapshot in deleted:
                yield (
                    f"The seal of {title} was pruned, and is wanted again: bring it with a copy, a "
                    f"mirror or a repair, or run {command('forget', place, title)}."
                )
            else:
                yield f"The seal of {title} is lost."
    for file in foreign_files(archive.store, layout.SNAPSHOTS):
        if file.stops_prune:
            move = moving(archive.store.describe(), file.name, file.own_name)
            yield (
                f"{file.name} is, or may be, a seal under a name that is not its own. If nothing else "
                f"is to be done about it: {move}."
            )


def condemned(events: Iterable[tuple[str, Event]], place: Place) -> dict[str, str]:
    """Files that are condemned in the archive at ``place`` -> the id of the event (oldest first) that did.

    The first condemnation counts, until the file is spared or goes to the trash. One that was told at
    another place, and came with a copy, says nothing of what is needed here.
    """
    found: dict[str, str] = {}
    for digest, event in events:
        match event.detail:
            case Condemned(files, told) if place.is_meant(told):
                for name in files:
                    found.setdefault(name, digest)
            case Pruned(to=""):
                pass  # from the trash: it was none of those in use
            case Spared(files) | Pruned(files):
                for name in files:
                    found.pop(name, None)
    return found


def batches(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The names in lists that an event has room for."""
    for at in range(0, len(names), _BATCH):
        yield tuple(names[at : at + _BATCH])
