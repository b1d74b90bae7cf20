"""Taking files in, several at once; every failure is kept, the others still go on."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Final

from archiver.errors import ArchiverError, NoSpaceError, TooLargeError
from archiver.operations.mirror.report import FileFailure

if TYPE_CHECKING:
    from collections.abc import Callable

    from archiver.archive.intake.intake import Intake
    from archiver.archive.records import FileEntry
    from archiver.upstream.remote_file import RemoteFile

_POLL_SECONDS: Final = 0.5


def fetch(
    intake: Intake,
    files: list[RemoteFile],
    take: Callable[[RemoteFile], FileEntry],
    *,
    jobs: int,
    meanwhile: Callable[[], None],
) -> tuple[list[FileEntry], list[FileFailure]]:
    """Run ``take`` on each file; the entries, and the failures of those that failed.

    ``meanwhile`` is called in this thread now and then. Raises NoSpaceError and TooLargeError at once:
    nothing after them can succeed.
    """
    entries: list[FileEntry] = []
    failures: list[FileFailure] = []
    # Large files first, so that the last thread is not left alone with the largest.
    queue = sorted(files, key=lambda file: -file.size)
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="file")
    waiting = {pool.submit(take, file): file for file in queue}
    try:
        while waiting:
            finished, _ = wait(waiting, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
            for future in finished:
                _collect(waiting.pop(future), future, entries, failures)
            meanwhile()
    except BaseException:
        intake.stop()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return entries, failures


def _collect(
    file: RemoteFile,
    future: Future[FileEntry],
    entries: list[FileEntry],
    failures: list[FileFailure],
) -> None:
    try:
        entries.append(future.result())
    except (NoSpaceError, TooLargeError):
        raise
    except ArchiverError as error:
        failures.append(FileFailure(file.path, error.message, error.hint, int(error.exit_code)))
