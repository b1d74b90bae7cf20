"""Several reads at once, into buffers of the caller."""

from __future__ import annotations

from concurrent.futures import wait
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor

    Task = Callable[[], None]


def run_all(pool: Executor, tasks: Sequence[Task]) -> None:
    """Run ``tasks`` in ``pool``, a single one here; the first error of the first that failed.

    None of them runs any more when this returns: what they write to is the caller's again.
    """
    if len(tasks) == 1:
        tasks[0]()
        return
    waiting = [pool.submit(task) for task in tasks]
    try:
        for one in waiting:
            one.result()
    finally:
        for one in waiting:
            one.cancel()
        wait(waiting)
