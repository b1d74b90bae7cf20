"""The body of a file's answer, put where it is wanted.

The client's parser hands bytes on in pieces of 64 KiB, and copies each four times. But where the length of
a body is known, nothing but its bytes follows the head. So they are read from the connection itself, into
the memory of whoever asks, and the parser is told how many there were: for it the body ends as it should,
and the connection serves again. With eight connections, receiving a GB so costs half the processor time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import httpcore2

from archiver.upstream.deadlines import TimedStream
from archiver.upstream.http import SILENT, error_text
from archiver.upstream.retry import RetryableError

if TYPE_CHECKING:
    import httpx2

    from archiver.upstream.deadlines import LeastRate
    from archiver.upstream.http import Answer

_FRAMING: Final = "ContentLengthReader"
"""What the parser calls what counts the bytes of a body of known length."""


class Body:
    """A body, read once from its beginning.

    Args:
        answer: Whose it is.
        rate: How fast it must come.
        silence: Seconds without a byte that are borne.
    """

    def __init__(self, answer: Answer, rate: LeastRate, silence: float) -> None:
        self._chunks = answer.chunks(rate)
        self._left = memoryview(b"")
        self._rate = rate
        self._silence = silence
        self._direct = None if answer.encoding else _Direct.of(answer.response)

    def readinto(self, buffer: memoryview) -> int:
        """Put the next bytes into ``buffer`` and return how many, 0 at the end.

        Raise RetryableError when the body breaks off, or comes too slowly.
        """
        if not self._left:
            if self._direct is not None and self._direct.left:
                count = self._direct.readinto(buffer, self._silence, self._rate)
                self._rate.gained(count)
                return count
            self._left = memoryview(next(self._chunks, b""))
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


class _Direct:
    """A body of known length on a connection that can be read past the client's parser."""

    def __init__(self, stream: TimedStream, parser: Any) -> None:
        self._stream = stream
        self._parser = parser
        self._length: int = parser._reader._remaining  # noqa: SLF001 - see `of`
        self._begun = False

    @classmethod
    def of(cls, response: httpx2.Response) -> _Direct | None:
        """Return the body of ``response``; None if it is of another kind, or if the client is.

        The client offers no way to its parser, so that is looked for where it lies. Whoever does not find
        it there reads what the client hands on.
        """
        try:
            connection: Any = response.stream._stream._httpcore_stream._stream._connection  # type: ignore[union-attr] # noqa: SLF001 - see above
            parser = connection._h11_state  # noqa: SLF001 - see above
            framing = parser._reader  # noqa: SLF001 - see above
            known = type(framing).__name__ == _FRAMING
            length = str(framing._remaining) if known else ""  # noqa: SLF001 - see above
            parser.trailing_data  # noqa: B018 - used later
        except AttributeError:
            return None
        stream = response.extensions.get("network_stream")
        if not isinstance(stream, TimedStream) or not stream.is_plain:
            return None
        return cls(stream, parser) if length == response.headers.get("content-length") else None

    @property
    def left(self) -> int:
        """How many bytes are still on the connection; 0 as long as the parser has some, and at the end."""
        if not self._begun:
            self._begun = not self._parser.trailing_data[0]
        left: int = self._parser._reader._remaining if self._begun else 0  # noqa: SLF001 - see `of`
        return left

    def readinto(self, buffer: memoryview, silence: float, rate: LeastRate) -> int:
        """Put the next bytes into ``buffer`` and return how many; raise RetryableError."""
        try:
            count = self._stream.readinto(buffer[: self.left], silence, rate)
        except httpcore2.ReadTimeout as error:
            raise RetryableError(SILENT) from error
        except OSError as error:
            raise RetryableError(error_text(error)) from error
        if not count:
            came = self._length - self.left
            raise RetryableError(f"the body ended after {came:,} of {self._length:,} bytes")
        self._parser._reader._remaining -= count  # noqa: SLF001 - see `of`
        return count
