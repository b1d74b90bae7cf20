"""The Hub as an :class:`~archiver.upstream.protocol.Upstream`."""

from __future__ import annotations

import re
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from archiver.errors import (
    MismatchError,
    NetworkError,
    TokenError,
    UpstreamGoneError,
    UsageError,
)
from archiver.memory import BUDGET
from archiver.names import HUGGING_FACE, TYPES, RepositoryName, check_paths
from archiver.text import printable, utc_now
from archiver.upstream.connections import ConnectionPool, window_within
from archiver.upstream.deadlines import ListingAllowance, Patience, chosen_patience
from archiver.upstream.http import Subject
from archiver.upstream.huggingface.http import NO_REVISION, Session
from archiver.upstream.huggingface.listing import (
    Tree,
    parse_collection,
    parse_info,
    parse_tree,
    pin,
    repository_name,
    time_of,
)
from archiver.upstream.huggingface.search import repositories_of
from archiver.upstream.huggingface.state import (
    HISTORY_PAGES,
    parse_anything,
    parse_history,
    parse_refs,
    parse_state,
    state_of,
)
from archiver.upstream.protocol import KnownCommit, distinct_commits
from archiver.upstream.ranges import RangedStream
from archiver.upstream.refs import LARGEST_REFS
from archiver.upstream.remote_file import Listing, RemoteFile
from archiver.upstream.retry import RetryPolicy
from archiver.upstream.stream import HubFile, HubStream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.archive.watch import RepositoryState
    from archiver.throttle import Throttle

_MAIN = "main"
_LARGEST_INFO = 64 * 1024 * 1024
"""It names every file too, which nobody needs: of 100,000 files about 15 MB."""
_SLUG = re.compile(r"\w[\w.-]{0,95}/\w[\w.-]{0,199}\Z", re.ASCII)


