"""List: the snapshots that an archive holds, by repository, and which one each repository's name means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.archive.events import TOOL
from archiver.errors import DamageError, NotUnderstoodError, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.archive.archive import Archive
    from archiver.archive.seals import Snapshot
    from archiver.archive.vouching import Vouching


_UNKNOWN: Final = (UnreadableError, NotUnderstoodError)


class ListedSnapshot(NamedTuple):
    """A snapshot, and who vouched for its files; ``default`` if the repository's name alone means it."""

    snapshot: Snapshot
    vouching: Vouching | None
    default: bool


class ListReport(NamedTuple):
    """The snapshots, oldest first within each repository, and the errors of seals that are left out.

    ``unsealed`` are those whose seal is lost, by their manifests. ``not_understood`` are also the packs of
    those that are listed.
    """

    snapshots: tuple[ListedSnapshot, ...]
    unsealed: tuple[Snapshot, ...]
    damaged: tuple[DamageError, ...]
    unreadable: tuple[UnreadableError, ...]
    not_understood: tuple[NotUnderstoodError, ...]


def list_snapshots(archive: Archive, repository: str = "") -> ListReport:
    """Return the snapshots of one repository, whose name is compared without case; ``""``: of all.

    If nothing at all is to be said of the repository, raise UsageError that says what is held.
    """
    errors: list[DamageError] = []
    held: dict[str, list[Snapshot]] = {}
    for snapshot in archive.snapshots(lambda _name, error: errors.append(error)):
        name = snapshot.seal.repository.casefold()
        if repository.casefold() in {"", name}:
            held.setdefault(name, []).append(snapshot)
    unsealed = tuple(
        snapshot
        for snapshot in archive.unsealed()
        if repository.casefold() in {"", snapshot.seal.repository.casefold()}
    )
    if repository and not (held or unsealed or errors or archive.store.passed_over()):
        archive.find(repository)
    listed = []
    for _, snapshots in sorted(held.items()):
        default = archive.default(snapshots)
        for snapshot in sorted(snapshots, key=lambda each: (each.seal.sealed, each.id)):
            vouching = archive.vouching(snapshot)
            listed.append(ListedSnapshot(snapshot, vouching, default=snapshot == default))
    return ListReport(
        tuple(listed),
        unsealed,
        damaged=tuple(error for error in errors if not isinstance(error, _UNKNOWN)),
        unreadable=tuple(error for error in errors if isinstance(error, UnreadableError)),
        not_understood=(
            *(error for error in errors if isinstance(error, NotUnderstoodError)),
            *_newer_packs(archive, (each.snapshot for each in listed)),
        ),
    )


def _newer_packs(archive: Archive, snapshots: Iterable[Snapshot]) -> Iterator[NotUnderstoodError]:
    """Yield the packs of these snapshots that only a newer version can read.

    A seal of this version's stands on none, so only the packs of others are opened.
    """
    packs = {pack for each in snapshots if each.seal.tool != TOOL for pack, _ in each.seal.packs}
    for pack in sorted(packs):
        try:
            archive.pack(pack).require_understood(pack)
        except NotUnderstoodError as error:
            yield error
        except DamageError:
            continue  # an audit says so
