"""Requests to the hub through its own client: token, offline mode, retries, bounded JSON."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from math import isfinite
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from archiver.errors import NetworkError, UsageError
from archiver.text import printable
from archiver.upstream.huggingface.answers import AgainError, Asked, may_pass, refusal
from archiver.upstream.huggingface.parsing import parse_json

# Read by the client when it is imported: files are to come over plain HTTP, from /resolve.
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")

import httpx2
from huggingface_hub.errors import OfflineModeIsEnabled
from huggingface_hub.utils import (  # type: ignore[attr-defined] # exported, but not marked so
    build_hf_headers,
    get_session,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from archiver.upstream.retry import RetryPolicy

DEFAULT_ENDPOINT = "https://huggingface.co"
_TIMEOUT = 30.0
_TIMEOUT_VARIABLE = "ARCHIVER_TIMEOUT"
_LARGEST_JSON = 64 * 1024 * 1024
_TRUE = frozenset({"1", "ON", "YES", "TRUE"})
_OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_HOPELESS = (httpx2.UnsupportedProtocol, httpx2.TooManyRedirects, httpx2.InvalidURL)
_FIRST_ATTEMPTS = 5
"""Connections to a hub that has not answered yet: with their waits about ten seconds."""
_NUMBER = re.compile(r"\[Errno (-?)\d+\] *")


@dataclass(frozen=True)
class Answer:
    """An answer whose body has not been read.

    ``first`` are the headers of the hub's own answer, before it sent us on to a CDN.
    """

    status: int
    headers: Mapping[str, str]
    first: Mapping[str, str]
    response: httpx2.Response

    @property
    def encoded(self) -> bool:
        """Whether the body is compressed although only ``identity`` was accepted."""
        return self.headers.get("content-encoding", "").strip().lower() not in {"", "identity"}

    def chunks(self) -> Iterator[bytes]:
        """The body, decompressed where it has to be; raises AgainError when it breaks off."""
        with _translated():
            yield from self.response.iter_bytes() if self.encoded else self.response.iter_raw()


class Session:
    """One hub, one token. Threads may share it.

    Args:
        token: None for ``HF_TOKEN`` or the token that the hub's client has stored.
        endpoint: None for ``HF_ENDPOINT`` or the public hub.
        timeout: Seconds of silence after which a request has failed.
        retry: How often JSON is asked for again.
    """

    def __init__(
        self, token: str | None, endpoint: str | None, timeout: float, retry: RetryPolicy
    ) -> None:
        self.endpoint = _checked(endpoint or os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT)
        self.retry = retry
        self._token = token
        self._timeout = httpx2.Timeout(timeout, pool=None)
        self._answered = False

    @contextmanager
    def get(self, url: str, asked: Asked, headers: Mapping[str, str]) -> Iterator[Answer]:
        """GET ``url``, which lies below the endpoint.

        Redirects are followed, without the token where they leave the hub's origin.
        Raises AgainError where another attempt may help, else what the answer stands for.
        """
        _require_online()
        sent = {**self._headers(), **headers}
        client = get_session()
        with _translated(), client.stream("GET", url, headers=sent, timeout=self._timeout) as got:
            self._answered = True
            first = (got.history or [got])[0]
            if got.status_code >= HTTPStatus.BAD_REQUEST:
                reason = may_pass(got.status_code, got.headers, redirected=bool(got.history))
                if reason:
                    raise AgainError(reason, self.retry.asked_by(got.headers))
                raise refusal(got.status_code, got.headers, asked)
            yield Answer(got.status_code, got.headers, first.headers, got)

    def json(self, url: str, asked: Asked) -> tuple[Any, str]:
        """The JSON at ``url``, and the address of the next page (``""`` if this is the last)."""
        failures = 0
        while True:
            try:
                return self._json(url, asked)
            except AgainError as again:
                failures += 1
                attempts = self._attempts(again)
                if failures >= attempts:
                    raise NetworkError(
                        f"{self.endpoint} does not answer for {asked}: {again.reason}, "
                        f"{failures} times in a row.",
                        hint="Run the command again later; what is already held is not asked for.",
                    ) from again
                self.retry.wait(failures, again.asked, reason=str(again), attempts=attempts)

    def _attempts(self, again: AgainError) -> int:
        """A hub that was never there in this run is more likely misnamed than down for a minute."""
        if again.unreached and not self._answered:
            return min(self.retry.attempts, _FIRST_ATTEMPTS)
        return self.retry.attempts

    def _json(self, url: str, asked: Asked) -> tuple[Any, str]:
        with self.get(url, asked, {"accept": "application/json"}) as answer:
            body = bytearray()
            with _translated():
                for chunk in answer.response.iter_bytes():
                    body += chunk
                    if len(body) > _LARGEST_JSON:
                        raise NetworkError(f"The hub's answer about {asked} is too large.")
            link = answer.response.links.get("next", {}).get("url", "")
            return parse_json(body, str(asked)), self._own(url, link) if link else ""

    def _own(self, url: str, link: str) -> str:
        """``link`` on our endpoint: the token must not follow it elsewhere.

        A mirror of the hub may hand on pages of the original, so other origins are no error.
        """
        absolute = urljoin(url, link)
        if absolute.startswith(self.endpoint + "/"):
            return absolute
        parts = urlsplit(absolute)
        return f"{self.endpoint}{parts.path}" + (f"?{parts.query}" if parts.query else "")

    def _headers(self) -> dict[str, str]:
        headers = build_hf_headers(token=self._token, library_name="archiver")
        authorization = headers.get("authorization", "")
        if not (authorization.isascii() and authorization.isprintable()):
            raise UsageError("The token holds characters that no token has.")
        return headers


def chosen_timeout() -> float:
    """The seconds of silence to bear: ``ARCHIVER_TIMEOUT``, or 30."""
    told = os.environ.get(_TIMEOUT_VARIABLE, "")
    if not told:
        return _TIMEOUT
    try:
        seconds = float(told)
    except ValueError:
        seconds = 0.0
    if not (isfinite(seconds) and seconds > 0):
        raise UsageError(f"{_TIMEOUT_VARIABLE}={printable(told)} is not a number of seconds.")
    return seconds


def _checked(endpoint: str) -> str:
    parts = urlsplit(endpoint)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise UsageError(
            f"{printable(endpoint)} is not the address of a hub.",
            hint=f"Write it like {DEFAULT_ENDPOINT}; see also the variable HF_ENDPOINT.",
        )
    if parts.username or parts.password:
        # The endpoint is recorded in manifests, which are for everyone to read.
        raise UsageError("The hub's address may not hold a password; pass --token instead.")
    return endpoint.rstrip("/")


def _require_online() -> None:
    # The hub's client reads the same two, the second only if the first is not set.
    name = next((name for name in _OFFLINE_VARIABLES if os.environ.get(name)), "")
    if os.environ.get(name, "").upper() in _TRUE:
        raise NetworkError(
            f"Nothing was asked of the hub: {name} is set.",
            hint=f"Unset {name}, or use 'archiver import' on a folder.",
        )


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the client's errors into AgainError, or NetworkError where no retry can help.

    Messages are built from the error's type: a local protocol error quotes the header that it
    refuses, which may be the token.
    """
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise NetworkError("Nothing was asked of the hub: its client is offline.") from error
    except (*_HOPELESS, httpx2.LocalProtocolError) as error:
        raise NetworkError(f"The hub cannot be asked: {type(error).__name__}.") from None
    except httpx2.TimeoutException as error:
        connecting = isinstance(error, httpx2.ConnectTimeout)
        raise AgainError("the connection was silent for too long", unreached=connecting) from error
    except httpx2.ConnectError as error:
        raise AgainError(_plain(error), unreached=True) from error
    except httpx2.RequestError as error:
        raise AgainError(_plain(error)) from error


def _plain(error: Exception) -> str:
    """A network error in words: without numbers, which mean something to programs only."""
    text = str(error)
    number = _NUMBER.match(text)
    said = printable(text[number.end() :] if number else text).rstrip(".")
    # Numbers below zero are those of the resolver.
    return (f"its name cannot be resolved: {said}" if number and number[1] else said) or type(
        error
    ).__name__
