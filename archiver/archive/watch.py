"""What upstream does, as the journal knows it: a repository's state, its history, and what is new.

A look at upstream gives a :class:`RepositoryState`. :func:`changes` compares it with what the journal
knows and returns what is to be journalled, so that everything is told once. Of a repository that upstream
does not show, nobody knows whether it is gone, private, or hidden by a token that expired: it is called
gone only after several nights on which upstream answered other requests (:func:`verdict`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

import msgspec

from archiver.archive.clock import effective_times
from archiver.archive.events import (
    FileChanges,
    Sighted,
    UnseenRepository,
    UpstreamChange,
    UpstreamChanged,
    UpstreamUnseen,
)
from archiver.digest import blake3_hex
from archiver.names import RepositoryName
from archiver.tensors.weight_files import is_weights
from archiver.text import seconds_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from archiver.archive.events import Event

NIGHTS: Final = 3
"""On so many different days a repository must not be shown before it is called gone."""
BRANCHES_MAX: Final = 256
TAGS_MAX: Final = 1024
"""Branches and tags that are looked at, the first by name: one event must hold them all."""
NAME_MAX: Final = 200
"""Bytes of the name of a branch or tag; longer ones are not looked at."""
_REPEATS: Final = 2
"""The same change of the same thing is journalled so often"""
_REPEATS_DAYS: Final = 30
"""within so many days, and once a day: what goes to and fro does not fill the journal."""
_PATHS_SHOWN: Final = 10
_PATH_SHOWN: Final = 200
_DAY: Final = 86400

Attribute = Literal["licence", "gating", "card", "privacy", "disabled", "identity", "name"]
"""What a repository has one of, as a text: ``card`` is the git object id of its README, ``identity`` the
hub's own id of it, ``name`` what it is called now. Each is ``""`` where there is none: not gated, not
private, not disabled, the name by which it was asked for."""
RefKind = Literal["branch", "tag"]
ChangeKind = Literal[Attribute, RefKind, "commit-lost", "left-out", "gone", "back"]
"""What may change."""
RefKey: TypeAlias = tuple[RefKind, str]
"""A branch or a tag, by its name."""


# ---- what upstream says


class UpstreamFile(msgspec.Struct, frozen=True, gc=False):
    """A file as upstream describes it: size in bytes (-1: not told), and digests, ``""`` if not told."""

    path: str
    size: int = -1
    oid: str = ""
    sha256: str = ""

    def is_like(self, other: UpstreamFile) -> bool:
        """Return whether both are the same file, as far as their digests tell."""
        if self.oid and other.oid:
            return self.oid == other.oid
        return bool(self.sha256) and self.sha256 == other.sha256


class RepositoryState(msgspec.Struct, frozen=True):
    """A repository at one moment, as upstream describes it: bounded, and nothing but upstream's word.

    Attributes:
        asked: The repository that was asked for.
        repository: What upstream calls it, which is another name once it was renamed.
        endpoint: Upstream's address.
        time: When it was looked at.
        head: The commit of the main branch; ``""`` if there is none.
        branches: Name -> commit; None if upstream did not list them.
        tags: Likewise.
        complete: Whether these are all: there may be more than are looked at.
        id: Upstream's own id of it; ``""`` if it has none.
        licence: As the card declares it; ``""`` if it does not.
        gated: How access is given, ``""`` if to everybody.
        private: Whether only some may see it.
        disabled: Whether upstream has switched it off.
        card: The git object id of its README, ``""`` if there is none; None if that was not told.
        files: The files of ``head``; None if these were not told.
    """

    asked: str
    repository: str
    endpoint: str
    time: str
    head: str
    branches: Mapping[str, str] | None = None
    tags: Mapping[str, str] | None = None
    complete: bool = True
    id: str = ""
    licence: str = ""
    gated: str = ""
    private: bool = False
    disabled: bool = False
    card: str | None = ""
    files: tuple[UpstreamFile, ...] | None = None

    @property
    def attributes(self) -> dict[Attribute, str]:
        """What it has one of; what was not told is left out."""
        renamed = self.repository.casefold() != self.asked.casefold()
        told: dict[Attribute, str | None] = {
            "licence": self.licence,
            "gating": self.gated,
            "card": self.card,
            "privacy": "private" if self.private else "",
            "disabled": "disabled" if self.disabled else "",
            "identity": self.id or None,
            "name": self.repository if renamed else "",
        }
        # Of what is switched off upstream may tell less than it did.
        hidden = {"licence", "card"} if self.disabled else set()
        return {
            what: value
            for what, value in told.items()
            if value is not None and (value or what not in hidden)
        }

    @property
    def main_branch(self) -> str:
        """What the main branch is called on its hub."""
        return RepositoryName.parse(self.asked).main_branch

    @property
    def refs(self) -> dict[RefKey, str]:
        """Branches and tags, each with its commit; the main branch at least."""
        branches = (
            {self.main_branch: self.head} if self.branches is None and self.head else self.branches
        )
        refs: dict[RefKey, str] = {}
        for name, commit in sorted((branches or {}).items()):
            refs["branch", name] = commit
        for name, commit in sorted((self.tags or {}).items()):
            refs["tag", name] = commit
        return refs

    @property
    def lists_refs(self) -> bool:
        """Whether a branch or tag that is not here is not there."""
        return self.complete and self.branches is not None and self.tags is not None


# ---- what the journal knows


class SeenChange(NamedTuple):
    """A change: when it was seen, the id of the event that tells of it, and whether by a first look."""

    time: str
    event: str
    change: UpstreamChange
    first: bool

    @property
    def news(self) -> bool:
        """Whether something changed; else it is how it was found at the first look."""
        return is_news(self.change, first=self.first)


def is_news(change: UpstreamChange, *, first: bool) -> bool:
    """Return whether something changed; at a ``first`` look most is only how it was found."""
    return not first or bool(change.before) or change.what == "left-out"


class UnseenNight(NamedTuple):
    """A day on which upstream did not show a repository: its date by the journal's time, what was said."""

    day: str
    time: str
    unseen: UnseenRepository
    control: str


