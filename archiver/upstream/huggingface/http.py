"""Requests to the hub through its own client: token, offline mode, retries, bounded answers."""

from __future__ import annotations

import json
import os
import re
import zlib
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urljoin, urlsplit

from archiver.errors import ArchiverError, NetworkError, UsageError
from archiver.text import human_bytes, printable
from archiver.upstream.huggingface.answers import (
    AgainError,
    Asked,
    PartsError,
    in_a_row,
    link_refused,
    may_come_in_parts,
    may_pass,
    refusal,
)
from archiver.upstream.huggingface.deadlines import (
    HeadDeadline,
    LeastRate,
    ListingAllowance,
    Patience,
    Watch,
    timed,
    watching,
)
from archiver.upstream.huggingface.endpoint import chosen_endpoint, require_online

# Read by the client when it is imported: files are to come over plain HTTP, from /resolve.
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")

import httpx2
from huggingface_hub.errors import OfflineModeIsEnabled
from huggingface_hub.utils import (  # type: ignore[attr-defined] # exported, but not marked so
    build_hf_headers,
    get_session,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from archiver.upstream.retry import RetryPolicy

_API = "/api/"
LARGEST_PAGE = 16 * 1024 * 1024
_LARGEST_REFUSAL = 4 * 1024
_LARGEST_REDIRECT = 64 * 1024
_MOST_REDIRECTS = 20
_PIECE = 1024 * 1024
_HOPELESS = (
    httpx2.UnsupportedProtocol,
    httpx2.TooManyRedirects,
    httpx2.InvalidURL,
    httpx2.LocalProtocolError,
)
_NO_COOKIES = DefaultCookiePolicy(allowed_domains=[])
"""The hub needs none, and an odd one would spoil every later request."""
_FIRST_ATTEMPTS = 5
"""Connections to a hub that has not answered yet: with their waits about ten seconds."""
_NUMBER = re.compile(r"\[Errno (-?)\d+\] *")
_MARKUP = re.compile(r"<[^<>]{0,200}>")

Document = TypeVar("Document")


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
    def encoding(self) -> str:
        """How the body is compressed, although that was not asked for; ``""`` if it is not."""
        told = self.headers.get("content-encoding", "").strip().lower()
        return "" if told == "identity" else told

    def chunks(self, rate: LeastRate, *others: Watch) -> Iterator[bytes]:
        """The body, decompressed where it has to be, in pieces of bounded size.

        Raises AgainError when it breaks off, or comes slower than ``rate`` bears.
        """
        raw = self._raw(rate, *others)
        for chunk in _inflated(raw, self.encoding) if self.encoding else raw:
            rate.gained(len(chunk))
            yield chunk

    def _raw(self, *watches: Watch) -> Iterator[bytes]:
        raw = self.response.iter_raw()
        while True:
            with _understood(), watching(*watches):
                chunk = next(raw, None)
            if chunk is None:
                return
            yield chunk


class Session:
    """One hub, one token. Threads may share it.

    Args:
        token: None for ``HF_TOKEN`` or the token that the hub's client has stored.
        endpoint: None for ``HF_ENDPOINT`` or the public hub.
        patience: How long to wait for what.
        retry: How often to ask again.
    """

    def __init__(
        self, token: str | None, endpoint: str | None, patience: Patience, retry: RetryPolicy
    ) -> None:
        self.endpoint = chosen_endpoint(endpoint)
        self.retry = retry
        self.patience = patience
        self._token = token
        self._timeout = httpx2.Timeout(patience.silence, pool=None)
        self._answered = False

    @contextmanager
    def get(
        self, url: str, asked: Asked, headers: Mapping[str, str], *watches: Watch
    ) -> Iterator[Answer]:
        """GET ``url``, which lies below the endpoint.

        Redirects are followed, without the token where they leave the hub's origin.
        Raises AgainError where another attempt may help, PartsError where a part may be had, else
        what the answer stands for.
        """
        require_online()
        sent = {**self._headers(), **headers}
        watches = (HeadDeadline(self.patience), *watches)
        answer = self._send(url, sent, watches)
        try:
            if answer.status >= HTTPStatus.BAD_REQUEST:
                raise self._refused(answer, asked, watches)
            yield answer
        finally:
            _close(answer.response)

    def _send(self, url: str, headers: Mapping[str, str], watches: tuple[Watch, ...]) -> Answer:
        """The answer at the end of all redirects, which is to be closed."""
        with _understood(), watching(*watches):
            client = timed(get_session(), self.patience.clock)
            client.cookies.jar.set_policy(_NO_COOKIES)
            request = client.build_request("GET", url, headers=headers, timeout=self._timeout)
            first: Mapping[str, str] | None = None
            for _ in range(_MOST_REDIRECTS):
                # Not followed by the client: it would read the bodies of redirects, however large.
                response = client.send(request, stream=True, follow_redirects=False)
                self._answered = True
                if first is None:
                    first = response.headers
                if not response.has_redirect_location:
                    return Answer(response.status_code, response.headers, first, response)
                _skim(response)
                if response.next_request is None:
                    raise NetworkError(
                        f"{self.endpoint} sends us on to what is no address (HTTP "
                        f"{response.status_code}).",
                    )
                request = response.next_request
        raise NetworkError(f"{self.endpoint} sends us on and on, {_MOST_REDIRECTS} times.")

    def _refused(self, answer: Answer, asked: Asked, watches: tuple[Watch, ...]) -> Exception:
        """What an answer of 400 or more stands for."""
        status, headers = answer.status, answer.headers
        redirected = headers is not answer.first
        reason = may_pass(status, headers, redirected=redirected)
        if reason:
            link = link_refused(status, headers, redirected=redirected)
            return AgainError(reason, self.retry.asked_by(headers), link=link)
        error = refusal(status, headers, asked, _words(answer, LeastRate(self.patience), watches))
        if asked.path and may_come_in_parts(status, headers):
            return PartsError(error)
        return error

    def json(
        self,
        url: str,
        asked: Asked,
        parse: Callable[[bytearray, Asked], Document],
        allowance: ListingAllowance,
        *,
        most: int = LARGEST_PAGE,
    ) -> tuple[Document, str]:
        """The document at ``url``, and the address of the next page (``""`` if this is the last).

        ``most`` is how many bytes the answer may have.
        Raises NetworkError when it gives up, and what the answer stands for or ``parse`` raises.
        """
        failures = 0
        while True:
            try:
                body, link = self._body(url, asked, allowance, most)
                break
            except AgainError as again:
                failures += 1
                attempts = self._attempts(again)
                if failures >= attempts or self.retry.hopeless(again.asked):
                    raise NetworkError(
                        f"{self.endpoint} does not answer for {asked}: "
                        f"{again.reason}{in_a_row(failures)}.",
                        hint="Run the command again later; what is already held is not asked for.",
                    ) from again
                slept = self.retry.wait(failures, again.asked, reason=str(again), attempts=attempts)
                allowance.note(slept, 0)
        return parse(body, asked), self._own(url, link) if link else ""

    def _attempts(self, again: AgainError) -> int:
        """A hub that was never there in this run is more likely misnamed than down for a minute."""
        if again.unreached and not self._answered:
            return min(self.retry.attempts, _FIRST_ATTEMPTS)
        return self.retry.attempts

    def _body(
        self, url: str, asked: Asked, allowance: ListingAllowance, most: int
    ) -> tuple[bytearray, str]:
        headers = {"accept": "application/json", "accept-encoding": "gzip"}
        with self.get(url, asked, headers, allowance) as answer:
            body = bytearray()
            for chunk in answer.chunks(LeastRate(self.patience), allowance):
                body += chunk
                allowance.take(len(chunk))
                if len(body) > most:
                    raise NetworkError(
                        f"The hub's answer about {asked} is larger than {human_bytes(most)}.",
                        hint="No answer of a hub is so large; check that HF_ENDPOINT is a hub.",
                    )
            with _understood():
                return body, answer.response.links.get("next", {}).get("url", "")

    def _own(self, url: str, link: str) -> str:
        """``link`` on our endpoint: the token must not follow it elsewhere.

        A mirror of the hub may hand on pages of the original, so other origins are no error.
        """
        with _understood():
            address = urljoin(url, link)
            if not address.startswith(self.endpoint + "/"):
                parts = urlsplit(address)
                query = f"?{parts.query}" if parts.query else ""
                address = f"{self.endpoint}{parts.path}{query}"
        if not address.startswith(self.endpoint + _API):
            raise NetworkError(
                f"The hub's listing goes on at {printable(link)}, which is no part of its API."
            )
        return address

    def _headers(self) -> dict[str, str]:
        headers = build_hf_headers(token=self._token, library_name="archiver")
        authorization = headers.get("authorization", "")
        if not (authorization.isascii() and authorization.isprintable()):
            raise UsageError("The token holds characters that no token has.")
        return headers


def _inflated(raw: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """``raw`` decompressed, never more than a piece at once, however much it would make."""
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        raise NetworkError(
            f"The hub's answer is compressed as {printable(encoding, 40)}, which was not asked for."
        )
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # gzip or zlib, as the head says
    try:
        for chunk in raw:
            left = chunk
            while left and not inflater.eof:
                yield inflater.decompress(left, _PIECE)
                left = inflater.unconsumed_tail
            while not inflater.eof and (more := inflater.decompress(b"", _PIECE)):
                yield more
    except zlib.error as error:
        raise AgainError("the compressed body is broken") from error
    if not inflater.eof:
        raise AgainError("the compressed body ended too early")


def _skim(response: httpx2.Response) -> None:
    """Read the rest of a small body, so that the connection serves again; or hang up."""
    length = 0
    try:
        for chunk in response.iter_raw():
            length += len(chunk)
            if length > _LARGEST_REDIRECT:
                return
    finally:
        _close(response)


def _close(response: httpx2.Response) -> None:
    with suppress(httpx2.HTTPError, OSError):
        response.close()


def _words(answer: Answer, rate: LeastRate, watches: tuple[Watch, ...]) -> str:
    """What the body of a refusal says: its ``error`` if it is JSON, else its text without markup."""
    body = bytearray()
    with suppress(AgainError, ArchiverError):
        for chunk in answer.chunks(rate, *watches):
            body += chunk
            if len(body) >= _LARGEST_REFUSAL:
                break
    text = bytes(body[:_LARGEST_REFUSAL]).decode(errors="replace")
    with suppress(ValueError, RecursionError):
        told = json.loads(text)
        error = told.get("error") if isinstance(told, dict) else None
        return error if isinstance(error, str) else ""
    return " ".join(_MARKUP.sub(" ", text).split())


@contextmanager
def _understood() -> Iterator[None]:
    """Turn the client's errors into AgainError, or NetworkError where no retry can help.

    Messages are built from the error's type: a local protocol error quotes the header that it
    refuses, which may be the token.
    """
    try:
        yield
    except (AgainError, ArchiverError):
        raise
    except OfflineModeIsEnabled as error:
        raise NetworkError("Nothing was asked of the hub: its client is offline.") from error
    except _HOPELESS as error:
        raise NetworkError(f"The hub cannot be asked: {type(error).__name__}.") from None
    except httpx2.TimeoutException as error:
        connecting = isinstance(error, httpx2.ConnectTimeout)
        raise AgainError("the connection was silent for too long", unreached=connecting) from error
    except httpx2.ConnectError as error:
        raise AgainError(_plain(error), unreached=True) from error
    except (httpx2.RequestError, OSError) as error:
        raise AgainError(_plain(error)) from error
    except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError) as error:
        # Odd addresses and headers make the client, the codecs and the sockets raise many kinds.
        raise NetworkError(
            f"The hub sent an address or a header that makes no sense ({type(error).__name__}).",
            hint="Check that HF_ENDPOINT is a hub and that no proxy stands in between.",
        ) from None


def _plain(error: Exception) -> str:
    """A network error in words: without numbers, which mean something to programs only."""
    text = str(error)
    number = _NUMBER.match(text)
    said = printable(text[number.end() :] if number else text).rstrip(".")
    # Numbers below zero are those of the resolver.
    return (f"its name cannot be resolved: {said}" if number and number[1] else said) or type(
        error
    ).__name__
