"""Several hubs as one upstream: a repository is listed by its own, and its bytes may come from any.

Where a hub dies in the middle of a file, another one goes on from that byte, if it lists the same path with
the same size and the same SHA-256, at whatever revision. Where no digest is common to both, it does not:
then nothing says that it is the same file. Whoever reads checks the whole file by what its own hub listed,
wherever it came from.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from archiver.errors import (
    AccessError,
    ArchiverError,
    HostileNameError,
    MismatchError,
    NetworkError,
    TooLargeError,
    UpstreamGoneError,
    UsageError,
)
from archiver.names import TITLES, RepositoryName
from archiver.text import printable, seconds_of
from archiver.upstream.protocol import ListsCommits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from archiver.upstream.protocol import ByteStream, KnownCommit, Upstream, WatchedUpstream
    from archiver.upstream.remote_file import Listing, RemoteFile

_log = logging.getLogger(__name__)

_REST_SECONDS: Final = 600.0
"""How long a hub that could not be reached is asked last: its retries for each file would take hours."""
_TWINS_KEPT: Final = 8
"""Repositories of other hubs of which is remembered what they list: each may have 100,000 files."""
_REVISIONS_LISTED: Final = 8
"""Of one repository of another hub, until a file is found that its main branch has not."""
_NO_MORE: Final = ""
_FAILURES: Final = (NetworkError, UpstreamGoneError, AccessError, MismatchError, HostileNameError)
_NOT_LISTED: Final = (*_FAILURES, UsageError, TooLargeError)
"""What says that a hub does not list a repository; some names, such as gpt2, are none at another."""


class Source(NamedTuple):
    """A file at one of the hubs."""

    hub: str
    upstream: Upstream
    listing: Listing
    file: RemoteFile


class Hubs:
    """The hubs of a run, each connected when it is first needed. Threads may share it.

    It is an upstream itself: of each repository, the hub that its name says. Where others are among the
    ``sources``, they give bytes too.

    Args:
        connect: How each hub is connected.
        sources: The hubs whose bytes are taken, the first that has a file first; empty: each repository's
            own. The hub that lists a repository is asked last where it is not among them.
        notify: Told, in words for a person, when another hub goes on. Threads call it.
        clock: Seconds from any start, never going back.
    """

    def __init__(
        self,
        connect: Mapping[str, Callable[[], WatchedUpstream]],
        sources: Sequence[str] = (),
        *,
        notify: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect = dict(connect)
        self._sources = tuple(sources)
        self._notify = notify
        self._clock = clock
        self._lock = threading.RLock()
        self._connected: dict[str, WatchedUpstream] = {}
        self._chosen: dict[tuple[str, tuple[str, ...]], Upstream] = {}
        self._resting: dict[str, float] = {}

    def hub(self, name: str) -> WatchedUpstream:
        """Return a hub by its name; raise UsageError if it is none that is fetched from."""
        with self._lock:
            if name not in self._connect:
                raise UsageError(
                    f"{printable(name)} is no hub that is fetched from.",
                    hint=f"There are {' and '.join(self._connect)}.",
                )
            if name not in self._connected:
                self._connected[name] = self._connect[name]()
            return self._connected[name]

    def of(self, repository: str, sources: Sequence[str] = ()) -> Upstream:
        """Return the upstream of a repository, with bytes from ``sources``, or from the run's if empty.

        Raise UsageError if it, or one of them, is no hub that is fetched from.
        """
        own = RepositoryName.parse(repository).hub
        order = tuple(sources) or self._sources or (own,)
        with self._lock:
            lister = self.hub(own)
            if order == (own,):
                return lister
            key = (own, order)
            if key not in self._chosen:
                hubs = {name: self.hub(name) for name in (*order, own)}
                self._chosen[key] = Failover(own, hubs, self)
            return self._chosen[key]

    def rest(self, name: str) -> None:
        """Ask a hub last for a while."""
        with self._lock:
            self._resting[name] = self._clock() + _REST_SECONDS

    def rests(self, name: str) -> bool:
        """Return whether a hub is asked last just now."""
        return self._resting.get(name, 0.0) > self._clock()

    def tell(self, text: str) -> None:
        """Say that another hub goes on, and why."""
        _log.info("%s", text)
        self._notify(text)

    # ---- as an upstream

    @property
    def endpoint(self) -> str:
        """The address of the hub that is asked first."""
        return self.hub(next(iter(self._sources or self._connect))).endpoint

    @property
    def read_ahead(self) -> int:
        """The bytes that all streams of all hubs together hold at most."""
        return sum(self.hub(name).read_ahead for name in self._sources or self._connected)

    def list(self, repository: str, revision: str | None = None) -> Listing:
        """List a repository at its own hub; raise as that does."""
        return self.of(repository).list(repository, revision)

    @contextmanager
    def open(self, listing: Listing, file: RemoteFile, offset: int = 0) -> Iterator[ByteStream]:
        """Yield the bytes of ``file`` from ``offset`` on."""
        with self.of(listing.repository).open(listing, file, offset) as stream:
            yield stream


class Failover:
    """The repositories of one hub, with bytes from several, in order.

    Args:
        own: The hub that lists them.
        hubs: All that may give bytes, in the order in which they are asked.
        run: What the hubs of a run share.
    """

    def __init__(self, own: str, hubs: Mapping[str, Upstream], run: Hubs) -> None:
        self._own = own
        self._hubs = dict(hubs)
        self._run = run
        self._lock = threading.Lock()
        self._listing = threading.Lock()
        """Held while a twin is listed, so that it is once."""
        self._twins: dict[tuple[str, str, str], _Twin] = {}
        self._bytes: dict[tuple[str, str], Counter[str]] = {}
        self._gave: dict[tuple[str, str, str], frozenset[str]] = {}
        """Repository, revision and path -> the hubs that gave all of a file the last time."""

    @property
    def endpoint(self) -> str:
        """The address of the hub that lists."""
        return self._hubs[self._own].endpoint

    @property
    def read_ahead(self) -> int:
        """The bytes that all streams together hold at most."""
        return sum(hub.read_ahead for hub in self._hubs.values())

    def list(self, repository: str, revision: str | None = None) -> Listing:
        """List a repository at its own hub; raise as that does."""
        return self._hubs[self._own].list(repository, revision)

    @contextmanager
    def open(self, listing: Listing, file: RemoteFile, offset: int = 0) -> Iterator[ByteStream]:
        """Yield the bytes of ``file`` from ``offset`` on, from the first hub that gives them."""
        stream = _FailoverStream(self, listing, file, offset)
        try:
            yield stream
        finally:
            stream.close()

    def fetched_from(self, listing: Listing) -> tuple[tuple[str, int], ...]:
        """Return the hubs whose bytes of a listing's files were taken, and how many; most first."""
        with self._lock:
            counts = self._bytes.get((listing.repository, listing.revision), Counter())
            return tuple(counts.most_common())

    # ---- for its streams

    def order(self, listing: Listing, file: RemoteFile) -> Iterator[str]:
        """Yield the hubs in the order to ask them: those that could not be reached just now late.

        Who reads a file again did not believe what it was: last come those that gave it.
        """
        gave = self._gave.get((listing.repository, listing.revision, file.path), frozenset())
        yield from sorted(self._hubs, key=lambda hub: (hub in gave, self._run.rests(hub)))

    def given(self, listing: Listing, file: RemoteFile, hubs: frozenset[str]) -> None:
        """Take note that all of a file was read, and which hubs gave it."""
        if file.sha256:  # no other could give one without
            self._gave[listing.repository, listing.revision, file.path] = hubs

    def count(self, listing: Listing, hub: str, size: int) -> None:
        """Take note of bytes that came."""
        with self._lock:
            key = (listing.repository, listing.revision)
            self._bytes.setdefault(key, Counter())[hub] += size

    def source(self, hub: str, listing: Listing, file: RemoteFile) -> Source | None:
        """Return the very file at a hub; None if it does not list it, with a digest that both list."""
        upstream = self._hubs[hub]
        if hub == self._own:
            return Source(hub, upstream, listing, file)
        if not file.sha256:
            return None
        key = (hub, listing.repository, listing.revision)
        with self._listing:
            if key not in self._twins:
                if len(self._twins) >= _TWINS_KEPT:  # A plan has many; each is read once.
                    del self._twins[next(iter(self._twins))]
                self._twins[key] = _Twin(hub, upstream, listing, self._run)
            return self._twins[key].find(file)

    def failed(self, source: Source, error: ArchiverError) -> None:
        """Take note that a hub gave up in a file."""
        _log.info("%s gave up: %s", source.hub, error.message)
        if isinstance(error, NetworkError):
            self._run.rest(source.hub)

    def goes_on(self, source: Source, position: int) -> None:
        """Say that another hub goes on."""
        self._run.tell(
            f"{TITLES[source.hub]} goes on with {printable(source.file.path)} from byte {position:,}"
        )


