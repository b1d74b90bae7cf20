"""Requests to a hub: retries, deadlines, redirects, bounded answers; what all hubs have in common.

What an answer of 400 or more means comes first: another attempt (:class:`RetryableError`), the file in
parts (:class:`WholeRefusedError`), or a named error, which each hub's own class makes of it.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
import zlib
from abc import ABC, abstractmethod
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar
from urllib.parse import urljoin, urlsplit

import httpx2

from archiver.errors import ArchiverError, NetworkError, UpstreamGoneError, UsageError
from archiver.text import human_bytes, printable
from archiver.upstream.deadlines import (
    HeadDeadline,
    LeastRate,
    ListingAllowance,
    Patience,
    timed,
)
from archiver.upstream.read_watches import Watch, seconds_left, watching
from archiver.upstream.retry import RetryableError, in_a_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from archiver.upstream.retry import RetryPolicy

_log = logging.getLogger(__name__)

_LARGEST_PAGE = 16 * 1024 * 1024
_LONGEST_CODE = 60
_CODE = "Code"
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
SILENT: Final = "the connection was silent for too long"
_FIRST_ATTEMPTS = 5
"""Connections to a hub that has not answered yet: with their waits about ten seconds."""
_NUMBER = re.compile(r"\[Errno (-?)\d+\] *")
_MARKUP = re.compile(r"<[^<>]{0,200}>")
_OF_A_PART = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    }
)
"""What a CDN says to who asks for more at once than it gives out, 400 foremost."""
_BUSY = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_LATER = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
_WORDS = ("error", "Message", "message")
"""Where the JSON of a refusal says in words what is wrong."""

Document = TypeVar("Document")


# --- what an answer means


@dataclass(frozen=True)
class Subject:
    """What a request was about, in the words of an error message.

    ``variable`` is the one of the environment that names another hub.
    """

    repository: str
    revision: str = ""
    path: str = ""
    endpoint: str = ""
    kind: str = "repository"
    variable: str = "HF_ENDPOINT"

    def __str__(self) -> str:
        at = f" at {printable(self.revision)}" if self.revision else ""
        of = f"{printable(self.path)} of " if self.path else ""
        return f"{of}{printable(self.repository)}{at}"


class WholeRefusedError(Exception):
    """A file was refused as it was asked for; a part of it, of bounded size, may be had.

    ``refusal`` is what the answer stands for if not.
    """

    def __init__(self, refusal: ArchiverError) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def _transient_reason(status: int, headers: Mapping[str, str], *, redirected: bool) -> str:
    """Return why an answer of 400 or more may be another one soon; ``""`` if it will not."""
    if status in _LATER or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return f"HTTP {status}"
    # A CDN's link is good for an hour or so; the hub gives a new one each time it is asked.
    if _link_refused(status, headers, redirected=redirected):
        return "the CDN refused its link (HTTP 403)"
    return ""


def _link_refused(status: int, headers: Mapping[str, str], *, redirected: bool) -> bool:
    """Return whether it is the CDN that refuses the link which the hub gave."""
    return status == HTTPStatus.FORBIDDEN and redirected and "x-error-code" not in headers


def _may_come_in_parts(status: int, headers: Mapping[str, str]) -> bool:
    """Return whether an answer of 400 or more to a file may be another one to a part of the file."""
    return status in _OF_A_PART and "x-error-code" not in headers


# --- requests


@dataclass(frozen=True)
class Answer:
    """An answer whose body has not been read.

    ``first`` are the headers of the hub's own answer, before it sent us on to a CDN. ``link`` is the
    address at the CDN, ``""`` where the hub answered itself. ``variable`` is that of a `Subject`.
    """

    status: int
    headers: Mapping[str, str]
    first: Mapping[str, str]
    response: httpx2.Response
    variable: str
    link: str = ""

    @property
    def encoding(self) -> str:
        """How the body is compressed, although that was not asked for; ``""`` if it is not."""
        encoding = self.headers.get("content-encoding", "").strip().lower()
        return "" if encoding == "identity" else encoding

    def chunks(self, rate: LeastRate, *others: Watch) -> Iterator[bytes]:
        """Yield the body, decompressed where it has to be, in pieces of bounded size.

        Raise RetryableError when it breaks off, or comes slower than ``rate`` bears.
        """
        raw = self._raw(rate, *others)
        for chunk in _decompressed(raw, self.encoding) if self.encoding else raw:
            rate.gained(len(chunk))
            yield chunk

    def _raw(self, *watches: Watch) -> Iterator[bytes]:
        raw = self.response.iter_raw()
        while True:
            with translated_errors(self.variable), watching(*watches):
                chunk = next(raw, None)
            if chunk is None:
                return
            yield chunk


class Said(NamedTuple):
    """What the body of a refusal says: its words, and the hub's own code for it, ``""`` if it has none."""

    words: str
    code: str = ""


