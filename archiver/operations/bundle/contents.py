"""What a bundle of some snapshots carries, and the bundle that comes of it, volume by volume."""

from __future__ import annotations

import hashlib
from contextlib import closing
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from archiver.archive import layout
from archiver.archive.bundles.planning import Item, cluster_of, plan_volumes, room_for
from archiver.archive.bundles.records import (
    DOCUMENT_MAX,
    EVENTS_MAX,
    EXPLANATIONS,
    TOOLS_VOLUME,
    Bundle,
    BundledFile,
    BundledSnapshot,
    Explanation,
    portable_name,
)
from archiver.archive.editions import newest_explanations
from archiver.archive.events import (
    TOOL,
    Audited,
    Gone,
    Sealed,
    Sighted,
    SmokeTested,
    UpstreamChanged,
)
from archiver.archive.fixity import file_digest
from archiver.archive.parity.sidecar import shape_of
from archiver.archive.publish import closure_names, missing_packs
from archiver.archive.receipts import (
    accepted_receipts,
    receipts_by_place,
)
from archiver.errors import DamageError, TooLargeError, UsageError, skip_damaged
from archiver.text import human_bytes, plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from archiver.archive.archive import Archive
    from archiver.archive.bundles.planning import Placed
    from archiver.archive.bundles.records import Tools
    from archiver.archive.events import Event
    from archiver.archive.seals import Snapshot
    from archiver.operations.bundle.far_side import FarSide

_SHARE: Final = 8
"""Documents lie on every volume if they take no more than one part in so many of it."""
_PAPERS_FIRST: Final = 512 << 10
_ROUNDS: Final = 20
_CAPACITY_LEAST: Final = 4 << 20
"""Bytes of packs that a volume must have room for."""


class Source(NamedTuple):
    """A file to carry: its name on a volume and in the archive, its size, its BLAKE3 as it is stored."""

    name: str
    stored: str
    size: int
    blake3: str

    @property
    def item(self) -> Item:
        """The same for whoever plans."""
        return Item(self.name, self.size)


class Contents(NamedTuple):
    """What is to be carried: documents, packs, and the room of the sidecar of each file that gets one."""

    snapshots: tuple[Snapshot, ...]
    documents: tuple[Source, ...]
    packs: tuple[Source, ...]
    parity: dict[str, Item]
    """Name of a file on a volume -> its sidecar, with the room that it takes at most."""

    def sources(self) -> dict[str, Source]:
        """Return every file that is copied, by its name on a volume."""
        return {source.name: source for source in (*self.documents, *self.packs)}


def contents_of(
    archive: Archive,
    snapshots: Sequence[Snapshot],
    base: FarSide | None,
    parity: tuple[int, int] | None,
) -> Contents:
    """Return what a bundle of these snapshots carries; packs that ``base`` has are left out.

    Raise DamageError for a pack or manifest that is not there.
    """
    packs: dict[str, int] = {}
    documents: list[Source] = []
    for snapshot in snapshots:
        gone = missing_packs(archive, snapshot.seal.packs)
        if gone:
            raise DamageError(
                f"{snapshot.title} is not whole: {plural(len(gone), 'pack')} of it "
                f"{'is' if len(gone) == 1 else 'are'} missing, such as {gone[0]}.",
                hint="Nothing was written. Run 'archiver repair', then export again.",
                pack=gone[0],
            )
        packs.update(snapshot.seal.packs)
        seal = layout.seal_name(snapshot.seal.repository, snapshot.seal.revision, snapshot.id)
        documents.append(_document(archive, snapshot.name, portable_name(seal)))
        manifest = closure_names(snapshot.seal)[0]
        documents.append(_document(archive, manifest, portable_name(manifest)))
    events = _events(archive, snapshots)
    documents += [_document(archive, name, name) for name in events]
    digests = {layout.digest_of(source.stored) for source in documents}
    for name in archive.store.list(layout.SIGNATURES):
        signature = layout.signature_of(name)
        if signature and signature.digest in digests:
            documents.append(_document(archive, name, name))
    carried = [
        Source(layout.pack_name(pack), layout.pack_name(pack), size, pack)
        for pack, size in lacking(base, packs).items()
    ]
    unique = {source.name: source for source in documents}
    sidecars = {}
    if parity:
        protected = [each for each in unique.values() if not layout.event_of(each.stored)]
        for source in (*protected, *carried):
            digest = layout.digest_of(source.stored)
            if digest:
                room = _sidecar_room(source.size, *parity)
                sidecars[source.name] = Item(layout.parity_name(digest), room)
    return Contents(tuple(snapshots), tuple(unique.values()), tuple(carried), sidecars)