class _Twin:
    """A repository of the same name at another hub: where each file is that both list with one digest.

    Commits are each hub's own, so its revisions are listed one after the other until the file is found:
    that of the same name, the main branch, then the commits that are nearest in time.
    """

    def __init__(self, hub: str, upstream: Upstream, listing: Listing, run: Hubs) -> None:
        self._hub = hub
        self._upstream = upstream
        self._run = run
        self._named = listing.name
        self._committed = seconds_of(listing.committed)
        own = RepositoryName.parse(listing.repository)
        self._name = own._replace(hub=hub).spelling
        self._is_main = listing.name in {own.main_branch, listing.revision, ""}
        self._wanted = {file.path: file for file in listing.files if file.sha256}
        self._found: dict[str, Source] = {}
        self._listed: set[str] = set()
        self._revisions = self._in_turn()

    def find(self, file: RemoteFile) -> Source | None:
        """Return the very file; None if no revision that is listed has it."""
        while file.path not in self._found:
            revision = next(self._revisions, _NO_MORE)
            if revision is _NO_MORE:
                return None
            self._list(revision)
        return self._found[file.path]

    def _in_turn(self) -> Iterator[str | None]:
        """Yield the revisions to list, None for the main branch."""
        if not self._is_main:
            yield self._named
        yield None
        if not isinstance(self._upstream, ListsCommits):
            return
        with suppress(*_NOT_LISTED):
            commits = self._upstream.commits(self._name)
            for commit in sorted(commits, key=self._distance):
                if len(self._listed) >= _REVISIONS_LISTED:
                    return
                if commit.id not in self._listed:
                    yield commit.id

    def _distance(self, commit: KnownCommit) -> float:
        """Return how many seconds lie between a commit and ours; one whose time is not known is far."""
        time = seconds_of(commit.time)
        if time is None or self._committed is None:
            return math.inf
        return abs(time - self._committed)

    def _list(self, revision: str | None) -> None:
        """Take in what a revision has of the files that were not found yet."""
        try:
            listing = self._upstream.list(self._name, revision)
        except _NOT_LISTED as error:
            self._listed.add(revision or "")
            if isinstance(error, NetworkError):
                self._run.rest(self._hub)
            if revision is None or isinstance(error, NetworkError):
                self._run.tell(f"{TITLES[self._hub]} does not give {self._name}: {error.message}")
                self._revisions = iter(())
            return
        self._listed.add(listing.revision)
        bare = msgspec.structs.replace(listing, files=())
        for other in listing.files:
            wanted = self._wanted.get(other.path)
            if wanted and (other.size, other.sha256) == (wanted.size, wanted.sha256):
                self._found[other.path] = Source(self._hub, self._upstream, bare, other)
                del self._wanted[other.path]