class Session(ABC):
    """One hub, one token. Threads may share it.

    Args:
        endpoint: The hub's address, without a slash at its end.
        patience: How long to wait for what.
        retry: How often to ask again.

    Attributes:
        variable: The variable of the environment that names another hub.
        api: How the path of every address of its API begins.
    """

    variable: str
    api: str

    def __init__(self, endpoint: str, patience: Patience, retry: RetryPolicy) -> None:
        self.endpoint = endpoint
        self.retry = retry
        self.patience = patience
        self._timeout = httpx2.Timeout(patience.silence, pool=None)
        self._answered = False
        self._given_up = False
        """Whether all attempts at something failed, and nothing was answered since."""
        self.requests = 0
        """How many requests were sent, those of redirects and of further attempts included."""
        self._counting = threading.Lock()

    # ---- what each hub has of its own

    @abstractmethod
    def _client(self) -> httpx2.Client:
        """Return the client that all requests go through."""

    @abstractmethod
    def _credentials(self, url: str) -> dict[str, str]:
        """Return the headers that say at ``url`` who asks, by lowercase names; no other host gets these."""

    @abstractmethod
    def _refusal(
        self, status: int, headers: Mapping[str, str], subject: Subject, said: Said
    ) -> ArchiverError:
        """Return the error that an answer of 400 or more stands for.

        ``headers`` have lowercase names.
        """

    def _headers(self) -> dict[str, str]:
        """Return the headers of every request."""
        return {}

    def _require_online(self) -> None:  # noqa: B027 - a hub may have no such variable
        """Raise NetworkError where the environment says that the hub may not be asked."""

    def _passes(self, status: int, subject: Subject) -> bool:
        """Return whether the hub refuses so now and then what it gives when it is asked again."""
        del status, subject
        return False

    # ---- requests

    @contextmanager
    def get(
        self, url: str, subject: Subject, headers: Mapping[str, str], *watches: Watch
    ) -> Iterator[Answer]:
        """GET ``url``, which lies below the endpoint or is the ``link`` of an earlier answer.

        Redirects are followed, without the token where they leave the hub's origin; a link is asked
        without it.
        Raise RetryableError where another attempt may help, WholeRefusedError where a part may be had,
        else what the answer stands for.
        """
        self._require_online()
        # First of all: to build its headers the hub's own library may already open a connection, and that
        # would be used again.
        timed(self._client(), self.patience.clock)
        sent = {**self._headers(), **headers}
        if self._is_ours(url):
            sent |= self._checked_credentials(url)
        watches = (HeadDeadline(self.patience), *watches)
        answer = self._send(url, sent, watches)
        if answer.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            self._given_up = False
        try:
            if answer.status >= HTTPStatus.BAD_REQUEST:
                raise self._refused(answer, subject, watches)
            yield answer
        finally:
            _close(answer.response)

    def status_of(self, path: str) -> tuple[int, Mapping[str, str]]:
        """Return status and headers of the answer to a GET of ``path``, whatever it says; no body is read.

        One attempt; raise as ``get`` does where there is no answer.
        """
        self._require_online()
        url = self.endpoint + path
        sent = {**self._headers(), **self._checked_credentials(url)}
        answer = self._send(url, sent, (HeadDeadline(self.patience),))
        try:
            return answer.status, answer.headers
        finally:
            _close(answer.response)

    def _send(self, url: str, headers: Mapping[str, str], watches: tuple[Watch, ...]) -> Answer:
        """Return the answer at the end of all redirects, which is to be closed."""
        with translated_errors(self.variable), watching(*watches):
            client = timed(self._client(), self.patience.clock)
            client.cookies.jar.set_policy(_NO_COOKIES)
            request = client.build_request("GET", url, headers=headers, timeout=self._timeout)
            first: Mapping[str, str] | None = None
            for _ in range(_MOST_REDIRECTS):
                # Not followed by the client: it would read the bodies of redirects, however large.
                started = time.monotonic()
                with self._counting:
                    self.requests += 1
                response = client.send(request, stream=True, follow_redirects=False)
                _log_answer(response, time.monotonic() - started)
                self._answered = True
                if first is None:
                    first = response.headers
                if not response.has_redirect_location:
                    address = str(response.request.url)
                    link = "" if self._is_ours(address) else address
                    status, headers = response.status_code, response.headers
                    return Answer(status, headers, first, response, self.variable, link)
                _drain(response)
                if response.next_request is None:
                    raise NetworkError(
                        f"{self.endpoint} sends us on to what is no address (HTTP "
                        f"{response.status_code}).",
                    )
                request = response.next_request
        raise NetworkError(f"{self.endpoint} sends us on and on, {_MOST_REDIRECTS} times.")

    def _is_ours(self, url: str) -> bool:
        return url.startswith(self.endpoint + "/")

    def _checked_credentials(self, url: str) -> dict[str, str]:
        credentials = self._credentials(url)
        if not all(value.isascii() and value.isprintable() for value in credentials.values()):
            raise UsageError("The token holds characters that no token has.")
        return credentials

    def _refused(self, answer: Answer, subject: Subject, watches: tuple[Watch, ...]) -> Exception:
        """Return what an answer of 400 or more stands for."""
        status, headers = answer.status, answer.headers
        redirected = bool(answer.link) or headers is not answer.first
        reason = _transient_reason(status, headers, redirected=redirected)
        if reason:
            link = _link_refused(status, headers, redirected=redirected)
            return RetryableError(
                reason, self.retry.requested_by(headers), link=link, busy=status in _BUSY
            )
        if self._passes(status, subject):
            return RetryableError(f"HTTP {status}", self.retry.requested_by(headers))
        said = _refusal_text(answer, LeastRate(self.patience), watches)
        error = self._refusal(status, headers, subject, said)
        if isinstance(error, UpstreamGoneError):
            error.status = status
            error.code = printable(headers.get("x-error-code", ""), _LONGEST_CODE)
        if subject.path and _may_come_in_parts(status, headers):
            return WholeRefusedError(error)
        return error

    def json(
        self,
        url: str,
        subject: Subject,
        parse: Callable[[bytearray, Subject], Document],
        allowance: ListingAllowance,
        *,
        most: int = _LARGEST_PAGE,
    ) -> tuple[Document, str]:
        """Return the document at ``url``, and the address of the next page, ``""`` if this is the last.

        ``most`` is how many bytes the answer may have.
        Raise NetworkError when it gives up, and what the answer stands for or ``parse`` raises.
        """
        headers = {"accept": "application/json"}
        body, link = self.read(url, subject, allowance, headers, most=most)
        return parse(body, subject), self._next_page(url, link) if link else ""

    def read(
        self,
        url: str,
        subject: Subject,
        allowance: ListingAllowance,
        headers: Mapping[str, str],
        *,
        most: int,
    ) -> tuple[bytearray, str]:
        """Return the body of what is at ``url``, of ``most`` bytes, and where the hub says it goes on.

        Raise NetworkError when it gives up, and what the answer stands for.
        """
        failures = 0
        while True:
            try:
                return self._body(url, subject, allowance, headers, most)
            except RetryableError as error:
                failures += 1
                attempts = self._attempts(error)
                if failures >= attempts or self.retry.hopeless(error.requested):
                    # Who says when to come back is there, whatever that says of others.
                    self._given_up = error.requested is None
                    raise NetworkError(
                        f"{self.endpoint} does not answer for {subject}: "
                        f"{error.reason}{in_a_row(failures)}.",
                        hint="Run the command again later; what is already held is not asked for.",
                    ) from error
                slept = self.retry.wait(
                    failures,
                    error.requested,
                    reason=str(error),
                    attempts=attempts,
                    longest=seconds_left(),
                )
                allowance.note(slept, 0)

    def _attempts(self, error: RetryableError) -> int:
        """Return how many attempts such a failure is worth."""
        # All that can be learned of a hub that was given up just now is whether it is back.
        if self._given_up:
            return 1
        # A hub that was never there in this run is more likely misnamed than down for a minute.
        if error.unreached and not self._answered:
            return min(self.retry.attempts, _FIRST_ATTEMPTS)
        return self.retry.attempts

    def _body(
        self,
        url: str,
        subject: Subject,
        allowance: ListingAllowance,
        headers: Mapping[str, str],
        most: int,
    ) -> tuple[bytearray, str]:
        with self.get(url, subject, {"accept-encoding": "gzip", **headers}, allowance) as answer:
            body = bytearray()
            for chunk in answer.chunks(LeastRate(self.patience), allowance):
                body += chunk
                allowance.take(len(chunk))
                if len(body) > most:
                    raise NetworkError(
                        f"The hub's answer about {subject} is larger than {human_bytes(most)}.",
                        hint=f"No answer of a hub is so large; check that {self.variable} is a hub.",
                    )
            with translated_errors(self.variable):
                return body, answer.response.links.get("next", {}).get("url", "")

    def _next_page(self, url: str, link: str) -> str:
        """Return ``link`` on our endpoint: the token must not follow it elsewhere.

        A mirror of the hub may hand on pages of the original, so other origins are no error.
        """
        with translated_errors(self.variable):
            address = urljoin(url, link)
            if not address.startswith(self.endpoint + "/"):
                parts = urlsplit(address)
                query = f"?{parts.query}" if parts.query else ""
                address = f"{self.endpoint}{parts.path}{query}"
        if not address.startswith(self.endpoint + self.api):
            raise NetworkError(
                f"The hub's listing goes on at {printable(link)}, which is no part of its API."
            )
        return address


