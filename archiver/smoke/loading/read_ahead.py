"""Reading ahead: while a model computes with some weights, the next are read and decoded."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Piece(NamedTuple):
    """A parameter, or the rows of it from ``first`` up to, not with, ``last``.

    ``size`` is how many bytes of memory it takes at most while it is read and converted.
    """

    key: str
    size: int
    first: int = 0
    last: int | None = None


class ReadAhead:
    """Gives pieces of weights, and reads those that will be asked for next.

    The order is learnt: a piece is followed by that which followed it before. Where another one came
    than before nothing is foretold from then on; what was read in vain is dropped. A piece that
    cannot be read raises where it is asked for.

    Args:
        read: Reads a piece: a tensor. Several threads call it at once.
        room: Bytes that pieces may take that nobody has asked for yet; 0: none is read ahead.
        threads: How many are read at once.
    """

    def __init__(self, read: Callable[[Piece], Any], room: int, threads: int) -> None:
        self._read, self._room, self._threads = read, room, threads
        self._pool: ThreadPoolExecutor | None = None
        self._under_way: dict[Piece, Future[Any]] = {}
        self._next: dict[Piece, Piece | None] = {}
        self._kept: set[Piece] = set()
        self._last: Piece | None = None

    @contextmanager
    def one_pass(self) -> Iterator[None]:
        """While it is open pieces are read ahead; when it ends, however it does, no thread is left."""
        if self._pool is not None or not self._room:
            yield
            return
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="ahead")
        self._last = None
        try:
            yield
        finally:
            pool, self._pool = self._pool, None
            pool.shutdown(wait=True, cancel_futures=True)
            self._under_way.clear()

    def get(self, piece: Piece) -> Any:
        """A piece, now; raises what reading it raises."""
        if self._pool is None:
            return self._read(piece)
        self._learn(piece)
        coming = self._under_way.pop(piece, None)
        self._begin(self._pool, piece)
        return self._read(piece) if coming is None else coming.result()

    def keep(self, piece: Piece) -> None:
        """It stays in memory and will not be asked for again."""
        self._kept.add(piece)

    def keeps(self, piece: Piece) -> bool:
        """Whether it stays in memory."""
        return piece in self._kept

    def _learn(self, piece: Piece) -> None:
        last, self._last = self._last, piece
        if last is None:
            return
        if last not in self._next:
            self._next[last] = piece
        elif self._after(last) != piece:
            self._next[last] = None

    def _after(self, piece: Piece) -> Piece | None:
        """What will be asked for after ``piece``, as far as that is known."""
        found = self._next.get(piece)
        for _ in self._kept:
            if found is None or found not in self._kept:
                break
            found = self._next.get(found)
        return found

    def _begin(self, pool: ThreadPoolExecutor, piece: Piece) -> None:
        """Begin with what comes after ``piece`` as far as there is room."""
        wanted = self._wanted(piece)
        for one, coming in list(self._under_way.items()):
            if one not in wanted and (coming.cancel() or coming.done()):
                del self._under_way[one]
        room = self._room - sum(one.size for one in self._under_way)
        for one in wanted:
            if one not in self._under_way:
                if one.size > room:
                    return
                room -= one.size
                self._under_way[one] = pool.submit(self._read, one)

    def _wanted(self, piece: Piece) -> list[Piece]:
        found: list[Piece] = []
        following = self._after(piece)
        while following is not None and len(found) < self._threads and following not in found:
            found.append(following)
            following = self._after(following)
        return found
