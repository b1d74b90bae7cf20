"""Everything that the hub holds: repositories, old names, collections, tokens, signed links."""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from archiver.loopback.wire import RefusedError, refusal

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from archiver.loopback.content import Content
    from archiver.loopback.repository import Repository
    from archiver.loopback.wire import Request

_SIGNING_KEY = b"loopback"


class State:
    """What the routes read and what ``Hub`` writes.

    The threads that answer requests only read it, and each lookup is a single dictionary access,
    so that it needs no lock.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.renamed: dict[str, str] = {}
        self.collections: dict[str, dict[str, Any]] = {}
        self.tokens: Mapping[str, Collection[str]] = {}
        self.page_size = 1000
        self.link_seconds = 3600.0
        self.endpoint = ""
        self.cdn = ""
        self._linked: dict[str, Content] = {}

    def allowed(self, repository: Repository, token: str) -> bool:
        """Whether ``token`` opens a private or gated ``repository``."""
        return repository.id in self.tokens.get(token, ())

    def repository(self, name: str, request: Request) -> Repository:
        """The repository called ``name``, when the request may know that it exists.

        Raises RefusedError otherwise, with the Hub's own wording: who sends no token is not told
        whether a repository is private or missing.
        """
        token = request.token
        if token and self.tokens and token not in self.tokens:
            raise RefusedError(refusal(401, "Invalid credentials in Authorization header"))
        found = self.repositories.get(name)
        if found is not None and (not found.private or self.allowed(found, token)):
            return found
        if token:
            raise RefusedError(refusal(404, "Repository not found", "RepoNotFound"))
        raise RefusedError(refusal(401, "Invalid username or password."))

    def link(self, repository: Repository, path: str, content: Content) -> str:
        """A signed address on the CDN's port from which ``content`` can be had for a while."""
        place = f"/{repository.internal_id}/{content.sha256}"
        self._linked[place] = content
        expires = f"{time.time() + self.link_seconds:.3f}"
        signature = _sign(place, repository.id, path, expires)
        terms = {"repo": repository.id, "file": path, "Expires": expires, "Signature": signature}
        return f"{self.cdn}{place}?{urlencode(terms, quote_via=quote, errors='surrogateescape')}"

    def linked(self, request: Request) -> Content:
        """What a signed address leads to; raises RefusedError when it is forged or has expired."""
        terms = [request.value(name) for name in ("repo", "file", "Expires")]
        genuine = _sign(request.path, *terms)
        if not hmac.compare_digest(genuine, request.value("Signature")):
            raise RefusedError(refusal(403, "SignatureDoesNotMatch"))
        if float(terms[-1]) < time.time():
            raise RefusedError(refusal(403, "Request has expired"))
        content = self._linked.get(request.path)
        if content is None:
            raise RefusedError(refusal(404, "NoSuchKey"))
        return content


def _sign(*terms: str) -> str:
    text = "\x00".join(terms).encode("utf-8", "surrogateescape")
    return hmac.new(_SIGNING_KEY, text, hashlib.sha256).hexdigest()
