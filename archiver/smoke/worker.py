"""The child process of a smoke test: what reads a hostile config, template, tokenizer or model runs here.

It opens the checkpoint itself, reads only, and tells its parent (``run``) of each step. The parent limits
its memory and time and may end it at any moment; so it has nothing that would have to be put in order.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Final

from archiver.archive.archive import Archive
from archiver.archive.seals import Snapshot
from archiver.errors import ArchiverError, SkippedError, UsageError, explain_system_error
from archiver.smoke import libraries
from archiver.smoke.checkpoint.archived import ArchivedCheckpoint
from archiver.smoke.checkpoint.files import model_files
from archiver.smoke.checkpoint.folder import FolderCheckpoint
from archiver.smoke.hardware import environment
from archiver.smoke.loading.check import check_load
from archiver.smoke.messages import (
    Advanced,
    Began,
    Broke,
    CheckpointSource,
    Ended,
    Event,
    Finished,
    Raised,
    Settings,
    SnapshotSource,
    framed,
    read_request,
)
from archiver.smoke.passes.forward import check_forward
from archiver.smoke.passes.generate import check_generate
from archiver.smoke.passes.golden import check_golden
from archiver.smoke.report import (
    FailedError,
    InapplicableError,
    Level,
    LevelReport,
    Proof,
    too_large,
)
from archiver.smoke.session import Session
from archiver.smoke.structure.check import check_structure
from archiver.smoke.tokenizer.check import check_tokenizer, load_tokenizer
from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from archiver.smoke.checkpoint.files import Checkpoint


_CHECKS: Final[dict[Level, Callable[[Session], Proof]]] = {
    "structure": check_structure,
    "tokenizer": check_tokenizer,
    "load": check_load,
    "forward": check_forward,
    "generate": check_generate,
    "golden": check_golden,
}
_NEEDS: Final[dict[Level, tuple[Level, ...]]] = {
    "structure": (),
    "tokenizer": (),
    "load": ("structure",),
    "forward": ("load",),
    "generate": ("forward",),
    "golden": ("load",),
}
"""A level runs only after these held: what it would say otherwise is worth nothing."""
_OF_FILES: Final = frozenset[Level]({"structure", "tokenizer"})
_EVERY: Final = 0.1
"""Seconds between two words of how much was read."""
_SYSTEM: Final = frozenset(
    {
        errno.EDQUOT,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENODEV,
        errno.ENOSPC,
        errno.EROFS,
        errno.ESTALE,
    }
)
"""Failures of a disk or of the system, which say nothing of the model."""
_PR_SET_PDEATHSIG: Final = 1
_OOM_FIRST: Final = b"1000"
"""Where memory runs out the kernel ends this process before any other; see proc_pid_oom_score_adj(5)."""


def climb(
    checkpoint: Checkpoint,
    levels: Sequence[Level],
    settings: Settings,
    scratch: Path,
    tell: Callable[[Event], None],
    ended: Iterable[LevelReport] = (),
) -> Session:
    """Run ``levels`` in order, and tell how each ended as soon as it has; return what they shared.

    Raises:
        DamageError: The archive, not the model, is damaged.
    """
    session = Session(checkpoint, settings, scratch, tell)
    known = {report.level: report for report in ended}
    for level in levels:
        tell(Began(level))
        if level not in _OF_FILES and session.tokenizer is None:
            _reload_tokenizer(session, known)
        known[level] = _run_level(level, session, known)
        tell(Ended(known[level]))
    return session


def _run_level(level: Level, session: Session, before: dict[Level, LevelReport]) -> LevelReport:
    for needed in _NEEDS[level]:
        if needed in before and before[needed].verdict != "held":
            return _left_out(level, before[needed])
    started = time.monotonic()
    try:
        proof = _checked(level, session)
    except SkippedError as error:
        spent = time.monotonic() - started
        return LevelReport(level, "skipped", spent, reason=error.message, hint=error.hint)
    except InapplicableError as error:
        return LevelReport(level, "inapplicable", 0.0, reason=error.message)
    except FailedError as error:
        proof = Proof((), error.findings)
    else:
        # only what looks at what upstream published: never other numbers, or a level that could not run
        proof = proof.accepting(session.settings.accepted) if level in _OF_FILES else proof
    return LevelReport.of(level, proof, time.monotonic() - started)


def _reload_tokenizer(session: Session, before: dict[Level, LevelReport]) -> None:
    """Have the tokenizer that an earlier child could load: that one may have ended, and it with it."""
    report = before.get("tokenizer")
    if report is None:
        return
    # the template is looked at last
    codes = {finding.code for finding in report.findings}
    if report.verdict == "held" or "model-chat-template" in codes:
        with contextlib.suppress(Exception):
            libraries.require("tokenizers", "transformers", "jinja2")
            session.tokenizer = load_tokenizer(session)


def _left_out(level: Level, needed: LevelReport) -> LevelReport:
    if needed.verdict == "inapplicable":
        return LevelReport(level, "inapplicable", 0.0, reason=needed.reason)
    return LevelReport(level, "skipped", 0.0, reason=f"Level {needed.level} did not hold.")


def _checked(level: Level, session: Session) -> Proof:
    try:
        return _CHECKS[level](session)
    except MemoryError as error:
        raise too_large(f"Level {level}") from error


# ---- the process


class _Parent:
    """The way to it; threads may share it. How much was read is told a few times a second."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._lock = threading.Lock()
        self._size, self._sent = 0, 0.0

    def tell(self, event: Event) -> None:
        """Send an event, after what was read before it."""
        with self._lock:
            if isinstance(event, Advanced):
                self._size += event.size
                if time.monotonic() - self._sent < _EVERY:
                    return
            if self._size:
                self._write(Advanced(self._size))
                self._size, self._sent = 0, time.monotonic()
            if not isinstance(event, Advanced):
                self._write(event)

    def _write(self, event: Event) -> None:
        data = memoryview(framed(event))
        while data:
            data = data[os.write(self._handle, data) :]


