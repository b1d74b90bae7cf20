"""ModelScope as an :class:`~archiver.upstream.protocol.Upstream`."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from archiver.digest import is_sha256
from archiver.errors import (
    MismatchError,
    TokenError,
    UpstreamGoneError,
    UsageError,
)
from archiver.memory import BUDGET
from archiver.names import DATASET, MODELSCOPE, TYPES, RepositoryName, check_paths
from archiver.text import printable, utc_now
from archiver.upstream.connections import ConnectionPool, window_within
from archiver.upstream.deadlines import ListingAllowance, Patience, chosen_patience
from archiver.upstream.http import Subject
from archiver.upstream.listing import FileCollection
from archiver.upstream.modelscope.http import (
    ENDPOINT_VARIABLE,
    TOKEN_VARIABLE,
    Session,
)
from archiver.upstream.modelscope.listing import (
    PAGE_SIZE,
    TRUNCATED_AT,
    FileItem,
    Info,
    id_of,
    licence_of,
    name_of,
    parse_files,
    parse_info,
    remote_file,
    require_commit,
    spelling_of,
)
from archiver.upstream.modelscope.revisions import CommitFinder, GitAddresses
from archiver.upstream.modelscope.search import parse_page, repositories_of
from archiver.upstream.modelscope.state import MAIN, state_of
from archiver.upstream.ranges import RangedStream
from archiver.upstream.remote_file import Listing, RemoteFile
from archiver.upstream.retry import RetryPolicy
from archiver.upstream.stream import HubFile, HubStream

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import ExitStack

    from archiver.archive.watch import RepositoryState
    from archiver.throttle import Throttle
    from archiver.upstream.deadlines import LeastRate
    from archiver.upstream.http import Answer
    from archiver.upstream.protocol import KnownCommit

_CONTROL = "openapi/v1/models?page_number=1&page_size=1"
"""What is shown to everybody who may ask at all."""
_LARGEST_INFO = 64 * 1024 * 1024
"""It holds the README too."""


class ModelScope:
    """ModelScope, or a hub that speaks its protocol. Threads may share an instance.

    Args:
        token: An access token; None for ``MODELSCOPE_API_TOKEN``.
        endpoint: The hub's address; None for ``MODELSCOPE_ENDPOINT`` or https://modelscope.cn.
        patience: What is borne of a hub; None for what the environment chooses.
        retry: How often and how patiently to ask again.
        throttle: A limit on the bytes per second of all streams together.
        connections: How many may fetch one large file; only as many are used as are worth it.
        memory: What the run may take, in bytes: what comes ahead of its turn is a part of it.
    """

    name = MODELSCOPE

    def __init__(
        self,
        token: str | None = None,
        endpoint: str | None = None,
        *,
        patience: Patience | None = None,
        retry: RetryPolicy | None = None,
        throttle: Throttle | None = None,
        connections: int = 1,
        memory: int = BUDGET,
    ) -> None:
        chosen = patience or chosen_patience()
        self._session = Session(token, endpoint, chosen, retry or RetryPolicy())
        self._throttle = throttle
        self._git = GitAddresses()
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
        """Pin ``revision`` (default: the branch ``master``) to a commit and list its files.

        Raises:
            UpstreamGoneError: No such repository or revision, or it goes by another name now.
            AccessError: Closed.
            NetworkError: The hub could not be reached, also after retries.
            HostileNameError: A path may not be written, or the hub's answer makes no sense.
            MismatchError: A file is listed without a size or a digest, there is no file, or the hub
                cannot list all of them.
            UsageError: ``repository`` is no repository's name, or of another hub.
        """
        name = _on_this_hub(repository)
        subject = self._subject(name.spelling, revision or MAIN, name.type)
        allowance = ListingAllowance(self._session.patience, ENDPOINT_VARIABLE)
        info = self._info(name, subject, allowance)
        spelling = spelling_of(info, subject)
        pinned = self._commits(name, subject, allowance).pin(revision or MAIN)
        exact = self._subject(spelling, pinned.commit, name.type)
        walk = _Walk(self._session, self._api(name), exact, allowance)
        files = walk.dataset() if name.type == DATASET else walk.model()
        check_paths(file.path for file in files)
        if not files:
            raise MismatchError(
                f"Upstream lists no file at all for {exact}, so there is nothing to keep.",
                hint="Nothing was sealed. If the repository should have files, run it again later.",
            )
        return Listing(
            upstream=MODELSCOPE,
            endpoint=self.endpoint,
            repository=spelling,
            revision=pinned.commit,
            name=revision or MAIN,
            files=tuple(sorted(files, key=lambda file: file.path)),
            id=id_of(info),
            committed=pinned.committed,
            licence=licence_of(info),
        )

    @property
    def requests(self) -> int:
        """How many requests were sent so far."""
        return self._session.requests

    def look(self, repository: str) -> RepositoryState:
        """Return what the hub says of a repository, as `WatchedUpstream` has it; raise likewise.

        More requests are sent only where ModelScope does not give git's list of the branches and tags.
        """
        name = _on_this_hub(repository)
        subject = self._subject(name.spelling, MAIN, name.type)
        allowance = ListingAllowance(self._session.patience, ENDPOINT_VARIABLE)
        time = utc_now()
        info = self._info(name, subject, allowance)
        current = RepositoryName.parse(name_of(info, subject))
        commits = self._commits(current, subject, allowance)
        refs = commits.refs()
        # Where nothing names them, it is the main branch alone that can be asked for.
        head = refs.branches.get(MAIN, "") if refs else commits.pin(MAIN).commit
        return state_of(info, refs, head, subject, time)

    def has_commit(self, repository: str, commit: str) -> bool:
        """Return whether the hub still has a commit of a repository that it shows; raise as `look`."""
        return self._commits_of(repository).has(commit)

    def follows(self, repository: str, commit: str, earlier: str) -> bool | None:
        """Return whether ``earlier`` leads to ``commit``, as `WatchedUpstream` has it; raise likewise."""
        return self._commits_of(repository).follows(commit, earlier)

    def commits(self, repository: str) -> tuple[KnownCommit, ...]:
        """Return commits of a repository, as `ListsCommits` has it."""
        return self._commits_of(repository).newest()

    def control(self) -> str:
        """Ask for any model; raise as `WatchedUpstream` has it. ``""`` where that is no address."""
        allowance = ListingAllowance(self._session.patience, ENDPOINT_VARIABLE)
        subject = Subject(
            _CONTROL, endpoint=self.endpoint, kind="answer to", variable=ENDPOINT_VARIABLE
        )
        url = f"{self.endpoint}/{_CONTROL}"
        try:
            self._session.json(url, subject, parse_page, allowance)
        except UpstreamGoneError as error:
            if error.status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
                return ""  # a hub of its own kind; that it answers says little
            raise TokenError(
                f"{self.endpoint} refuses also what it shows to everybody (HTTP {error.status}).",
                hint=f"Check {TOKEN_VARIABLE}: a token that has expired is refused so.",
            ) from error
        return _CONTROL.partition("?")[0]

    def repositories_of(self, author: str) -> tuple[str, ...]:
        """Return the models of ``modelscope:Org``, or its datasets (``modelscope:datasets/Org``).

        Raise as ``list``, and MismatchError if there are more than ModelScope lists.
        """
        wanted = _on_this_hub(f"{author}/x")
        allowance = ListingAllowance(self._session.patience, ENDPOINT_VARIABLE)
        owner = wanted.name.removesuffix("/x")
        return repositories_of(self._session, owner, wanted.type, allowance)

    def collection(self, slug: str) -> tuple[str, ...]:
        """Raise UsageError: what ModelScope's API lists of a collection are skills."""
        raise UsageError(
            f"ModelScope does not tell which models and datasets are in {printable(slug)}: of a collection "
            "its API lists skills only.",
            hint='Name each in the plan by itself, or all of an author: author = "modelscope:Org".',
        )

    @contextmanager
    def open(
        self, listing: Listing, file: RemoteFile, offset: int = 0
    ) -> Iterator[HubStream | RangedStream]:
        """Yield the bytes of ``file`` from ``offset`` on; nothing is sent before the first read."""
        repository = RepositoryName.parse(listing.repository)
        subject = replace(
            self._subject(listing.repository, listing.revision, repository.type), path=file.path
        )
        terms = {"Revision": listing.revision, "FilePath": file.path}
        url = f"{self._api(repository)}/repo?{urlencode(terms)}"
        listed = _ModelScopeFile(self._session, url, file, subject)
        stream: HubStream | RangedStream
        if self._pool.worthwhile(file.size - offset):
            stream = RangedStream(listed, self._pool, offset=offset, throttle=self._throttle)
        else:
            stream = HubStream(listed, offset=offset, throttle=self._throttle)
        try:
            yield stream
        finally:
            stream.close()

    def _subject(self, repository: str, revision: str, kind: str) -> Subject:
        return Subject(
            repository,
            revision,
            endpoint=self.endpoint,
            kind=kind,
            variable=ENDPOINT_VARIABLE,
        )

    def _api(self, repository: RepositoryName) -> str:
        return f"{self.endpoint}/api/v1/{repository.type}s/{repository.name}"

    def _info(self, name: RepositoryName, subject: Subject, allowance: ListingAllowance) -> Info:
        info, _ = self._session.json(
            self._api(name), subject, parse_info, allowance, most=_LARGEST_INFO
        )
        return info

    def _commits_of(self, repository: str) -> CommitFinder:
        name = _on_this_hub(repository)
        subject = self._subject(name.spelling, MAIN, name.type)
        allowance = ListingAllowance(self._session.patience, ENDPOINT_VARIABLE)
        return self._commits(name, subject, allowance)

    def _commits(
        self, name: RepositoryName, subject: Subject, allowance: ListingAllowance
    ) -> CommitFinder:
        return CommitFinder(self._session, self._git, name, subject, allowance)