def _document(archive: Archive, stored: str, name: str) -> Source:
    try:
        with closing(archive.store.open(stored)) as reader:
            return Source(name, stored, reader.size, file_digest(reader))
    except FileNotFoundError:
        raise DamageError(
            f"{stored} is missing.",
            hint="Nothing was written. Run 'archiver repair', then export again.",
            path=stored,
        ) from None


def _sidecar_room(size: int, parity: int, group: int) -> int:
    """Return how many bytes a sidecar has at most."""
    shape = shape_of(size, parity, group)
    header = 2048 + 68 * (shape.data_count + shape.parity_count)
    return shape.parity_bytes + 2 * header


def _events(archive: Archive, snapshots: Sequence[Snapshot]) -> list[str]:
    """Return the names of the events that tell of these snapshots, the newest if there are many."""
    ids = {snapshot.id for snapshot in snapshots}
    repositories = {snapshot.seal.repository.casefold() for snapshot in snapshots}
    chosen = [
        (event.time, digest)
        for digest, event in archive.events(skip_damaged)
        if _concerns(event, ids, repositories)
    ]
    newest = sorted(chosen)[-EVENTS_MAX:]
    return [layout.event_name(time, digest) for time, digest in newest]


def _concerns(event: Event, ids: Iterable[str], repositories: set[str]) -> bool:
    match event.detail:
        case Sealed() | SmokeTested() | Audited():
            return not event.snapshots.isdisjoint(ids)
        case Sighted() | Gone() | UpstreamChanged():
            return event.repository.casefold() in repositories
        case _:
            return False


# ---- the bundle