class KnownRepository:
    """What the journal tells of a repository upstream; ``repository`` is its spelling there.

    Attributes:
        looked: When it was first looked at; ``""``: never.
        attributes: The latest of each; what was never told is not there.
        refs: Branches and tags, each with its commit, as last seen.
        commits: Every commit that any of them was seen at, and when first.
        lost: Commits that upstream had no more, and when that was seen.
        gone: Since when it is called gone; ``""``: it is not.
        unseen: The days since it was last seen on which it was not shown, in their order.
        history: All changes, oldest first.
    """

    def __init__(self, repository: str) -> None:
        self.repository = repository
        self.looked = ""
        self.attributes: dict[str, str] = {}
        self.refs: dict[RefKey, str] = {}
        self.commits: dict[str, str] = {}
        self.lost: dict[str, str] = {}
        self.gone = ""
        self.unseen: list[UnseenNight] = []
        self.history: list[SeenChange] = []
        self.left_out = ""
        self.sighted: dict[str, str] = {}
        """Names -> the commit that a run which mirrors last saw them at."""

    def add_sighting(self, time: str, name: str, commit: str) -> None:
        """Take in that a run which mirrors saw a name at a commit."""
        self.sighted[name] = commit
        self.commits.setdefault(commit, time)
        self.unseen.clear()

    def add(self, time: str, event: str, changed: UpstreamChanged) -> None:
        """Take in what a look found."""
        if changed.first:
            self.looked = self.looked or time
        for change in changed.changes:
            self.history.append(SeenChange(time, event, change, changed.first))
            self._apply(time, change)

    def _apply(self, time: str, change: UpstreamChange) -> None:
        match change.what:
            case "branch" | "tag" as kind:
                if change.after:
                    self.refs[kind, change.name] = change.after
                    self.commits.setdefault(change.after, time)
                else:
                    self.refs.pop((kind, change.name), None)
                if change.before:
                    self.commits.setdefault(change.before, time)
                if change.history == "rewritten" and change.status:
                    self.lost.setdefault(change.before, time)
            case "commit-lost":
                self.lost.setdefault(change.before, time)
            case "left-out":
                self.left_out = change.after
            case "gone":
                self.gone = time
            case "back":
                self.gone = ""
                self.unseen.clear()
            case what:  # an attribute, or something that only another version knows
                self.attributes[what] = change.after

    def repeats(self, change: UpstreamChange, now: str) -> bool:
        """Return whether this very change was seen so often of late that it says nothing new."""
        same = [
            seen.time for seen in self.history if _transition(seen.change) == _transition(change)
        ]
        end = seconds_of(now) or 0
        recent = [time for time in same if end - (seconds_of(time) or 0) < _REPEATS_DAYS * _DAY]
        return len(recent) >= _REPEATS or any(time[:10] == now[:10] for time in recent)


