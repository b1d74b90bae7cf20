"""The seals of an archive: reading them, and finding the one that is meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from archiver.archive import layout
from archiver.archive.advice import Advice, command
from archiver.archive.records import SEAL_MAX, Seal, canonical, parse_record, require_known
from archiver.digest import Blake3Hex, blake3_hex
from archiver.errors import DamageError, UsageError
from archiver.names import as_repo_id, slug

if TYPE_CHECKING:
    from archiver.storage.store import Store

OnDamage = Callable[[str, DamageError], None]
"""Told the stored name and what is wrong with it, where reading goes on without it."""


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


def raise_damage(_name: str, error: DamageError) -> None:
    """Go no further than the first damage."""
    raise error


class Seals:
    """The seals in one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def all(self, on_damage: OnDamage = raise_damage) -> Iterator[Snapshot]:
        """Every snapshot, by name; damaged seals go to ``on_damage``."""
        yield from self._below(layout.SNAPSHOTS, on_damage)

    def of(self, repository: str, on_damage: OnDamage = raise_damage) -> list[Snapshot]:
        """The snapshots of one repository (its name compared without case)."""
        below = f"{layout.SNAPSHOTS}/{slug(as_repo_id(repository))}"
        wanted = repository.casefold()
        found = self._below(below, on_damage)
        return [one for one in found if one.seal.repository.casefold() == wanted]

    def fitting(
        self, repository: str, revision: str | None, on_damage: OnDamage = raise_damage
    ) -> list[Snapshot]:
        """The snapshots of a repository, or of (the beginning of) a revision.

        If there are none, raises UsageError that says what is held, or DamageError as ``find`` does.
        """
        held = self.of(repository, on_damage)
        found = [one for one in held if one.seal.revision.startswith(revision or "")]
        return found or [self.find(repository, revision)]

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
            raise DamageError(f"{what} vanished while it was being read.") from None
        digest = blake3_hex(data)
        if digest != layout.digest_of(name):
            raise DamageError(f"{what} is damaged: its bytes have another digest.")
        snapshot = Snapshot(digest, parse_record(data, Seal, what))
        if not _is_named(snapshot, name):
            raise DamageError(f"{what} lies under a name that is not its own.")
        require_known(what, snapshot.seal.format, snapshot.seal.features)
        return snapshot

    def find(self, repository: str, revision: str | None = None) -> Snapshot:
        """The snapshot to restore for a repository and (the beginning of) a revision.

        A damaged seal does not matter where another seal holds the same revision.

        Raises:
            UsageError: There is none, or the beginning fits several revisions.
            DamageError: The seal that was perhaps meant is damaged.
        """
        damaged: list[tuple[str, DamageError]] = []
        found = self.of(repository, lambda *one: damaged.append(one))
        self._require_unneeded(damaged, found, revision or "")
        if not found:
            raise UsageError(
                f"{repository} is not in the archive {self._store.describe()}.",
                hint=f"{command('list', self._store.describe())} shows what is.",
            )
        fitting = [one for one in found if one.seal.revision.startswith(revision or "")]
        revisions = sorted({one.seal.revision for one in fitting})
        if not revisions or (revision and len(revisions) > 1):
            held = ", ".join(sorted({one.seal.revision[:12] for one in found})[:8])
            fault = "fits several revisions" if revisions else "is not held"
            raise UsageError(f"Revision {revision} of {repository} {fault}; held are {held}.")
        return preferred(fitting)

    def _require_unneeded(
        self, damaged: list[tuple[str, DamageError]], found: list[Snapshot], revision: str
    ) -> None:
        """Raise the damage of a seal that fits ``revision`` and that no whole snapshot stands in for."""
        held = {one.seal.revision for one in found if one.seal.selection.whole}
        for name, error in damaged:
            document = layout.document_of(name)
            needed = document and document.revision.startswith(revision)
            if document and needed and document.revision not in held:
                error.hint = Advice(self._store.describe()).copy_back(name, "seal-damaged")
                if held:
                    revisions = ", ".join(sorted(held))
                    error.hint += f" Revisions that can be named instead: {revisions}."
                raise error

    def publish(self, seal: Seal) -> Snapshot:
        """Store a seal: the one commit point."""
        data = canonical(seal)
        snapshot = Snapshot(blake3_hex(data), seal)
        self._store.put_new(snapshot.name, data)
        return snapshot


def _is_named(snapshot: Snapshot, name: str) -> bool:
    try:
        return snapshot.name == name
    except UsageError:
        return False  # it names a repository that cannot be


def preferred(snapshots: list[Snapshot]) -> Snapshot:
    """The snapshot to restore among several: whole ones first, then the one sealed last."""
    return max(snapshots, key=lambda one: (one.seal.selection.whole, one.seal.sealed, one.id))
