"""What is worth saying of the files that were chosen, and of those that were not.

Nothing here keeps a snapshot from being sealed, but :func:`require_fit`: a file that is plainly half, or
a pointer or a page in the place of weights, is no content where nobody vouches for it. A plan takes the
kinds in ``NARROWER`` as a failure of its entry, unless that says ``partial = true``.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import islice
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Self

import msgspec

from archiver.archive.decode import FileDecoder
from archiver.archive.quarantine import packs_for
from archiver.errors import DamageError, UsageError
from archiver.tensors.weight_files import (
    INDEX_MAX,
    StandIn,
    incomplete_splits,
    is_index,
    is_weights,
    owners_of,
    parse_index,
    shard_sets,
)
from archiver.text import plural, printable
from archiver.upstream.remote_file import LeftOutKind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from archiver.archive.archive import Archive
    from archiver.archive.records import FileEntry
    from archiver.archive.seals import Snapshot
    from archiver.upstream.remote_file import Listing, Unfit

RemarkKind = Literal[
    # of the patterns
    "include-fits-nothing",
    "exclude-fits-nothing",
    "weights-not-chosen",
    "shards-not-chosen",
    # of what was taken in
    "shards-missing",
    "stand-in",
    # of a folder
    "left-out",
    "selection-unknown",
]
NARROWER: Final = frozenset[RemarkKind](
    {"include-fits-nothing", "weights-not-chosen", "shards-not-chosen"}
)
"""The patterns took less than whoever wrote them can have meant."""
_FINISH: Final = "Let its download end, or remove the file and its control file."
_SHOWN: Final = 5
_PATHS_MAX: Final = 1000


class Remark(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing to be said of a run.

    Attributes:
        kind: What kind of thing; stable.
        paths: The files, folders or patterns that it is about; the first 1,000 of ``count``.
        count: How many there are.
        index: The index that names the files, or, of a GGUF model, the first that is taken.
        total: Out of how many.
        left: Why these were left out of a folder.
        instead: What lies in the place of weights.
    """

    kind: RemarkKind
    paths: tuple[str, ...] = ()
    count: int = 0
    index: str = ""
    total: int = 0
    left: LeftOutKind | Literal[""] = ""
    instead: StandIn | None = None


def remark(kind: RemarkKind, paths: Iterable[str] = (), **more: object) -> Remark:
    """Return a remark on ``paths``."""
    listed = sorted(paths)
    return Remark(kind, tuple(listed[:_PATHS_MAX]), len(listed), **more)  # type: ignore[arg-type]


def require_fit(listing: Listing) -> None:
    """Raise UsageError, with all of them, if files of the listing are no content."""
    paths = {file.path for file in listing.files}
    unfit = [entry for entry in listing.unfit if entry.path in paths]
    if not unfit:
        return
    more = f"; and {len(unfit) - _SHOWN:,} more" if len(unfit) > _SHOWN else ""
    listed = "; ".join(map(_described, unfit[:_SHOWN])) + more
    hints = dict.fromkeys(entry.instead.hint if entry.instead else _FINISH for entry in unfit)
    raise UsageError(
        f"{plural(len(unfit), 'file')} of {listing.repository} cannot be taken in: {listed}.",
        hint=" ".join(hints) + " Or leave it out with --exclude.",
    )


def _described(unfit: Unfit) -> str:
    path = printable(unfit.path)
    if unfit.instead:
        return f"{path} {unfit.instead.description}"
    return f"{path} is unfinished ({printable(unfit.control)} lies beside it)"


def of_folder(listing: Listing) -> Iterator[Remark]:
    """Yield what is to be said of a folder or a cache."""
    for kind in ("unfinished", "tool", "system", "unlisted"):
        paths = [file.path for file in listing.left_out if file.kind == kind]
        if paths:
            yield remark("left-out", paths, left=kind)
    if not listing.complete:
        yield Remark("selection-unknown", count=len(listing.files))


def of_patterns(
    whole: Listing, chosen: Listing, include: Iterable[str], exclude: Iterable[str]
) -> Iterator[Remark]:
    """Yield what the patterns leave out that can hardly be meant."""
    include, exclude = set(include), set(exclude)
    if not include and not exclude:
        return
    paths = [file.path for file in whole.files]
    unused = {
        pattern
        for pattern in include | exclude
        if not any(fnmatchcase(path, pattern) for path in paths)
    }
    if unused & include:
        yield remark("include-fits-nothing", unused & include)
    if unused & exclude:
        yield remark("exclude-fits-nothing", unused & exclude)
    weights = {path for path in paths if is_weights(path)}
    taken = {file.path for file in chosen.files}
    if weights and not weights & taken:
        yield remark("weights-not-chosen", weights)
    for shards in shard_sets(paths):
        missing = shards - taken
        if missing and missing != shards:
            yield remark("shards-not-chosen", missing, total=len(shards))


def of_splits(whole: Listing, chosen: Listing) -> Iterator[Remark]:
    """Yield the parts of chosen split GGUF models that upstream has not; ``index`` is the first it has."""
    taken = {file.path for file in chosen.files}
    room = _PATHS_MAX
    for model in incomplete_splits(file.path for file in whole.files):
        first = next((path for path in model.present() if path in taken), "")
        missing = tuple(islice(model.missing(), room))
        if first and missing:
            count = model.total - len(model.parts)
            yield Remark("shards-missing", missing, count, index=first, total=model.total)
            room -= len(missing)


class IndexedFiles(NamedTuple):
    """The paths of a snapshot's files, and those of them that are indexes, without all their tensors."""

    paths: frozenset[str]
    indexes: tuple[FileEntry, ...]

    @classmethod
    def of(cls, entries: Iterable[FileEntry]) -> Self:
        """Return those of a manifest's files."""
        listed = list(entries)
        indexes = (entry for entry in listed if is_index(entry.path, pickles=True))
        return cls(frozenset(entry.path for entry in listed), tuple(indexes))


def of_indexes(
    archive: Archive, snapshot: Snapshot, files: IndexedFiles, whole: Collection[str]
) -> Iterator[Remark]:
    """Yield the shards that an index of a sealed snapshot names and that are not in it.

    Args:
        archive: Where the snapshot is.
        snapshot: Of which the indexes are read.
        files: Its files.
        whole: The paths of all files that upstream lists.
    """
    for entry in files.indexes:
        path = entry.path
        shards = _shards(archive, snapshot, entry)
        missing = shards - files.paths
        absent = {shard for shard in missing if shard not in whole}
        if absent:
            yield remark("shards-missing", absent, index=path, total=len(shards))
        unchosen = missing - absent
        if unchosen and missing != shards:
            yield remark("shards-not-chosen", unchosen, index=path, total=len(shards))


def _shards(archive: Archive, snapshot: Snapshot, entry: FileEntry) -> set[str]:
    """Return the shards that an index names; empty if it cannot be read, which a smoke test tells."""
    if entry.size > INDEX_MAX:
        return set()
    data = bytearray()
    try:
        with FileDecoder(packs_for(archive, snapshot), workers=1) as decoder:
            decoder.copy(entry, data.extend)
        return set(owners_of(entry.path, parse_index(data)).values())
    except (DamageError, ValueError):
        return set()


def without_repeats(remarks: Iterable[Remark]) -> tuple[Remark, ...]:
    """Return the remarks, each set of shards once: its names tell of it, and its index too."""
    unique: dict[tuple[str, tuple[str, ...], str], Remark] = {}
    for entry in remarks:
        unique[(entry.kind, entry.paths, entry.left)] = entry
    return tuple(unique.values())