def _transition(change: UpstreamChange) -> tuple[str, str, str, str]:
    return change.what, change.name, change.before, change.after


class UpstreamHistory:
    """What a journal's events (id and event, oldest first) tell of every repository upstream."""

    def __init__(self, events: Iterable[tuple[str, Event]]) -> None:
        self._known: dict[str, KnownRepository] = {}
        listed = list(events)
        times = effective_times(listed)
        for digest, event in listed:
            match event.detail:
                case UpstreamChanged() as changed:
                    self.of(event.repository).add(event.time, digest, changed)
                case Sighted(name) as sighted if not sighted.hearsay and event.revision:
                    self.of(event.repository).add_sighting(event.time, name, event.revision)
                case UpstreamUnseen() as unseen:
                    self._add_unseen(times.get(digest, event.time), event.time, unseen)
                case _:
                    pass
        self.last = max((event.time for _, event in listed), default="")
        """The time of the newest event: what is journalled next must not be earlier."""

    def _add_unseen(self, effective: str, time: str, detail: UpstreamUnseen) -> None:
        for name in detail.seen:
            self.of(name).unseen.clear()
        for unseen in detail.unseen:
            nights = self.of(unseen.repository).unseen
            if not any(night.day == effective[:10] for night in nights):
                nights.append(UnseenNight(effective[:10], time, unseen, detail.control))

    def of(self, repository: str) -> KnownRepository:
        """Return what is known of a repository; case does not count."""
        key = repository.casefold()
        if key not in self._known:
            self._known[key] = KnownRepository(repository)
        return self._known[key]

    def __iter__(self) -> Iterator[KnownRepository]:
        """Yield every repository of which something is known but sightings, by name."""
        for _, known in sorted(self._known.items()):
            if known.history or known.unseen:
                yield known


def awaits_verdict(events: Iterable[tuple[str, Event]], repository: str) -> bool:
    """Return whether a repository is watched and not called gone: that it is not shown says nothing yet."""
    known = UpstreamHistory(events).of(repository)
    return bool(known.looked) and not known.gone


# ---- what is new


class HeldFacts(NamedTuple):
    """What the manifest of a held snapshot tells of upstream: its licence, and the hub's id."""

    licence: str = ""
    id: str = ""


def changes(
    known: KnownRepository, state: RepositoryState, now: str, held: HeldFacts | None = None
) -> tuple[UpstreamChange, ...]:
    """Return what is to be journalled of a look: each change once, none if nothing changed.

    ``held`` says, at a first look, what it was when it was mirrored.
    """
    new: list[UpstreamChange] = []
    if known.gone:
        new.append(UpstreamChange("back", before=known.gone))
    new += _changed_attributes(known, state, held or HeldFacts())
    new += _changed_refs(known, state)
    return tuple(change for change in new if not known.repeats(change, now))


def _changed_attributes(
    known: KnownRepository, state: RepositoryState, held: HeldFacts
) -> Iterator[UpstreamChange]:
    at_first = {"licence": held.licence, "identity": held.id} if not known.looked else {}
    for what, value in state.attributes.items():
        before = known.attributes.get(what, at_first.get(what, ""))
        if value != before or (not known.looked and value):
            yield UpstreamChange(what, before="" if value == before else before, after=value)


