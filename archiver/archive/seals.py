"""The seals of an archive: reading them, and finding the one that is meant."""

from __future__ import annotations

import difflib
import logging
import re
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from archiver.archive import layout
from archiver.archive.advice import command, mending
from archiver.archive.events import Malformed, Sealed
from archiver.archive.records import (
    SEAL_MAX,
    Seal,
    canonical,
    declared,
    parse_record,
    require_known,
)
from archiver.archive.vouching import Voucher, Vouching, counted, vouches_of, vouching_of
from archiver.digest import Blake3Hex, blake3_hex
from archiver.errors import (
    ArchiverError,
    DamageError,
    NotUnderstoodError,
    OnDamage,
    UnknownFormatError,
    UsageError,
    raise_damage,
    skip_damaged,
)
from archiver.names import MODEL, RepositoryName, as_repo_id, slug

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from archiver.archive.document_cache import DocumentCache
    from archiver.archive.journal import Journal
    from archiver.archive.manifests import Manifests
    from archiver.storage.store import Store

_log = logging.getLogger(__name__)

ID_DIGITS: Final = 8
"""So many digits of a seal's id name it,"""
_ID: Final = re.compile(rf"[0-9a-f]{{{ID_DIGITS},64}}")
"""also alone, where no repository is called so."""
_NEAR: Final = 0.75
"""Names that are so much alike, of 1, were perhaps mistyped; so many are named."""
_NEAR_MAX: Final = 3
_MANIFEST: Final = re.compile(rb'"manifest":\{"blake3":"([0-9a-f]{64})"')
"""How a seal names its manifest, in canonical JSON."""


class Snapshot(NamedTuple):
    """A published seal and its id; ``elsewhere`` is its name if that is not the one that a writer gives."""

    id: Blake3Hex
    seal: Seal
    elsewhere: str = ""

    @property
    def sealed(self) -> bool:
        """Whether it has a seal; without one its manifest alone tells of it (``unsealed``)."""
        return bool(self.seal.sealed)

    @property
    def name(self) -> str:
        """The seal's name in the archive; UsageError if its repository has none."""
        own = layout.seal_name
        return self.elsewhere or own(self.seal.repository, self.seal.revision, self.id)

    @property
    def title(self) -> str:
        """``Org/Name@revision``, for messages."""
        return f"{self.seal.repository}@{self.seal.revision[:12]}"

    @property
    def should_run(self) -> bool:
        """Whether it should be a model that runs: not chosen files of one, and no dataset."""
        kind = RepositoryName.parse(self.seal.repository).type
        return kind == MODEL and not self.seal.selection.chosen

    def is_of(self, repository: str) -> bool:
        """Return whether it is of this repository; names are compared without case."""
        return self.seal.repository.casefold() == repository.casefold()


