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
"""Threads for look-ups beyond one for each core: a disk may keep some waiting."""
PIECES: Final = 256
"""Threads that wait for pieces at most. They cost little, and decode nothing: the cache's own do. With few,
clients would take turns, and each find the segment gone that it was in."""
PAGES: Final = 4
"""Threads that make pages. One of a large revision takes seconds, and no client of the hub waits for it."""


class Threads:
    """Three bounded pools. A piece of work is one look-up, or one piece of a file, never a whole answer.

    ``clients`` is for how many pieces may be waited for at a time. Look-ups wait neither behind
    them nor behind pages.
    """

    def __init__(self, clients: int = PIECES) -> None:
        self._lookups = ThreadPoolExecutor(available_cores() + _SPARE, thread_name_prefix="look-up")
        self._pages = ThreadPoolExecutor(PAGES, thread_name_prefix="page")
        self._pieces = ThreadPoolExecutor(min(clients, PIECES), thread_name_prefix="piece")

    async def call(
        self,
        function: Callable[Arguments, Result],
        *arguments: Arguments.args,
        **named: Arguments.kwargs,
    ) -> Result:
        """Return what the function returns in one of the threads, or raise what it raises."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._lookups, partial(function, *arguments, **named))

    async def page(
        self,
        function: Callable[Arguments, Result],
        *arguments: Arguments.args,
        **named: Arguments.kwargs,
    ) -> Result:
        """Return what the function makes in one of the threads for pages, or raise what it raises."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pages, partial(function, *arguments, **named))

    async def next_piece(self, pieces: Iterator[Any]) -> Any:
        """Return the next piece, made in one of the threads; None at the end."""
        return await asyncio.get_running_loop().run_in_executor(self._pieces, next, pieces, None)

    def leave(self, pieces: Iterator[Any]) -> None:
        """Let go of what a read holds that was perhaps left before its end; nobody waits for it."""
        with suppress(RuntimeError):  # the pool is closed, and the process about to end
            self._pieces.submit(_leave, pieces)

    def close(self) -> None:
        """Take no more work, and wait for nothing."""
        for pool in (self._lookups, self._pages, self._pieces):
            pool.shutdown(wait=False, cancel_futures=True)


def _leave(pieces: Iterator[Any]) -> None:
    # Where a thread is still at it, it ends with its piece, and nobody asks for the next.
    with suppress(ValueError):
        if isinstance(pieces, Generator):
            pieces.close()
