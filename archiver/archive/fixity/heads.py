"""Checking heads that were kept elsewhere: whether everything that they vouch for is still there."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from archiver.archive import layout
from archiver.archive.advice import Advice, CheckHeadThere
from archiver.archive.finding import Finding
from archiver.archive.fixity.chain import Chain
from archiver.archive.fixity.kept_heads import cover_of, is_covered
from archiver.archive.fixity.read_twice import read_twice
from archiver.archive.signing.document import signed_bytes
from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.archive.archive import Archive
    from archiver.archive.events import Event
    from archiver.archive.fixity.kept_heads import Cover, KeptHead


class HeadCheck(NamedTuple):
    """What was looked at, and what is wrong with it."""

    events: int
    seals: int
    findings: tuple[Finding, ...]


def split_heads(
    archive: Archive, heads: Iterable[KeptHead]
) -> tuple[list[KeptHead], list[KeptHead]]:
    """Return the heads of this archive at this place and scope, and those of others."""
    kept = list(dict.fromkeys(heads))
    covered = {one: is_covered(archive, one) for one in {head.covers for head in kept}}
    own = [one for one in kept if covered[one.covers]]
    return own, [one for one in kept if not covered[one.covers]]


def head_elsewhere(archive: Archive, head: KeptHead, *, there: bool) -> Finding:
    """Return the finding that a head vouches for something else than this archive at this place.

    ``there``: its event is in this journal.
    """
    here = cover_of(archive)
    found = "is in this journal too" if there else "is not in this journal, which need not have it"
    text = (
        f"The head {head.id[:16]} was kept of {_told(head.covers)}, and this is {_told(here)}: the event "
        f"{found}, and says nothing of what is missing here."
    )
    action = CheckHeadThere(archive.store.describe())
    return Finding("head-elsewhere", text, object=printable(head.id, 64), actions=(action,))


def _told(covers: Cover) -> str:
    what = "chosen snapshots of " if covers.scope == "snapshots" else ""
    return f"{what}the archive {printable(covers.archive, 40)} at {printable(covers.place, 80)}"


def check_heads(archive: Archive, heads: Iterable[KeptHead]) -> HeadCheck:
    """Look for these events, for all that they list, and for the seals that those tell of.

    One that was kept of another archive, place or scope is not judged, and is told as that.

    A seal that was taken out of use on purpose may be gone. Another seal of the same revision does
    not stand in for one that is missing: who can remove a seal can also write another.
    """
    own, others = split_heads(archive, heads)
    return _Look(archive).run([one.id for one in own], others)


class _Look:
    """One check."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._store = archive.store
        self._advice = Advice(archive.store.describe())
        self._chain = Chain()
        self._there: set[str] = set()
        self._damaged: dict[str, Finding] = {}

    def run(self, heads: list[str], others: list[KeptHead]) -> HeadCheck:
        """Read the journal, then judge."""
        for name in self._archive.journal.names():
            self._read(name, layout.event_of(name) or "")
        vouched = self._chain.vouched(heads)
        sealed = list(self._chain.sealed_by(vouched))
        elsewhere = [
            head_elsewhere(self._archive, one, there=one.id in self._there) for one in others
        ]
        findings = [*self._events(vouched), *self._seals(sealed), *elsewhere]
        return HeadCheck(len(vouched), len(sealed), tuple(findings))

    def _read(self, name: str, digest: str) -> None:
        event, state = read_twice(self._store, name, partial(self._archive.journal.read, name))
        self._there.add(digest)
        self._chain.add(digest, event)
        if event is None:
            actions = self._advice.copy_back(name, "event-damaged")
            self._damaged[digest] = Finding("event-damaged", state.problem, name, actions=actions)

    def _events(self, vouched: dict[str, str]) -> Iterator[Finding]:
        for digest, by in vouched.items():
            told = printable(digest, 64)
            if digest in self._damaged:
                yield self._damaged[digest]
            elif digest not in self._there and by:
                text = f"The event {told} is not there; event {by} was written after it."
                actions = self._advice.lost_event(told)
                yield Finding("event-missing", text, object=told, actions=actions)
            elif digest not in self._there:
                text = (
                    f"The event {told} is not in the journal: the archive was set back to an "
                    "earlier state, or written anew."
                )
                actions = self._advice.lost_head(told)
                yield Finding("head-missing", text, object=told, actions=actions)

    def _seals(self, sealed: list[Event]) -> Iterator[Finding]:
        names = {layout.digest_of(name): name for name in self._store.list(layout.SNAPSHOTS)}
        for event in sealed:
            digest = printable(event.snapshot, 64)
            title = printable(f"{event.repository}@{event.revision[:12]}")
            name = names.get(digest)
            if name is None:
                text = f"The journal tells of the seal {digest} of {title}, which is not there."
                actions = self._advice.copy_back(f"seal {digest}", "seal-missing", title)
                yield Finding(
                    "seal-missing", text, snapshots=(title,), object=digest, actions=actions
                )
                continue
            _, state = read_twice(self._store, name, partial(signed_bytes, self._store, name))
            if state.problem:
                actions = self._advice.copy_back(name, "seal-damaged", title)
                yield Finding(
                    "seal-damaged", state.problem, name, snapshots=(title,), actions=actions
                )
