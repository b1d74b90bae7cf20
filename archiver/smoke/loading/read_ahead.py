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
        self._resident: set[Piece] = set()
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
        """Return a piece, now; raise what reading it raises."""
        if self._pool is None:
            return self._read(piece)
        self._learn(piece)
        coming = self._under_way.pop(piece, None)
        self._begin(self._pool, piece)
        return self._read(piece) if coming is None else coming.result()

    def keep(self, piece: Piece) -> None:
        """It stays in memory and will not be asked for again."""
        self._resident.add(piece)

    def keeps(self, piece: Piece) -> bool:
        """Return whether it stays in memory."""
        return piece in self._resident

    def _learn(self, piece: Piece) -> None:
        last, self._last = self._last, piece
        if last is None:
            return
        if last not in self._next:
            self._next[last] = piece
        elif self._after(last) != piece:
            self._next[last] = None

    def _after(self, piece: Piece) -> Piece | None:
        """Return what will be asked for after ``piece``, as far as that is known."""
        following = self._next.get(piece)
        for _ in self._resident:
            if following is None or following not in self._resident:
                break
            following = self._next.get(following)
        return following

    def _begin(self, pool: ThreadPoolExecutor, piece: Piece) -> None:
        """Begin with what comes after ``piece`` as far as there is room."""
        coming_next = self._upcoming(piece)
        for other, future in list(self._under_way.items()):
            if other not in coming_next and (future.cancel() or future.done()):
                del self._under_way[other]
        room = self._room - sum(other.size for other in self._under_way)
        for following in coming_next:
            if following not in self._under_way:
                if following.size > room:
                    return
                room -= following.size
                self._under_way[following] = pool.submit(self._read, following)

    def _upcoming(self, piece: Piece) -> list[Piece]:
        pieces: list[Piece] = []
        following = self._after(piece)
        while following is not None and len(pieces) < self._threads and following not in pieces:
            pieces.append(following)
            following = self._after(following)
        return pieces
