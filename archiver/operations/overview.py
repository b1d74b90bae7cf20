"""Overview: what an archive holds, one record a repository, with what tells repositories apart."""

from __future__ import annotations

import re
import sqlite3
from typing import TYPE_CHECKING, Final

import msgspec

from archiver.archive.watch import UpstreamHistory
from archiver.catalogue.overview import SnapshotOverview, overviews
from archiver.catalogue.reader import ask
from archiver.errors import ArchiverError, DamageError, skip_damaged
from archiver.names import RepositoryName

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.archive.seals import Snapshot
    from archiver.progress import Progress

_SIZE: Final = re.compile(r"(?:[0-9]{1,3}x)?[0-9]{1,5}(?:\.[0-9]{1,3})?[bBmMkKtT]")
"""How a name tells the number of parameters: what is before it names the family."""


class RepositoryOverview(msgspec.Struct, frozen=True):
    """A repository, by the snapshot that its name alone means; sizes are in bytes.

    Attributes:
        repository: Its spelling.
        family: The beginning of its name, up to its number of parameters.
        snapshot: The id of that snapshot.
        revision: Its commit.
        sealed: When the newest snapshot was sealed.
        whole: Whether every file of the revision is held.
        files: How many.
        tensors: How many.
        bytes: Plain.
        stored: What its objects take in packs, shared ones too.
        revisions: How many are held.
        vouched: The word of its least voucher; ``""`` if that is not known.
        licence: As upstream says it, or else the card.
        title: That of the card.
        dtypes: (dtype, bytes), the most bytes first.
        gone: Since when upstream has it no more; ``""``: it has it, or nobody looked.
    """

    repository: str
    family: str
    snapshot: str
    revision: str
    sealed: str
    whole: bool
    files: int
    tensors: int
    bytes: int
    stored: int
    revisions: int
    vouched: str
    licence: str = ""
    title: str = ""
    dtypes: tuple[tuple[str, int], ...] = ()
    gone: str = ""


class Overview(msgspec.Struct, frozen=True):
    """The repositories by name, and how many seals are damaged, or cannot be read, and are left out.

    ``unsealed`` are those snapshots, as (repository, revision), whose seal is lost and that can be read by
    their manifests. ``catalogued`` is false where the catalogue gave no answer: then no licence, title or
    dtype is known.
    """

    repositories: tuple[RepositoryOverview, ...]
    unreadable: int
    unsealed: tuple[tuple[str, str], ...]
    catalogued: bool


def overview(archive: Archive, progress: Progress) -> Overview:
    """Return what is held; ``progress`` is told if the catalogue is written anew."""
    unreadable: list[DamageError] = []
    held: dict[str, list[Snapshot]] = {}
    for snapshot in archive.snapshots(lambda _name, error: unreadable.append(error)):
        held.setdefault(snapshot.seal.repository.casefold(), []).append(snapshot)
    try:
        known = ask(archive, progress, overviews, packs_and_events=False) if held else {}
        catalogued = True
    except (ArchiverError, sqlite3.Error, OSError):
        # It is a convenience: what is held is known without it.
        known, catalogued = {}, False
    upstream = UpstreamHistory(archive.events(skip_damaged))
    return Overview(
        tuple(
            _repository(archive, snapshots, known, upstream.of(name).gone)
            for name, snapshots in sorted(held.items())
        ),
        unreadable=len(unreadable),
        unsealed=tuple((each.seal.repository, each.seal.revision) for each in archive.unsealed()),
        catalogued=catalogued,
    )


def family_of(repository: str) -> str:
    """Return the family that a repository's name tells: ``Qwen3.5`` of ``Qwen/Qwen3.5-0.8B-Base``."""
    name = RepositoryName.parse(repository).name.rpartition("/")[2]
    parts = name.split("-")
    size = next((at for at, part in enumerate(parts) if _SIZE.fullmatch(part)), len(parts))
    return "-".join(parts[:size]) or name


def _repository(
    archive: Archive,
    snapshots: list[Snapshot],
    known: dict[str, SnapshotOverview],
    gone: str,
) -> RepositoryOverview:
    default = archive.default(snapshots)
    seal, vouching = default.seal, archive.vouching(default)
    facts = known.get(default.id, SnapshotOverview())
    return RepositoryOverview(
        repository=seal.repository,
        family=family_of(seal.repository),
        snapshot=default.id,
        revision=seal.revision,
        sealed=max(snapshot.seal.sealed for snapshot in snapshots),
        whole=seal.selection.whole,
        files=seal.totals.files,
        tensors=seal.totals.tensors,
        bytes=seal.totals.bytes,
        stored=seal.totals.stored,
        revisions=len({snapshot.seal.revision for snapshot in snapshots}),
        vouched=vouching.least.word if vouching else "",
        licence=facts.licence,
        title=facts.title,
        dtypes=facts.dtypes,
        gone=gone,
    )
