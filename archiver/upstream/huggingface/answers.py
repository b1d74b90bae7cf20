"""What an HTTP answer of the hub means: go on, ask again, or a named error.

The hub's own codes come in ``X-Error-Code`` and ``X-Error-Message``. To who sends no token it
answers a bare 401 for a repository that is private and for one that does not exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from archiver.errors import AccessError, ArchiverError, MismatchError, UpstreamGoneError
from archiver.text import human_duration, printable

if TYPE_CHECKING:
    from collections.abc import Mapping

_WORTH_TELLING = 60.0
_OF_A_PART = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    }
)
"""What a CDN says to who asks for more at once than it gives out, 400 foremost."""
_LATER = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
_DISABLED = "Access to this resource is disabled."
_PRIVATE_HINT = "Check the name; if the repository is private, pass --token or set HF_TOKEN."
_KEPT_HINT = "Snapshots that the archive already holds are not affected."


class AgainError(Exception):
    """An attempt failed in a way that another one may not; ``asked`` is the wait in seconds.

    ``unreached``: there was not even a connection. ``slow``: bytes came, but too few. ``link``: it
    was the CDN that refused the link which the hub gave.
    """

    def __init__(
        self,
        reason: str,
        asked: float | None = None,
        *,
        unreached: bool = False,
        slow: bool = False,
        link: bool = False,
    ) -> None:
        if asked is not None and asked > _WORTH_TELLING:
            reason = f"{reason}, which asks to wait {human_duration(asked)}"
        super().__init__(reason)
        self.reason = reason
        self.asked = asked
        self.unreached = unreached
        self.slow = slow
        self.link = link

    def __str__(self) -> str:
        return f"hub does not answer ({self.reason})" if self.unreached else f"hub: {self.reason}"


def in_a_row(failures: int) -> str:
    """How often an attempt failed, as the end of a sentence."""
    return f", {failures} times in a row" if failures > 1 else ""


class PartsError(Exception):
    """A file was refused as it was asked for; a part of it, of bounded size, may be had.

    ``refusal`` is what the answer stands for if not.
    """

    def __init__(self, refusal: ArchiverError) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


@dataclass(frozen=True)
class Asked:
    """What a request was about, in the words of an error message."""

    repository: str
    revision: str = ""
    path: str = ""
    endpoint: str = ""
    kind: str = "repository"

    def __str__(self) -> str:
        at = f" at {printable(self.revision)}" if self.revision else ""
        of = f"{printable(self.path)} of " if self.path else ""
        return f"{of}{printable(self.repository)}{at}"


def refusal(status: int, headers: Mapping[str, str], asked: Asked, said: str = "") -> ArchiverError:
    """The error that an answer of 400 or more stands for.

    ``headers`` have lowercase names; ``said`` is what the answer's body says, in its own words.
    """
    code = headers.get("x-error-code", "")
    if headers.get("x-error-message") == _DISABLED:
        return disabled(asked)
    if code in _BY_CODE:
        return _BY_CODE[code](asked)
    return _by_status(status, headers, asked, said)


def may_pass(status: int, headers: Mapping[str, str], *, redirected: bool) -> str:
    """Why an answer of 400 or more may be another one soon; empty if it will not."""
    if status in _LATER or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return f"HTTP {status}"
    # A CDN's link is good for an hour or so; the hub gives a new one each time it is asked.
    if link_refused(status, headers, redirected=redirected):
        return "the CDN refused its link (HTTP 403)"
    return ""


def link_refused(status: int, headers: Mapping[str, str], *, redirected: bool) -> bool:
    """Whether it is the CDN that refuses the link which the hub gave."""
    return status == HTTPStatus.FORBIDDEN and redirected and "x-error-code" not in headers


def may_come_in_parts(status: int, headers: Mapping[str, str]) -> bool:
    """Whether an answer of 400 or more to a file may be another one to a part of the file."""
    return status in _OF_A_PART and "x-error-code" not in headers


def disabled(asked: Asked) -> ArchiverError:
    """The hub has switched the repository off."""
    return AccessError(
        f"{printable(asked.repository)} has been disabled by the hub.", hint=_KEPT_HINT
    )


def gated(asked: Asked) -> ArchiverError:
    """The repository's licence must be accepted first."""
    return AccessError(
        f"{printable(asked.repository)} is gated, and access to it was not granted.",
        hint=f"Accept the licence on {asked.endpoint}/{printable(asked.repository)}, then pass "
        "--token or set HF_TOKEN.",
    )


def _no_repository(asked: Asked) -> ArchiverError:
    if asked.path:
        return UpstreamGoneError(
            f"{asked} is gone: upstream shows no such repository any more.", hint=_PRIVATE_HINT
        )
    return UpstreamGoneError(
        f"{asked.endpoint} has no {asked.kind} {printable(asked.repository)}.", hint=_PRIVATE_HINT
    )


def _no_revision(asked: Asked) -> ArchiverError:
    if asked.path:
        return UpstreamGoneError(
            f"{asked} is gone: upstream no longer has the revision.",
            hint="Run the command again to take the newest revision.",
        )
    return UpstreamGoneError(
        f"{printable(asked.repository)} has no revision {printable(asked.revision)}.",
        hint="The hub takes the name of a branch or a tag, or a commit with all its 40 digits.",
    )


def _no_file(asked: Asked) -> ArchiverError:
    return UpstreamGoneError(
        f"{asked} is gone: upstream no longer has it.",
        hint="Run the command again to take the newest revision.",
    )


_BY_CODE = {
    "GatedRepo": gated,
    "RevisionNotFound": _no_revision,
    "EntryNotFound": _no_file,
    "RepoNotFound": _no_repository,
}


def _by_status(status: int, headers: Mapping[str, str], asked: Asked, said: str) -> ArchiverError:
    if status == HTTPStatus.UNAUTHORIZED and "Invalid cred" in headers.get("x-error-message", ""):
        return AccessError(
            f"{asked.endpoint} does not know the token.",
            hint="Pass a valid --token, or correct HF_TOKEN, or log in with the hub's client.",
        )
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        return (
            _no_file(asked)
            if asked.path and status != HTTPStatus.UNAUTHORIZED
            else (_no_repository(asked))
        )
    if status in {HTTPStatus.FORBIDDEN, HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS}:
        return AccessError(
            f"{asked.endpoint} refuses {asked} (HTTP {status}).",
            hint="If the repository is open to you, pass --token or set HF_TOKEN.",
        )
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return MismatchError(f"{asked} is shorter than upstream's listing says.")
    words = headers.get("x-error-message", "") or said
    because = f' and says "{printable(words.strip().rstrip("."))}"' if words.strip() else ""
    # Not "gone": of a repository that is no more, the hub says so.
    return AccessError(
        f"{asked.endpoint} refuses {asked} with HTTP {status}{because}.",
        hint="Asking again will not change that: look at what stands between this machine and the "
        "hub, such as a proxy, or another HF_ENDPOINT.",
    )
