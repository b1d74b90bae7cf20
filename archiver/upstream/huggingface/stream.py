"""One file in a single pass: resumed where it broke off, and refused when it is another file."""

from __future__ import annotations

import re
from contextlib import ExitStack
from http import HTTPStatus
from typing import TYPE_CHECKING

from archiver.errors import MismatchError, NetworkError, UpstreamGoneError
from archiver.upstream.huggingface.answers import AgainError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from archiver.throttle import Throttle
    from archiver.upstream.huggingface.answers import Asked
    from archiver.upstream.huggingface.session import Answer
    from archiver.upstream.protocol import RemoteFile
    from archiver.upstream.retry import RetryPolicy

_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)\Z")


class HubStream:
    """A :class:`~archiver.upstream.protocol.ByteStream` over HTTP.

    Nothing is asked for before the first read, and nothing at all when ``offset`` is the file's
    end. A broken body is asked for again from the byte where it broke; only consecutive attempts
    that bring no new byte count towards giving up.

    Args:
        ask: GETs the file from a byte on; from 0 on, without a Range header.
        file: What was listed.
        asked: The same in words.
        offset: The byte to begin at.
        retry: How often and how patiently to ask again.
        throttle: The limit on bytes per second, if there is one.
    """

    def __init__(
        self,
        ask: Callable[[int], AbstractContextManager[Answer]],
        file: RemoteFile,
        asked: Asked,
        *,
        offset: int,
        retry: RetryPolicy,
        throttle: Throttle | None,
    ) -> None:
        self._ask = ask
        self._file = file
        self._asked = asked
        self._retry = retry
        self._throttle = throttle
        self._position = offset
        self._failures = 0
        self._fruitful = False
        self._skip = 0
        self._ranges = True
        self._etag = ""
        self._open = ExitStack()
        self._chunks: Iterator[bytes] | None = None
        self._left = memoryview(b"")

    def readinto(self, buffer: memoryview) -> int:
        """Put the next bytes into ``buffer``; how many, 0 at the end of the file.

        Raises:
            NetworkError: Nothing new came for ``retry.attempts`` attempts.
            UpstreamGoneError: The file is gone, closed, or has changed since it was listed.
            MismatchError: Upstream's file has not the listed size.
        """
        if not self._left:
            self._left = memoryview(self._receive())
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def close(self) -> None:
        """Hang up."""
        self._chunks = None
        self._open.close()

    def _receive(self) -> bytes:
        """The next bytes, at least one; none at the end of the file."""
        while self._position < self._file.size:
            try:
                chunk = self._attempt()
            except AgainError as again:
                self.close()
                self._wait(again)
                continue
            if chunk:
                self._position += len(chunk)
                self._fruitful = True
                return chunk
        self._finish()
        return b""

    def _attempt(self) -> bytes:
        if self._chunks is None:
            self._chunks = self._connect()
        chunk = next(self._chunks, None)
        if chunk is None:
            raise AgainError("the body ended too early")
        if self._throttle is not None:
            self._throttle.take(len(chunk))
        if self._skip:
            skipped = min(self._skip, len(chunk))
            self._skip -= skipped
            chunk = chunk[skipped:]
        if self._position + len(chunk) > self._file.size:
            raise self._wrong_size("sends more")
        return chunk

    def _connect(self) -> Iterator[bytes]:
        start = self._position if self._ranges else 0
        answer = self._open.enter_context(self._ask(start))
        self._check_identity(answer.first)
        if answer.status == HTTPStatus.PARTIAL_CONTENT:
            self._check_range(answer, start)
        elif answer.status == HTTPStatus.OK:
            start = 0
        else:
            raise AgainError(f"HTTP {answer.status}")
        self._skip = self._position - start
        length = answer.headers.get("content-length", "")
        if not answer.encoded and length.isdecimal() and int(length) > self._file.size - start:
            raise self._wrong_size("sends more")
        return answer.chunks()

    def _check_identity(self, first: Mapping[str, str]) -> None:
        """Refuse an answer about another file, or another state of it, than the answers before.

        The hub's ETag is compared and not the CDN's: one file may be had from several CDNs.
        """
        commit = first.get("x-repo-commit", self._asked.revision)
        etag = (first.get("x-linked-etag") or first.get("etag", "")).removeprefix("W/").strip('"')
        if commit != self._asked.revision or (self._etag and etag != self._etag):
            raise UpstreamGoneError(
                f"{self._asked} changed during the download.",
                hint="Run the command again to take the newest revision.",
            )
        self._etag = etag
        size = first.get("x-linked-size", "")
        if size.isdecimal() and int(size) != self._file.size:
            raise self._wrong_size(f"now says {int(size):,} bytes")

    def _check_range(self, answer: Answer, start: int) -> None:
        found = _RANGE.match(answer.headers.get("content-range", ""))
        if answer.encoded:
            # Compressed bytes cannot be joined to plain ones: from now on, ask for the whole.
            self._ranges = False
            raise AgainError("the range came compressed")
        if not found or int(found[1]) != start:
            raise AgainError("another range came than was asked for")
        if found[2] not in {"*", str(self._file.size)}:
            raise self._wrong_size(f"now says {int(found[2]):,} bytes")

    def _finish(self) -> None:
        """See that the body ends with the file, which also frees the connection for another."""
        if self._chunks is None:
            return
        try:
            extra = next(self._chunks, b"")
        except AgainError:
            extra = b""  # All bytes are here; how the connection ends does not matter.
        self.close()
        if extra:
            raise self._wrong_size("sends more")

    def _wait(self, again: AgainError) -> None:
        self._failures = 0 if self._fruitful else self._failures + 1
        self._fruitful = False
        if self._failures >= self._retry.attempts:
            raise NetworkError(
                f"{self._asked} stopped at byte {self._position:,} of {self._file.size:,}: "
                f"{again.reason}, {self._failures} times in a row.",
                hint="Run the same command again: it goes on from there.",
            ) from again
        self._retry.wait(self._failures, again.asked, reason=str(again))

    def _wrong_size(self, what: str) -> MismatchError:
        return MismatchError(
            f"{self._asked} was listed with {self._file.size:,} bytes, but upstream {what}.",
            hint="Nothing of this file was published; run the command again to list it anew.",
        )
