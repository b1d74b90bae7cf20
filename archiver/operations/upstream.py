"""Upstream: a repository's history as it was seen, and what a new revision would bring.

The history comes from the journal alone. A preview asks upstream for a listing, and fetches no file.
"""

from __future__ import annotations

from contextlib import suppress
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

import msgspec

from archiver.archive.events import Sighted, UpstreamChange
from archiver.archive.watch import UpstreamHistory
from archiver.errors import DamageError, UsageError, skip_damaged
from archiver.names import as_repo_id
from archiver.tensors.weight_files import is_weights
from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from archiver.archive.archive import Archive
    from archiver.archive.events import Event
    from archiver.archive.records import FileFacts, ManifestFacts, Seal
    from archiver.archive.seals import Snapshot
    from archiver.archive.watch import KnownRepository
    from archiver.progress import Progress
    from archiver.upstream.protocol import Upstream
    from archiver.upstream.remote_file import Listing, RemoteFile

ListedFile = TypeVar("ListedFile", "RemoteFile", "FileFacts", "RemoteFile | FileFacts")
SightedBy = Literal["watch", "mirror", "cache"]
"""Who saw a commit: a look at upstream, a run that mirrors, or a hub's cache, whose word is hearsay."""


# ---- what was seen


class SeenCommit(msgspec.Struct, frozen=True):
    """A commit that a branch or a tag was seen at.

    ``kind`` is ``""`` where a run that mirrors saw it, which does not know. ``snapshots`` are the ids of
    what is held of it; ``current``: it is there now; ``lost``: since when upstream has it no more.
    """

    time: str
    kind: Literal["branch", "tag", ""]
    name: str
    commit: str
    by: SightedBy
    history: str = ""
    current: bool = False
    lost: str = ""
    snapshots: tuple[str, ...] = ()


class SeenFact(msgspec.Struct, frozen=True):
    """Something else that was seen to change, or how it was found at the first look (``first``)."""

    time: str
    event: str
    change: UpstreamChange
    first: bool = False


class UpstreamReport(msgspec.Struct, frozen=True):
    """A repository upstream, as the journal knows it; times are ``""`` where there is none.

    Attributes:
        repository: As it is spelt there.
        looked: When it was first looked at.
        gone: Since when it is called gone or private.
        unseen: The days since it was last seen on which it was not shown.
        attributes: The latest of each (`archiver.archive.watch.Attribute`).
        branches: Name -> commit.
        tags: Likewise.
        commits: Every sighting of a commit, oldest first.
        facts: Everything else that changed, oldest first.
        held: The revisions that are held, and the ids of their snapshots.
    """

    repository: str
    looked: str
    gone: str
    unseen: tuple[str, ...]
    attributes: dict[str, str]
    branches: dict[str, str]
    tags: dict[str, str]
    commits: tuple[SeenCommit, ...]
    facts: tuple[SeenFact, ...]
    held: dict[str, tuple[str, ...]]


def upstream(archive: Archive, repository: str) -> UpstreamReport:
    """Return the history of a repository upstream, as it was seen; raise UsageError if it never was."""
    name = as_repo_id(repository)
    events = [
        (digest, event)
        for digest, event in archive.events(skip_damaged)
        if not event.repository or event.repository.casefold() == name.casefold()
    ]
    known = UpstreamHistory(events).of(name)
    held: dict[str, tuple[str, ...]] = {}
    for snapshot in archive.snapshots_of(name, on_damage=skip_damaged):
        revision = snapshot.seal.revision
        held[revision] = (*held.get(revision, ()), snapshot.id)
    commits = tuple(_commits(events, name, known, held))
    if not (commits or known.history or known.unseen or held):
        raise UsageError(
            f"Nothing is known of {printable(name)}: it is not held, and was never looked at.",
            hint=f"'archiver watch {printable(name)}' looks at it.",
        )
    return UpstreamReport(
        repository=_spelling(events, name),
        looked=known.looked,
        gone=known.gone,
        unseen=tuple(night.day for night in known.unseen),
        attributes=dict(sorted(known.attributes.items())),
        branches={ref: commit for (kind, ref), commit in known.refs.items() if kind == "branch"},
        tags={ref: commit for (kind, ref), commit in known.refs.items() if kind == "tag"},
        commits=commits,
        facts=tuple(
            SeenFact(seen.time, seen.event, seen.change, seen.first)
            for seen in known.history
            if seen.change.what not in {"branch", "tag"} or not seen.change.after
        ),
        held=held,
    )


