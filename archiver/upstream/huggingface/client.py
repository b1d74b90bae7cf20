"""The Hub as an :class:`~archiver.upstream.protocol.Upstream`."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from archiver.errors import NetworkError, UsageError
from archiver.names import as_repo_id, check_paths
from archiver.text import printable
from archiver.upstream.huggingface.answers import Asked
from archiver.upstream.huggingface.listing import pin, remote_files, repository_name
from archiver.upstream.huggingface.session import Answer, Session, chosen_timeout
from archiver.upstream.huggingface.stream import HubStream
from archiver.upstream.protocol import Listing, RemoteFile
from archiver.upstream.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from archiver.throttle import Throttle

_MAIN = "main"
_MOST_ENTRIES = 1_000_000
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
        retry: How often and how patiently to ask again.
        throttle: A limit on the bytes per second of all streams together.
    """

    def __init__(
        self,
        token: str | None = None,
        endpoint: str | None = None,
        *,
        timeout: float | None = None,
        retry: RetryPolicy | None = None,
        throttle: Throttle | None = None,
    ) -> None:
        seconds = chosen_timeout() if timeout is None else timeout
        self._session = Session(token, endpoint, seconds, retry or RetryPolicy())
        self._throttle = throttle

    @property
    def endpoint(self) -> str:
        """The hub's address, without a slash at its end."""
        return self._session.endpoint

    def list(self, repository: str, revision: str | None = None) -> Listing:
        """Pin ``revision`` (default: the main branch) to a commit and list its files.

        Raises:
            UpstreamGoneError: No such repository or revision, or it goes by another name now.
            AccessError: Gated or disabled.
            NetworkError: The hub could not be reached, also after retries.
            HostileNameError: A path may not be written, or the hub's answer makes no sense.
            MismatchError: A file is listed without a size or a digest.
            UsageError: ``repository`` is no repository's name.
        """
        name = as_repo_id(repository)
        asked = Asked(name, revision or "", endpoint=self.endpoint)
        at = f"/revision/{quote(revision, safe='')}" if revision else ""
        info, _ = self._session.json(f"{self.endpoint}/api/models/{name}{at}", asked)
        found = pin(info, asked)
        files = self._tree(Asked(found.repository, found.commit, endpoint=self.endpoint))
        check_paths(file.path for file in files)
        return Listing(
            upstream="huggingface",
            endpoint=self.endpoint,
            repository=found.repository,
            revision=found.commit,
            name=revision or _MAIN,
            files=tuple(sorted(files, key=lambda file: file.path)),
            id=found.id,
            committed=found.committed,
            licence=found.licence,
            card=found.card,
        )

    @contextmanager
    def open(self, listing: Listing, file: RemoteFile, offset: int = 0) -> Iterator[HubStream]:
        """The bytes of ``file`` from ``offset`` on; nothing is sent before the first read."""
        asked = Asked(listing.repository, listing.revision, file.path, self.endpoint)
        url = f"{self.endpoint}/{listing.repository}/resolve/{listing.revision}/{quote(file.path)}"

        def ask(start: int) -> AbstractContextManager[Answer]:
            headers = {"accept-encoding": "identity"}
            if start:
                headers["range"] = f"bytes={start}-"
            return self._session.get(url, asked, headers)

        stream = HubStream(
            ask, file, asked, offset=offset, retry=self._session.retry, throttle=self._throttle
        )
        try:
            yield stream
        finally:
            stream.close()

    def collection(self, slug: str) -> tuple[str, ...]:
        """The models in a collection, such as ``Qwen/qwen35``, in its order; raises as ``list``."""
        if not _SLUG.match(slug):
            raise UsageError(
                f"{printable(slug)} is not the name of a collection.",
                hint="Write it as in the collection's address: Owner/title-and-digits.",
            )
        asked = Asked(slug, endpoint=self.endpoint, kind="collection")
        told, _ = self._session.json(f"{self.endpoint}/api/collections/{slug}", asked)
        items = told.get("items") if isinstance(told, dict) else None
        models = [
            item.get("id")
            for item in (items if isinstance(items, list) else [])
            if isinstance(item, dict) and item.get("type") == "model"
        ]
        return tuple(map(repository_name, models))

    def _tree(self, asked: Asked) -> tuple[RemoteFile, ...]:
        """Every file of a commit, page by page."""
        url = f"{self.endpoint}/api/models/{asked.repository}/tree/{asked.revision}?recursive=true"
        entries: list[Any] = []
        while url:
            page, following = self._session.json(url, asked)
            if not isinstance(page, list) or (following and not page):
                raise NetworkError(f"The hub's listing of {asked} is no listing.")
            entries += page
            if len(entries) > _MOST_ENTRIES:
                raise NetworkError(f"The hub's listing of {asked} does not end.")
            url = following
        return tuple(remote_files(entries, asked))
