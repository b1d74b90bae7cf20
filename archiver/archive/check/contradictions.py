"""Contradictions: one path of one commit with other bytes by another seal. At least one of them lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.archive.advice import Actions, AskUpstream, DropSeal, KeepOrForget
from archiver.archive.findings import Finding
from archiver.archive.vouching import Voucher, vouches_of
from archiver.errors import DamageError
from archiver.text import plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.archive.archive import Archive
    from archiver.archive.seals import Snapshot

_BY: Final = {
    Voucher.UPSTREAM: "upstream vouched for it",
    Voucher.PIN: "a pin vouched for it",
    Voucher.CACHE: "a cache's own record vouched for it",
    Voucher.NOBODY: "nobody vouched for it",
}
_NAMED: Final = 5


class Side(NamedTuple):
    """What one seal says of a file, and who vouched for it."""

    snapshot: Snapshot
    sha256: str
    by: Voucher

    @property
    def reference(self) -> str:
        """``Org/Name@id``, which names the seal in every command."""
        return f"{self.snapshot.seal.repository}@{self.snapshot.id[:12]}"


class Contradiction(NamedTuple):
    """A file to which two seals of one commit give other bytes; ``first`` is the one to restore."""

    path: str
    first: Side
    other: Side

    @property
    def settled(self) -> bool:
        """Whether the first has the higher voucher: then what is restored is the better one."""
        return self.first.by > self.other.by


def contradictions(archive: Archive, snapshots: Iterable[Snapshot]) -> Iterator[Contradiction]:
    """Return each file that a seal has with other bytes than the seal of its commit that is restored first.

    Only manifests of commits that have several are read. Those that cannot be are left out: they are
    findings of their own.
    """
    revisions: dict[tuple[str, str], list[Snapshot]] = {}
    for snapshot in snapshots:
        key = (snapshot.seal.repository.casefold(), snapshot.seal.revision)
        revisions.setdefault(key, []).append(snapshot)
    for same in revisions.values():
        if len({snapshot.seal.manifest.blake3 for snapshot in same}) > 1:
            yield from _among(archive, same)


def _among(archive: Archive, same: list[Snapshot]) -> Iterator[Contradiction]:
    """Compare the snapshots of one commit, those to restore first."""
    first: dict[str, Side] = {}
    while same:
        best = archive.preferred(same)
        same = [snapshot for snapshot in same if snapshot is not best]
        for path, side in _files(archive, best).items():
            before = first.setdefault(path, side)
            if before.sha256 != side.sha256:
                yield Contradiction(path, before, side)


def _files(archive: Archive, snapshot: Snapshot) -> dict[str, Side]:
    try:
        facts = archive.manifest_facts(snapshot.seal)
    except DamageError:
        return {}
    vouches = vouches_of(snapshot.seal, facts.source, facts.files)
    pairs = zip(facts.files, vouches, strict=True)
    return {file.path: Side(snapshot, file.sha256, vouch.by) for file, vouch in pairs}


def contradiction_findings(
    archive: Archive, snapshots: Iterable[Snapshot], *, append_only: bool = False
) -> Iterator[Finding]:
    """Return a finding for each file of which nobody can tell which bytes are right.

    And a remark for each seal whose files another one has with other bytes and a higher voucher.
    ``append_only``: the policy forbids that a seal is forgotten.
    """
    outranked: dict[tuple[str, str], list[Contradiction]] = {}
    for contradiction in contradictions(archive, snapshots):
        if contradiction.settled:
            key = (contradiction.first.snapshot.id, contradiction.other.snapshot.id)
            outranked.setdefault(key, []).append(contradiction)
        else:
            yield _unsettled(archive, contradiction, append_only=append_only)
    for several in outranked.values():
        yield _outranked(archive, several, append_only=append_only)


def _unsettled(archive: Archive, contradiction: Contradiction, *, append_only: bool) -> Finding:
    place, title = archive.store.address, contradiction.first.snapshot.title
    upstream = contradiction.first.by is contradiction.other.by is Voucher.UPSTREAM
    drop = DropSeal(place, contradiction.other.reference, append_only, upstream)
    actions: Actions = (AskUpstream(place, title), drop)
    if upstream:
        actions = (drop,)
    elif contradiction.other.by > contradiction.first.by:
        actions = (AskUpstream(place, title, outvouched=True),)
    text = (
        f"One commit has one content, and two seals give {contradiction.path} another SHA-256: "
        f"{_described(contradiction)}."
    )
    return Finding(
        "seals-contradict", text, contradiction.path, snapshots=(title,), actions=actions
    )


def _outranked(archive: Archive, several: list[Contradiction], *, append_only: bool) -> Finding:
    """Return the remark on a seal whose files have other bytes than a seal with a higher voucher says."""
    contradiction = several[0]
    other_paths = [other.path for other in several[1 : 1 + _NAMED]]
    more = ""
    if other_paths:
        rest = len(several) - 1 - len(other_paths)
        names = ", ".join(other_paths) + (f", and {rest:,} more" if rest else "")
        more = f" The same goes for {plural(len(several) - 1, 'other file')}: {names}."
    text = (
        f"Two seals give {contradiction.path} another SHA-256: {_described(contradiction)}. "
        f"The first is the one that is restored.{more}"
    )
    action = KeepOrForget(archive.store.address, contradiction.other.reference, append_only)
    return Finding(
        "seal-outranked",
        text,
        contradiction.path,
        snapshots=(contradiction.first.snapshot.title,),
        files=tuple(contradiction.path for contradiction in several),
        actions=(action,),
    )


def _described(contradiction: Contradiction) -> str:
    return "; ".join(
        f"{side.sha256[:16]}… in the seal {side.snapshot.id[:12]}, and {_BY[side.by]}"
        for side in (contradiction.first, contradiction.other)
    )
