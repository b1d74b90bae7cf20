"""Requests to ModelScope: its address, its token, and what its refusals mean.

As its own client asks it (``modelscope-hub`` 0.5.1, read in its source; the service was not
asked):

- ``MODELSCOPE_ENDPOINT`` names the hub; ``MODELSCOPE_DOMAIN`` did so before, and may lack its
  ``https://``.
- ``MODELSCOPE_API_TOKEN`` is the token. It is sent twice: ``Authorization: Bearer``, and as the
  cookie ``m_session_id``, which older routes go by. The client also stores it, as a pickle: that
  is not read.
- An answer's JSON is an envelope: ``Code``, ``Success``, ``Message``, ``RequestId`` and ``Data``.
  Refusals have a status of HTTP too, and a message that may be Chinese. A failure can also come
  with HTTP 200, a ``Code`` other than 200 and ``Success`` false.
- 400 is what it says for wrong parameters, and also for a token that it does not know (``Code``
  10010103009); 404 for what does not exist, 401 and 403 for what is closed, 429 with
  ``Retry-After`` for too many requests.
- A listing is refused with 403 now and then although the one before it was answered: asked again,
  it is given.
"""

from __future__ import annotations

import atexit
import base64
import os
import threading
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING

import httpx2

from archiver.errors import (
    AccessError,
    ArchiverError,
    MismatchError,
    TokenError,
    UnseenError,
    UpstreamGoneError,
)
from archiver.text import printable
from archiver.upstream import http
from archiver.upstream.endpoint import checked_endpoint
from archiver.upstream.refs import SERVICE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from archiver.upstream.deadlines import Patience
    from archiver.upstream.http import Subject
    from archiver.upstream.retry import RetryPolicy

DEFAULT_ENDPOINT = "https://modelscope.cn"
ENDPOINT_VARIABLE = "MODELSCOPE_ENDPOINT"
TOKEN_VARIABLE = "MODELSCOPE_API_TOKEN"  # noqa: S105 - the name of a variable
GIT_REFS = f".git/{SERVICE}"
_OLD_VARIABLE = "MODELSCOPE_DOMAIN"
_TOKEN_HINT = f"If it is open to you, pass --token or set {TOKEN_VARIABLE}."
_UNKNOWN_TOKEN = "10010103009"  # noqa: S105 - a code of the hub
_AGENT = "archiver"
_CONNECTING = threading.Lock()


@cache
def _client() -> httpx2.Client:
    """Return the client that all sessions of the process share, and its connections with it."""
    client = httpx2.Client(timeout=None)
    atexit.register(client.close)  # as the Hugging Face client does with its own
    return client


def chosen_endpoint(endpoint: str | None = None) -> str:
    """Return ModelScope's address: ``endpoint``, what the environment names, or the public one.

    Raise UsageError if it is none.
    """
    chosen = endpoint or os.environ.get(ENDPOINT_VARIABLE) or os.environ.get(_OLD_VARIABLE) or ""
    chosen = chosen.strip() or DEFAULT_ENDPOINT
    if "://" not in chosen:
        chosen = f"https://{chosen}"
    return checked_endpoint(chosen, DEFAULT_ENDPOINT, ENDPOINT_VARIABLE)


class Session(http.Session):
    """ModelScope, or a hub that speaks its protocol.

    Args:
        token: None for ``MODELSCOPE_API_TOKEN``.
        endpoint: None for ``MODELSCOPE_ENDPOINT`` or the public hub.
        patience: How long to wait for what.
        retry: How often to ask again.
    """

    variable = ENDPOINT_VARIABLE
    api = "/api/v1/"

    def __init__(
        self, token: str | None, endpoint: str | None, patience: Patience, retry: RetryPolicy
    ) -> None:
        super().__init__(chosen_endpoint(endpoint), patience, retry)
        self._token = os.environ.get(TOKEN_VARIABLE, "") if token is None else token
        self._read: set[str] = set()

    def note_read(self, subject: Subject) -> None:
        """Take note that a repository was listed: it is open to us."""
        self._read.add(subject.repository)

    @property
    def has_token(self) -> bool:
        """Whether requests name a user."""
        return bool(self._token)

    def _client(self) -> httpx2.Client:
        with _CONNECTING:
            return _client()

    def _headers(self) -> dict[str, str]:
        return {"user-agent": _AGENT}

    def _credentials(self, url: str) -> dict[str, str]:
        if not self._token:
            return {}
        if url.endswith(GIT_REFS):
            # As git sends what its client writes into an address: oauth2:TOKEN@.
            pair = base64.b64encode(f"oauth2:{self._token}".encode("utf-8", "replace"))
            return {"authorization": f"Basic {pair.decode()}"}
        return {"authorization": f"Bearer {self._token}", "cookie": f"m_session_id={self._token}"}

    def _passes(self, status: int, subject: Subject) -> bool:
        listing = not subject.path
        return status == HTTPStatus.FORBIDDEN and listing and subject.repository in self._read

    def _refusal(
        self, status: int, headers: Mapping[str, str], subject: Subject, said: http.Said
    ) -> ArchiverError:
        del headers
        return refusal(status, subject, said.words, said.code)


def refusal(status: int, subject: Subject, said: str, code: str = "") -> ArchiverError:
    """Return the error that a refusal stands for: its ``status``, its words, and ModelScope's own code."""
    because = f' and says "{printable(said.strip().rstrip("."))}"' if said.strip() else ""
    if status == HTTPStatus.UNAUTHORIZED or code == _UNKNOWN_TOKEN:
        kind = TokenError if code == _UNKNOWN_TOKEN else AccessError
        return kind(
            f"{subject.endpoint} does not let us see {subject} (HTTP {status}{because}).",
            hint=f"Check the name. {_TOKEN_HINT}",
        )
    if status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        return _gone(subject)
    if status in {HTTPStatus.FORBIDDEN, HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS}:
        return AccessError(
            f"{subject.endpoint} refuses {subject} (HTTP {status}{because}).", hint=_TOKEN_HINT
        )
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return MismatchError(f"{subject} is shorter than upstream's listing says.")
    return AccessError(
        f"{subject.endpoint} refuses {subject} with HTTP {status}{because}.",
        hint="Asking again will not change that: look at what stands between this machine and the "
        f"hub, such as a proxy, or another {ENDPOINT_VARIABLE}.",
    )


def _gone(subject: Subject) -> ArchiverError:
    if subject.path:
        return UpstreamGoneError(
            f"{subject} is gone: upstream no longer has it.",
            hint="Run the command again to take the newest revision.",
        )
    return UnseenError(
        f"{subject.endpoint} has no {subject.kind} {printable(subject.repository)}.",
        hint=f"Check the name; if the repository is private, pass --token or set {TOKEN_VARIABLE}.",
    )


def no_revision(subject: Subject) -> ArchiverError:
    """Return the error for a repository that is there and has no such revision."""
    return UpstreamGoneError(
        f"{printable(subject.repository)} has no revision {printable(subject.revision)}.",
        hint="ModelScope takes the name of a branch or a tag, or a commit of its own with all its 40 "
        "digits; its main branch is master.",
        subject=subject.repository,
    )
