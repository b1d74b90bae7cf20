"""One file in a single pass: resumed where it broke off, and refused when it is another file."""

from __future__ import annotations

import re
import threading
from contextlib import ExitStack
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol

from archiver.errors import ArchiverError, MismatchError, NetworkError, UpstreamGoneError
from archiver.upstream.body import Body
from archiver.upstream.deadlines import LeastRate
from archiver.upstream.http import WholeRefusedError
from archiver.upstream.read_watches import seconds_left
from archiver.upstream.retry import RetryableError, in_a_row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from archiver.throttle import Throttle
    from archiver.upstream.http import Answer, Session, Subject
    from archiver.upstream.remote_file import RemoteFile

PART_BYTES: Final = 1024 * 1024 * 1024
"""The most that is asked for at once where the whole is not to be had.

A CDN gives out files of hundreds of gigabytes in parts only. Smaller parts would cost two requests
each for nothing, and the hub counts requests.
"""

_LEAST_READ: Final = 64 << 10
_READS_A_SECOND: Final = 16
"""Under a limit, a read takes what passes in such a part of a second, or `_LEAST_READ`: who took all that
has come would then be silent for so long that the hub hangs up."""

_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)\Z", re.ASCII)
_COUNT = re.compile(r"\d{1,18}\Z", re.ASCII)


class RangesRefusedError(Exception):
    """A range of a file is not to be had as it was asked for; the file in one stream may be."""


class HubFile:
    """A file at the hub, to all streams that fetch it: what says that it is still the same one.

    Threads may share it.

    Args:
        session: The hub.
        url: The file's address on it.
        file: What was listed.
        subject: The same in words.
    """

    def __init__(self, session: Session, url: str, file: RemoteFile, subject: Subject) -> None:
        self.session = session
        self.url = url
        self.size = file.size
        self.subject = subject
        self._lock = threading.Lock()
        self._etag = ""
        self._link = ("", "")

    def check_identity(self, first: Mapping[str, str]) -> None:
        """Refuse an answer about another file, or another state of it, than the answers before.

        The hub's ETag is compared and not the CDN's: one file may be had from several CDNs.
        """
        commit = first.get("x-repo-commit", self.subject.revision)
        etag = _etag(first.get("x-linked-etag") or first.get("etag", ""))
        with self._lock:
            if commit != self.subject.revision or (self._etag and etag != self._etag):
                raise UpstreamGoneError(
                    f"{self.subject} changed during the download.",
                    hint="Run the command again to take the newest revision.",
                )
            self._etag = etag
        self.check_size(first)

    def check_size(self, first: Mapping[str, str]) -> None:
        """Refuse an answer that names another size than was listed."""
        size = first.get("x-linked-size", "")
        if size and not _COUNT.match(size):
            raise self.wrong_size("now says a size that no file has")
        if size and int(size) != self.size:
            raise self.wrong_size(f"now says {int(size):,} bytes")

    def wrong_size(self, what: str) -> MismatchError:
        """Return the error for a file that has another size than was listed."""
        return MismatchError(
            f"{self.subject} was listed with {self.size:,} bytes, but upstream {what}.",
            hint="Nothing of this file was published; run the command again to list it anew.",
        )

    def get(
        self, stack: ExitStack, headers: Mapping[str, str], rate: LeastRate, *, linked: bool
    ) -> Answer:
        """Return an answer about this very file, which ``stack`` closes; raise as ``Session.get``.

        With ``linked`` the CDN is asked at once, if the hub has told before where: each range of a file
        would else be two requests, and the hub counts those made of it. Whatever is odd about the link,
        the hub is asked anew.
        """
        link, link_etag = self._link if linked else ("", "")
        if link:
            try:
                with ExitStack() as attempt:
                    answer = attempt.enter_context(
                        self.session.get(link, self.subject, headers, rate)
                    )
                    if _etag(answer.headers.get("etag", "")) == link_etag:
                        stack.push(attempt.pop_all())
                        return answer
            except RetryableError as error:
                self.forget_link()
                if not error.link:
                    raise
            except (ArchiverError, WholeRefusedError):
                pass
            self.forget_link()
        answer = stack.enter_context(self.session.get(self.url, self.subject, headers, rate))
        self.check_identity(answer.first)
        if linked and answer.link:
            self._link = (answer.link, _etag(answer.headers.get("etag", "")))
        return answer

    def forget_link(self) -> None:
        """Ask the hub next time."""
        self._link = ("", "")


