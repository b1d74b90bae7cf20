"""Heads: ids of events that were kept elsewhere, and whether all that they vouch for is still there.

A head vouches for the journal of one archive at one place: for its own event, for all that this and earlier
ones list, and for the seals that those tell of. A line that ``head`` wrote says which archive and place; an
id alone, as older versions wrote it, is taken to be of the archive that it is checked against.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import msgspec

from archiver.archive import layout
from archiver.archive.advice import Advice, CheckHeadThere
from archiver.archive.chain import Chain
from archiver.archive.events import Copied, Sealed
from archiver.archive.findings import Finding
from archiver.archive.fixity import read_or_reread
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


# ---- heads as they are typed: ids of events, or files that ``head`` wrote

_HEADS_FILE_MAX: Final = 1 << 20
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

    def __str__(self) -> str:
        what = "chosen snapshots of " if self.scope == "snapshots" else ""
        return f"{what}the archive {printable(self.archive, 40)} at {printable(self.place, 80)}"


class TrustedHead(msgspec.Struct, frozen=True):
    """The id of an event that was kept elsewhere, and what it covers."""

    id: str
    covers: Cover = Cover()


def trusted_heads(text: str) -> Iterator[TrustedHead]:
    """Return the head that ``text`` is, or those that the file of that name lists; UsageError if none."""
    if is_blake3(text):
        yield TrustedHead(text)
        return
    heads = [head for head in map(_head_in, _lines(Path(text))) if is_blake3(head.id)]
    if not heads:
        raise UsageError(
            f"{text[:200]!r} names no head.",
            hint="Give an id of 64 digits, or a file that 'archiver head' wrote.",
        )
    yield from heads


def _lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            return file.read(_HEADS_FILE_MAX).decode(errors="replace").splitlines()
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
    """Return the head in a line that ``head`` printed, as text or JSON; its id is ``""`` if it is none."""
    if not line.startswith("{"):
        word = _FIRST_WORD.match(line)
        return TrustedHead(word.group(1) if word else "", Cover(**dict(_COVERS.findall(line))))
    try:
        fields = msgspec.json.decode(line, type=_Line)
    except (msgspec.DecodeError, RecursionError):
        return TrustedHead("")
    return TrustedHead(fields.id, Cover(fields.archive, fields.place, fields.scope))


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


def split_heads(
    archive: Archive, heads: Iterable[TrustedHead]
) -> tuple[list[TrustedHead], list[TrustedHead]]:
    """Return the heads of this archive at this place and scope, and those of other ones."""
    unique = list(dict.fromkeys(heads))
    covered = {covers: is_covered(archive, covers) for covers in {head.covers for head in unique}}
    own = [head for head in unique if covered[head.covers]]
    return own, [head for head in unique if not covered[head.covers]]


def is_covered(archive: Archive, covers: Cover) -> bool:
    """Return whether a head that covers this is one of this archive's journal at this place."""
    here, place = cover_of(archive), own_place(archive)
    return (
        covers.archive in {"", here.archive}
        and (not covers.place or place.is_named(covers.place))
        and covers.scope in {"", here.scope}
    )


# ---- findings


def missing_event(advice: Advice, digest: str, listed_by: str) -> Finding:
    """Return the finding that an event is gone that a later one lists."""
    text = f"The event {digest} is not there; event {listed_by} was written after it."
    return Finding("event-missing", text, object=digest, actions=advice.lost_event(digest))


def missing_head(advice: Advice, digest: str) -> Finding:
    """Return the finding that an event is gone that somebody knows of and that no other lists."""
    text = (
        f"The event {digest} is not in the journal: the archive was set back to an earlier state, or "
        "written anew."
    )
    return Finding("head-missing", text, object=digest, actions=advice.lost_head(digest))


def foreign_head(archive: Archive, head: TrustedHead, *, stored: bool) -> Finding:
    """Return the finding that a head vouches for something else than this archive at this place.

    ``stored``: its event is in this journal.
    """
    where = "is in this journal too" if stored else "is not in this journal, which need not have it"
    text = (
        f"The head {head.id[:16]} was kept of {head.covers}, and this is {cover_of(archive)}: the event "
        f"{where}, and says nothing of what is missing here."
    )
    action = CheckHeadThere(archive.store.address)
    return Finding("head-elsewhere", text, object=printable(head.id, 64), actions=(action,))


