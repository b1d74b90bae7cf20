"""The seals of an archive: reading them, and finding the one that is meant."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.archive import layout
from archiver.archive.advice import command, mending
from archiver.archive.events import Sealed
from archiver.archive.records import SEAL_MAX, Seal, canonical, parse_record, require_known
from archiver.archive.vouching import Voucher, Vouching, counted, vouches_of, vouching_of
from archiver.digest import Blake3Hex, blake3_hex
from archiver.errors import DamageError, OnDamage, UsageError, raise_damage, skip_damaged
from archiver.names import as_repo_id, slug

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from archiver.archive.journal import Journal
    from archiver.archive.manifests import Manifests
    from archiver.storage.store import Store

_log = logging.getLogger(__name__)

ID_DIGITS: Final = 8
"""So many digits of a seal's id name it,"""
_ID: Final = re.compile(rf"[0-9a-f]{{{ID_DIGITS},64}}")
"""also alone, where no repository is called so."""


class Snapshot(NamedTuple):
    """A published seal and its id."""

    id: Blake3Hex
    seal: Seal

    @property
    def name(self) -> str:
        """The seal's name in the archive; UsageError if its repository has none."""
        return layout.seal_name(self.seal.repository, self.seal.revision, self.id)

    @property
    def title(self) -> str:
        """``Org/Name@revision``, for messages."""
        return f"{self.seal.repository}@{self.seal.revision[:12]}"


