"""What an archive holds, as a hub would list it: repositories, their revisions, branches and tags.

It is read from seals and the journal, and again when these may have changed. Where a branch or a tag
points is told by `archiver.archive.refs`: what upstream points at and nobody has mirrored cannot be served.
"""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from archiver.archive.events import Planned, PlanRetired, UpstreamChanged
from archiver.archive.refs import Refs
from archiver.errors import ArchiverError, DamageError, skip_damaged
from archiver.names import DATASET, HUGGING_FACE, MODEL, RepositoryName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from archiver.archive.archive import Archive
    from archiver.archive.events import Event
    from archiver.archive.records import FileFacts
    from archiver.archive.seals import Snapshot

Key = TypeVar("Key")
Value = TypeVar("Value")

KINDS: Final = (MODEL, DATASET)
"""Types of repositories that are served."""
SHORT_COMMIT: Final = 7
"""So many digits name a commit, where no other begins so."""
_FRESH_SECONDS: Final = 1.0
"""So long what was read counts as it is, or this many times as long as it took to read:"""
_FRESH_TIMES: Final = 20
_FILES_KEPT: Final = 200_000
"""Files that are kept listed, of all snapshots together: of half a kilobyte each."""
_CARDS_KEPT: Final = 512
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
_NO_TIME: Final = "1970-01-01T00:00:00"


class Revision(NamedTuple):
    """A revision that is held, by the snapshot that a restore of it would take.

    ``others`` may have further files, where that one has not all.
    """

    commit: str
    snapshot: Snapshot
    others: tuple[Snapshot, ...] = ()

    @property
    def snapshots(self) -> tuple[Snapshot, ...]:
        """All of them; of a path that several have, the first one's file is the one that is meant."""
        return self.snapshot, *self.others

    @property
    def time(self) -> str:
        """The time of the commit, or else of the seal, as the Hub writes it."""
        committed = self.snapshot.seal.committed
        told = "" if isinstance(committed, msgspec.UnsetType) else committed
        match = _TIME.match(told) or _TIME.match(self.snapshot.seal.sealed)
        return f"{match[0] if match else _NO_TIME}.000Z"


@dataclass(frozen=True)
class HeldRepository:
    """A repository of which a revision is held.

    Attributes:
        source: Where it came from, and what it is called there.
        revisions: Commit -> revision, the newest first.
        main: The commit that the repository's name alone means.
        branches: Name -> commit, of those that are held; the main branch among them.
        tags: Likewise.
        attributes: What the journal knows of it upstream (`archiver.archive.watch.Attribute`).
    """

    source: RepositoryName
    revisions: Mapping[str, Revision]
    main: str
    branches: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def id(self) -> str:
        """What it is called here: as upstream does, and the hub before it unless that is Hugging Face."""
        return served_name(self.source)

    @property
    def kind(self) -> str:
        """Whether it is a model or a dataset."""
        return self.source.type

    @property
    def author(self) -> str:
        """Whose it is; ``""`` where the name has no owner."""
        return self.id.rpartition("/")[0]

    def find(self, revision: str) -> Revision | None:
        """Return what a branch, a tag or (the beginning of) a commit means; None if it is not held."""
        name = revision
        for prefix, refs in (("refs/heads/", self.branches), ("refs/tags/", self.tags)):
            if revision.startswith(prefix):
                commit = refs.get(revision.removeprefix(prefix))
                return self.revisions[commit] if commit else None
        if name in {"main", self.source.main_branch, "HEAD"}:
            return self.revisions[self.main]
        commit = self.branches.get(name) or self.tags.get(name) or ""
        if commit or name in self.revisions:
            return self.revisions[commit or name]
        near = [each for each in self.revisions if each.startswith(name)]
        return self.revisions[near[0]] if len(near) == 1 and len(name) >= SHORT_COMMIT else None


def served_name(source: RepositoryName) -> str:
    """Return what a repository is called here: ``Org/Name``, or ``modelscope.Org/Name`` of another hub.

    Clients take no colon in a name. On Hugging Face itself nobody's name has a dot.
    """
    return source.name if source.hub == HUGGING_FACE else f"{source.hub}.{source.name}"


