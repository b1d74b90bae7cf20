"""One prune run: bring back, delete for good, sweep into the trash, condemn; in this order."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from archiver.archive import events, layout
from archiver.archive.clock import Grace, next_time
from archiver.archive.events import Event, Known, new_event
from archiver.archive.fixity import require_named
from archiver.archive.places import forgotten, own_place, settled_place
from archiver.archive.prune.condemn import (
    LiveObjects,
    batches,
    condemned,
    deletable_history,
    followed_by,
    lost_seals,
    needed_now,
    require_none,
)
from archiver.archive.prune.trash import Discarded, bring_back, discarded, reversible
from archiver.archive.publish import missing_packs
from archiver.errors import DamageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from archiver.archive.archive import Archive
    from archiver.archive.prune.condemn import Needs

_OUTWARD = (layout.SNAPSHOTS, layout.MANIFESTS, layout.PACKS)


class Part(NamedTuple):
    """Files that one step of a run took, by their names in use, and their bytes together."""

    files: tuple[str, ...]
    bytes: int


class Pruned(NamedTuple):
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

    def run(self) -> Pruned:
        """Do it.

        Raises:
            DamageError: What is needed cannot be known; nothing was deleted.
            PolicyError: The policy forbids it.
        """
        self._history = deletable_history(self._archive)
        self._grace = Grace(self._history, self._seconds)
        self._grace.require_sound_clock()
        needs = needed_now(self._archive)
        require_none(self._archive, list(lost_seals(self._archive, self._history, needs.snapshots)))
        rescued = self._rescue(needs)
        if not self._dry_run:
            require_none(self._archive, list(_missing(self._archive, needs)))
            self._place = settled_place(self._archive)
        live = LiveObjects(self._archive, needs.snapshots)
        self._note_clock()
        self._set_right(needs)
        # What follows a file goes to the trash before that file is gone from there.
        trailing = self._move([], needs)
        deleted = self._delete(needs, trailing if self._dry_run else [])
        swept, kept = self._sweep(needs, live, trailing)
        return Pruned(
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
        """Whether something is on its way out."""
        return bool(self._condemned() or discarded(self._store))

    def _note_clock(self) -> None:
        seen = self._grace.to_note(waiting=self._waiting())
        if seen is not None:
            self._record(new_event(seen))

    def _discarded_since(self) -> dict[str, str]:
        """Files by their names -> when the journal says that they went to the trash, if it does."""
        found: dict[str, str] = {}
        for digest, event in self._history:
            time = self._grace.times.get(digest, event.time)
            match event.detail:
                case events.Forgotten(names) | events.Pruned(names, to=layout.TRASH):
                    for name in names:
                        found[name] = max(time, found.get(name, ""))
        return found

    def _tell(self, detail: Known) -> None:
        self._record(new_event(detail, time=next_time(self._history)))

    def _record(self, event: Event) -> None:
        """Append an event, later than those that this run knows."""
        if not self._dry_run:
            digest = self._archive.record(event)
            self._history.append((digest, event))
            self._grace.times[digest] = event.time

    def _set_right(self, needs: Needs) -> None:
        """What is there counts: seals that are not forgotten any more, files that are needed again."""
        ids = sorted({one.id for one in needs.snapshots} & forgotten(self._history))
        for batch in batches(ids):
            self._tell(events.Remembered(batch))
        again = sorted(name for name in self._condemned() if needs.cover(name))
        for batch in batches(again):
            self._tell(events.Spared(batch))

    # ---- the trash

    def _rescue(self, needs: Needs) -> Part:
        trash = discarded(self._store)
        if self._dry_run:
            return _part(
                {o.name: o.size for o in trash if needs.cover(o.name) and not self._there(o.name)}
            )
        return _of(bring_back(self._store, trash, needs.cover))

    def _there(self, name: str) -> bool:
        return self._store.stat(name) is not None

    def _delete(self, needs: Needs, foretold: list[Discarded]) -> Part:
        """Delete for good; what a crash leaves is deleted by the next run, and told again.

        ``foretold`` is what a real run would have in the trash by now.
        """
        told = self._discarded_since()
        old = [
            one
            for one in (*discarded(self._store), *foretold)
            if self._grace.is_over(self._since(one, told))
            and (not needs.cover(one.name) or self._is_whole(one.name))
        ]
        self._tell_pruned(sorted({one.name for one in old}), "")
        for one in sorted(old, key=lambda one: _order(one.name)):
            if not self._dry_run:
                self._store.remove(one.where)
        return _of(old)

    def _since(self, one: Discarded, told: dict[str, str]) -> str:
        """Since when a file is in the trash: by the journal, or else by the folder that it lies in."""
        by_journal = told.get(one.name) or told.get(layout.digest_of(one.name) or "", "")
        return self._grace.since(by_journal, one.time)

    def _is_whole(self, name: str) -> bool:
        """Whether a file that is in use is what its name demands: then nobody needs another of it."""
        try:
            with closing(self._store.open(name)) as reader:
                require_named(reader, name)
        except (DamageError, FileNotFoundError):
            return False
        return True

    def _tell_pruned(self, names: list[str], to: str) -> None:
        for batch in batches(names):
            self._tell(events.Pruned(batch, to))

    # ---- files in use

    def _sweep(
        self, needs: Needs, live: LiveObjects, trailing: list[Discarded]
    ) -> tuple[Part, Part]:
        """Move what was condemned long enough ago, but for the only good copies, which are kept."""
        due = [
            name
            for name, event in self._condemned().items()
            if self._grace.is_over(self._grace.times[event])
            and _may_go(name)
            and not needs.cover(name)
            and self._there(name)
        ]
        kept = {name for name in due if (pack := layout.pack_of(name)) and live.only_in(pack)}
        going = sorted(set(due) - kept, key=_order)
        return _of([*trailing, *self._move(going, needs)]), self._sized(kept)

    def _move(self, going: list[str], needs: Needs) -> list[Discarded]:
        """Move files and what follows them; look again; bring back what is needed after all."""
        names = [*going, *self._followers(going, needs)]
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
            now = needed_now(self._archive)
            back = bring_back(self._store, discarding.moved, now.cover)
        gone = [one for one in discarding.moved if one not in back]
        self._tell_pruned([one.name for one in gone], layout.TRASH)
        return gone

    def _followers(self, going: list[str], needs: Needs) -> list[str]:
        """Parity and signatures of what goes, and of what went before a crash."""
        names = [*going, *(one.name for one in discarded(self._store))]
        digests = {layout.digest_of(name) for name in names} - {None}
        there = [*self._store.list(layout.PARITY), *self._store.list(layout.SIGNATURES)]
        return [name for name in there if followed_by(name) in digests and not needs.cover(name)]

    def _condemn(self, needs: Needs, swept: Part) -> Part:
        already = self._condemned().keys() | set(swept.files)
        new = [
            name
            for folder in (layout.MANIFESTS, layout.PACKS)
            for name in self._store.list(folder)
            if _may_go(name) and name not in already and not needs.cover(name)
        ]
        for batch in batches(new):
            self._tell(events.Condemned(batch, self._place.key))
        return self._sized(new)

    def _sized(self, names: Iterable[str]) -> Part:
        return _part({name: self._store.stat(name) or 0 for name in names})


def _missing(archive: Archive, needs: Needs) -> Iterable[str]:
    """A sentence for each pack of a live seal that is not there with its size."""
    for one in needs.snapshots:
        for pack in missing_packs(archive, one.seal.packs):
            yield f"{layout.pack_name(pack)} of {one.title} is missing or has another size."


def _may_go(name: str) -> bool:
    """Whether it is a pack or a manifest by its name: an event could name anything."""
    manifest = name.startswith(f"{layout.MANIFESTS}/") and layout.document_of(name)
    return bool(manifest or layout.pack_of(name))


def _order(name: str) -> tuple[int, str]:
    """What leads to others goes before them: seals, manifests, packs, and last what follows them."""
    top = name.partition("/")[0]
    return (_OUTWARD.index(top) if top in _OUTWARD else len(_OUTWARD)), name


def _of(files: Iterable[Discarded]) -> Part:
    return _part({one.name: one.size for one in files})


def _part(sizes: dict[str, int]) -> Part:
    return Part(tuple(sorted(sizes)), sum(sizes.values()))
