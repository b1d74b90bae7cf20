"""Threads for what blocks: looking up, decoding. None is held by a client that dawdles."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from archiver.memory import available_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
_SPARE: Final = 4
"""Threads beyond one for each core: a disk may keep some waiting."""


class Threads:
    """A bounded pool. A piece of work is one look-up, or one piece of a file, never a whole answer."""

    def __init__(self, count: int = 0) -> None:
        self._pool = ThreadPoolExecutor(
            count or available_cores() + _SPARE, thread_name_prefix="serve"
        )

    async def call(
        self,
        function: Callable[Arguments, Result],
        *arguments: Arguments.args,
        **named: Arguments.kwargs,
    ) -> Result:
        """Return what the function returns in one of the threads, or raise what it raises."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, partial(function, *arguments, **named))

    async def next_piece(self, pieces: Iterator[Any]) -> Any:
        """Return the next piece, made in one of the threads; None at the end."""
        return await self.call(next, pieces, None)

    def leave(self, pieces: Iterator[Any]) -> None:
        """Let go of what a read holds that was perhaps left before its end; nobody waits for it."""
        with suppress(RuntimeError):  # the pool is closed, and the process about to end
            self._pool.submit(_leave, pieces)

    def close(self) -> None:
        """Take no more work, and wait for nothing."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _leave(pieces: Iterator[Any]) -> None:
    # Where a thread is still at it, it ends with its piece, and nobody asks for the next.
    with suppress(ValueError):
        if isinstance(pieces, Generator):
            pieces.close()