def _spelling(events: Iterable[tuple[str, Event]], name: str) -> str:
    spellings = [event.repository for _, event in events if event.repository]
    return spellings[-1] if spellings else name


def _commits(
    events: Iterable[tuple[str, Event]],
    name: str,
    known: KnownRepository,
    held: dict[str, tuple[str, ...]],
) -> Iterable[SeenCommit]:
    """Yield each sighting of a commit, in the order of the journal."""
    changes: dict[str, list[UpstreamChange]] = {}
    for seen in known.history:
        changes.setdefault(seen.event, []).append(seen.change)
    current = set(known.refs.values())
    for digest, event in events:
        sightings: list[tuple[Literal["branch", "tag", ""], str, str, SightedBy, str]] = []
        match event.detail:
            case Sighted(ref) as sighted if event.repository.casefold() == name.casefold():
                by: SightedBy = "cache" if sighted.hearsay else "mirror"
                sightings.append(("", ref, event.revision, by, ""))
            case _:
                for change in changes.get(digest, ()):
                    if change.what == "branch" and change.after:
                        sightings.append(
                            ("branch", change.name, change.after, "watch", change.history)
                        )
                    elif change.what == "tag" and change.after:
                        sightings.append(("tag", change.name, change.after, "watch", ""))
        for kind, ref, commit, who, history in sightings:
            yield SeenCommit(
                time=event.time,
                kind=kind,
                name=ref,
                commit=commit,
                by=who,
                history=history,
                current=commit in current,
                lost=known.lost.get(commit, ""),
                snapshots=held.get(commit, ()),
            )


# ---- what a new revision would bring


class PreviewRequest(NamedTuple):
    """Which revision to look at beforehand; None for the main branch. The patterns are those of a plan."""

    upstream: Upstream
    repository: str
    revision: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


class PreviewedFile(msgspec.Struct, frozen=True):
    """A file that would come, go or change: sizes in bytes, -1 where there is none."""

    path: str
    size: int
    before: int = -1
    weights: bool = False


class Tally(msgspec.Struct, frozen=True):
    """Files and their bytes; those that hold weights among them."""

    files: int = 0
    bytes: int = 0
    weight_files: int = 0
    weight_bytes: int = 0


class Preview(msgspec.Struct, frozen=True):
    """A revision upstream beside the newest that is held.

    Attributes:
        repository: As upstream spells it.
        name: What was asked for, such as a branch.
        revision: The commit.
        licence: As its card declares it.
        against: The id of the snapshot that it is compared with; ``""``: nothing is held.
        against_revision: That one's commit.
        against_licence: That one's licence.
        held: Whether this very revision is held, with these patterns.
        added: Files that the other one has not.
        removed: Files that only the other one has; they stay held.
        changed: Files that both have, with other bytes.
        same: Files that both have, by their digests.
        fetch: What would be fetched: what was added or changed, and is not held under another path.
    """

    repository: str
    name: str
    revision: str
    licence: str
    against: str
    against_revision: str
    against_licence: str
    held: bool
    added: tuple[PreviewedFile, ...]
    removed: tuple[PreviewedFile, ...]
    changed: tuple[PreviewedFile, ...]
    same: Tally
    fetch: Tally

    @property
    def news(self) -> bool:
        """Whether anything would change."""
        return bool(self.added or self.removed or self.changed)


class _File(NamedTuple):
    path: str
    size: int
    sha256: str
    oid: str

    def is_like(self, other: _File) -> bool:
        """Return whether both have the same bytes, by whichever digest both have."""
        if self.sha256 and other.sha256:
            return self.sha256 == other.sha256
        return bool(self.oid) and self.oid == other.oid


def preview(archive: Archive, request: PreviewRequest, progress: Progress) -> Preview:
    """Return what a revision would bring, compared with the newest that is held; fetch no file.

    Raise UpstreamGoneError, AccessError, NetworkError or MismatchError as upstream's listing does.
    """
    listing = request.upstream.list(request.repository, request.revision)
    progress.expect(len(listing.files), sum(file.size for file in listing.files))
    return preview_of(archive, listing, request.include, request.exclude)


