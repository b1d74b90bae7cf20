"""Processes that a test starts: none outlives it, whether it passes or fails.

What a failing test leaves behind would otherwise be warned of in the middle of a later one, which would
fail with it.
"""

from __future__ import annotations

import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_endings: list[Callable[[], None]] = []


def start(command: Sequence[object], **options: Any) -> subprocess.Popen:
    """Start a process as ``subprocess.Popen`` does; it ends with the test."""
    process = subprocess.Popen(list(map(str, command)), **options)
    end_with_test(lambda: _end(process))
    return process


def end_with_test(end: Callable[[], None]) -> None:
    """Have this called when the test is over."""
    _endings.append(end)


def end_all() -> None:
    """End all that was started, the newest first."""
    while _endings:
        _endings.pop()()


def _end(process: subprocess.Popen) -> None:
    # Nothing is read any more: a child of its own may hold the other end of a pipe for long.
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with suppress(BrokenPipeError):
                stream.close()