class Seals:
    """The seals in one store.

    ``manifests`` say what seals of older writers do not, and ``journal`` what damaged ones do not.
    """

    def __init__(self, store: Store, manifests: Manifests, journal: Journal) -> None:
        self._store = store
        self._manifests = manifests
        self._journal = journal

    def all(self, on_damage: OnDamage = raise_damage) -> Iterator[Snapshot]:
        """Every snapshot, by name; damaged seals go to ``on_damage``."""
        yield from self._below(layout.SNAPSHOTS, on_damage)

    def of(self, repository: str, on_damage: OnDamage = raise_damage) -> list[Snapshot]:
        """The snapshots of one repository (its name compared without case)."""
        below = f"{layout.SNAPSHOTS}/{slug(as_repo_id(repository))}"
        wanted = repository.casefold()
        found = self._below(below, on_damage)
        return [one for one in found if one.seal.repository.casefold() == wanted]

    def named(
        self, repository: str, revision: str | None, on_damage: OnDamage = raise_damage
    ) -> list[Snapshot]:
        """The snapshots that a reference names, none if there are none.

        ``revision`` is the beginning of a commit or of a seal's id; a commit comes first. Without it,
        all of the repository's; or, where no repository is called so, those whose id begins so.
        """
        held = self.of(repository, on_damage)
        if not held and is_seal_id(repository, revision):
            return [one for one in self.all(on_damage) if one.id.startswith(repository)]
        return fitting(held, revision)

    def names(self, repository: str, digits: str) -> list[str]:
        """The names of the seals that a reference names, whole or not, by their names alone."""
        below = f"{layout.SNAPSHOTS}/{slug(as_repo_id(repository))}"
        held = self._documents(below)
        if not held and is_seal_id(repository, digits):
            every = self._documents(layout.SNAPSHOTS).items()
            return [name for name, document in every if document.digest.startswith(repository)]
        found = [name for name, one in held.items() if one.revision.startswith(digits)]
        if not found and len(digits) >= ID_DIGITS:
            found = [name for name, one in held.items() if one.digest.startswith(digits)]
        return found

    def _documents(self, below: str) -> dict[str, layout.DocumentName]:
        documents = ((name, layout.document_of(name)) for name in self._store.list(below))
        return {name: document for name, document in documents if document is not None}

    def fitting(
        self, repository: str, revision: str | None, on_damage: OnDamage = raise_damage
    ) -> list[Snapshot]:
        """The snapshots that a reference names, as ``named``.

        If there are none, raises UsageError that says what is held, or DamageError as ``find`` does.
        """
        return self.named(repository, revision, on_damage) or [self.find(repository, revision)]

    def _below(self, prefix: str, on_damage: OnDamage) -> Iterator[Snapshot]:
        for name in self._store.list(prefix):
            if layout.document_of(name) is None:
                continue
            try:
                yield self.read(name)
            except DamageError as error:
                on_damage(name, error)

    def read(self, name: str, where: str = "") -> Snapshot:
        """The snapshot of the seal ``name``, which lies there or, out of use, at ``where``.

        DamageError unless it is whole and its name is its own.
        """
        what = f"The seal {where or name}"
        try:
            data = self._store.get(where or name, SEAL_MAX)
        except FileNotFoundError:
            raise DamageError(
                f"{what} vanished while it was being read.", path=where or name
            ) from None
        digest = blake3_hex(data)
        if digest != layout.digest_of(name):
            raise DamageError(
                f"{what} is damaged: its bytes have another digest.", path=where or name
            )
        snapshot = Snapshot(digest, parse_record(data, Seal, what))
        if not _is_named(snapshot, name):
            raise DamageError(f"{what} lies under a name that is not its own.", path=where or name)
        require_known(what, snapshot.seal.format, snapshot.seal.features)
        return snapshot

    def find(self, repository: str, revision: str | None = None) -> Snapshot:
        """The snapshot to restore for a repository and (the beginning of) a revision or a seal's id.

        A damaged seal does not matter where another one of the same revision, of all files, has no
        lesser voucher than it can have had.

        Raises:
            UsageError: There is none, or the beginning fits several revisions, or several seals.
            DamageError: The seal that was perhaps meant is damaged.
        """
        damaged: list[tuple[str, DamageError]] = []
        found = self.named(repository, revision, lambda *one: damaged.append(one))
        by_id = not _are_of(found, repository, revision)
        alone = is_seal_id(repository, revision) and (by_id or not found)
        for name, error in damaged:
            if _may_be_meant(name, revision or "", repository if alone else ""):
                self._require_unneeded(name, error, found)
        revisions = {one.seal.revision for one in found}
        if not found or (len(found) > 1 and by_id) or (len(revisions) > 1 and revision):
            raise self._unclear(repository, revision, found)
        return self.preferred(found)

    def _unclear(self, repository: str, revision: str | None, found: list[Snapshot]) -> UsageError:
        """Say what is held instead."""
        place = self._store.address
        held = self.of(repository, skip_damaged)
        if not held:
            what = "fits several seals" if found else f"is not in the archive {place}"
            return UsageError(
                f"{repository} {what}.", hint=f"{command('list', place)} shows what is."
            )
        listed = ", ".join(sorted({one.seal.revision[:12] for one in held})[:8])
        fault = "is not held"
        if found:
            several = len({one.seal.revision for one in found}) > 1
            fault = f"fits several {'revisions' if several else 'seals'}"
        return UsageError(f"Revision {revision} of {repository} {fault}; held are {listed}.")

    def _require_unneeded(self, name: str, error: DamageError, found: list[Snapshot]) -> None:
        """Raise the damage of a seal that was perhaps meant, if no snapshot stands in for it."""
        document = layout.document_of(name)
        same = [one for one in found if document and one.seal.revision == document.revision]
        lost = self._lost_voucher(layout.digest_of(name) or "")
        if any(one.seal.selection.whole and self._rank(one) >= lost for one in same):
            return
        error.hint = mending(self._store.address, "seal-damaged", "")
        others = sorted({one.seal.revision for one in found} - {one.seal.revision for one in same})
        if others:
            error.hint += f" Revisions that can be named instead: {', '.join(others)}."
        if same:
            ids = ", ".join(one.id[:12] for one in same[:8])
            error.hint += f" Seals of the revision that can be named instead, as REPO@SEAL: {ids}."
        raise error

    def _lost_voucher(self, digest: str) -> Voucher:
        """The highest voucher that the damaged seal of this id can have had.

        The journal knows: what it never told of was no snapshot. Older events do not say the voucher,
        and a journal with gaps may have lost the event: then it counts as upstream's.
        """
        there: set[str] = set()
        listed: set[str] = set()
        highest = Voucher.NOBODY
        damaged: list[str] = []
        for event_id, event in self._journal.events(lambda name, _error: damaged.append(name)):
            there.add(event_id)
            listed.update(event.after)
            sealed = event.detail
            if isinstance(sealed, Sealed) and sealed.snapshot == digest:
                voucher = Voucher.of(sealed.vouched)
                highest = max(highest, Voucher.UPSTREAM if voucher is None else voucher)
        return Voucher.UPSTREAM if damaged or listed - there else highest

    def vouching(self, snapshot: Snapshot) -> Vouching | None:
        """Who vouched for the files of a snapshot.

        None if that cannot be known: it is told by the manifest of an older writer's seal, which is
        damaged or missing.
        """
        found = vouching_of(snapshot.seal)
        if found is None:
            try:
                facts = self._manifests.facts(snapshot.seal)
            except DamageError:
                return None
            found = counted(vouches_of(snapshot.seal, facts.source, facts.files))
        return found

    def preferred(self, snapshots: Sequence[Snapshot]) -> Snapshot:
        """The snapshot to restore among several (``docs/format.md``, section 7).

        Those that the higher voucher stands for come first, then whole ones, then the one sealed last.
        """
        if len(snapshots) == 1:
            return snapshots[0]
        return max(
            snapshots,
            key=lambda one: preference(one, self._rank(one)),
        )

    def _rank(self, snapshot: Snapshot) -> Voucher:
        """The least voucher of its files. What cannot be known counts as upstream.

        So that a seal whose manifest is lost is named as damaged, and nothing takes its place unseen.
        """
        found = self.vouching(snapshot)
        return Voucher.UPSTREAM if found is None else found.least

    def publish(self, seal: Seal) -> Snapshot:
        """Store a seal: the one commit point."""
        data = canonical(seal)
        snapshot = Snapshot(blake3_hex(data), seal)
        self._store.put_new(snapshot.name, data)
        _log.info("sealed %s@%s as %s", seal.repository, seal.revision, snapshot.id)
        return snapshot


