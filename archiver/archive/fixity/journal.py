"""Checking the journal: every event must come out whole, and nothing that it tells of may be gone."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from archiver.archive import layout
from archiver.archive.advice import BringOrForget, RepairFromCopy
from archiver.archive.fixity.chain import Chain, StandIns
from archiver.archive.fixity.heads import head_elsewhere, split_heads
from archiver.archive.fixity.read_twice import read_twice
from archiver.archive.journal import in_order
from archiver.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.archive.archive import Archive, Snapshot
    from archiver.archive.events import Event
    from archiver.archive.fixity.findings import Findings
    from archiver.archive.fixity.kept_heads import KeptHead


_TOLD: Final = 8
"""Seals that a message names."""


class JournalCheck:
    """Reads the journal once, then judges what it tells."""

    def __init__(self, archive: Archive, findings: Findings) -> None:
        self._archive = archive
        self._store = archive.store
        self._findings = findings
        self._chain = Chain()

    def events(self) -> Iterator[tuple[str, Event]]:
        """The events that can be read, with their ids, oldest first; the others become findings."""
        readable: dict[str, Event] = {}
        for name in self._archive.journal.names():
            found, state = read_twice(self._store, name, partial(self._archive.journal.read, name))
            self._findings.unstable(state.unstable, name)
            digest = layout.event_of(name) or ""
            self._chain.add(digest, found)
            if found is None:
                self._findings.bad("event-damaged", state, name)
            else:
                readable[digest] = found
        yield from in_order(readable)

    def told(self, snapshots: list[Snapshot]) -> None:
        """What the journal, once it was read, tells of must be there: events before others, and seals."""
        # Looked at once more: one may have come while they were being listed.
        there = {layout.event_of(name) for name in self._archive.journal.names()}
        for digest, after in self._chain.missing():
            if digest in there:
                continue
            text = f"The event {digest} is not there; event {after} was written after it."
            self._findings.add(
                "event-missing", text, self._findings.advice.lost_event(digest), object=digest
            )
        seals = self._named_seals()
        stand_ins = StandIns(self._archive, snapshots)
        for event in self._chain.sealed():
            if event.snapshot not in seals and not stand_ins.cover(event):
                self._no_seal(event, stand_ins.of_revision(event))

    def heads(self, kept: Iterable[KeptHead]) -> None:
        """Each of these heads, which were kept elsewhere, must be an event, if they are of this journal."""
        there = {layout.event_of(name) for name in self._archive.journal.names()}
        own, others = split_heads(self._archive, kept)
        self._findings.all += [
            head_elsewhere(self._archive, one, there=one.id in there) for one in others
        ]
        for digest in dict.fromkeys(one.id for one in own):
            if digest not in there:
                text = (
                    f"The event {digest} is not in the journal: the archive was set back to an "
                    "earlier state, or written anew."
                )
                self._findings.add(
                    "head-missing", text, self._findings.advice.lost_head(digest), object=digest
                )

    def _named_seals(self) -> set[str]:
        documents = map(layout.document_of, self._store.list(layout.SNAPSHOTS))
        return {document.digest for document in documents if document}

    def _no_seal(self, event: Event, others: list[Snapshot]) -> None:
        title = f"{event.repository}@{event.revision[:12]}"
        digest = event.snapshot[:64]
        text = f"The journal tells of the seal {digest} of {title}, which is not there."
        name = _seal_name(event, digest)
        if others:
            ids = ", ".join(other.id[:12] for other in others[:_TOLD])
            text += (
                f" Held of the revision is {ids}, whose files may have a lesser voucher: a digest of "
                "upstream's that was proven may be lost."
            )
        advice = self._findings.advice
        actions = advice.copy_back(name or f"seal {digest}", "seal-missing", title)
        if event.snapshot in self._chain.deleted():
            text += " It was pruned, and 'forget --undo' said that it is wanted again."
            actions = (BringOrForget(advice.place, title),)
        actions = (*actions, RepairFromCopy(advice.place))
        self._findings.add("seal-missing", text, actions, path=name, snapshots=(title,))


def _seal_name(event: Event, digest: str) -> str:
    """The name of a seal that an event tells of; ``""`` if no repository has such a name."""
    try:
        return layout.seal_name(event.repository, event.revision, digest)
    except UsageError:
        return ""