class Catalog(NamedTuple):
    """All that is held: repositories by kind and served name in lowercase, and what plans want of them.

    ``hidden`` are those whose served name another one has, which comes from Hugging Face.
    """

    repositories: Mapping[tuple[str, str], HeldRepository]
    hidden: tuple[RepositoryName, ...] = ()
    plans: Mapping[str, tuple[HeldRepository, ...]] = {}

    def find(self, kind: str, name: str) -> HeldRepository | None:
        """Return the repository of this served name; case does not count."""
        return self.repositories.get((kind, name.casefold()))

    def of_kind(self, kind: str) -> Iterator[HeldRepository]:
        """Yield those of a kind, by name."""
        for (each, _), repository in sorted(self.repositories.items()):
            if each == kind:
                yield repository


class Holdings:
    """What an archive holds, read anew when it may have changed; threads may share it."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._catalog = Catalog({})
        self._stale_at = float("-inf")
        self._seen: tuple[object, ...] = ()
        self._files: _Kept[str, tuple[FileFacts, ...]] = _Kept(_FILES_KEPT, len)
        self._cards: _Kept[str, dict[str, Any]] = _Kept(_CARDS_KEPT, lambda _card: 1)

    def catalog(self) -> Catalog:
        """Return what is held now, or was a moment ago."""
        if time.monotonic() < self._stale_at:
            return self._catalog
        # Whoever comes while another reads takes what was known; only the first of all has to wait.
        wait = self._stale_at == float("-inf")
        if self._reading.acquire(blocking=wait):
            try:
                if time.monotonic() >= self._stale_at:
                    began = time.monotonic()
                    self._refresh()
                    took = time.monotonic() - began
                    self._stale_at = time.monotonic() + max(_FRESH_SECONDS, _FRESH_TIMES * took)
            finally:
                self._reading.release()
        return self._catalog

    def _refresh(self) -> None:
        snapshots = self._snapshots()
        names = self._archive.journal.names()
        if self._catalog.repositories and not snapshots and not names:
            raise ArchiverError(
                "The archive is not where it was: nothing of it is there.",
                hint="Is its disk still mounted? What is asked is answered again once it is.",
            )
        seen = (tuple(each.id for each in snapshots), len(names), names[-1:])
        if seen == self._seen:
            return
        events = list(self._archive.events(skip_damaged))
        refs, facts = Refs(self._archive, events), _JournalFacts(events)
        repositories: dict[tuple[str, str], HeldRepository] = {}
        hidden: list[RepositoryName] = []
        for group in _grouped(snapshots):
            source = RepositoryName.parse(group[0].seal.repository)
            if source.type not in KINDS:
                continue
            held = self._held(source, group, refs, facts)
            key = held.kind, held.id.casefold()
            if key in repositories:
                # Of Hugging Face's come first: another hub's is what has to stand back.
                hidden.append(source)
            else:
                repositories[key] = held
        by_name = {each.source.spelling.casefold(): each for each in repositories.values()}
        plans = {
            plan: tuple(by_name[name] for name in names if name in by_name)
            for plan, names in sorted(facts.plans.items())
        }
        held_plans = {plan: wanted for plan, wanted in plans.items() if wanted}
        self._catalog, self._seen = Catalog(repositories, tuple(hidden), held_plans), seen

    def _snapshots(self) -> list[Snapshot]:
        """Return every snapshot; of a revision that has no seal any more, what its manifest tells of."""
        sealed = list(self._archive.snapshots(skip_damaged))
        known = {(each.seal.repository.casefold(), each.seal.revision) for each in sealed}
        with suppress(DamageError):
            sealed += [
                each
                for each in self._archive.unsealed()
                if (each.seal.repository.casefold(), each.seal.revision) not in known
            ]
        return sealed

    def _held(
        self,
        source: RepositoryName,
        snapshots: list[Snapshot],
        refs: Refs,
        facts: _JournalFacts,
    ) -> HeldRepository:
        by_commit: dict[str, list[Snapshot]] = {}
        for snapshot in snapshots:
            by_commit.setdefault(snapshot.seal.revision, []).append(snapshot)
        revisions = [self._revision(commit, each) for commit, each in by_commit.items()]
        revisions.sort(key=lambda each: (each.time, each.snapshot.seal.sealed), reverse=True)
        named = refs.of(snapshots)
        return HeldRepository(
            source,
            {each.commit: each for each in revisions},
            named[0].commit,
            {ref.name: ref.commit for ref in named if ref.kind == "branch"},
            {ref.name: ref.commit for ref in named if ref.kind == "tag"},
            facts.attributes(source),
        )

    def _revision(self, commit: str, snapshots: list[Snapshot]) -> Revision:
        first = self._archive.preferred(snapshots)
        if first.seal.selection.whole:
            return Revision(commit, first)
        by_manifest = {each.seal.manifest.blake3: each for each in snapshots}
        by_manifest.pop(first.seal.manifest.blake3, None)
        return Revision(commit, first, tuple(by_manifest.values()))

    # ---- of one revision

    def files(self, revision: Revision) -> tuple[FileFacts, ...]:
        """Return what the files of a revision are, by path; raise DamageError if a manifest is lost."""
        if not revision.others:
            return self._files_of(revision.snapshot)
        found: dict[str, FileFacts] = {}
        for snapshot in revision.snapshots:
            found = {file.path: file for file in self._files_of(snapshot)} | found
        return tuple(file for _, file in sorted(found.items()))

    def _files_of(self, snapshot: Snapshot) -> tuple[FileFacts, ...]:
        digest = snapshot.seal.manifest.blake3
        kept = self._files.get(digest)
        if kept is None:
            facts = self._archive.manifest_facts(snapshot.seal)
            kept = tuple(sorted(facts.files, key=lambda each: each.path))
            self._files.put(digest, kept)
        return kept

    def card(self, snapshot: Snapshot) -> dict[str, Any]:
        """Return what the card declares, as upstream has it: it may be anything. Raise likewise."""
        digest = snapshot.seal.manifest.blake3
        kept = self._cards.get(digest)
        if kept is None:
            kept = self._archive.manifest(snapshot.seal).source.card
            self._cards.put(digest, kept)
        return kept


def _grouped(snapshots: Iterable[Snapshot]) -> list[list[Snapshot]]:
    """Return the snapshots of each repository, those of Hugging Face first."""
    groups: dict[str, list[Snapshot]] = {}
    for snapshot in snapshots:
        groups.setdefault(snapshot.seal.repository.casefold(), []).append(snapshot)
    return [
        group for _, group in sorted(groups.items(), key=lambda item: (":" in item[0], item[0]))
    ]


class _JournalFacts:
    """What the journal tells of repositories besides where names point, in lowercase.

    ``plans`` are the repositories of each plan, in the plan's order.
    """

    def __init__(self, events: Iterable[tuple[str, Event]]) -> None:
        self._attributes: dict[str, dict[str, str]] = {}
        self.plans: dict[str, tuple[str, ...]] = {}
        for _, event in sorted(events, key=lambda item: (item[1].time, item[0])):
            match event.detail:
                case UpstreamChanged(changes=changes):
                    known = self._attributes.setdefault(event.repository.casefold(), {})
                    known |= {each.what: each.after for each in changes if not each.name}
                case Planned(plan=plan, entries=entries):
                    names = (entry.repository.casefold() for entry in entries)
                    self.plans[plan] = tuple(dict.fromkeys(names))
                case PlanRetired(plan=plan):
                    self.plans.pop(plan, None)
                case _:
                    pass

    def attributes(self, source: RepositoryName) -> dict[str, str]:
        """Return what was last seen of each attribute."""
        return self._attributes.get(source.spelling.casefold(), {})


class _Kept(Generic[Key, Value]):
    """What was read last, within a budget; threads may share it."""

    def __init__(self, budget: int, weight: Callable[[Value], int]) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Key, Value] = OrderedDict()
        self._budget = budget
        self._weight = weight
        self._used = 0

    def get(self, key: Key) -> Value | None:
        """Return what is kept; None if it is not."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: Key, value: Value) -> None:
        """Keep it, and let go what was used longest ago."""
        with self._lock:
            if key not in self._kept:
                self._kept[key] = value
                self._used += self._weight(value)
            while self._used > self._budget and len(self._kept) > 1:
                _, least = self._kept.popitem(last=False)
                self._used -= self._weight(least)