def _log_answer(response: httpx2.Response, seconds: float) -> None:
    """Log a request, without what is secret: a signed link's query, a password before the host."""
    if _log.isEnabledFor(logging.INFO):
        url = response.request.url
        address = f"{url.scheme}://{url.host}{f':{url.port}' * bool(url.port)}{url.path}"
        part = response.request.headers.get("range", "")
        asked = f"{address} {part}".rstrip()
        _log.info("GET %s: HTTP %d after %.3f s", asked, response.status_code, seconds)


def _decompressed(raw: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """Yield ``raw`` decompressed, never more than a piece at once, however much it would make."""
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
        raise RetryableError("the compressed body is broken") from error
    if not inflater.eof:
        raise RetryableError("the compressed body ended too early")


def _drain(response: httpx2.Response) -> None:
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


def _refusal_text(answer: Answer, rate: LeastRate, watches: tuple[Watch, ...]) -> Said:
    """Return what the body of a refusal says: its words if it is JSON, else its text without markup."""
    body = bytearray()
    with suppress(RetryableError, ArchiverError):
        for chunk in answer.chunks(rate, *watches):
            body += chunk
            if len(body) >= _LARGEST_REFUSAL:
                break
    text = bytes(body[:_LARGEST_REFUSAL]).decode(errors="replace")
    with suppress(ValueError, RecursionError):
        document = json.loads(text)
        words = [document.get(key) for key in _WORDS] if isinstance(document, dict) else []
        code = document.get(_CODE) if isinstance(document, dict) else None
        said = next((word for word in words if isinstance(word, str)), "")
        return Said(said, str(code) if isinstance(code, int | str) else "")
    return Said(" ".join(_MARKUP.sub(" ", text).split()))


@contextmanager
def translated_errors(variable: str) -> Iterator[None]:
    """Turn the client's errors into RetryableError, or NetworkError where no retry can help.

    Messages are built from the error's type: a local protocol error quotes the header that it
    refuses, which may be the token. ``variable`` is that of a `Subject`.
    """
    try:
        yield
    except (RetryableError, ArchiverError):
        raise
    except _HOPELESS as error:
        raise NetworkError(f"The hub cannot be asked: {type(error).__name__}.") from None
    except httpx2.TimeoutException as error:
        connecting = isinstance(error, httpx2.ConnectTimeout)
        raise RetryableError(SILENT, unreached=connecting) from error
    except httpx2.ConnectError as error:
        raise RetryableError(error_text(error), unreached=True) from error
    except (httpx2.RequestError, OSError) as error:
        raise RetryableError(error_text(error)) from error
    except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError) as error:
        # Odd addresses and headers make the client, the codecs and the sockets raise many kinds.
        raise NetworkError(
            f"The hub sent an address or a header that makes no sense ({type(error).__name__}).",
            hint=f"Check that {variable} is a hub and that no proxy stands in between.",
        ) from None


def error_text(error: Exception) -> str:
    """Return a network error in words: without numbers, which mean something to programs only."""
    text = str(error)
    number = _NUMBER.match(text)
    reason = printable(text[number.end() :] if number else text).rstrip(".")
    if number and number[1]:  # Numbers below zero are those of the resolver.
        return f"its name cannot be resolved: {reason}"
    return reason or type(error).__name__
