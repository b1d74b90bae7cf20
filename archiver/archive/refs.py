"""What a branch or a tag means in an archive: the last commit it was seen at upstream that is held.

So what upstream deleted is still found by its name, and a branch that moved on to what nobody mirrored is
where it was. Whoever shows a name can tell that upstream has moved on. What a hub's cache said of a name
counts only where upstream was never seen to point it anywhere. The main branch is the one name that is not
found so: it means what the repository's name alone means (``docs/format.md``, section 7).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from archiver.archive.events import Gone, Sighted, UpstreamChanged
from archiver.names import RepositoryName

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from archiver.archive.archive import Archive
    from archiver.archive.events import Event
    from archiver.archive.seals import Snapshot

RefKind = Literal["branch", "tag"]
_UNKNOWN: Final = ""
"""The kind of a name that only a run which mirrors has seen: it is not told whether it is a branch."""
_MAIN: Final = "main"


class Ref(NamedTuple):
    """A branch or a tag of a repository.

    Attributes:
        kind: Which of both. A name of which nobody knows it counts as a branch.
        name: What it is called.
        commit: The held commit that it means here.
        upstream: The commit that upstream was last seen to point it at, held or not; ``""``: upstream was
            seen to have it no more; None: only a cache said that there is such a name, or nobody.
    """

    kind: RefKind
    name: str
    commit: str
    upstream: str | None

    @property
    def moved_on(self) -> bool:
        """Whether upstream was seen to point it at another commit since, or to have it no more."""
        return self.upstream is not None and self.upstream != self.commit


class _Name:
    """Everything that was seen of one name: its commits by what saw them, each last one last."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        """Kind and commit; ``""`` for a commit: upstream had it no more."""
        self.heard: list[tuple[str, str]] = []
        """Likewise, by the word of a hub's cache."""
        self.mirrored = ""
        """Where a run that mirrors saw it last."""

    def add(self, kind: str, commit: str, *, hearsay: bool = False) -> None:
        """Note a sighting, unless it says nothing new."""
        sightings = self.heard if hearsay else self.seen
        if sightings[-1:] != [(kind, commit)]:
            sightings.append((kind, commit))

    def add_change(self, kind: str, before: str, after: str) -> None:
        """Note that a look found it moved. Where it was before may be known, and not the newest by now."""
        if before and all(commit != before for _, commit in self.seen):
            self.add(kind, before)
        self.add(kind, after)

    def refs(self, name: str, held: Collection[str]) -> Iterator[Ref]:
        """Yield what it means: a branch, a tag, or one of each."""
        sightings = self.seen if any(commit for _, commit in self.seen) else self.heard
        told = {kind for kind, _ in sightings}
        kinds: tuple[RefKind, ...] = ("branch", "tag") if "tag" in told else ("branch",)
        if "tag" in told and "branch" not in told:
            kinds = ("tag",)
        for kind in kinds:
            # Of one that is both, a hub takes the branch where it is not told which is meant.
            own = {kind, _UNKNOWN} if kind == kinds[0] else {kind}
            commits = [commit for each, commit in sightings if each in own]
            last = next((commit for commit in reversed(commits) if commit in held), "")
            if last:
                yield Ref(kind, name, last, None if sightings is self.heard else commits[-1])


class Refs:
    """The branches and tags of every repository, by a journal's events (id and event, oldest first)."""

    def __init__(self, archive: Archive, events: Iterable[tuple[str, Event]]) -> None:
        self._archive = archive
        self._names: dict[str, dict[str, _Name]] = {}
        self._mains: dict[str, tuple[str, str, str]] = {}
        """Where each repository's ``main`` was sighted last: by time and id, as the format has it."""
        for digest, event in events:
            self._add(digest, event)

    def _add(self, digest: str, event: Event) -> None:
        match event.detail:
            case Sighted(name) as sighted:
                known = self._name(event.repository, name)
                known.add(_UNKNOWN, event.revision, hearsay=sighted.hearsay)
                if not sighted.hearsay:
                    known.mirrored = event.revision
                if not sighted.hearsay and name == _MAIN:
                    key, sighting = (
                        event.repository.casefold(),
                        (event.time, digest, event.revision),
                    )
                    self._mains[key] = max(sighting, self._mains.get(key, sighting))
            case Gone(name):
                known = self._name(event.repository, name)
                if known.seen:
                    known.add(known.seen[-1][0], "")
            case UpstreamChanged(changes=changes):
                for change in changes:
                    if change.what in {"branch", "tag"}:
                        known = self._name(event.repository, change.name)
                        known.add_change(change.what, change.before, change.after)
            case _:
                pass

    def _name(self, repository: str, name: str) -> _Name:
        return self._names.setdefault(repository.casefold(), {}).setdefault(name, _Name())

    def _of(self, repository: str) -> dict[str, _Name]:
        return self._names.get(repository.casefold(), {})

    def main(self, snapshots: Sequence[Snapshot]) -> Snapshot:
        """Return which of all snapshots of a repository its name alone means, as a restore has it."""
        _, _, sighted = self._mains.get(snapshots[0].seal.repository.casefold(), ("", "", ""))
        return self._archive.default(snapshots, sighted)

    def of(self, snapshots: Sequence[Snapshot]) -> tuple[Ref, ...]:
        """Return the branches and tags of the repository of which these are all snapshots.

        The main branch comes first, then the other branches, and then the tags, each by name. What is
        called as a commit that is held is no branch and no tag here: it would hide that one.
        """
        repository = snapshots[0].seal.repository
        held = {snapshot.seal.revision for snapshot in snapshots}
        main = RepositoryName.parse(repository).main_branch
        refs: list[Ref] = []
        upstream: str | None = None
        for name, known in self._of(repository).items():
            if name == main:
                commits = [commit for kind, commit in known.seen if kind != "tag"]
                upstream = commits[-1] if commits else None
            if name not in held:
                refs += (ref for ref in known.refs(name, held) if ref[:2] != ("branch", main))
        first = Ref("branch", main, self.main(snapshots).seal.revision, upstream)
        return first, *sorted(refs)

    def mirrored_at(self, repository: str, commit: str) -> tuple[str, ...]:
        """Return the names that a run which mirrors last saw at a commit; ``main`` if it never saw any.

        What a cache said of a name counts only where upstream was never seen to point it anywhere. These
        are fewer than those that mean the commit here: they are for a cache, which other programs take for
        what upstream has, and whose names may be newer than this archive.
        """
        last: dict[str, str] = {}
        for name, known in self._of(repository).items():
            heard = known.heard[-1][1] if known.heard else ""
            if known.mirrored or heard:
                last[name] = known.mirrored or heard
        names = tuple(name for name, each in last.items() if each == commit)
        return names or (() if _MAIN in last else (_MAIN,))