# ---- one check of heads, beside any audit


class HeadCheck(NamedTuple):
    """What was looked at, and what is wrong with it."""

    events: int
    seals: int
    findings: tuple[Finding, ...]


def check_heads(archive: Archive, heads: Iterable[TrustedHead]) -> HeadCheck:
    """Look for these events, for all that they list, and for the seals that those tell of.

    One that was kept of another archive, place or scope is not judged, and the finding says that.

    A seal that was taken out of use on purpose may be gone. Another seal of the same revision does
    not stand in for one that is missing: who can remove a seal can also write another.
    """
    own, foreign = split_heads(archive, heads)
    advice, chain = Advice(archive.store.address), Chain()
    damaged: dict[str, Finding] = {}
    stored: set[str] = set()
    for name in archive.journal.names():
        digest = layout.event_of(name) or ""
        event, result = read_or_reread(archive.store, name, partial(archive.journal.read, name))
        stored.add(digest)
        chain.add(digest, event)
        if event is None:
            actions = advice.copy_back(name, "event-damaged")
            damaged[digest] = Finding("event-damaged", result.problem, name, actions=actions)
    vouched = chain.vouched(head.id for head in own)
    findings: list[Finding] = []
    for digest, listed_by in vouched.items():
        if digest in damaged:
            findings.append(damaged[digest])
        elif digest not in stored and listed_by:
            findings.append(missing_event(advice, printable(digest, 64), listed_by))
        elif digest not in stored:
            findings.append(missing_head(advice, printable(digest, 64)))
    sealed = list(chain.sealed_by(vouched))
    findings += _seal_findings(archive, advice, sealed)
    findings += [foreign_head(archive, head, stored=head.id in stored) for head in foreign]
    return HeadCheck(len(vouched), len(sealed), tuple(findings))


def _seal_findings(archive: Archive, advice: Advice, sealed: Iterable[Event]) -> Iterator[Finding]:
    """Say which of the seals that these events tell of are gone or damaged."""
    store = archive.store
    names = {layout.digest_of(name): name for name in store.list(layout.SNAPSHOTS)}
    for event in sealed:
        digest = printable(event.snapshot, 64)
        title = printable(f"{event.repository}@{event.revision[:12]}")
        name = names.get(digest)
        if name is None:
            text = f"The journal tells of the seal {digest} of {title}, which is not there."
            actions = advice.copy_back(f"seal {digest}", "seal-missing", title)
            yield Finding("seal-missing", text, snapshots=(title,), object=digest, actions=actions)
            continue
        _, result = read_or_reread(store, name, partial(signed_bytes, store, name))
        if result.problem:
            actions = advice.copy_back(name, "seal-damaged", title)
            yield Finding("seal-damaged", result.problem, name, snapshots=(title,), actions=actions)


# ---- seals that stand in for lost ones


class ReplacementSeals:
    """Seals that replace lost ones of the same revision: so a snapshot is repaired.

    One of all files does, unless the lost one can have had the higher voucher. Older events do not say
    which it had: then only upstream's will do, or a revision that is itself a digest of the files.
    """

    def __init__(self, archive: Archive, snapshots: Iterable[Snapshot]) -> None:
        self._archive = archive
        self._whole: dict[tuple[str, str], list[Snapshot]] = {}
        for snapshot in snapshots:
            if snapshot.seal.selection.whole:
                key = (snapshot.seal.repository.casefold(), snapshot.seal.revision)
                self._whole.setdefault(key, []).append(snapshot)

    def exist_for(self, event: Event) -> bool:
        """Return whether one stands in for the seal that the event tells of."""
        sealed = event.detail
        lost = Voucher.of(sealed.vouched) if isinstance(sealed, Sealed) else None
        least = Voucher.UPSTREAM if lost is None else lost
        return any(
            self._voucher(snapshot) >= least or (lost is None and self._names_its_files(snapshot))
            for snapshot in self.of_revision(event)
        )

    def of_revision(self, event: Event) -> list[Snapshot]:
        """Return the snapshots of all files of the event's revision, whatever their vouchers."""
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