def bundle_of(
    archive: Archive,
    contents: Contents,
    volume_size: int,
    base: FarSide | None,
    parity: tuple[int, int] | None,
    papers: Callable[[Bundle], int],
    tools: Tools | None = None,
) -> Bundle:
    """Return the bundle that carries all of it, and ``tools`` on its first volume.

    ``papers`` tells how many bytes the pages for people take beside the documents. Raise UsageError if
    the volumes are too small for what each of them has.
    """
    cluster, sources = cluster_of(volume_size), contents.sources()
    taken = sum(room_for(file.size, cluster) for file in tools.files) if tools else 0
    accepted = accepted_receipts(archive.events(skip_damaged))
    by_place = receipts_by_place(accepted, archive.policy().keys, {}) if accepted else {}
    receipts = tuple(sorted((place, says.newest.receipt.id) for place, says in by_place.items()))
    explanations = explanations_of(archive)
    fixed = sum(room_for(each.size, cluster) for each in explanations)
    common = contents.documents
    repeated = sum(_group_room(source, contents, cluster) for source in common)
    everywhere = repeated * _SHARE <= volume_size
    spare = _PAPERS_FIRST
    for _ in range(_ROUNDS):
        capacity = volume_size - fixed - spare - everywhere * repeated
        if capacity < _CAPACITY_LEAST:
            raise UsageError(
                f"Volumes of {human_bytes(volume_size)} are too small: what each of them has takes "
                f"{human_bytes(volume_size - capacity)}.",
                hint="Take larger volumes, or fewer snapshots, or less parity.",
            )
        if capacity < taken:
            raise UsageError(
                f"Volumes of {human_bytes(volume_size)} are too small: the tool takes "
                f"{human_bytes(taken)} of the first.",
                hint="Take larger volumes, or leave out --with-tool or what it brings besides.",
            )
        groups = [_group(source, contents, capacity) for source in contents.packs]
        if not everywhere:
            groups = [_group(source, contents, capacity) for source in common] + groups
        placed = plan_volumes(groups, capacity, cluster, taken)
        count = max((each.volume for each in placed), default=1)
        files = [_bundled(each, sources) for each in placed]
        if everywhere:
            files += [
                _copied(volume, item, sources)
                for volume in range(1, count + 1)
                for source in common
                for item in _group(source, contents, capacity)
            ]
        bundle = Bundle(
            archive=archive.info.archive,
            tool=TOOL,
            volume_size=volume_size,
            volumes=count,
            snapshots=tuple(
                BundledSnapshot(each.id, each.seal.repository, each.seal.revision)
                for each in contents.snapshots
            ),
            files=tuple(sorted(files, key=lambda file: (file.volume, file.name))),
            explanations=explanations,
            base=base.id if base else "",
            parity=parity,
            tools=tools,
            receipts=receipts or msgspec.UNSET,
        )
        size = len(bundle.data)
        if size > DOCUMENT_MAX:
            raise TooLargeError(
                "The bundle has more files than one can have.", hint="Take larger volumes."
            )
        needed = (
            room_for(size, cluster) + room_for(papers(bundle), cluster) + _lists(bundle, cluster)
        )
        if needed <= spare:
            return bundle
        spare = needed + 4 * cluster
    raise UsageError("The volumes are too small for so many files.", hint="Take larger volumes.")


def explanations_of(archive: Archive) -> tuple[Explanation, ...]:
    """Return the files that explain the archive: the newest that are known."""
    newest = newest_explanations(archive.store)
    return tuple(
        Explanation(name, len(newest[name]), hashlib.sha256(newest[name]).hexdigest())
        for name in EXPLANATIONS
    )


def _group(source: Source, contents: Contents, capacity: int) -> list[Item]:
    """Return a file and its sidecar; one that would not fit on a volume is left out."""
    sidecar = contents.parity.get(source.name)
    return [source.item, *([sidecar] if sidecar and sidecar.size < capacity else [])]


def _group_room(source: Source, contents: Contents, cluster: int) -> int:
    sidecar = contents.parity.get(source.name)
    return room_for(source.size, cluster) + (room_for(sidecar.size, cluster) if sidecar else 0)


def _bundled(placed: Placed, sources: dict[str, Source]) -> BundledFile:
    file = _copied(placed.volume, placed.item, sources)
    return msgspec.structs.replace(
        file, name=placed.name, size=placed.size if file.blake3 else 0, offset=placed.offset
    )


def _copied(volume: int, item: Item, sources: dict[str, Source]) -> BundledFile:
    source = sources.get(item.name)
    if source is None:  # a sidecar, which is made for the volume
        return BundledFile(volume, item.name, 0, "")
    return BundledFile(volume, item.name, source.size, source.blake3)


def _lists(bundle: Bundle, cluster: int) -> int:
    """Return the room that a volume's own lists of its files take at most."""
    size = dict.fromkeys(range(1, bundle.volumes + 1), 0)
    for file in bundle.files:
        size[file.volume] += len(file.name) + 180
    size[TOOLS_VOLUME] += sum(len(file.name) + 180 for file in bundle.tools_on(TOOLS_VOLUME))
    most = max(size.values(), default=0) + 4096
    return 2 * room_for(most, cluster) + 2 * cluster


def lacking(base: FarSide | None, packs: dict[str, int]) -> dict[str, int]:
    """Return those of ``packs``, by BLAKE3 with their sizes, that the far side does not have."""
    held = base.packs if base else frozenset()
    return {pack: size for pack, size in packs.items() if (pack, size) not in held}