class Seals:
    """The seals in one store.

    ``manifests`` say what seals of older writers do not, and ``journal`` what damaged ones do not.
    ``known`` are those that were read already.
    """

    def __init__(
        self,
        store: Store,
        manifests: Manifests,
        journal: Journal,
        known: DocumentCache[Snapshot],
    ) -> None:
        self._store = store
        self._manifests = manifests
        self._journal = journal
        self._known = known

    def all(self, on_damage: OnDamage = raise_damage) -> Iterator[Snapshot]:
        """Yield every snapshot, by name; damaged seals go to ``on_damage``."""
        yield from self._below(layout.SNAPSHOTS, on_damage)

    def of(self, repository: str, on_damage: OnDamage = raise_damage) -> list[Snapshot]:
        """Return the snapshots of one repository (its name compared without case)."""
        below = f"{layout.SNAPSHOTS}/{slug(as_repo_id(repository))}"
        snapshots = self._below(below, on_damage)
        return [snapshot for snapshot in snapshots if snapshot.is_of(repository)]

    def named(
        self, repository: str, revision: str | None, on_damage: OnDamage = raise_damage
    ) -> list[Snapshot]:
        """Return the snapshots that a reference names, none if there are none.

        ``revision`` is the beginning of a commit or of a seal's id; a commit comes first. Without it,
        all of the repository's; or, where no repository is called so, those whose id begins so.
        """
        fitting = with_digits(self.of(repository, on_damage), revision)
        if fitting:
            return fitting
        # Not where a writer puts them: the folders are hints, and the seals say what they are of.
        every = list(self.all(skip_damaged))
        held = [snapshot for snapshot in every if snapshot.is_of(repository)]
        if not held and is_seal_id(repository, revision):
            every = list(self.all(on_damage))
            return [snapshot for snapshot in every if snapshot.id.startswith(repository)]
        return with_digits(held, revision)

    def names(self, repository: str, digits: str) -> list[str]:
        """Return the names of the seals that a reference names, whole or not, by their names alone."""
        below = f"{layout.SNAPSHOTS}/{slug(as_repo_id(repository))}"
        held = self._documents(below)
        if not held and is_seal_id(repository, digits):
            every = self._documents(layout.SNAPSHOTS).items()
            return [name for name, document in every if document.digest.startswith(repository)]
        names = [name for name, document in held.items() if document.revision.startswith(digits)]
        if not names and len(digits) >= ID_DIGITS:
            names = [name for name, document in held.items() if document.digest.startswith(digits)]
        return names or [each.name for each in self.named(repository, digits, skip_damaged)]

    def _documents(self, below: str) -> dict[str, layout.DocumentName]:
        documents = ((name, layout.document_of(name)) for name in self._store.list(below))
        return {name: document for name, document in documents if document is not None}

    def fitting(
        self, repository: str, revision: str | None, on_damage: OnDamage = raise_damage
    ) -> list[Snapshot]:
        """Return the snapshots that a reference names, as ``named``.

        If there are none, raise UsageError that says what is held, or DamageError as ``find`` does.
        """
        return self.named(repository, revision, on_damage) or [self.find(repository, revision)]

    def _below(self, prefix: str, on_damage: OnDamage) -> Iterator[Snapshot]:
        for name in self._store.list(prefix):
            if layout.document_of(name) is None:
                continue
            try:
                snapshot = self._known.get(name, self._read)
            except DamageError as error:
                on_damage(name, error)
                continue
            if not self.is_spare(snapshot):
                yield snapshot

    def is_spare(self, snapshot: Snapshot) -> bool:
        """Return whether a seal that lies elsewhere is also there under the name that a writer gives it."""
        own = snapshot._replace(elsewhere="").name
        return snapshot.name != own and self._store.stat(own) is not None

    def read(self, name: str, where: str = "") -> Snapshot:
        """Return the snapshot of the seal ``name``, which lies there or, out of use, at ``where``.

        Raise DamageError unless it is whole and its name is its own, NotUnderstoodError if only a newer
        version can read it.
        """
        return self._read(name, where)[0]

    def _read(self, name: str, where: str = "") -> tuple[Snapshot, int]:
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
        try:
            require_known(what, *declared(data))
        except UnknownFormatError as error:
            raise NotUnderstoodError(error.message, hint=error.hint, path=where or name) from None
        snapshot = Snapshot(digest, parse_record(data, Seal, what))
        if not _is_named(snapshot, name):
            raise DamageError(f"{what} lies under a name that is not its own.", path=where or name)
        if snapshot.name != name:
            snapshot = snapshot._replace(elsewhere=name)
        return snapshot, len(data)

    def find(
        self, repository: str, revision: str | None = None, on_newer: OnDamage = raise_damage
    ) -> Snapshot:
        """Return the snapshot to restore, by repository and (the beginning of) a revision or a seal's id.

        A damaged seal does not matter where another one of the same revision, of all files, has no
        lesser voucher than it can have had. One that only a newer version can read is passed over, and
        goes to ``on_newer`` if it was perhaps meant.

        Raises:
            UsageError: There is none, or the beginning fits several revisions, or several seals.
            DamageError: The seal that was perhaps meant is damaged.
            NotUnderstoodError: Of the revision, or the seal, that was asked for none can be read but by
                a newer version.
        """
        damaged: list[tuple[str, DamageError]] = []
        candidates = self.named(repository, revision, lambda *damage: damaged.append(damage))
        by_id = not all(
            snapshot.is_of(repository) and snapshot.seal.revision.startswith(revision or "")
            for snapshot in candidates
        )
        alone = is_seal_id(repository, revision) and (by_id or not candidates)
        digits = revision or ""
        if not revision and not by_id:
            digits = self._pointed_at(candidates, alone=not damaged)
            candidates = with_digits(candidates, digits)
        revisions = {snapshot.seal.revision for snapshot in candidates}
        passed_over: dict[str, NotUnderstoodError] = {}
        for name, error in damaged:
            if not _may_be_meant(name, digits, repository if alone else ""):
                continue
            if not isinstance(error, NotUnderstoodError):
                self._require_unneeded(name, error, candidates)
            elif not candidates or (revision and _revision_of(name) not in revisions):
                raise error
            else:
                passed_over[name] = error
        if not candidates or (len(candidates) > 1 and by_id) or (len(revisions) > 1 and revision):
            raise self._unclear(repository, revision, candidates)
        for name, error in passed_over.items():
            on_newer(name, error)
        return self.preferred(candidates)

    def _unclear(
        self, repository: str, revision: str | None, candidates: list[Snapshot]
    ) -> UsageError:
        """Return the error of a reference that names no snapshot, or several, with what is held."""
        place = self._store.address
        held = self.of(repository, skip_damaged)
        if not held:
            what = "fits several seals" if candidates else f"is not in the archive {place}"
            near = "" if candidates else ", or ".join(self._near(repository))
            meant = f"Did you mean {near}? " if near else ""
            return UsageError(
                f"{repository} {what}.", hint=f"{meant}{command('list', place)} shows what is."
            )
        listed = ", ".join(sorted({snapshot.seal.revision[:12] for snapshot in held})[:8])
        fault = "is not held"
        if candidates:
            several = len({snapshot.seal.revision for snapshot in candidates}) > 1
            fault = f"fits several {'revisions' if several else 'seals'}"
        return UsageError(f"Revision {revision} of {repository} {fault}; held are {listed}.")

    def _near(self, repository: str) -> list[str]:
        """Return the repositories that were perhaps meant: of another hub or type, or mistyped."""
        names = {snapshot.seal.repository for snapshot in self.all(skip_damaged)}
        spelled = sorted((_bare_name(name), name) for name in names)
        bare = _bare_name(repository)
        close = difflib.get_close_matches(bare, dict(spelled), _NEAR_MAX, _NEAR)
        near = {bare} if bare in dict(spelled) else set(close)
        return [name for key, name in spelled if key in near][:_NEAR_MAX]

    def _require_unneeded(self, name: str, error: DamageError, candidates: list[Snapshot]) -> None:
        """Raise the damage of a seal that was perhaps meant, if no snapshot stands in for it."""
        revision = _revision_of(name)
        same = [snapshot for snapshot in candidates if snapshot.seal.revision == revision]
        if self._manifest_of(name) in {twin.seal.manifest.blake3 for twin in same}:
            return
        lost = self._lost_voucher(layout.digest_of(name) or "")
        if any(twin.seal.selection.whole and self._rank(twin) >= lost for twin in same):
            return
        error.hint = mending(self._store.address, "seal-damaged", "")
        revisions = sorted({snapshot.seal.revision for snapshot in candidates} - {revision})
        if revisions:
            error.hint += f" Revisions that can be named instead: {', '.join(revisions)}."
        if same:
            ids = ", ".join(twin.id[:12] for twin in same[:8])
            error.hint += f" Seals of the revision that can be named instead, as REPO@SEAL: {ids}."
        raise error

    def _manifest_of(self, name: str) -> str:
        """Return the digest of the manifest that a damaged seal still names, as far as that can be read.

        It is proven by what it leads to: a digest in which a bit flipped is no manifest's.
        """
        try:
            match = _MANIFEST.search(self._store.get(name, SEAL_MAX))
        except (ArchiverError, FileNotFoundError):
            return ""
        return match.group(1).decode() if match else ""

    def _lost_voucher(self, digest: str) -> Voucher:
        """Return the highest voucher that the damaged seal of this id can have had.

        The journal knows: what it never told of was no snapshot. Older events do not say the voucher,
        and a journal with gaps, or an event that cannot be understood, may hide it: then it counts as
        upstream's.
        """
        present: set[str] = set()
        listed: set[str] = set()
        highest = Voucher.NOBODY
        damaged: list[str] = []
        for event_id, event in self._journal.events(lambda name, _error: damaged.append(name)):
            present.add(event_id)
            listed.update(event.after)
            sealed = event.detail
            if isinstance(sealed, Malformed) and event.type is Sealed:
                damaged.append(event_id)  # it may have told of this very seal
            if isinstance(sealed, Sealed) and sealed.snapshot == digest:
                voucher = Voucher.of(sealed.vouched)
                highest = max(highest, Voucher.UPSTREAM if voucher is None else voucher)
        return Voucher.UPSTREAM if damaged or listed - present else highest

    def vouching(self, snapshot: Snapshot) -> Vouching | None:
        """Return who vouched for the files of a snapshot.

        None if that cannot be known: of an older writer's seal the manifest says it, which is damaged or
        missing.
        """
        vouching = vouching_of(snapshot.seal)
        if vouching is None:
            try:
                facts = self._manifests.facts(snapshot.seal)
            except DamageError:
                return None
            vouching = counted(vouches_of(snapshot.seal, facts.source, facts.files))
        return vouching

    def default(self, snapshots: Sequence[Snapshot], sighted: str | None = None) -> Snapshot:
        """Return which of all snapshots of a repository its name alone means (``docs/format.md``, 7).

        ``sighted`` is the commit that its main branch was last sighted at, ``""`` if it never was; without
        it the journal is asked, if it matters.
        """
        digits = self._pointed_at(snapshots, sighted=sighted)
        return self.preferred(with_digits(list(snapshots), digits))

    def preferred(self, snapshots: Sequence[Snapshot]) -> Snapshot:
        """Return the snapshot to restore among several, whatever upstream points at (``preference``)."""
        if len(snapshots) == 1:
            return snapshots[0]
        return max(snapshots, key=self._preference)

    def _preference(self, snapshot: Snapshot) -> Preference:
        seal, committed = snapshot.seal, snapshot.seal.committed
        if isinstance(committed, msgspec.UnsetType):
            try:
                committed = self._manifests.facts(seal).source.committed
            except DamageError:
                committed = ""
        return preference(snapshot, self._rank(snapshot), committed)

    def _pointed_at(
        self, snapshots: Sequence[Snapshot], *, alone: bool = True, sighted: str | None = None
    ) -> str:
        """Return the revision that upstream's main branch was last seen at, if it is here, else ``""``.

        ``snapshots`` are those of one repository, and all of it if ``alone``: other seals may be damaged,
        or of a newer version. The journal is looked at only where it can matter.
        """
        whole = {each.seal.revision for each in snapshots if each.seal.selection.whole}
        if not whole or (alone and len({each.seal.revision for each in snapshots}) == 1):
            return ""
        if sighted is None:
            sighting = self._journal.newest_sighting(snapshots[0].seal.repository, "main")
            sighted = sighting.revision if sighting else ""
        return sighted if sighted in whole else ""

    def _rank(self, snapshot: Snapshot) -> Voucher:
        """Return the least voucher of its files. What cannot be known counts as upstream.

        So that a seal whose manifest is lost is named as damaged, and nothing takes its place unseen.
        """
        vouching = self.vouching(snapshot)
        return Voucher.UPSTREAM if vouching is None else vouching.least

    def publish(self, seal: Seal) -> Snapshot:
        """Store a seal: the one commit point."""
        data = canonical(seal)
        snapshot = Snapshot(blake3_hex(data), seal)
        self._store.put_new(snapshot.name, data)
        about = {"repository": seal.repository, "size": seal.totals.bytes}
        _log.info("sealed %s@%s as %s", seal.repository, seal.revision, snapshot.id, extra=about)
        return snapshot


