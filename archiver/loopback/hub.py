"""The hub itself: what a test, a bench or the demonstration builds and talks to."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from archiver.errors import UsageError
from archiver.loopback.connection import Service
from archiver.loopback.faults import Fault, Faults
from archiver.loopback.lfs import default_rule
from archiver.loopback.log import Log
from archiver.loopback.repository import LfsRule, Repository
from archiver.loopback.server import Server
from archiver.loopback.shaping import Shaper
from archiver.loopback.state import State

if TYPE_CHECKING:
    from types import TracebackType

Files = Mapping[str, bytes | Path]
"""Names and bytes; a name is not checked, so that a hostile one can be listed."""


class Hub:
    """A hub on 127.0.0.1, with its CDN on a second port.

    ::

        with Hub() as hub:
            hub.create("org/name", {"config.json": b"{}", "m.safetensors": Path("weights")})
            HfApi(endpoint=hub.endpoint).model_info("org/name")

    ``faults`` spoils answers, ``requests`` logs them. A bug in the hub itself is raised when the
    ``with`` block ends.
    """

    def __init__(self, *, port: int = 0) -> None:
        self.faults = Faults()
        self.requests = Log()
        self._state = State()
        self._stopping = threading.Event()
        self._shaper = Shaper(self._stopping)
        self._services = {name: self._service(name) for name in ("hub", "cdn")}
        self._servers = {
            name: Server(name, functools.partial(service.serve, stopping=self._stopping))
            for name, service in self._services.items()
        }
        self._servers["hub"].port = port

    def _service(self, name: str) -> Service:
        return Service(name, self._state, self.faults, self.requests, self._shaper)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        problems = [p for service in self._services.values() for p in service.problems]
        if problems and error is None:
            raise problems[0]

    def start(self) -> None:
        """Listen; after a stop, on the same ports as before."""
        self._stopping.clear()
        for server in self._servers.values():
            server.start()
        self._state.endpoint = self.endpoint
        self._state.cdn = self.cdn

    def stop(self) -> None:
        """Listen no more, cut every connection, and wait for all threads."""
        self._stopping.set()
        for server in self._servers.values():
            server.stop()

    @property
    def endpoint(self) -> str:
        """The hub's address, as HF_ENDPOINT wants it."""
        return f"http://127.0.0.1:{self._servers['hub'].port}"

    @property
    def cdn(self) -> str:
        """The address to which the hub sends those who ask for LFS files."""
        return f"http://127.0.0.1:{self._servers['cdn'].port}"

    @property
    def rate(self) -> float | None:
        """Bytes a second of all bodies together; None, the default, for no limit."""
        return self._shaper.rate

    @rate.setter
    def rate(self, value: float | None) -> None:
        self._shaper.rate = value

    @property
    def tokens(self) -> Mapping[str, Collection[str]]:
        """The private and gated repositories that each token opens.

        Once there is any token, an unknown one is refused; before, every token counts as none.
        """
        return self._state.tokens

    @tokens.setter
    def tokens(self, value: Mapping[str, Collection[str]]) -> None:
        self._state.tokens = value

    @property
    def page_size(self) -> int:
        """How many items a page of a listing holds."""
        return self._state.page_size

    @page_size.setter
    def page_size(self, value: int) -> None:
        self._state.page_size = value

    @property
    def link_seconds(self) -> float:
        """For how long a signed address of the CDN is good."""
        return self._state.link_seconds

    @link_seconds.setter
    def link_seconds(self, value: float) -> None:
        self._state.link_seconds = value

    def create(
        self,
        repository: str,
        files: Files,
        *,
        lfs: LfsRule = default_rule,
        card: Mapping[str, Any] | None = None,
        private: bool = False,
        gated: bool = False,
        masked: bool = False,
    ) -> str:
        """Create a repository and its first commit; returns the commit's id.

        ``masked`` lists 64 asterisks in place of each LFS digest.
        """
        internal = hashlib.sha256(repository.encode("utf-8", "surrogatepass")).hexdigest()[:24]
        made = Repository(
            repository, internal, lfs, dict(card or {}), private, gated, masked=masked
        )
        commit = made.write(files, "main", "initial commit", root=True)
        self._state.repositories[repository] = made
        return commit.id

    def prepare(self, repository: str) -> None:
        """Compute every digest of the newest commit, which otherwise the first listing does.

        Worth it before a client with a timeout asks about files of many gigabytes.
        """
        for entry in self._find(repository).head().files.values():
            _ = entry.content.sha256 if entry.lfs else entry.content.git_oid

    def commit(
        self,
        repository: str,
        changes: Mapping[str, bytes | Path | None],
        *,
        branch: str = "main",
        title: str = "update",
    ) -> str:
        """Commit ``changes`` (None deletes a file); returns the commit's id."""
        return self._find(repository).write(changes, branch, title, root=False).id

    def force_push(self, repository: str, files: Files, *, branch: str = "main") -> str:
        """Replace the branch's history by one new commit; the old commits are gone."""
        found = self._find(repository)
        commit = found.write(files, branch, "super-squash", root=True)
        found.forget_unreachable()
        return commit.id

    def tag(self, repository: str, name: str, revision: str = "main") -> None:
        """Tag ``revision``."""
        found = self._find(repository)
        found.tags[name] = found.head(revision).id

    def branch(self, repository: str, name: str, revision: str = "main") -> None:
        """Start a branch at ``revision``."""
        found = self._find(repository)
        found.branches[name] = found.head(revision).id

    def rename(self, old: str, new: str) -> None:
        """Rename a repository; the old name answers 307, until another repository takes it."""
        found = self._find(old)
        found.id = new
        self._state.repositories[new] = found
        del self._state.repositories[old]
        self._state.renamed[old] = new

    def delete(self, repository: str) -> None:
        """Delete a repository with all its commits."""
        self._find(repository)
        del self._state.repositories[repository]

    def disable(self, repository: str) -> None:
        """Disable a repository, as the Hub does on a complaint."""
        self._find(repository).disabled = True

    def collection(self, slug: str, repositories: Sequence[str], *, title: str = "") -> None:
        """Create or replace a collection of models."""
        items = [
            {"_id": f"{n:024x}", "id": name, "type": "model", "position": n}
            for n, name in enumerate(repositories)
        ]
        self._state.collections[slug] = {
            "slug": slug,
            "title": title or slug,
            "owner": {"name": slug.partition("/")[0]},
            "items": items,
            "lastUpdated": "2026-01-01T00:00:00.000Z",
            "position": 0,
            "private": False,
            "theme": "green",
            "upvotes": 0,
        }

    def claim(self, repository: str, path: str, **fields: Any) -> None:
        """Make the listing lie about a file: ``size=``, ``oid=``, ``lfs={...}``."""
        self._find(repository).claims[path] = fields

    def list_also(self, repository: str, entry: Mapping[str, Any]) -> None:
        """Add a raw entry to the listing, such as one that names a path a second time."""
        self._find(repository).extra_entries.append(dict(entry))

    def after_listing(self, repository: str, call: Callable[[], object]) -> None:
        """Run ``call`` once, when the tree of ``repository`` has been listed to its last page."""
        self.faults.add(Fault("call", route="tree", repository=repository, call=call))

    def _find(self, repository: str) -> Repository:
        found = self._state.repositories.get(repository)
        if found is None:
            raise UsageError(f"The hub has no repository {repository!r}.")
        return found
