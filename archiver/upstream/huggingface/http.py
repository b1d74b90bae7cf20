"""Requests to the Hugging Face Hub through its own client: token, offline mode, what refusals mean.

The hub's own codes come in ``X-Error-Code`` and ``X-Error-Message``. To who sends no token it answers a
bare 401 for a repository that is private and for one that does not exist.
"""

from __future__ import annotations

import os
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from archiver.errors import (
    AccessError,
    ArchiverError,
    DisabledError,
    MismatchError,
    NetworkError,
    TokenError,
    UnseenError,
    UpstreamGoneError,
)
from archiver.text import printable
from archiver.upstream import http
from archiver.upstream.huggingface.endpoint import chosen_endpoint, require_online
from archiver.upstream.retry import RetryableError

# Read by the client when it is imported: files are to come over plain HTTP, from /resolve.
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")

from huggingface_hub.errors import OfflineModeIsEnabled
from huggingface_hub.utils import (  # type: ignore[attr-defined] # exported, but not marked so
    build_hf_headers,
    get_session,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx2

    from archiver.upstream.deadlines import Patience
    from archiver.upstream.http import Subject
    from archiver.upstream.read_watches import Watch
    from archiver.upstream.retry import RetryPolicy

NO_REVISION: Final = "RevisionNotFound"
"""The hub's own word for a commit, branch or tag that it has not."""
_DISABLED = "Access to this resource is disabled."
_PRIVATE_HINT = "Check the name; if the repository is private, pass --token or set HF_TOKEN."
_KEPT_HINT = "Snapshots that the archive already holds are not affected."


class Session(http.Session):
    """The Hub, or one that speaks its protocol.

    Args:
        token: None for ``HF_TOKEN`` or the token that the hub's client has stored.
        endpoint: None for ``HF_ENDPOINT`` or the public hub.
        patience: How long to wait for what.
        retry: How often to ask again.
    """

    variable = "HF_ENDPOINT"
    api = "/api/"

    def __init__(
        self, token: str | None, endpoint: str | None, patience: Patience, retry: RetryPolicy
    ) -> None:
        super().__init__(chosen_endpoint(endpoint), patience, retry)
        self._token = token

    def _client(self) -> httpx2.Client:
        return get_session()

    def _credentials(self, url: str = "") -> dict[str, str]:
        del url
        headers = build_hf_headers(token=self._token, library_name="archiver")
        return {name: value for name, value in headers.items() if name == "authorization"}

    @property
    def has_token(self) -> bool:
        """Whether requests name a user."""
        return bool(self._credentials())

    def _headers(self) -> dict[str, str]:
        return build_hf_headers(token=False, library_name="archiver")

    def _require_online(self) -> None:
        require_online()

    def _send(
        self, url: str, headers: Mapping[str, str], watches: tuple[Watch, ...]
    ) -> http.Answer:
        try:
            return super()._send(url, headers, watches)
        except RetryableError as error:
            if isinstance(error.__cause__, OfflineModeIsEnabled):
                raise NetworkError(
                    "Nothing was asked of the hub: its client is offline."
                ) from error
            raise

    def _refusal(
        self, status: int, headers: Mapping[str, str], subject: Subject, said: http.Said
    ) -> ArchiverError:
        code = headers.get("x-error-code", "")
        if headers.get("x-error-message") == _DISABLED:
            return disabled(subject)
        if code in _BY_CODE:
            return _BY_CODE[code](subject)
        return _by_status(status, headers, subject, said.words)


def disabled(subject: Subject) -> ArchiverError:
    """Return the error for a repository that the hub has switched off."""
    return DisabledError(
        f"{printable(subject.repository)} has been disabled by the hub.",
        hint=_KEPT_HINT,
        subject=subject.repository,
    )


def gated(subject: Subject) -> ArchiverError:
    """Return the error for a repository whose licence must be accepted first."""
    return AccessError(
        f"{printable(subject.repository)} is gated, and access to it was not granted.",
        hint=f"Accept the licence on {subject.endpoint}/{printable(subject.repository)}, then pass "
        "--token or set HF_TOKEN.",
        subject=subject.repository,
    )


def _no_repository(subject: Subject) -> ArchiverError:
    if subject.path:
        return UpstreamGoneError(
            f"{subject} is gone: upstream shows no such repository any more.", hint=_PRIVATE_HINT
        )
    return UnseenError(
        f"{subject.endpoint} has no {subject.kind} {printable(subject.repository)}.",
        hint=_PRIVATE_HINT,
    )


def _no_revision(subject: Subject) -> ArchiverError:
    if subject.path:
        return UpstreamGoneError(
            f"{subject} is gone: upstream no longer has the revision.",
            hint="Run the command again to take the newest revision.",
        )
    return UpstreamGoneError(
        f"{printable(subject.repository)} has no revision {printable(subject.revision)}.",
        hint="The hub takes the name of a branch or a tag, or a commit with all its 40 digits.",
        subject=subject.repository,
    )


def _no_file(subject: Subject) -> ArchiverError:
    return UpstreamGoneError(
        f"{subject} is gone: upstream no longer has it.",
        hint="Run the command again to take the newest revision.",
    )


_BY_CODE = {
    "GatedRepo": gated,
    NO_REVISION: _no_revision,
    "EntryNotFound": _no_file,
    "RepoNotFound": _no_repository,
}


def _by_status(
    status: int, headers: Mapping[str, str], subject: Subject, said: str
) -> ArchiverError:
    if status == HTTPStatus.UNAUTHORIZED and "Invalid cred" in headers.get("x-error-message", ""):
        return TokenError(
            f"{subject.endpoint} does not know the token.",
            hint="Pass a valid --token, or correct HF_TOKEN, or log in with the hub's client.",
        )
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        unknown = not subject.path or status == HTTPStatus.UNAUTHORIZED
        return _no_repository(subject) if unknown else _no_file(subject)
    if status in {HTTPStatus.FORBIDDEN, HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS}:
        return AccessError(
            f"{subject.endpoint} refuses {subject} (HTTP {status}).",
            hint="If the repository is open to you, pass --token or set HF_TOKEN.",
        )
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return MismatchError(f"{subject} is shorter than upstream's listing says.")
    words = headers.get("x-error-message", "") or said
    because = f' and says "{printable(words.strip().rstrip("."))}"' if words.strip() else ""
    # Not "gone": of a repository that is no more, the hub says so.
    return AccessError(
        f"{subject.endpoint} refuses {subject} with HTTP {status}{because}.",
        hint="Asking again will not change that: look at what stands between this machine and the "
        "hub, such as a proxy, or another HF_ENDPOINT.",
    )
