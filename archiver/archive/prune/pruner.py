"""One prune run: bring back, delete for good, sweep into the trash, condemn; in this order.

What is needed comes back before anything is judged; the trash is emptied of what is due before more comes
there, and condemned is last: so a file waits a whole grace at each step.
"""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.archive import events, layout
from archiver.archive.clock import Grace, next_time
from archiver.archive.condemned import condemned
from archiver.archive.events import Event, KnownDetail, new_event
from archiver.archive.fixity import require_named
from archiver.archive.places import forgotten, own_place, settled_place
from archiver.archive.prune.condemn import (
    LiveObjects,
    accompanied,
    batches,
    deletable_history,
    lost_seals,
    needed_now,
    require_whole,
)
from archiver.archive.prune.trash import Discarded, bring_back, discarded, reversible
from archiver.archive.publish import missing_packs
from archiver.errors import DamageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from archiver.archive.archive import Archive
    from archiver.archive.prune.condemn import Needs

Names = tuple[str, ...]
_OUTWARD: Final = (layout.SNAPSHOTS, layout.MANIFESTS, layout.PACKS)


class Part(NamedTuple):
    """Files that one step of a run took, by their names in use, and their bytes together."""

    files: tuple[str, ...]
    bytes: int


class PruneReport(NamedTuple):
    """What a run did, or would do; ``kept`` are due packs that hold the only good copy of something."""

    rescued: Part
    deleted: Part
    swept: Part
    condemned: Part
    kept: Part
    unneeded_bytes: int
    leapt_from: str
    """The journal's time, if the clock leapt from there beyond the grace: nothing is deleted for a day."""