class HuggingFace:
    """The Hugging Face Hub, or a hub that speaks its protocol.

    Threads may share an instance; a stream belongs to one thread. ``HF_HUB_OFFLINE`` is honoured:
    then every request is a NetworkError and nothing is sent.

    Args:
        token: An access token; None for ``HF_TOKEN`` or the one that the hub's client has stored.
        endpoint: The hub's address; None for ``HF_ENDPOINT`` or https://huggingface.co.
        timeout: Seconds of silence after which an attempt has failed; None for
            ``ARCHIVER_TIMEOUT`` or 30.
        patience: What else is borne of a hub, in place of ``timeout``.
        retry: How often and how patiently to ask again.
        throttle: A limit on the bytes per second of all streams together.
        connections: How many may fetch one large file; only as many are used as are worth it.
        memory: What the run may take, in bytes: what comes ahead of its turn is a part of it.
    """

    def __init__(
        self,
        token: str | None = None,
        endpoint: str | None = None,
        *,
        timeout: float | None = None,
        patience: Patience | None = None,
        retry: RetryPolicy | None = None,
        throttle: Throttle | None = None,
        connections: int = 1,
        memory: int = BUDGET,
    ) -> None:
        chosen = patience or chosen_patience()
        if timeout is not None:
            chosen = replace(chosen, silence=timeout)
        self._session = Session(token, endpoint, chosen, retry or RetryPolicy())
        self._throttle = throttle
        self._pool = ConnectionPool(connections, window_within(memory))

    @property
    def endpoint(self) -> str:
        """The hub's address, without a slash at its end."""
        return self._session.endpoint

    @property
    def read_ahead(self) -> int:
        """The bytes that all streams together hold at most."""
        return self._pool.held

    def list(self, repository: str, revision: str | None = None) -> Listing:
        """Pin ``revision`` (default: the main branch) to a commit and list its files.

        Raises:
            UpstreamGoneError: No such repository or revision, or it goes by another name now.
            AccessError: Gated or disabled.
            NetworkError: The hub could not be reached, also after retries.
            HostileNameError: A path may not be written, or the hub's answer makes no sense.
            MismatchError: A file is listed without a size or a digest, or there is no file.
            UsageError: ``repository`` is no repository's name.
        """
        wanted = _on_this_hub(repository)
        subject = Subject(wanted.spelling, revision or "", endpoint=self.endpoint)
        at = f"/revision/{quote(revision, safe='', errors='surrogateescape')}" if revision else ""
        allowance = ListingAllowance(self._session.patience)
        url = f"{self._api(wanted)}{at}"
        info, _ = self._session.json(url, subject, parse_info, allowance, most=_LARGEST_INFO)
        pinned = pin(info, subject)
        exact = Subject(pinned.repository, pinned.commit, endpoint=self.endpoint)
        files = self._tree(exact, allowance)
        check_paths(file.path for file in files)
        if not files:
            raise MismatchError(
                f"Upstream lists no file at all for {exact}, so there is nothing to keep.",
                hint="Nothing was sealed. If the repository should have files, run it again later.",
            )
        return Listing(
            upstream="huggingface",
            endpoint=self.endpoint,
            repository=pinned.repository,
            revision=pinned.commit,
            name=revision or _MAIN,
            files=tuple(sorted(files, key=lambda file: file.path)),
            id=pinned.id,
            committed=pinned.committed,
            licence=pinned.licence,
            card=pinned.card,
        )

    @property
    def requests(self) -> int:
        """How many requests were sent so far."""
        return self._session.requests

    def look(self, repository: str) -> RepositoryState:
        """Return what the hub says of a repository, as `WatchedUpstream` has it; raise likewise."""
        wanted = _on_this_hub(repository)
        subject = Subject(wanted.spelling, endpoint=self.endpoint)
        allowance = ListingAllowance(self._session.patience)
        url = f"{self._api(wanted)}?blobs=true"
        time = utc_now()
        described, _ = self._session.json(url, subject, parse_state, allowance, most=_LARGEST_INFO)
        name = repository_name(described.id or described.model_id, wanted.type)
        refs = None
        if not described.disabled:  # then nothing more is told
            url = f"{self._api(RepositoryName.parse(name))}/refs"
            # Those of a gated one may be hidden.
            with suppress(UpstreamGoneError):
                refs, _ = self._session.json(url, subject, parse_refs, allowance, most=LARGEST_REFS)
        return state_of(described, refs, subject, time)

    def has_commit(self, repository: str, commit: str) -> bool:
        """Return whether the hub still has a commit of a repository; raise as `look`."""
        wanted = _on_this_hub(repository)
        subject = Subject(wanted.spelling, commit, endpoint=self.endpoint)
        allowance = ListingAllowance(self._session.patience)
        url = f"{self._api(wanted)}/revision/{commit}"
        try:
            info, _ = self._session.json(url, subject, parse_info, allowance, most=_LARGEST_INFO)
        except UpstreamGoneError as error:
            if error.code == NO_REVISION:
                return False
            raise
        return info.sha == commit

    def follows(self, repository: str, commit: str, earlier: str) -> bool | None:
        """Return whether ``earlier`` leads to ``commit``, as `WatchedUpstream` has it; raise likewise."""
        wanted = _on_this_hub(repository)
        subject = Subject(wanted.spelling, commit, endpoint=self.endpoint)
        allowance = ListingAllowance(self._session.patience)
        url = f"{self._api(wanted)}/commits/{commit}"
        for _ in range(HISTORY_PAGES):
            page, url = self._session.json(
                url, subject, parse_history, allowance, most=LARGEST_REFS
            )
            if any(entry.id == earlier for entry in page):
                return True
            if not url:
                return False
        return None

    def commits(self, repository: str) -> tuple[KnownCommit, ...]:
        """Return commits of a repository, as `ListsCommits` has it."""
        wanted = _on_this_hub(repository)
        subject = Subject(wanted.spelling, endpoint=self.endpoint)
        allowance = ListingAllowance(self._session.patience)
        api = self._api(wanted)
        page, _ = self._session.json(
            f"{api}/commits/{_MAIN}", subject, parse_history, allowance, most=LARGEST_REFS
        )
        refs, _ = self._session.json(
            f"{api}/refs", subject, parse_refs, allowance, most=LARGEST_REFS
        )
        named = [KnownCommit(ref.commit) for ref in (*refs.tags, *refs.branches)]
        known = [KnownCommit(entry.id, time_of(entry.date)) for entry in page]
        return distinct_commits([*known, *named])

    def control(self) -> str:
        """Ask who we are, or, without a token, for any model; raise as `WatchedUpstream` has it."""
        allowance = ListingAllowance(self._session.patience)
        route = "whoami-v2" if self._session.has_token else "models?limit=1"
        subject = Subject(route, endpoint=self.endpoint, kind="answer to")
        url = f"{self.endpoint}/api/{route}"
        try:
            self._session.json(url, subject, parse_anything, allowance, most=LARGEST_REFS)
        except UpstreamGoneError as error:
            raise TokenError(
                f"{self.endpoint} refuses also what it shows to everybody (HTTP {error.status}).",
                hint="Check the token: one that has expired is refused so.",
            ) from error
        return route

    @contextmanager
    def open(
        self, listing: Listing, file: RemoteFile, offset: int = 0
    ) -> Iterator[HubStream | RangedStream]:
        """Yield the bytes of ``file`` from ``offset`` on; nothing is sent before the first read."""
        subject = Subject(listing.repository, listing.revision, file.path, self.endpoint)
        # The hub spells a repository in an address as an archive does.
        url = f"{self.endpoint}/{listing.repository}/resolve/{listing.revision}/{quote(file.path)}"
        listed = HubFile(self._session, url, file, subject)
        stream: HubStream | RangedStream
        if self._pool.worthwhile(file.size - offset):
            stream = RangedStream(listed, self._pool, offset=offset, throttle=self._throttle)
        else:
            stream = HubStream(listed, offset=offset, throttle=self._throttle)
        try:
            yield stream
        finally:
            stream.close()

    def collection(self, slug: str) -> tuple[str, ...]:
        """Return the models and datasets in a collection, such as ``Qwen/qwen35``, in its order.

        Raise as ``list``.
        """
        if not _SLUG.match(slug):
            raise UsageError(
                f"{printable(slug)} is not the name of a collection.",
                hint="Write it as in the collection's address: Owner/title-and-digits.",
            )
        subject = Subject(slug, endpoint=self.endpoint, kind="collection")
        url = f"{self.endpoint}/api/collections/{slug}"
        allowance = ListingAllowance(self._session.patience)
        listed, _ = self._session.json(url, subject, parse_collection, allowance)
        return tuple(
            repository_name(item.id, item.type) for item in listed.items if item.type in TYPES
        )

    def repositories_of(self, author: str) -> tuple[str, ...]:
        """Return the models that ``Org`` has, or the datasets of ``datasets/Org``; raise as ``list``."""
        wanted = _on_this_hub(f"{author}/x")
        allowance = ListingAllowance(self._session.patience)
        owner = wanted.name.removesuffix("/x")
        return repositories_of(self._session, owner, wanted.type, allowance)

    def _api(self, repository: RepositoryName) -> str:
        return f"{self.endpoint}/api/{repository.type}s/{repository.name}"

    def _tree(self, subject: Subject, allowance: ListingAllowance) -> tuple[RemoteFile, ...]:
        """Return every file of a commit, page by page; as far as a path came twice, if one did."""
        api = self._api(RepositoryName.parse(subject.repository))
        url = f"{api}/tree/{subject.revision}?recursive=true"
        tree = Tree(subject)
        while url:
            tree.begin(url)
            page, url = self._session.json(url, subject, parse_tree, allowance)
            if url and not page:
                raise NetworkError(f"The hub's listing of {subject} is no listing.")
            if not tree.add(page):
                break
        return tuple(tree.files)


def _on_this_hub(repository: str) -> RepositoryName:
    """Return what a repository is called here; raise UsageError if it is of another hub or type."""
    wanted = RepositoryName.parse(repository)
    if wanted.hub != HUGGING_FACE:
        raise UsageError(
            f"{wanted.spelling} is not on Hugging Face, and this version fetches from nowhere else.",
            hint="Download it with the tools of its hub, and import the folder.",
        )
    if wanted.type not in TYPES:
        raise UsageError(f"{wanted.spelling} is neither a model nor a dataset.")
    return wanted