def _etag(value: str) -> str:
    return value.removeprefix("W/").strip('"')


class Supervisor(Protocol):
    """Whoever has a file fetched by several streams."""

    def proceed(self) -> None:
        """Agree to a request; raise whatever ends the stream."""

    def failed(self, error: RetryableError) -> None:
        """Take note of an attempt that failed, before the wait; raise whatever ends the stream."""


class HubStream:
    """A :class:`~archiver.upstream.protocol.ByteStream` over HTTP.

    Nothing is asked for before the first read, and nothing at all when ``offset`` is the file's
    end. A broken body is asked for again from the byte where it broke; only consecutive attempts
    that bring next to nothing count towards giving up. Where the whole is refused, the file is
    fetched in parts of `PART_BYTES`.

    Args:
        file: What is fetched.
        offset: The byte to begin at.
        throttle: The limit on bytes per second, if there is one.
        end: The byte to end before, of a stream that is one of several: it asks for just that range,
            and raises RangesRefusedError where it is not to be had so. None for all of the file.
        supervisor: Told of each attempt, if there is one.
    """

    def __init__(
        self,
        file: HubFile,
        *,
        offset: int,
        throttle: Throttle | None,
        end: int | None = None,
        supervisor: Supervisor | None = None,
    ) -> None:
        self._file = file
        self._throttle = throttle
        self._supervisor = supervisor
        self._retry = file.session.retry
        self._rate = LeastRate(file.session.patience)
        self._position = offset
        self._ranged = end is not None
        self._stop = file.size if end is None else end
        self._failures = 0
        self._gained = 0
        self._slept = 0.0
        self._waited_before = 0.0
        self._skip = 0
        self._ranges = True
        self._in_parts = False
        self._links_refused = 0
        self._end = self._stop
        self._open = ExitStack()
        self._body: Body | None = None

    def readinto(self, buffer: memoryview) -> int:
        """Put the next bytes into ``buffer`` and return how many, 0 at the end of the file.

        Raises:
            NetworkError: Next to nothing new came for ``retry.attempts`` attempts.
            UpstreamGoneError: The file is gone, closed, or has changed since it was listed.
            MismatchError: Upstream's file has not the listed size.
        """
        while self._position < self._stop:
            try:
                count = self._attempt(buffer)
            except RetryableError as error:
                self.close()
                if self._ranged:
                    self._file.forget_link()
                self._wait(error)
                continue
            if count:
                self._position += count
                self._gained += count
                self._links_refused = 0
                return count
        self._finish()
        return 0

    def close(self) -> None:
        """Hang up."""
        self._body = None
        self._open.close()

    def _attempt(self, buffer: memoryview) -> int:
        """Put the next bytes of the body into ``buffer`` and return how many.

        0 where a part ended and the next is to be asked for, and of bytes that were there before.
        """
        if self._body is None:
            self._body = self._connect()
        if self._throttle is not None:
            buffer = buffer[: max(_LEAST_READ, int(self._throttle.rate / _READS_A_SECOND))]
        count = self._body.readinto(buffer[: self._skip] if self._skip else buffer)
        if not count:
            if self._in_parts and self._position == self._end:
                self.close()
                return 0
            raise RetryableError("the body ended too early")
        if self._throttle is not None:
            self._throttle.take(count)
        if self._skip:
            self._skip -= count
            return 0
        if self._position + count > self._end:
            raise self._file.wrong_size("sends more")
        return count

    def _connect(self) -> Body:
        if self._supervisor is not None:
            self._supervisor.proceed()
        try:
            return self._ask()
        except WholeRefusedError as error:
            self._open.close()
            if self._ranged:
                raise RangesRefusedError from error
            if self._in_parts:
                raise error.refusal from None
            self._in_parts = True
        try:
            return self._ask()
        except WholeRefusedError as error:
            raise error.refusal from None

    def _ask(self) -> Body:
        start = self._position if self._ranges else 0
        self._end = self._stop
        if self._in_parts:
            self._end = min(start + PART_BYTES, self._stop)
        headers = {"accept-encoding": "identity"}
        if self._in_parts or self._ranged:
            headers["range"] = f"bytes={start}-{self._end - 1}"
        elif start:
            headers["range"] = f"bytes={start}-"
        self._rate.restart()
        answer = self._file.get(self._open, headers, self._rate, linked=self._ranged)
        if answer.status == HTTPStatus.PARTIAL_CONTENT:
            self._check_range(answer, start)
        elif answer.status == HTTPStatus.OK:
            if self._ranged:
                raise RangesRefusedError
            start, self._end = 0, self._file.size
        else:
            raise RetryableError(f"HTTP {answer.status}")
        self._skip = self._position - start
        length = answer.headers.get("content-length", "")
        if not answer.encoding and _COUNT.match(length) and int(length) > self._end - start:
            raise self._file.wrong_size("sends more")
        return Body(answer, self._rate, self._file.session.patience.silence)

    def _check_range(self, answer: Answer, start: int) -> None:
        content_range = _RANGE.match(answer.headers.get("content-range", ""))
        if answer.encoding:
            # Compressed bytes cannot be joined to plain ones: from now on, ask for the whole.
            self._ranges = False
            if self._ranged:
                raise RangesRefusedError
            raise RetryableError("the range came compressed")
        another = RetryableError("another range came than was asked for")
        if not content_range or int(content_range[1]) != start:
            raise another
        last, total = int(content_range[2]), content_range[3]
        if total not in {"*", str(self._file.size)}:
            raise self._file.wrong_size(f"now says {int(total):,} bytes")
        if not start <= last < self._end or (self._in_parts and last + 1 != self._end):
            raise another

    def _finish(self) -> None:
        """See that the body ends with the file, which also frees the connection for another."""
        if self._body is None:
            return
        try:
            extra = self._body.readinto(memoryview(bytearray(1)))
        except RetryableError:
            extra = 0  # All bytes are here; how the connection ends does not matter.
        self.close()
        if extra:
            raise self._file.wrong_size("sends more")

    def _wait(self, error: RetryableError) -> None:
        """Wait before the next attempt, or give up.

        An attempt counts as none failed if what it brought was worth the waiting: else a hub that
        sends a byte and hangs up would be asked for ever.
        """
        if self._supervisor is not None:
            self._supervisor.failed(error)
        waited = self._rate.waited - self._waited_before + self._slept
        fruitful = not error.slow and self._rate.enough(self._gained, waited)
        self._failures = 0 if fruitful else self._failures + 1
        if error.link:
            # Some CDNs refuse so what they would give in parts; a link that expired is not hurt.
            self._links_refused += 1
            self._in_parts = self._in_parts or self._links_refused > 1
            if self._in_parts and self._ranged:
                raise RangesRefusedError
        if self._failures >= self._retry.attempts or self._retry.hopeless(error.requested):
            raise NetworkError(
                f"{self._file.subject} stopped at byte {self._position:,} of {self._file.size:,}: "
                f"{error.reason}{in_a_row(self._failures)}.",
                hint="Run the same command again: it goes on from there.",
            ) from error
        self._slept = self._retry.wait(
            self._failures, error.requested, reason=str(error), longest=seconds_left()
        )
        self._waited_before, self._gained = self._rate.waited, 0