class _ModelScopeFile(HubFile):
    """A file at ModelScope: what says that it is still the one that was listed."""

    def __init__(self, session: Session, url: str, file: RemoteFile, subject: Subject) -> None:
        super().__init__(session, url, file, subject)
        self._sha256 = file.sha256

    def check_identity(self, first: Mapping[str, str]) -> None:
        """Refuse an answer that names another size; its digest is checked with all of them."""
        self.check_size(first)

    def get(
        self, stack: ExitStack, headers: Mapping[str, str], rate: LeastRate, *, linked: bool
    ) -> Answer:
        """Return an answer about this very file; raise MismatchError for one that names another digest."""
        answer = super().get(stack, headers, rate, linked=linked)
        for part in (answer.first, answer.headers):
            digest = part.get("x-linked-etag", "").removeprefix("W/").strip('"').lower()
            if is_sha256(digest) and digest != self._sha256:
                raise MismatchError(
                    f"{self.subject} was listed with SHA-256 {self._sha256[:16]}…, and is given out as "
                    f"{digest[:16]}….",
                    hint="Nothing of it was fetched; run the command again to list it anew.",
                )
        return answer


class _Walk:
    """Lists every file of a commit."""

    def __init__(
        self, session: Session, api: str, subject: Subject, allowance: ListingAllowance
    ) -> None:
        self._session = session
        self._api = api
        self._subject = subject
        self._allowance = allowance
        self._files = FileCollection(subject)

    def dataset(self) -> tuple[RemoteFile, ...]:
        """Return the files of a dataset, page by page."""
        number = 0
        while True:
            number += 1
            items = self._page("tree", number=number)
            if not self._take(items) or len(items) < PAGE_SIZE:
                return tuple(self._files.files)

    def model(self) -> tuple[RemoteFile, ...]:
        """Return the files of a model: at once, or folder by folder where that is cut off.

        Raise MismatchError if a folder holds more than ModelScope lists.
        """
        items = self._page("files")
        if len(items) < TRUNCATED_AT:
            self._take(items)
            return tuple(self._files.files)
        folders = [""]
        while folders:
            folder = folders.pop()
            items = self._page("files", folder) if folder else items
            if len(items) < TRUNCATED_AT:
                self._take(items)
                continue
            inside = self._page("files", folder, recursive=False)
            if len(inside) >= TRUNCATED_AT:
                raise MismatchError(
                    f"ModelScope lists no more than {TRUNCATED_AT:,} entries of a folder, and "
                    f"{printable(folder) or 'the top'} of {self._subject} has so many: which others there "
                    "are, it does not say.",
                    hint="Nothing was fetched. Mirror the repository from another hub.",
                )
            self._take([item for item in inside if not item.folder])
            folders += [item.path for item in inside if item.folder]
        return tuple(self._files.files)

    def _page(
        self, route: str, folder: str = "", *, recursive: bool = True, number: int = 0
    ) -> list[FileItem]:
        """Return the entries below a folder, or so many of them as the page with this number has."""
        terms: dict[str, object] = {"Revision": self._subject.revision, "Recursive": recursive}
        if folder:
            terms["Root"] = folder
        if number:
            terms |= {"PageNumber": number, "PageSize": PAGE_SIZE}
        url = f"{self._api}/repo/{route}?{urlencode(terms)}"
        self._files.begin(url)
        page, _ = self._session.json(url, self._subject, parse_files, self._allowance)
        self._session.note_read(self._subject)
        if not folder:
            require_commit(page, self._subject)
        return page.files or []

    def _take(self, items: list[FileItem]) -> bool:
        files = [remote_file(item, self._subject) for item in items if not item.folder]
        return self._files.take(files, folders=len(items) - len(files))


def _on_this_hub(repository: str) -> RepositoryName:
    """Return what a repository is called here; raise UsageError if it is of another hub or type."""
    name = RepositoryName.parse(repository)
    if name.hub != MODELSCOPE or name.type not in TYPES or "/" not in name.name:
        raise UsageError(
            f"{name.spelling} is no model or dataset of ModelScope.",
            hint="Write it like modelscope:Qwen/Qwen3.5-4B, or modelscope:datasets/Org/Name.",
        )
    return name
