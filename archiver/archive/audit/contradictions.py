"""Contradictions: one path of one commit with other bytes by another seal. At least one of them lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from archiver.archive.advice import command
from archiver.archive.finding import Finding
from archiver.archive.vouching import Vouch, Voucher, vouches_of
from archiver.errors import DamageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.archive.archive import Archive, Snapshot

_BY: Final = {
    Voucher.UPSTREAM: "upstream vouched for it",
    Voucher.PIN: "a pin vouched for it",
    Voucher.CACHE: "a cache's own record vouched for it",
    Voucher.NOBODY: "nobody vouched for it",
}

_Files = dict[str, tuple[str, Vouch]]
"""Path -> SHA-256, and who vouched for it."""


def contradictions(archive: Archive, snapshots: Iterable[Snapshot]) -> Iterator[Finding]:
    """A finding for each file that a seal has with other bytes than the seal of its commit to restore.

    Manifests that cannot be read are left out: they are findings of their own.
    """
    revisions: dict[tuple[str, str], list[Snapshot]] = {}
    for one in snapshots:
        key = (one.seal.repository.casefold(), one.seal.revision)
        revisions.setdefault(key, []).append(one)
    for same in revisions.values():
        if len({one.seal.manifest.blake3 for one in same}) > 1:
            yield from _among(archive, same)


def _among(archive: Archive, same: list[Snapshot]) -> Iterator[Finding]:
    """Compare the snapshots of one commit, those to restore first."""
    first: dict[str, tuple[Snapshot, str, Vouch]] = {}
    while same:
        best = archive.preferred(same)
        same = [one for one in same if one is not best]
        for path, (sha256, vouch) in _files(archive, best).items():
            before = first.setdefault(path, (best, sha256, vouch))
            if before[1] != sha256:
                yield _finding(archive, path, before, (best, sha256, vouch))


def _files(archive: Archive, snapshot: Snapshot) -> _Files:
    try:
        facts = archive.manifest_facts(snapshot.seal)
    except DamageError:
        return {}
    vouches = vouches_of(snapshot.seal, facts.source, facts.files)
    pairs = zip(facts.files, vouches, strict=True)
    return {file.path: (file.sha256, vouch) for file, vouch in pairs}


def _finding(
    archive: Archive,
    path: str,
    first: tuple[Snapshot, str, Vouch],
    other: tuple[Snapshot, str, Vouch],
) -> Finding:
    told = "; ".join(
        f"{sha256[:16]}… in the seal {one.id[:12]}, and {_BY[vouch.by]}"
        for one, sha256, vouch in (first, other)
    )
    place, title = archive.store.describe(), first[0].title
    worse = f"{other[0].seal.repository}@{other[0].id[:12]}"
    forget = command("forget", place, worse)
    hint = f"The first is upstream's. Run {forget} to take the other out of use."
    if first[2].by is not Voucher.UPSTREAM:
        hint = (
            f"Which is right is not known here. Run {command('mirror', place, title)}: it asks upstream, "
            "and seals what upstream has. Then forget the other seals of the commit."
        )
    elif other[2].by is Voucher.UPSTREAM:
        hint = (
            "Upstream gave two answers about one commit. Find out which one other people have, and "
            f"forget the other seal, such as with {forget}."
        )
    text = f"One commit has one content, and two seals give {path} another SHA-256: {told}."
    return Finding("seals-contradict", text, path=path, hint=hint, snapshot=title)