def preview_of(
    archive: Archive, listing: Listing, include: tuple[str, ...] = (), exclude: tuple[str, ...] = ()
) -> Preview:
    """Return what a listing would bring, of the files that the patterns take."""
    new = _chosen(listing.files, include, exclude)
    snapshots = archive.snapshots_of(listing.repository, on_damage=skip_damaged)
    snapshots.sort(key=lambda snapshot: _age(snapshot.seal), reverse=True)
    against, facts = next(_readable(archive, snapshots), (None, None))
    # What the patterns would not take is no difference.
    old = _chosen(facts.files, include, exclude) if facts else {}
    added = [file for path, file in new.items() if path not in old]
    changed = [file for path, file in new.items() if path in old and not file.is_like(old[path])]
    removed = [file for path, file in old.items() if path not in new]
    fetch: list[_File] = [*added, *changed]
    for _, others in _readable(archive, snapshots) if fetch else ():
        held = {digest for file in others.files for digest in (file.sha256, file.oid) if digest}
        fetch = [file for file in fetch if held.isdisjoint((file.sha256, file.oid))]
    return Preview(
        repository=listing.repository,
        name=listing.name,
        revision=listing.revision,
        licence=listing.licence,
        against=against.id if against else "",
        against_revision=against.seal.revision if against else "",
        against_licence=facts.source.licence if facts else "",
        held=any(_is_of(snapshot, listing.revision, (include, exclude)) for snapshot in snapshots),
        added=_previewed(added, old),
        removed=_previewed(removed, old, gone=True),
        changed=_previewed(changed, old),
        same=_tally(file for path, file in new.items() if path in old and file.is_like(old[path])),
        fetch=_tally(fetch),
    )


def _age(seal: Seal) -> tuple[str, str]:
    """Return a key that sorts seals by the time of their commit."""
    return seal.committed if isinstance(seal.committed, str) else "", seal.sealed


def _readable(
    archive: Archive, snapshots: Iterable[Snapshot]
) -> Iterator[tuple[Snapshot, ManifestFacts]]:
    """Yield the snapshots whose manifest can be read: an audit tells of the others."""
    for snapshot in snapshots:
        with suppress(DamageError):
            yield snapshot, archive.manifest_facts(snapshot.seal)


def _chosen(
    files: Iterable[RemoteFile | FileFacts], include: Sequence[str], exclude: Sequence[str]
) -> dict[str, _File]:
    """Return the files that patterns take, by path, as mirroring chooses them."""
    return {
        file.path: _File(file.path, file.size, file.sha256, file.oid)
        for file in chosen_files(files, include, exclude)
    }


def chosen_files(
    files: Iterable[ListedFile], include: Sequence[str], exclude: Sequence[str]
) -> list[ListedFile]:
    """Return the files that patterns take, as mirroring chooses them."""

    def fits(path: str, patterns: Sequence[str]) -> bool:
        return any(fnmatchcase(path, pattern) for pattern in patterns)

    return [
        file
        for file in files
        if (not include or fits(file.path, include)) and not fits(file.path, exclude)
    ]


def _is_of(snapshot: Snapshot, revision: str, patterns: tuple[tuple[str, ...], ...]) -> bool:
    selection = snapshot.seal.selection
    fits = selection.whole or (selection.include, selection.exclude) == patterns
    return snapshot.seal.revision == revision and fits


def _previewed(
    files: Iterable[_File], old: dict[str, _File], *, gone: bool = False
) -> tuple[PreviewedFile, ...]:
    return tuple(
        PreviewedFile(
            path=file.path,
            size=-1 if gone else file.size,
            before=old[file.path].size if file.path in old else -1,
            weights=is_weights(file.path),
        )
        for file in sorted(files)
    )


def _tally(files: Iterable[_File]) -> Tally:
    listed = list(files)
    weights = [file for file in listed if is_weights(file.path)]
    return Tally(
        files=len(listed),
        bytes=sum(file.size for file in listed),
        weight_files=len(weights),
        weight_bytes=sum(file.size for file in weights),
    )
