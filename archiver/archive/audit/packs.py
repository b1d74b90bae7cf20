"""Reading packs, several at a time; one that looks damaged is read again before it is called so."""

from __future__ import annotations

import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.archive.audit.level import proves
from archiver.archive.fixity.pack_content import check_pack
from archiver.archive.fixity.pack_look import hash_pack, look_at_pack
from archiver.archive.fixity.read_twice import forget
from archiver.archive.layout import pack_name
from archiver.errors import ArchiverError, DeniedError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from archiver.archive.audit.wanted import Wanted
    from archiver.archive.fixity.pack_state import Advance, PackState
    from archiver.archive.policy import Level
    from archiver.storage.store import Store

_POLL_SECONDS: Final = 0.5


class Examined(NamedTuple):
    """What came out of reading a pack; ``state`` is None if it could not be opened at all.

    ``level`` is the one it was read at: deeper than asked for where it looked damaged.
    """

    wanted: Wanted
    state: PackState | None
    problem: str = ""
    unstable: str = ""
    denied: bool = False
    level: Level = "content"

    @property
    def whole(self) -> bool:
        """Whether it is proven at its level."""
        return self.state is not None and _looks_whole(self.state, self.wanted, self.level)


class _StoppedError(Exception):
    """The run has ended; a thread that still reads ends too."""


def examine_all(
    store: Store,
    packs: Iterable[Wanted],
    workers: int,
    advance: Advance,
    level: Level = "content",
) -> Generator[Examined, None, None]:
    """Examine packs, several at a time, in whatever order they are done; to be closed if left early.

    The next of ``packs`` is taken only when a thread is free for it, so that they may end at any time.
    """
    stop = threading.Event()

    def counted(size: int) -> None:
        if stop.is_set():
            raise _StoppedError
        advance(size)

    pool = ThreadPoolExecutor(workers, thread_name_prefix="audit")
    coming, waiting = iter(packs), set[Future[Examined]]()
    try:
        while True:
            more = islice(coming, workers + 1 - len(waiting))
            waiting |= {pool.submit(examine, store, one, counted, level) for one in more}
            if not waiting:
                return
            done, waiting = wait(waiting, _POLL_SECONDS, FIRST_COMPLETED)
            for future in done:
                yield future.result()
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def examine(store: Store, wanted: Wanted, advance: Advance, level: Level = "content") -> Examined:
    """Read a pack; what looks damaged is read once more, and decoded, before it is called so."""
    name = pack_name(wanted.pack)
    try:
        if store.stat(name) is None:
            return Examined(wanted, None)
        first = _check(store, name, advance, level)
        if _looks_whole(first, wanted, level):
            return Examined(wanted, first, level=level)
        forget(store, name)
        second = _check(store, name, lambda _count: advance(0), "content")
    except FileNotFoundError:
        return Examined(wanted, None)
    except ArchiverError as error:
        denied = isinstance(error, DeniedError)
        return Examined(wanted, None, problem=error.message, denied=denied)
    same = first == second if proves(level, "content") else _agree(first, second, wanted)
    unstable = "" if same else f"{name} was not the same when it was read again."
    return Examined(wanted, second, unstable=unstable)


def _looks_whole(state: PackState, wanted: Wanted, level: Level) -> bool:
    if wanted.sizes and state.size not in wanted.sizes:
        return False
    return not state.index if level == "structure" else state.whole(wanted.pack)


def _agree(first: PackState, second: PackState, wanted: Wanted) -> bool:
    """Whether a quick reading and a thorough one show the same file."""
    if first.blake3 or first.unreadable:
        return (first.blake3, first.unreadable) == (second.blake3, second.unreadable)
    return not _looks_whole(second, wanted, "content")


def _check(store: Store, name: str, advance: Advance, level: Level) -> PackState:
    reader = store.open(name)
    try:
        if level == "structure":
            advance(0)
            return look_at_pack(reader)
        return hash_pack(reader, advance) if level == "stored" else check_pack(reader, advance)
    finally:
        reader.close()