Preference = tuple[bool, Voucher, str, str, Blake3Hex]
"""The greatest is the snapshot to restore (``docs/format.md``, section 7)."""


def preference(
    snapshot: Snapshot, voucher: Voucher | None = None, committed: str | None = None
) -> Preference:
    """Return how much a snapshot is to be preferred: whole before partial, the higher voucher, the later.

    ``voucher`` is the lowest of its files, and ``committed`` the time of its commit. Without them by its
    seal alone: one of an older writer, which does not say these, counts as upstream's, and as of no time.
    """
    seal = snapshot.seal
    if voucher is None:
        vouching = vouching_of(seal)
        voucher = vouching.least if vouching else Voucher.UPSTREAM
    if committed is None:
        committed = "" if isinstance(seal.committed, msgspec.UnsetType) else seal.committed
    return seal.selection.whole, voucher, committed, seal.sealed, snapshot.id


def _is_named(snapshot: Snapshot, name: str) -> bool:
    """Return whether a name says what the seal says: the folders in it are hints only."""
    try:
        as_repo_id(snapshot.seal.repository)
    except UsageError:
        return False  # it names a repository that cannot be
    return layout.document_of(name) == (snapshot.seal.revision, snapshot.id)


def _bare_name(repository: str) -> str:
    """Return the name of a repository in lowercase, without its hub and its type."""
    return repository.casefold().rpartition(":")[2].removeprefix("datasets/")


def _revision_of(name: str) -> str:
    """Return the revision in the name of a seal."""
    document = layout.document_of(name)
    return document.revision if document else ""


def _may_be_meant(name: str, digits: str, alone: str) -> bool:
    """Return whether a damaged seal is perhaps the one that is asked for; ``alone``: by its id alone."""
    document = layout.document_of(name)
    if document is None:
        return False
    if alone:
        return document.digest.startswith(alone)
    by_id = len(digits) >= ID_DIGITS and document.digest.startswith(digits)
    return by_id or document.revision.startswith(digits)


def is_seal_id(repository: str, revision: str | None) -> bool:
    """Return whether a reference may be a seal's id, or its first digits, and no repository's name."""
    return not revision and bool(_ID.fullmatch(repository))


def with_digits(snapshots: list[Snapshot], digits: str | None) -> list[Snapshot]:
    """Return those whose revision begins so; or else, with at least 8 digits, those whose id does."""
    if not digits:
        return snapshots
    fitting = [snapshot for snapshot in snapshots if snapshot.seal.revision.startswith(digits)]
    if not fitting and len(digits) >= ID_DIGITS:
        fitting = [snapshot for snapshot in snapshots if snapshot.id.startswith(digits)]
    return fitting