Preference = tuple[Voucher, bool, str, Blake3Hex]
"""The greatest is the snapshot to restore (``docs/format.md``, section 7)."""


def preference(snapshot: Snapshot, voucher: Voucher | None = None) -> Preference:
    """Return how much a snapshot is to be preferred, given the lowest voucher of its files.

    Without it by its seal alone: one of an older writer, which does not say it, counts as upstream's.
    """
    if voucher is None:
        said = vouching_of(snapshot.seal)
        voucher = said.least if said else Voucher.UPSTREAM
    return voucher, snapshot.seal.selection.whole, snapshot.seal.sealed, snapshot.id


def _is_named(snapshot: Snapshot, name: str) -> bool:
    try:
        return snapshot.name == name
    except UsageError:
        return False  # it names a repository that cannot be


def _are_of(snapshots: list[Snapshot], repository: str, revision: str | None) -> bool:
    """Whether what a reference names, if anything, was named by repository and commit."""
    return all(
        one.seal.repository.casefold() == repository.casefold()
        and one.seal.revision.startswith(revision or "")
        for one in snapshots
    )


def _may_be_meant(name: str, digits: str, alone: str) -> bool:
    """Whether a damaged seal is perhaps the one that is asked for; ``alone``: by its id alone."""
    document = layout.document_of(name)
    if document is None:
        return False
    if alone:
        return document.digest.startswith(alone)
    by_id = len(digits) >= ID_DIGITS and document.digest.startswith(digits)
    return by_id or document.revision.startswith(digits)


def is_seal_id(repository: str, revision: str | None) -> bool:
    """Whether a reference may be a seal's id (or its first digits) instead of a repository's name."""
    return not revision and bool(_ID.fullmatch(repository))


def fitting(snapshots: list[Snapshot], digits: str | None) -> list[Snapshot]:
    """Those whose revision begins so; or else, with at least 8 digits, those whose id does."""
    if not digits:
        return snapshots
    found = [one for one in snapshots if one.seal.revision.startswith(digits)]
    if not found and len(digits) >= ID_DIGITS:
        found = [one for one in snapshots if one.id.startswith(digits)]
    return found
