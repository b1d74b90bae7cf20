"""Which commit a branch or a tag of ModelScope is at, and which commits there are.

There are several ways to ask, and none that every client, or every hub of this kind, has:

- ``/api/v1/models/{id}/commits`` lists the commits that lead to one. ``modelscope`` asked so up to 1.37,
  and asks no more.
- git lists all branches and tags with their commits (:mod:`archiver.upstream.refs`). The clients clone.
- ``/api/v1/models/{id}/revisions`` lists their names, and on some hubs their commits.
- A listing of files names the first digits of its commit, and of each file the commit that changed it last.

So the first is asked, and where it is not there the others. That a commit is not there is believed only
where the way that says so has others.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from archiver.digest import is_git_oid
from archiver.errors import (
    AccessError,
    HostileNameError,
    MismatchError,
    NetworkError,
    UpstreamGoneError,
)
from archiver.names import DATASET
from archiver.upstream.modelscope.http import GIT_REFS, no_revision
from archiver.upstream.modelscope.listing import (
    PAGE_SIZE,
    FilesPage,
    History,
    Pin,
    listed_commit,
    parse_files,
    parse_history,
    pin,
    time_of,
)
from archiver.upstream.modelscope.state import MAIN, Revisions, parse_revisions
from archiver.upstream.protocol import KnownCommit, distinct_commits
from archiver.upstream.refs import ADVERTISEMENT, LARGEST_REFS, Refs, parse_advertisement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.names import RepositoryName
    from archiver.upstream.deadlines import ListingAllowance
    from archiver.upstream.http import Subject
    from archiver.upstream.modelscope.http import Session

_HISTORY_PAGES: Final = 4
"""Of the commits that lead to one."""
_ASKED_REFS: Final = 20
"""Branches and tags that are asked for one by one, where nothing lists their commits."""


_MISSING_TRIED: Final = 2
"""Repositories that git lists nothing of, after which it is not asked, if it never listed anything."""


class CommitFinder:
    """Asks for the commits of one repository.

    Args:
        session: What asks.
        git: What may come before ``.git`` in the address of a repository for git.
        name: The repository.
        subject: The same, in the words of a message.
        allowance: What its listing may cost.
    """

    def __init__(
        self,
        session: Session,
        git: GitAddresses,
        name: RepositoryName,
        subject: Subject,
        allowance: ListingAllowance,
    ) -> None:
        self._session = session
        self._git = git
        self._name = name
        self._subject = subject
        self._allowance = allowance
        self._api = f"{session.endpoint}/api/v1/{name.type}s/{name.name}"
        self._has_history = False

    def pin(self, revision: str) -> Pin:
        """Return the commit that a branch, a tag or a commit's own id names.

        Raise UpstreamGoneError if there is none, MismatchError if the hub answers about another one.
        """
        pinned = self._find(revision)
        if pinned is None:
            raise no_revision(replace(self._subject, revision=revision))
        return pinned

    def has(self, commit: str) -> bool:
        """Return whether there is such a commit; raise as `pin` for an answer about another one."""
        return self._find(commit) is not None

    def follows(self, commit: str, earlier: str) -> bool | None:
        """Return whether ``earlier`` leads to ``commit``; None if that is not among what is read."""
        for number in range(1, _HISTORY_PAGES + 1):
            page = self._history(commit, number, PAGE_SIZE).commit or []
            if any(entry.id == earlier for entry in page):
                return True
            if len(page) < PAGE_SIZE:
                return False
        return None

    def newest(self) -> tuple[KnownCommit, ...]:
        """Return the newest commits of the main branch, and those of all branches and tags."""
        known: list[KnownCommit] = []
        with suppress(UpstreamGoneError):
            known = [
                KnownCommit(entry.id, time_of(entry.committed_date))
                for entry in self._history(MAIN, 1, PAGE_SIZE).commit or []
            ]
        refs = self.refs() or Refs({}, {})
        named = (*refs.tags.values(), *refs.branches.values())
        return distinct_commits([*known, *map(KnownCommit, named)])

    def refs(self) -> Refs | None:
        """Return the branches and tags with their commits; None where nothing lists them."""
        refs = self._git_refs()
        if refs is not None:
            return refs
        listed = self._revisions()
        if listed is None:
            return None
        commits: dict[str, str] = {}
        for ref in listed.unpinned[:_ASKED_REFS]:
            with suppress(UpstreamGoneError):
                commits[ref] = self.pin(ref).commit
        return listed.refs(commits)

    # ---- one way after the other

    @contextmanager
    def _elsewhere(self) -> Iterator[None]:
        """Pass over what says that something is not there; what is closed to us says nothing of that."""
        try:
            yield
        except AccessError:
            raise
        except UpstreamGoneError:
            pass

    def _find(self, revision: str) -> Pin | None:
        subject = replace(self._subject, revision=revision)
        pinned: Pin | None = None
        with self._elsewhere():  # it is not there, or there is no such address
            pinned = pin(self._history(revision, 1, 1), subject)
        if pinned is not None or self._lists_history(revision):
            return pinned
        if not is_git_oid(revision):
            refs = self._git_refs()
            if refs is None and (listed := self._revisions()) is not None:
                refs = listed.refs({})
            if refs and (commit := refs.find(revision)):
                return Pin(commit, "")
        return self._by_listing(subject)

    def _history(self, revision: str, page: int, size: int) -> History:
        terms = {"Ref": revision, "PageNumber": page, "PageSize": size}
        url = f"{self._api}/commits?{urlencode(terms, errors='surrogateescape')}"
        subject = replace(self._subject, revision=revision)
        history, _ = self._session.json(url, subject, parse_history, self._allowance)
        self._has_history = self._has_history or bool(history.commit)
        return history

    def _lists_history(self, besides: str) -> bool:
        """Return whether the hub lists commits at all, by those of a branch that is there."""
        if not self._has_history and besides != MAIN:
            with self._elsewhere():
                self._history(MAIN, 1, 1)
        return self._has_history

    def _git_refs(self) -> Refs | None:
        """Return the branches and tags as git lists them; None where they are not given so."""
        headers = {"accept": ADVERTISEMENT, "user-agent": "git/archiver"}
        for path in self._git.of(self._name):
            url = f"{self._session.endpoint}/{path}{GIT_REFS}"
            try:
                body, _ = self._session.read(
                    url, self._subject, self._allowance, headers, most=LARGEST_REFS
                )
                refs = parse_advertisement(body, self._subject, MAIN)
            except (UpstreamGoneError, HostileNameError):
                continue
            except NetworkError:
                # The description came just now: it is this address that does not answer.
                self._git.give_up()
                return None
            self._git.keep(self._name, path)
            return refs
        self._git.note_missing()
        return None

    def _revisions(self) -> Revisions | None:
        """Return the branches and tags as the API lists them; None where it does not."""
        url = f"{self._api}/revisions"
        try:
            listed, _ = self._session.json(
                url, self._subject, parse_revisions, self._allowance, most=LARGEST_REFS
            )
        except (UpstreamGoneError, HostileNameError):
            return None
        return listed

    def _by_listing(self, subject: Subject) -> Pin | None:
        """Return the commit that a listing of files names; None if it names none."""
        dataset = self._name.type == DATASET
        terms: dict[str, object] = {"Revision": subject.revision, "Recursive": True}
        terms |= {"PageNumber": 1, "PageSize": PAGE_SIZE} if dataset else {}
        route = "tree" if dataset else "files"
        url = f"{self._api}/repo/{route}?{urlencode(terms, errors='surrogateescape')}"
        page = FilesPage()
        with self._elsewhere():
            page, _ = self._session.json(url, subject, parse_files, self._allowance)
        commit = listed_commit(page, subject)
        if not commit and page.files:
            raise MismatchError(
                f"ModelScope lists {subject}, and does not say which commit that is.",
                hint="Nothing was fetched. Mirror the repository from another hub.",
            )
        return Pin(commit, "") if commit else None


class GitAddresses:
    """What may come before ``.git`` in the address of a repository for git; what is served stays.

    ``models/Org/Name`` since ``modelscope-hub``, ``Org/Name`` before it; of datasets always
    ``datasets/Org/Name``.
    """

    def __init__(self) -> None:
        self._models = ["models/", ""]
        self._serves = True
        self._missing = 0
        self._served = False

    def of(self, name: RepositoryName) -> list[str]:
        """Return what is to be tried for a repository."""
        if not self._serves:
            return []
        if name.type == DATASET:
            return [f"datasets/{name.name}"]
        return [f"{before}{name.name}" for before in self._models]

    def keep(self, name: RepositoryName, path: str) -> None:
        """Take note that a path was served."""
        self._served = True
        if name.type != DATASET:
            self._models = [path.removesuffix(name.name)]

    def note_missing(self) -> None:
        """Take note that nothing was served for a repository; ask no more if nothing ever was."""
        self._missing += 1
        if not self._served and self._missing >= _MISSING_TRIED:
            self.give_up()

    def give_up(self) -> None:
        """Ask no more, for the hub does not answer."""
        self._serves = False