class _FailoverStream:
    """A file's bytes from one hub after the other; nothing is asked for before the first read."""

    def __init__(self, upstream: Failover, listing: Listing, file: RemoteFile, offset: int) -> None:
        self._upstream = upstream
        self._listing = listing
        self._file = file
        self._position = offset
        self._left = upstream.order(listing, file)
        self._hubs: set[str] = set()
        self._open = ExitStack()
        self._source: Source | None = None
        self._stream: ByteStream | None = None
        self._failures: list[ArchiverError] = []

    def readinto(self, buffer: memoryview) -> int:
        """Put the next bytes into ``buffer`` and return how many, 0 at the end of the file.

        Raise what the first hub that gave up raised, if no other goes on.
        """
        while True:
            stream = self._stream or self._next()
            assert self._source is not None
            try:
                count = stream.readinto(buffer)
            except _FAILURES as error:
                self._upstream.failed(self._source, error)
                self._failures.append(error)
                self.close()
                continue
            self._position += count
            self._upstream.count(self._listing, self._source.hub, count)
            if count:
                self._hubs.add(self._source.hub)
                if self._position == self._file.size:
                    self._upstream.given(self._listing, self._file, frozenset(self._hubs))
            return count

    def close(self) -> None:
        """Hang up."""
        self._stream = None
        self._open.close()

    def _next(self) -> ByteStream:
        """Open the file at the next hub that has it; raise if there is none left."""
        for hub in self._left:
            source = self._upstream.source(hub, self._listing, self._file)
            if source is None:
                continue
            if self._failures:
                self._upstream.goes_on(source, self._position)
            self._source = source
            self._stream = self._open.enter_context(
                source.upstream.open(source.listing, source.file, self._position)
            )
            return self._stream
        raise self._failures[0]