class Pruner:
    """Prunes an archive once.

    Args:
        archive: What to prune.
        grace: Seconds that a file stays condemned, and then in the trash.
        forget_pack: Told of each pack before it goes.
        dry_run: Whether nothing is to be changed.
    """

    def __init__(
        self,
        archive: Archive,
        *,
        grace: int,
        forget_pack: Callable[[str], object] = lambda _pack: None,
        dry_run: bool = False,
    ) -> None:
        self._archive = archive
        self._store = archive.store
        self._seconds = grace
        self._forget_pack = forget_pack
        self._dry_run = dry_run
        self._place = own_place(archive)

    def run(self) -> PruneReport:
        """Do it.

        Raises:
            DamageError: What is needed cannot be known; nothing was deleted. So it is with
                NotUnderstoodError.
            PolicyError: The policy forbids it.
        """
        self._archive.require_understood()
        self._history = deletable_history(self._archive)
        self._grace = Grace(self._history, self._seconds)
        self._grace.require_sound_clock()
        needs = needed_now(self._archive)
        require_whole(
            self._archive, list(lost_seals(self._archive, self._history, needs.snapshots))
        )
        rescued = self._rescue(needs)
        if not self._dry_run:
            # Only now: a pack that is missing may have been in the trash.
            require_whole(self._archive, list(_missing(self._archive, needs)))
            self._place = settled_place(self._archive)
        live = LiveObjects(self._archive, needs.snapshots)
        self._note_clock()
        self._set_right(needs)
        # Sidecars and signatures of a file go to the trash before that file is gone from there.
        sidecars = self._move([], needs)
        deleted = self._delete(needs, sidecars if self._dry_run else [])
        swept, kept = self._sweep(needs, live, sidecars)
        return PruneReport(
            rescued=rescued,
            deleted=deleted,
            swept=swept,
            condemned=self._condemn(needs, swept),
            kept=kept,
            unneeded_bytes=live.unneeded_bytes(),
            leapt_from=self._grace.leapt if self._waiting() else "",
        )

    def _condemned(self) -> dict[str, str]:
        return condemned(self._history, self._place)

    def _waiting(self) -> bool:
        """Return whether something is on its way out."""
        return bool(self._condemned() or discarded(self._store))

    def _note_clock(self) -> None:
        seen = self._grace.to_note(waiting=self._waiting())
        if seen is not None:
            self._record(new_event(seen))

    def _discarded_since(self) -> dict[str, str]:
        """Return files by their names -> when the journal says that they went to the trash, if it does."""
        since: dict[str, str] = {}
        for digest, event in self._history:
            time = self._grace.times.get(digest, event.time)
            match event.detail:
                case events.Forgotten(names) | events.Pruned(names, to=layout.TRASH):
                    for name in names:
                        since[name] = max(time, since.get(name, ""))
        return since

    def _record_all(self, names: Iterable[str], detail: Callable[[Names], KnownDetail]) -> None:
        """Append the events that say this of the names, later than all before."""
        for batch in batches(list(names)):
            self._record(new_event(detail(batch), time=next_time(self._history)))

    def _record(self, event: Event) -> None:
        """Append an event, later than those that this run knows."""
        if not self._dry_run:
            digest = self._archive.record(event)
            self._history.append((digest, event))
            self._grace.times[digest] = event.time

    def _set_right(self, needs: Needs) -> None:
        """Journal what is in use again: seals that had been forgotten, files that had been condemned."""
        ids = {snapshot.id for snapshot in needs.snapshots} & forgotten(self._history)
        self._record_all(sorted(ids), events.Remembered)
        needed = sorted(name for name in self._condemned() if needs.cover(name))
        self._record_all(needed, events.Spared)

    # ---- the trash

    def _rescue(self, needs: Needs) -> Part:
        trash = discarded(self._store)
        if self._dry_run:
            return _part_of(
                file for file in trash if needs.cover(file.name) and not self._exists(file.name)
            )
        return _part_of(bring_back(self._store, trash, needs.cover))

    def _exists(self, name: str) -> bool:
        return self._store.stat(name) is not None

    def _delete(self, needs: Needs, expected: list[Discarded]) -> Part:
        """Delete for good; return what. The next run deletes what a crash leaves, and journals it again.

        ``expected`` is what a real run would have in the trash by now.
        """
        since = self._discarded_since()

        def is_due(file: Discarded) -> bool:
            # By the journal, which names a seal by its id, or else by the folder that the file lies in.
            by_journal = since.get(file.name) or since.get(layout.digest_of(file.name) or "", "")
            return self._grace.is_over(self._grace.since(by_journal, file.time))

        due = [
            file
            for file in (*discarded(self._store), *expected)
            if is_due(file) and (not needs.cover(file.name) or self._is_whole(file.name))
        ]
        # The journal first: what it does not say was pruned, and is not there, counts as lost.
        self._record_all(sorted({file.name for file in due}), partial(events.Pruned, to=""))
        for file in sorted(due, key=lambda file: _order(file.name)):
            if not self._dry_run:
                self._store.remove(file.where)
        return _part_of(due)

    def _is_whole(self, name: str) -> bool:
        """Return whether a file in use is what its name demands: then nobody needs the one in the trash."""
        try:
            with closing(self._store.open(name)) as reader:
                require_named(reader, name)
        except (DamageError, FileNotFoundError):
            return False
        return True

    # ---- files in use

    def _sweep(
        self, needs: Needs, live: LiveObjects, sidecars: list[Discarded]
    ) -> tuple[Part, Part]:
        """Move what was condemned long enough ago, but for the only good copies, which are kept."""
        due = [
            name
            for name, event in self._condemned().items()
            if self._grace.is_over(self._grace.times[event])
            and _may_go(name)
            and not needs.cover(name)
            and self._exists(name)
        ]
        kept = {name for name in due if (pack := layout.pack_of(name)) and live.only_in(pack)}
        going = sorted(set(due) - kept, key=_order)
        return _part_of([*sidecars, *self._move(going, needs)]), self._sized(kept)

    def _move(self, going: list[str], needs: Needs) -> list[Discarded]:
        """Move files with their sidecars to the trash; look again; bring back what is needed after all."""
        names = [*going, *self._sidecars(going, needs)]
        if self._dry_run:
            time = next_time(self._history)
            return [Discarded("", time, name, self._store.stat(name) or 0) for name in names]
        if not names:
            return []
        with reversible(self._store, next_time(self._history)) as discarding:
            for name in names:
                self._forget_pack(layout.pack_of(name) or "")
                discarding.put(name)
            # Whoever announces or seals from here on finds these files gone.
            needed = needed_now(self._archive)
            rescued = bring_back(self._store, discarding.moved, needed.cover)
        moved = [file for file in discarding.moved if file not in rescued]
        self._record_all([file.name for file in moved], partial(events.Pruned, to=layout.TRASH))
        return moved

    def _sidecars(self, going: list[str], needs: Needs) -> list[str]:
        """Return parity and signatures of what goes, and of what went before a crash."""
        names = [*going, *(file.name for file in discarded(self._store))]
        digests = {layout.digest_of(name) for name in names} - {None}
        sidecars = [*self._store.list(layout.PARITY), *self._store.list(layout.SIGNATURES)]
        return [name for name in sidecars if accompanied(name) in digests and not needs.cover(name)]

    def _condemn(self, needs: Needs, swept: Part) -> Part:
        already = self._condemned().keys() | set(swept.files)
        new = [
            name
            for folder in (layout.MANIFESTS, layout.PACKS)
            for name in self._store.list(folder)
            if _may_go(name) and name not in already and not needs.cover(name)
        ]
        self._record_all(new, partial(events.Condemned, place=self._place.key))
        return self._sized(new)

    def _sized(self, names: Iterable[str]) -> Part:
        sizes = {name: self._store.stat(name) or 0 for name in names}
        return Part(tuple(sorted(sizes)), sum(sizes.values()))


def _missing(archive: Archive, needs: Needs) -> Iterable[str]:
    """Yield a sentence for each pack of a live seal that is not there with its size."""
    for snapshot in needs.snapshots:
        for pack in missing_packs(archive, snapshot.seal.packs):
            yield f"{layout.pack_name(pack)} of {snapshot.title} is missing or has another size."


def _may_go(name: str) -> bool:
    """Return whether it is a pack or a manifest by its name: an event could name anything."""
    manifest = name.startswith(f"{layout.MANIFESTS}/") and layout.document_of(name)
    return bool(manifest or layout.pack_of(name))


def _order(name: str) -> tuple[int, str]:
    """Order what leads to others before them: seals, manifests, packs, and last their sidecars."""
    top = name.partition("/")[0]
    return (_OUTWARD.index(top) if top in _OUTWARD else len(_OUTWARD)), name


def _part_of(files: Iterable[Discarded]) -> Part:
    sizes = {file.name: file.size for file in files}
    return Part(tuple(sorted(sizes)), sum(sizes.values()))
