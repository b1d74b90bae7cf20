"""Copying packs, several at a time."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from archiver.archive.audit.wanted import Wanted
    from archiver.archive.fixity.read_twice import Twice
    from archiver.archive.transfer import Flow, Transfer

_POLL_SECONDS: Final = 0.5
"""So that Ctrl-C is heard while all threads copy."""


def copy_packs(
    transfer: Transfer, packs: Sequence[Wanted], workers: int, flow: Flow
) -> Generator[tuple[Wanted, Twice], None, None]:
    """Copy packs, and tell of each how it went, in whatever order; to be closed if left early.

    Raises what the target raises; the copies that are under way are thrown away then.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="copy")
    running = {pool.submit(transfer.copy, one.name, max(one.sizes)): one for one in packs}
    waiting = set(running)
    try:
        while waiting:
            done, waiting = wait(waiting, _POLL_SECONDS, FIRST_COMPLETED)
            for future in done:
                yield running[future], future.result()
    finally:
        flow.stop()
        pool.shutdown(wait=True, cancel_futures=True)
