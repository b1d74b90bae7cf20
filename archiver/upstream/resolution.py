"""What the entries of a plan stand for at upstream: its patterns, authors, collections, branches, tags."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import msgspec

from archiver.archive.plans import planned_entry
from archiver.errors import ArchiverError, BudgetSpentError, UpstreamGoneError, UsageError
from archiver.names import HUGGING_FACE, RepositoryName
from archiver.plan.document import (
    ALL_BRANCHES,
    ALL_REVISIONS,
    ALL_TAGS,
    PlannedRepository,
    is_revision_pattern,
)
from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from archiver.archive.events import PlannedEntry
    from archiver.plan.document import Plan


class RefsState(Protocol):
    """The branches and tags of a repository: name -> commit; None if upstream did not list them."""

    @property
    def branches(self) -> Mapping[str, str] | None:
        """Branches."""

    @property
    def tags(self) -> Mapping[str, str] | None:
        """Tags."""


@runtime_checkable
class ListsAuthors(Protocol):
    """An upstream that can say what an author has."""

    def repositories_of(self, author: str) -> tuple[str, ...]:
        """Return the spellings of all that ``[datasets/]Org`` has."""


@runtime_checkable
class ListsCollections(Protocol):
    """An upstream that can say what a collection lists."""

    def collection(self, slug: str) -> tuple[str, ...]:
        """Return the spellings of what a collection lists."""


@runtime_checkable
class ListsRefs(Protocol):
    """An upstream that can say which branches and tags a repository has."""

    def look(self, repository: str) -> RefsState:
        """Return its branches and tags."""


class Finder(ListsAuthors, ListsCollections, ListsRefs, Protocol):
    """What can say all that a plan may have to ask."""


class HubFinder:
    """Asks the hub that a name belongs to.

    Args:
        connect: Returns the upstream of a hub's name.
    """

    def __init__(self, connect: Callable[[str], object]) -> None:
        self._connect = connect

    def repositories_of(self, author: str) -> tuple[str, ...]:
        """Return the spellings of all that ``[hub:][datasets/]Org`` has."""
        upstream = self._connect(hub := RepositoryName.parse(f"{author}/x").hub)
        if not isinstance(upstream, ListsAuthors):
            raise _not_told(hub, "what an author has")
        return upstream.repositories_of(author)

    def collection(self, slug: str) -> tuple[str, ...]:
        """Return the spellings of what ``[hub:]Owner/title`` lists."""
        before, colon, rest = slug.partition(":")
        upstream = self._connect(hub := before if colon else HUGGING_FACE)
        if not isinstance(upstream, ListsCollections):
            raise _not_told(hub, "what a collection lists")
        return upstream.collection(rest if colon else slug)

    def look(self, repository: str) -> RefsState:
        """Return its branches and tags."""
        upstream = self._connect(hub := RepositoryName.parse(repository).hub)
        if not isinstance(upstream, ListsRefs):
            raise _not_told(hub, "which branches and tags there are")
        return upstream.look(repository)


def _not_told(hub: str, what: str) -> UsageError:
    return UsageError(
        f"{printable(hub)} cannot be asked {what}.", hint="Name each in the plan by itself."
    )


class Unresolved(NamedTuple):
    """An entry of which upstream did not say what it stands for, and why."""

    entry: PlannedRepository
    error: ArchiverError


class Resolution(NamedTuple):
    """What a plan stands for.

    Attributes:
        entries: Each names one repository and at most one revision; by priority, else as they are written.
            One of which nothing is known stands there as it is written.
        unresolved: What upstream did not say; where it was known from before, that is among the entries.
        appeared: Those of them that a pattern, author or collection did not stand for before, if it stood
            for anything.
    """

    entries: tuple[PlannedRepository, ...]
    unresolved: tuple[Unresolved, ...] = ()
    appeared: tuple[PlannedRepository, ...] = ()


def resolve(plan: Plan, known: Sequence[PlannedEntry], finder: Finder | None) -> Resolution:
    """Return what a plan stands for, by what is ``known`` from its last run and what ``finder`` says.

    Without a finder nothing is asked. What an entry stood for before stays, also where upstream lists it no
    more: that it is gone is found out, and told, when it is asked for. An entry that names a repository
    itself goes before a pattern that fits it, else the first that fits.
    """
    resolver = _Resolver(known, finder)
    entries: dict[tuple[str, str], PlannedRepository] = {}
    # Those that say what they want come first, so that theirs are the filters that count.
    for written in sorted(plan.repositories, key=lambda entry: entry.is_open or entry.follows):
        for entry in resolver.entries_of(written):
            entries.setdefault(planned_entry(entry).key, entry)
    order = {written.title: number for number, written in enumerate(plan.repositories)}
    ranked = sorted(
        entries.values(),
        key=lambda entry: (-entry.priority, order[entry.of or entry.title]),
    )
    # What another entry stood for is nothing new for one that it fits too.
    before = {entry.key for entry in known}
    appeared = [
        entry
        for entry in resolver.appeared
        if entries[key := planned_entry(entry).key] is entry and key not in before
    ]
    return Resolution(tuple(ranked), tuple(resolver.unresolved), tuple(appeared))


class _Resolver:
    """Resolves one entry after the other; asks upstream for nothing twice."""

    def __init__(self, known: Sequence[PlannedEntry], finder: Finder | None) -> None:
        self._finder = finder
        self._known: dict[str, list[PlannedEntry]] = {}
        for entry in known:
            if entry.of:
                self._known.setdefault(entry.of, []).append(entry)
        self._authors: dict[str, tuple[str, ...]] = {}
        self._refs: dict[str, RefsState] = {}
        self.unresolved: list[Unresolved] = []
        self.appeared: list[PlannedRepository] = []

    def entries_of(self, written: PlannedRepository) -> Iterator[PlannedRepository]:
        """Yield what an entry stands for."""
        if not written.is_open and not written.revisions:
            yield written
            return
        before = self._known.get(written.title, ())
        names = {(entry.repository, entry.revision) for entry in before}
        pairs = list(dict.fromkeys((entry.repository, entry.revision) for entry in before))
        if self._finder is not None or not (written.is_open or written.follows):
            try:
                pairs.extend(pair for pair in self._pairs(written) if pair not in names)
            except BudgetSpentError:
                raise  # nothing else is asked either
            except ArchiverError as error:
                self.unresolved.append(Unresolved(written, error))
        if not pairs:
            yield msgspec.structs.replace(written, of="")
        for repository, revision in pairs:
            entry = _concrete(written, repository, revision)
            if names and (repository, revision) not in names:
                self.appeared.append(entry)
            yield entry

    def _pairs(self, written: PlannedRepository) -> Iterator[tuple[str, str]]:
        """Yield repositories and revisions, ``""`` for the main branch; raise if upstream does not say."""
        for repository in self._repositories(written):
            if not written.revisions:
                yield repository, written.revision or ""
                continue
            fitting = list(self._revisions(repository, written.revisions))
            if not fitting:
                raise UpstreamGoneError(
                    f"{printable(repository)} has no branch or tag that fits "
                    f"{', '.join(map(printable, written.revisions))}.",
                    hint="Check the names on the hub; branches, tags and all stand for all of them.",
                    subject=repository,
                )
            for revision in fitting:
                yield repository, revision

    def _repositories(self, written: PlannedRepository) -> Iterable[str]:
        if not written.is_open:
            return (written.name,)
        assert self._finder is not None, "only a finder knows what a pattern stands for"
        if written.collection:
            return self._finder.collection(written.collection)
        author, _, pattern = f"{written.author}/*".rpartition("/")
        if written.name:
            author, _, pattern = written.name.rpartition("/")
        if author not in self._authors:
            self._authors[author] = self._finder.repositories_of(author)
        listed = self._authors[author]
        fitting = [name for name in listed if _fits(name.rpartition("/")[2], pattern)]
        if not fitting:
            raise UpstreamGoneError(
                f"{printable(author)} has {len(listed):,} {_kind(author)}s at upstream, and none fits "
                f"{printable(written.selector)}."
                if listed
                else f"Upstream lists no {_kind(author)} of {printable(author)}.",
                hint="Check how the name is spelled; its case counts.",
            )
        return sorted(fitting, key=str.casefold)

    def _revisions(self, repository: str, wanted: Sequence[str]) -> Iterator[str]:
        """Yield the names among ``wanted``, and for what stands for several those that upstream has."""
        yielded: set[str] = set()
        main = RepositoryName.parse(repository).main_branch
        for word in wanted:
            names = self._named(repository, word) if is_revision_pattern(word) else [word]
            for name in names:
                revision = "" if name == main else name
                if revision not in yielded:
                    yielded.add(revision)
                    yield revision

    def _named(self, repository: str, word: str) -> list[str]:
        assert self._finder is not None, "only a finder knows what a pattern stands for"
        if repository not in self._refs:
            self._refs[repository] = self._finder.look(repository)
        state = self._refs[repository]
        if state.branches is None and state.tags is None:
            raise _not_told(
                RepositoryName.parse(repository).hub, "which branches and tags there are"
            )
        branches, tags = sorted(state.branches or ()), sorted(state.tags or ())
        sets = {ALL_BRANCHES: branches, ALL_TAGS: tags, ALL_REVISIONS: [*branches, *tags]}
        if word in sets:
            return sets[word]
        return [name for name in (*branches, *tags) if fnmatchcase(name, word)]


def _concrete(written: PlannedRepository, repository: str, revision: str) -> PlannedRepository:
    return msgspec.structs.replace(
        written,
        name=repository,
        revision=revision or None,
        revisions=(),
        author="",
        collection="",
        of=written.title,
    )


def _fits(name: str, pattern: str) -> bool:
    """Return whether a repository's name fits; as everywhere, case does not count in it."""
    return fnmatchcase(name.casefold(), pattern.casefold())


def _kind(author: str) -> str:
    return RepositoryName.parse(f"{author}/x").type


def spelled_upstream(name: str, finder: Finder, known: Iterable[str]) -> str:
    """Return the name at upstream that ``name`` most likely means, which upstream has not; ``""`` if none.

    ``known`` are names that are known from elsewhere: they tell how the organisation is spelled.
    """
    author, slash, _ = name.rpartition("/")
    others = {other.rpartition("/")[0] for other in known}
    spellings = [other for other in sorted(others) if other.casefold() == author.casefold()]
    for spelling in dict.fromkeys([author, *spellings]) if slash else ():
        try:
            right = spelled_right(name, finder.repositories_of(spelling))
        except ArchiverError:
            continue
        if right and right != name:
            return right
    return ""


def spelled_right(name: str, names: Iterable[str]) -> str:
    """Return the one of ``names`` that ``name`` most likely means; ``""`` if none is near."""
    import difflib  # noqa: PLC0415 - only where a name is not found

    folded = {known.casefold(): known for known in names}
    if name.casefold() in folded:
        return folded[name.casefold()]
    close = difflib.get_close_matches(name.casefold(), folded, 1, 0.8)
    return folded[close[0]] if close else ""