def _changed_refs(known: KnownRepository, state: RepositoryState) -> Iterator[UpstreamChange]:
    refs = state.refs
    for (kind, name), commit in refs.items():
        before = known.refs.get((kind, name), "")
        if not known.looked:
            before = known.sighted.get(name, "")
        elif not before and not state.complete:
            continue  # it may only have moved up to where the look ends
        if commit != before:
            yield UpstreamChange(kind, name, before, commit)
        elif not known.looked:
            yield UpstreamChange(kind, name, "", commit)
    if state.lists_refs:
        for kind, name in sorted(known.refs.keys() - refs.keys()):
            yield UpstreamChange(kind, name, known.refs[kind, name], "")


def weights_left_out(
    known: KnownRepository,
    state: RepositoryState,
    include: Sequence[str],
    exclude: Sequence[str],
) -> UpstreamChange | None:
    """Return the weights of the main branch that patterns leave out, unless that was told; else None."""
    if state.files is None or not (include or exclude):
        return None

    def fits(path: str, patterns: Sequence[str]) -> bool:
        return any(fnmatchcase(path, pattern) for pattern in patterns)

    paths = sorted(
        file.path
        for file in state.files
        if is_weights(file.path)
        and ((include and not fits(file.path, include)) or fits(file.path, exclude))
    )
    digest = blake3_hex("\n".join(paths).encode("utf-8", "replace")) if paths else ""
    if digest == known.left_out:
        return None
    return UpstreamChange(
        "left-out",
        before=known.left_out,
        after=digest,
        count=len(paths),
        paths=_shown(paths),
    )


def file_changes(before: Iterable[UpstreamFile], after: Iterable[UpstreamFile]) -> FileChanges:
    """Return how the files of two commits differ."""
    old = {file.path: file for file in before}
    new = {file.path: file for file in after}
    added = [file for path, file in new.items() if path not in old]
    removed = [file for path, file in old.items() if path not in new]
    changed = [file for path, file in new.items() if path in old and not file.is_like(old[path])]
    paths = sorted(file.path for file in (*added, *removed, *changed))
    return FileChanges(
        added=len(added),
        removed=len(removed),
        changed=len(changed),
        weights=sum(map(is_weights, paths)),
        bytes=sum(max(file.size, 0) for file in (*added, *changed)),
        paths=_shown(paths),
    )


def _shown(paths: Sequence[str]) -> tuple[str, ...]:
    return tuple(path[:_PATH_SHOWN] for path in paths[:_PATHS_SHOWN])


# ---- what upstream does not show


def verdict(
    known: KnownRepository, unseen: UnseenRepository, control: str, now: str
) -> UpstreamChange | None:
    """Return that a repository is gone, if this look is one too many at which it was not shown.

    That is: on `NIGHTS` different days by the journal's time, this one included, with nothing seen of it
    between, and with a control request that was answered each time. Else None.
    """
    if known.gone or not control:
        return None
    day = max([now[:10], *(night.day for night in known.unseen)])
    days = {night.day for night in known.unseen} | {day}
    if len(days) < NIGHTS:
        return None
    times = [night.time for night in known.unseen if night.day != day]
    return UpstreamChange(
        "gone",
        status=unseen.status,
        code=unseen.code,
        since=(*times, now),
        control=control,
    )


def is_noted(known: KnownRepository, now: str) -> bool:
    """Return whether the journal has it already that a repository was not shown today, or is gone."""
    latest = max((night.day for night in known.unseen), default="")
    return bool(known.gone) or latest >= now[:10]


def commit_to_ask(
    histories: Iterable[tuple[str, Iterable[str]]], now: str
) -> tuple[str, str] | None:
    """Return the repository and the commit whose turn it is to be asked for; None if there is none.

    ``histories`` gives the commits of each repository that no branch and no tag points at any more. Each
    has its day in turn, so that all were asked for once in as many days as there are.
    """
    candidates = sorted((name, commit) for name, commits in histories for commit in set(commits))
    if not candidates:
        return None
    return candidates[(seconds_of(now) or 0) // _DAY % len(candidates)]
