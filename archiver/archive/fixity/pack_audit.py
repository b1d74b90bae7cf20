"""What an audit says about one pack: read, read again if it looks damaged, and put into findings."""

from __future__ import annotations

import threading
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from archiver.archive.finding import Code, Finding
from archiver.archive.fixity.pack_check import Advance, PackState, check_pack
from archiver.archive.fixity.read_twice import forget
from archiver.archive.layout import pack_name
from archiver.errors import ArchiverError, DeniedError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from archiver.archive.advice import Advice
    from archiver.storage.store import Store

_POLL_SECONDS: Final = 0.5


class Wanted(NamedTuple):
    """A pack, its sizes in bytes as seals name them, and the snapshots that need it."""

    pack: str
    sizes: frozenset[int]
    snapshots: tuple[str, ...]


class Examined(NamedTuple):
    """What came out of reading a pack; ``state`` is None if it could not be opened at all."""

    wanted: Wanted
    state: PackState | None
    problem: str = ""
    unstable: str = ""
    denied: bool = False


class _StoppedError(Exception):
    """The run has ended; a thread that still reads ends too."""


def examine_all(
    store: Store, packs: Sequence[Wanted], workers: int, advance: Advance
) -> Generator[Examined, None, None]:
    """Examine packs, several at a time, in whatever order they are done; to be closed if left early."""
    stop = threading.Event()

    def counted(size: int) -> None:
        if stop.is_set():
            raise _StoppedError
        advance(size)

    pool = ThreadPoolExecutor(workers, thread_name_prefix="audit")
    waiting = {pool.submit(examine, store, one, counted) for one in packs}
    try:
        while waiting:
            done, waiting = wait(waiting, _POLL_SECONDS, FIRST_COMPLETED)
            for future in done:
                yield future.result()
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def examine(store: Store, wanted: Wanted, advance: Advance) -> Examined:
    """Read a pack; what looks damaged is read once more before it is called so."""
    name = pack_name(wanted.pack)
    try:
        if store.stat(name) is None:
            return Examined(wanted, None)
        first = _check(store, name, advance)
        if first.whole(wanted.pack):
            return Examined(wanted, first)
        forget(store, name)
        second = _check(store, name, lambda _count: advance(0))
    except FileNotFoundError:
        return Examined(wanted, None)
    except ArchiverError as error:
        denied = isinstance(error, DeniedError)
        return Examined(wanted, None, problem=error.message, denied=denied)
    unstable = "" if first == second else f"{name} was not the same when it was read again."
    return Examined(wanted, second, unstable=unstable)


def _check(store: Store, name: str, advance: Advance) -> PackState:
    reader = store.open(name)
    try:
        return check_pack(reader, advance)
    finally:
        reader.close()


def pack_findings(found: Examined, advice: Advice) -> Iterator[Finding]:
    """What is wrong with the pack as a file; its objects are judged with the files they hold."""
    for one in _faults(found):
        name = pack_name(found.wanted.pack)
        hint = advice.copy_back(name, one.code)
        if one.code == "read-unstable":
            hint = advice.unstable()
        elif one.code == "file-unreadable":
            hint = advice.make_readable()
        yield msgspec.structs.replace(one, hint=hint)


def _faults(found: Examined) -> Iterator[Finding]:
    wanted, state = found.wanted, found.state
    name = pack_name(wanted.pack)
    if found.unstable:
        yield _finding("read-unstable", found.unstable, wanted)
    if state is None:
        code: Code = "pack-damaged" if found.problem else "pack-missing"
        if found.denied:
            code = "file-unreadable"
        yield _finding(code, found.problem or f"{name} is missing.", wanted)
        return
    if wanted.sizes and state.size not in wanted.sizes:
        # A pack of another size has another digest and has lost its index: that goes without saying.
        sizes = " or ".join(f"{size:,}" for size in sorted(wanted.sizes))
        text = f"{name} has {state.size:,} bytes, its seals say {sizes}."
        yield _finding("pack-size", text, wanted)
        return
    if state.blake3 != wanted.pack:
        reason = state.unreadable or "its bytes have another digest than its name"
        yield _finding("pack-damaged", f"{name} is damaged: {reason}.", wanted)
    if state.index:
        yield _finding("index-damaged", f"{name}: {state.index}", wanted)


def _finding(code: Code, message: str, wanted: Wanted) -> Finding:
    snapshots = ", ".join(wanted.snapshots)
    return Finding(code, message, snapshot=snapshots, pack=wanted.pack)
