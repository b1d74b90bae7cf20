"""Checking heads that were kept elsewhere: whether everything that they vouch for is still there."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import msgspec

from archiver.archive import layout
from archiver.archive.advice import Advice, CheckHeadThere
from archiver.archive.events import Copied, Forgotten, Pruned, Remembered, Repaired, Sealed
from archiver.archive.findings import Finding
from archiver.archive.fixity import read_or_reread
from archiver.archive.journal import in_order
from archiver.archive.layout import document_of
from archiver.archive.manifests import derived_revision
from archiver.archive.places import own_place
from archiver.archive.signing.signatures import signed_bytes
from archiver.archive.vouching import Voucher
from archiver.digest import is_blake3
from archiver.errors import DamageError, UsageError, explain_system_error, skip_damaged
from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.archive.archive import Archive
    from archiver.archive.events import Event
    from archiver.archive.seals import Snapshot


class HeadCheck(NamedTuple):
    """What was looked at, and what is wrong with it."""

    events: int
    seals: int
    findings: tuple[Finding, ...]


def split_heads(
    archive: Archive, heads: Iterable[TrustedHead]
) -> tuple[list[TrustedHead], list[TrustedHead]]:
    """Return the heads of this archive at this place and scope, and those of others."""
    kept = list(dict.fromkeys(heads))
    covered = {one: is_covered(archive, one) for one in {head.covers for head in kept}}
    own = [one for one in kept if covered[one.covers]]
    return own, [one for one in kept if not covered[one.covers]]


def foreign_head(archive: Archive, head: TrustedHead, *, there: bool) -> Finding:
    """Return the finding that a head vouches for something else than this archive at this place.

    ``there``: its event is in this journal.
    """
    here = cover_of(archive)
    found = "is in this journal too" if there else "is not in this journal, which need not have it"
    text = (
        f"The head {head.id[:16]} was kept of {_told(head.covers)}, and this is {_told(here)}: the event "
        f"{found}, and says nothing of what is missing here."
    )
    action = CheckHeadThere(archive.store.address)
    return Finding("head-elsewhere", text, object=printable(head.id, 64), actions=(action,))


def _told(covers: Cover) -> str:
    what = "chosen snapshots of " if covers.scope == "snapshots" else ""
    return f"{what}the archive {printable(covers.archive, 40)} at {printable(covers.place, 80)}"


def check_heads(archive: Archive, heads: Iterable[TrustedHead]) -> HeadCheck:
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
        self._advice = Advice(archive.store.address)
        self._chain = Chain()
        self._there: set[str] = set()
        self._damaged: dict[str, Finding] = {}

    def run(self, heads: list[str], others: list[TrustedHead]) -> HeadCheck:
        """Read the journal, then judge."""
        for name in self._archive.journal.names():
            self._read(name, layout.event_of(name) or "")
        vouched = self._chain.vouched(heads)
        sealed = list(self._chain.sealed_by(vouched))
        elsewhere = [
            foreign_head(self._archive, one, there=one.id in self._there) for one in others
        ]
        findings = [*self._events(vouched), *self._seals(sealed), *elsewhere]
        return HeadCheck(len(vouched), len(sealed), tuple(findings))

    def _read(self, name: str, digest: str) -> None:
        event, state = read_or_reread(self._store, name, partial(self._archive.journal.read, name))
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
            _, state = read_or_reread(self._store, name, partial(signed_bytes, self._store, name))
            if state.problem:
                actions = self._advice.copy_back(name, "seal-damaged", title)
                yield Finding(
                    "seal-damaged", state.problem, name, snapshots=(title,), actions=actions
                )


# ---- Heads that were kept elsewhere, as they are typed: ids of events, or files that ``head`` wrote.
#
# A head vouches for the journal of one archive at one place. A line that ``head`` wrote says which; an id
# alone, as older versions wrote it, is taken to be of the archive that it is checked against.


_KEPT_MAX: Final = 1 << 20
_FIRST_WORD: Final = re.compile(r"\s*(\S+)")
_COVERS: Final = re.compile(r"\b(archive|place|scope)=(\S+)")

Scope = Literal["archive", "snapshots"]
"""Of what a journal tells: of all of an archive, or of snapshots that were chosen when it was copied."""


class Cover(msgspec.Struct, frozen=True):
    """What a head vouches for: the journal of the archive with this id, at the place with this identity.

    A place without an identity has its name. Everything is ``""`` where nobody wrote it down.
    """

    archive: str = ""
    place: str = ""
    scope: str = ""


def is_covered(archive: Archive, covers: Cover) -> bool:
    """Return whether a head that covers this is one of this archive's journal at this place."""
    here, place = cover_of(archive), own_place(archive)
    return (
        covers.archive in {"", here.archive}
        and (not covers.place or place.is_named(covers.place))
        and covers.scope in {"", here.scope}
    )


class TrustedHead(msgspec.Struct, frozen=True):
    """The id of an event, and what it covers."""

    id: str
    covers: Cover = Cover()


def cover_of(archive: Archive) -> Cover:
    """Return what the heads of an archive's journal vouch for."""
    place = own_place(archive)
    scope: Scope = "archive"
    for _, event in archive.events(skip_damaged):
        copied = event.detail
        if not isinstance(copied, Copied) or not place.is_named(copied.to_id or copied.to):
            continue
        if copied.part:
            scope = "snapshots"
        elif not isinstance(copied.packs, msgspec.UnsetType):
            scope = "archive"
    return Cover(archive.info.archive, place.key, scope)


