"""Several reads at once, into buffers of the caller."""

from __future__ import annotations

from concurrent.futures import wait
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor

    Task = Callable[[], None]


def run_all(pool: Executor, tasks: Sequence[Task]) -> None:
    """Run ``tasks`` in ``pool``; the first error of the first that failed.

    None of them runs any more when this returns: what they write to is the caller's again. A single
    one goes there too: each thread that decodes keeps buffers for it.
    """
    waiting = [pool.submit(task) for task in tasks]
    try:
        for one in waiting:
            one.result()
    finally:
        for one in waiting:
            one.cancel()
        wait(waiting)