def serve(requests: int, events: int) -> None:
    """Do what the parent asks for through one pipe, and tell of it through the other."""
    parent = _Parent(events)
    request = read_request(requests)
    threading.Thread(target=_end_with, args=(requests,), daemon=True).start()
    scratch = Path(os.fsdecode(request.scratch))
    # What a library writes vanishes with the test, also where this process is ended.
    os.environ["TMPDIR"] = tempfile.tempdir = str(scratch)
    try:
        checkpoint = _opened(request.source, request.settings.workers)
        session = climb(
            checkpoint, request.levels, request.settings, scratch, parent.tell, request.ended
        )
    except ArchiverError as error:
        parent.tell(Raised.of(error))
    except Exception as error:  # noqa: BLE001 - a level that a hostile model broke is no traceback
        if isinstance(error, OSError) and error.errno in _SYSTEM:
            parent.tell(Raised.of(explain_system_error(error, "the model was tested")))
        else:
            parent.tell(Broke(_described(error)))
    else:
        machine = environment()
        if session.model is not None:
            machine["loader"] = session.model.loader
        parent.tell(Finished(machine, session.recorded))


def _end_with_parent() -> None:
    """Have the kernel end this process when its parent ends, on Linux: see prctl(2).

    `_end_with` cannot where a library computes without letting another thread run.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_with(requests: int) -> None:
    """End when the parent has, however it did: nobody would end this process any more."""
    with contextlib.suppress(OSError):
        while os.read(requests, 1):
            pass
    os._exit(1)


def _opened(source: CheckpointSource, workers: int) -> Checkpoint:
    root = Path(os.fsdecode(source.root))
    checkpoint: Checkpoint
    if isinstance(source, SnapshotSource):
        snapshot = Snapshot(source.id, source.seal)
        folders = [Path(os.fsdecode(folder)) for folder in source.pack_folders]
        checkpoint = ArchivedCheckpoint(Archive.open(root, folders), snapshot, workers=workers)
    else:
        checkpoint = FolderCheckpoint(root, workers=workers, only=source.only)
    if source.weights and not model_files(checkpoint):
        raise UsageError(
            f"{checkpoint.title} holds chosen files only (--include or --exclude), and no weights.",
            hint="Mirror the whole revision to test it.",
        )
    return checkpoint


def _described(error: Exception) -> str:
    """Return what was raised, and where: nobody sees a traceback of this process."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if f"{os.sep}archiver{os.sep}" in frame.filename] or frames
    where = f"{Path(own[-1].filename).name}, line {own[-1].lineno}" if own else "nowhere"
    return printable(f"{type(error).__name__}: {error} ({where})", 1000)


def main() -> None:
    """Serve on stdin and stdout; what libraries print goes nowhere."""
    requests, events, null = os.dup(0), os.dup(1), os.open(os.devnull, os.O_RDWR)
    for number in (0, 1):
        os.dup2(null, number)
    _end_with_parent()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_bytes(_OOM_FIRST)
    # Nearly all objects here are records without cycles; looking for some in them is wasted.
    gc.set_threshold(100_000, 20, 20)
    serve(requests, events)
    sys.stdout.flush()
    os._exit(0)  # threads of libraries may not want to end