def trusted_heads(text: str) -> Iterator[TrustedHead]:
    """Return the head that ``text`` is, or those that the file of that name lists; UsageError if none."""
    if is_blake3(text):
        yield TrustedHead(text)
        return
    found = [one for one in map(_head_in, _lines(Path(text))) if is_blake3(one.id)]
    if not found:
        raise UsageError(
            f"{text[:200]!r} names no head.",
            hint="Give an id of 64 digits, or a file that 'archiver head' wrote.",
        )
    yield from found


def _lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            return file.read(_KEPT_MAX).decode(errors="replace").splitlines()
    except (FileNotFoundError, IsADirectoryError, ValueError):
        return []  # whatever it is, it is no file's name
    except OSError as error:
        raise explain_system_error(error, "the kept heads were read") from error


class _Line(msgspec.Struct):
    """A line of JSON."""

    id: str
    archive: str = ""
    place: str = ""
    scope: str = ""


def _head_in(line: str) -> TrustedHead:
    """The head in a line that ``head`` printed, as text or as JSON; its id is ``""`` if it is none."""
    if not line.startswith("{"):
        word = _FIRST_WORD.match(line)
        return TrustedHead(word.group(1) if word else "", Cover(**dict(_COVERS.findall(line))))
    try:
        found = msgspec.json.decode(line, type=_Line)
    except (msgspec.DecodeError, RecursionError):
        return TrustedHead("")
    return TrustedHead(found.id, Cover(found.archive, found.place, found.scope))


# ---- The journal's chain: which events must have been there, and which seals the events tell of.


class Chain:
    """The events of a journal, as far as they can be read."""

    def __init__(self) -> None:
        self._there: set[str] = set()
        self._events: dict[str, Event] = {}

    def add(self, digest: str, event: Event | None) -> None:
        """The next event by name; None if it is there and cannot be read."""
        self._there.add(digest)
        if event is not None:
            self._events[digest] = event

    def missing(self) -> Iterator[tuple[str, str]]:
        """Each event that is listed and not there, and the first that lists it."""
        told: set[str] = set()
        for digest, event in self._events.items():
            for before in event.after:
                if before not in self._there and before not in told:
                    told.add(before)
                    yield before[:64], digest

    def vouched(self, ids: Iterable[str]) -> dict[str, str]:
        """Every event that these vouch for, themselves included -> one that lists it, or ``""``.

        Also those that cannot be read or are not there: what they listed is then not known.
        """
        found = dict.fromkeys(ids, "")
        todo = list(found)
        while todo:
            digest = todo.pop()
            event = self._events.get(digest)
            new = [before for before in (event.after if event else ()) if before not in found]
            found.update(dict.fromkeys(new, digest))
            todo += new
        return found

    def sealed_by(self, ids: Iterable[str]) -> Iterator[Event]:
        """As ``sealed``, of these events only."""
        told = [self._events[digest] for digest in ids if digest in self._events]
        wanted = {event.snapshot for event in told if isinstance(event.detail, Sealed)}
        return (event for event in self.sealed() if event.snapshot in wanted)

    def deleted(self) -> frozenset[str]:
        """The ids of the seals that prune deleted for good at some time."""
        details = (event.detail for event in self._events.values())
        gone = (pruned for pruned in details if isinstance(pruned, Pruned) and not pruned.to)
        documents = (document_of(name) for pruned in gone for name in pruned.files)
        return frozenset(document.digest for document in documents if document)

    def sealed(self) -> Iterator[Event]:
        """The events of seals that were not taken out of use."""
        sealed: dict[str, Event] = {}
        absent: set[str] = set()
        for _, event in in_order(self._events):
            match event.detail:
                case Sealed(snapshot) if snapshot:
                    sealed[snapshot] = event
                    absent.discard(snapshot)
                case Forgotten() | Repaired():  # set aside on purpose
                    absent |= event.snapshots
                case Remembered(snapshots):
                    absent.difference_update(snapshots)
        return (event for snapshot, event in sealed.items() if snapshot not in absent)


class ReplacementSeals:
    """Seals that stand in for lost ones of the same revision: so a snapshot is mended.

    One of all files does, unless the lost one can have had the higher voucher. Older events do not say
    which it had: then only upstream's will do, or a revision that is itself a digest of the files.
    """

    def __init__(self, archive: Archive, snapshots: Iterable[Snapshot]) -> None:
        self._archive = archive
        self._whole: dict[tuple[str, str], list[Snapshot]] = {}
        for one in snapshots:
            if one.seal.selection.whole:
                key = (one.seal.repository.casefold(), one.seal.revision)
                self._whole.setdefault(key, []).append(one)

    def exist_for(self, event: Event) -> bool:
        """Return whether one stands in for the seal that the event tells of."""
        sealed = event.detail
        lost = Voucher.of(sealed.vouched) if isinstance(sealed, Sealed) else None
        least = Voucher.UPSTREAM if lost is None else lost
        return any(
            self._voucher(one) >= least or (lost is None and self._names_its_files(one))
            for one in self.of_revision(event)
        )

    def of_revision(self, event: Event) -> list[Snapshot]:
        """The snapshots of all files of the event's revision, whatever their vouchers."""
        return self._whole.get((event.repository.casefold(), event.revision), [])

    def _names_its_files(self, snapshot: Snapshot) -> bool:
        try:
            files = self._archive.manifest_facts(snapshot.seal).files
        except DamageError:
            return False
        return snapshot.seal.revision == derived_revision(files)

    def _voucher(self, snapshot: Snapshot) -> Voucher:
        vouching = self._archive.vouching(snapshot)
        return vouching.least if vouching else Voucher.NOBODY
