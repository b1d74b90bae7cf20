"""Who vouched for the bytes of a snapshot's files, in ranks (``docs/format.md``, section 7).

A manifest stays equal however its files arrived. What differs is whose digest they were compared
with, and that stands in the seal: in short runs over the manifest's files, in their order. Seals of
older writers have no such key; of them it is derived from the manifest.
"""

from __future__ import annotations

from enum import IntEnum
from itertools import groupby
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from archiver.archive.records import FileEntry, FileFacts, Seal, Source, SourceFacts

    Files = Sequence[FileEntry] | Sequence[FileFacts]

DigestKind = Literal["sha256", "git-sha1", ""]
"""What kind of digest a file was compared with; ``""``: with none."""

HUGGINGFACE: Final = "huggingface"
MODELSCOPE: Final = "modelscope"
HUBS: Final = frozenset({HUGGINGFACE, MODELSCOPE})
"""``source.upstream`` of what we asked a hub for ourselves,"""
DIRECTORY: Final = "directory"
"""and of what was read from a folder or a hub's cache."""


class Voucher(IntEnum):
    """Who gave the digest that a file's bytes were compared with; a greater one counts for more."""

    NOBODY = 0
    """No digest came with the file: its own were computed from what was read."""
    CACHE = 1
    """A hub cache's record: its blobs' names or its kept tree, which whoever can alter it can rename."""
    PIN = 2
    """A digest that the project publishes, or that the owner gave."""
    UPSTREAM = 3
    """Upstream, asked by us."""

    @property
    def word(self) -> str:
        """As the format writes it."""
        return self.name.lower()

    @classmethod
    def of(cls, word: str) -> Voucher | None:
        """Return the voucher that the format writes so; None if it is none that is known."""
        return next((voucher for voucher in cls if voucher.word == word), None)


_DIGESTS: Final[dict[str, DigestKind]] = {"sha256": "sha256", "git-sha1": "git-sha1"}


class Vouch(NamedTuple):
    """Who vouched for one file, and by which kind of digest."""

    by: Voucher = Voucher.NOBODY
    digest: DigestKind = ""


UNVOUCHED: Final = Vouch()

VouchRun = tuple[int, str, str]
"""So many files in the manifest's order, the voucher's word, the kind of digest: as a seal has it."""


class Vouching(msgspec.Struct, frozen=True):
    """How many files of a snapshot each voucher stands for.

    ``git_sha1`` counts those that were compared with a git SHA-1 and not with a SHA-256.
    """

    upstream: int = 0
    pin: int = 0
    cache: int = 0
    nobody: int = 0
    git_sha1: int = 0

    @property
    def least(self) -> Voucher:
        """The lowest voucher of any file: what the snapshot as a whole is worth."""
        counts = (self.nobody, self.cache, self.pin)
        return next(
            (who for who, count in zip(Voucher, counts, strict=False) if count), Voucher.UPSTREAM
        )

    @property
    def files(self) -> int:
        """All files."""
        return self.upstream + self.pin + self.cache + self.nobody


def claimed(upstream: str, *, sha256: str, oid: str, lfs: bool) -> Vouch:
    """Return who vouches for a file that ``upstream`` lists with these digests.

    The git object id of an LFS file is that of its pointer, and says nothing of its bytes.
    """
    by = Voucher.UPSTREAM if upstream in HUBS else Voucher.CACHE
    if sha256:
        return Vouch(by, "sha256")
    return Vouch(by, "git-sha1") if oid and not lfs else UNVOUCHED


def runs_of(vouches: Iterable[Vouch]) -> tuple[VouchRun, ...]:
    """Return what a seal says of files that were vouched for so, in the manifest's order."""
    return tuple(
        (sum(1 for _ in run), vouch.by.word, vouch.digest) for vouch, run in groupby(vouches)
    )


def vouching_of(seal: Seal) -> Vouching | None:
    """Return what the seal itself says; None if it is of an older writer, and says nothing."""
    return None if isinstance(seal.vouched, msgspec.UnsetType) else _count(_read(seal))


def vouches_of(seal: Seal, source: Source | SourceFacts, files: Files) -> list[Vouch]:
    """Return who vouched for each file of the seal's manifest, in its order."""
    if isinstance(seal.vouched, msgspec.UnsetType):
        return _derived(source, files)
    if seal.totals.files != len(files):
        return [UNVOUCHED] * len(files)
    return [vouch for vouch, count in _read(seal) for _ in range(count)]


def _derived(source: Source | SourceFacts, files: Files) -> list[Vouch]:
    """Return who vouched for each file, by a manifest whose seal does not say it.

    An older writer's: it kept upstream's object id and whether LFS gave a digest. What upstream, or a
    cache, did not tell has neither. Of hubs they knew one only.
    """
    upstream = source.upstream if source.upstream == HUGGINGFACE else DIRECTORY
    return [
        claimed(upstream, sha256=file.sha256 * file.lfs, oid=file.oid, lfs=file.lfs)
        for file in files
    ]


def counted(vouches: Iterable[Vouch]) -> Vouching:
    """Return how many files each voucher stands for."""
    return _count((vouch, 1) for vouch in vouches)


def _read(seal: Seal) -> Iterator[tuple[Vouch, int]]:
    """Yield the seal's runs; nobody vouches for anything if they are not those of its files.

    A word that a newer writer may know counts as nobody.
    """
    assert not isinstance(seal.vouched, msgspec.UnsetType)
    fits = all(count > 0 for count, _, _ in seal.vouched)
    if not fits or sum(count for count, _, _ in seal.vouched) != seal.totals.files:
        yield UNVOUCHED, max(0, seal.totals.files)
        return
    for count, word, kind in seal.vouched:
        digest = _DIGESTS.get(kind)
        by = Voucher.of(word)
        yield (Vouch(by, digest) if by and digest else UNVOUCHED), count


def _count(runs: Iterable[tuple[Vouch, int]]) -> Vouching:
    counts = dict.fromkeys(Voucher, 0)
    sha1 = 0
    for vouch, count in runs:
        counts[vouch.by] += count
        sha1 += count if vouch.digest == "git-sha1" else 0
    return Vouching(**{who.word: count for who, count in counts.items()}, git_sha1=sha1)
