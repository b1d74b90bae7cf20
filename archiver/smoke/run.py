"""A smoke test as its parent sees it: a child does the work (``worker``), and costs no more than it may.

A config, a template, a tokenizer or a model is hostile until proven otherwise, and the libraries that read
them are not made for that. So the child is watched: what it holds of memory, what it computes, and whether
it does anything at all. Where a level ends the child, or has to be ended, that is what came of the level;
what is left to do is done by a new one.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import msgspec

from archiver.archive.findings import Code, Finding
from archiver.errors import explain_system_error
from archiver.smoke import hardware, libraries
from archiver.smoke.golden.record import parse_golden
from archiver.smoke.hardware import environment
from archiver.smoke.messages import (
    Advanced,
    Began,
    Broke,
    Ended,
    Event,
    EventReader,
    Finished,
    Fits,
    Guarded,
    Part,
    Raised,
    Request,
    framed,
)
from archiver.smoke.report import MEMORY_HINT, LevelReport, Proof, SmokeReport
from archiver.smoke.tokenizer.chat_template import TEMPLATE_HINT
from archiver.text import human_bytes, human_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from archiver.progress import Progress
    from archiver.smoke.golden.record import Golden
    from archiver.smoke.messages import CheckpointSource, Settings
    from archiver.smoke.report import Level


_log = logging.getLogger(__name__)

_LOOK: Final = 0.025
"""Seconds between two looks at the child: at its fastest it takes some hundred megabytes in them."""
_PIECE: Final = 1 << 16
_GRACE: Final = 10.0
_PROGRAM: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from archiver.smoke.worker import main; main()"
)
"""With the parent's own path: ``-m`` would import from the current folder too, which may be the model's."""

_SECRETS: Final = frozenset({"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "ARCHIVER_KEY_PASSWORD"})
"""Variables that a child which reads a stranger's files has no use for."""

MiB: Final = 1 << 20
FILES_MEMORY: Final = 4096 * MiB
"""What levels that compute with no weights may hold; torch and a vocabulary of 262,144 take below 1 GB."""
LEAST_MEMORY: Final = 1024 * MiB
"""They may hold that much whatever limit was asked for: the libraries alone take half of it."""
ROOM: Final = 256 * MiB
"""What a level may take besides what was there when it began, whatever limit was asked for."""
PART_MEMORY: Final = 512 * MiB
"""What a chat template may take; one that is sound needs some kilobytes."""
PART_SECONDS: Final = 10.0
"""Of processor time, as for the levels: time on the clock would blame a sound model for a busy machine."""
LEVEL_SECONDS: Final[dict[Level, float]] = {"structure": 3600.0, "tokenizer": 600.0}
SILENT_SECONDS: Final = 6 * 3600.0
"""On the clock, without a byte read or a level ended; the longest pass of a resident model is far below."""
IDLE_SECONDS: Final = 900.0
"""On the clock, without a byte read or a tenth of a second computed."""
_CODES: Final[dict[Level, Code]] = {
    "structure": "model-load",
    "tokenizer": "model-tokenizer",
    "load": "model-load",
    "forward": "model-output",
    "generate": "model-generate",
    "golden": "model-golden",
}
_FAULTS: Final = frozenset(
    {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT}
)
"""By these a process ends on account of what it does itself; by any other because somebody wants it."""


def run(
    source: CheckpointSource,
    title: str,
    levels: Sequence[Level],
    settings: Settings,
    progress: Progress,
    on_fit: Callable[[tuple[str, ...]], None] | None = None,
    on_level: Callable[[LevelReport], None] | None = None,
) -> tuple[SmokeReport, Golden | None]:
    """Run ``levels`` of a smoke test in a child; return the report, and a new golden record.

    ``on_fit`` is told how the model fits into this machine before anything large is read,
    ``on_level`` how each level ended as soon as it has.

    Raises:
        DamageError: The archive, not the model, is damaged.
        UsageError: What was asked for cannot be tested.
        ArchiverError: No folder for temporary files can be written to.
    """
    if settings.memory is not None:
        settings = msgspec.structs.replace(settings, beside=hardware.resident_memory())
    test = _Test(title, settings, progress, on_fit, on_level)
    with scratch() as folder:
        while left := [level for level in levels if level not in test.reports]:
            request = Request(
                source, tuple(left), tuple(test.reports.values()), os.fsencode(folder), settings
            )
            with Child(start_worker(), request) as child:
                test.follow(child, left)
    return test.report(), test.recorded


class _Loss(NamedTuple):
    """Why a child came to an end before its time, as words that follow what it was doing.

    ``blame``: it says something of the model; else the level could not run.
    """

    words: str
    blame: bool = True
    hint: str = ""


class _LostError(Exception):
    """The child ended, or has to be ended."""

    def __init__(self, loss: _Loss) -> None:
        super().__init__(loss.words)
        self.loss = loss


class _Test:
    """What is known of a test so far."""

    def __init__(
        self,
        title: str,
        settings: Settings,
        progress: Progress,
        on_fit: Callable[[tuple[str, ...]], None] | None,
        on_level: Callable[[LevelReport], None] | None,
    ) -> None:
        self._title, self._settings, self._progress = title, settings, progress
        self._on_fit, self._on_level = on_fit, on_level
        self._environment = environment()
        self._fit: tuple[str, ...] = ()
        self.reports: dict[Level, LevelReport] = {}
        self.recorded: Golden | None = None

    def follow(self, child: Child, levels: Sequence[Level]) -> None:
        """Take in what a child tells that runs ``levels``, until it ends; at least one of them did."""
        level, part, began = levels[0], Guarded(None), time.monotonic()
        try:
            for event in child.events():
                if isinstance(event, Began):
                    level, part, began = event.level, Guarded(None), time.monotonic()
                    self._progress.phase(f"Checking {level}")
                elif isinstance(event, Guarded):
                    part = event
                else:
                    self._take(event)
        except _LostError as lost:
            loss = lost.loss
        else:
            loss = _Loss("was left out by its process")
            if levels[0] in self.reports:
                return
        if level in self.reports:  # it ended between two levels, or before the record had come
            level = next((level for level in levels if level not in self.reports), levels[-1])
        self._end(self._lost(level, part, time.monotonic() - began, loss))

    def _take(self, event: Event) -> None:
        if isinstance(event, Advanced):
            self._progress.advance(event.size, fetched=False)
        elif isinstance(event, Fits):
            self._fit = event.lines
            if self._on_fit is not None:
                self._on_fit(event.lines)
        elif isinstance(event, Ended):
            self._end(event.report)
        elif isinstance(event, Broke):
            raise _LostError(_Loss(f"ended in an error that nobody foresaw: {event.message}"))
        elif isinstance(event, Raised):
            raise event.error
        elif isinstance(event, Finished):
            self._environment |= event.environment
            if event.recorded is not None:
                made = msgspec.to_builtins(event.recorded)
                self.recorded = parse_golden(made, "The new golden record")

    def _end(self, report: LevelReport) -> None:
        self.reports[report.level] = report
        if self._on_level is not None:
            self._on_level(report)

    def _lost(self, level: Level, part: Guarded, spent: float, loss: _Loss) -> LevelReport:
        """Return what came of a level that ended its child."""
        if part.part == "chat-template":
            proof = _with_template(part.proof, loss)
            return LevelReport.of(level, proof.accepting(self._settings.accepted), spent)
        if not loss.blame:
            return LevelReport(
                level, "skipped", spent, reason=f"Level {level} {loss.words}.", hint=loss.hint
            )
        finding = Finding(_CODES[level], f"Level {level} {loss.words}.", hint=loss.hint)
        return LevelReport.of(level, Proof((), (finding,)), spent)

    def report(self) -> SmokeReport:
        """Return all of it."""
        return SmokeReport(self._title, tuple(self.reports.values()), self._fit, self._environment)


def _with_template(proof: Proof, loss: _Loss) -> Proof:
    message = f"The chat template {loss.words}."
    finding = Finding("model-chat-template", message, hint=TEMPLATE_HINT)
    return msgspec.structs.replace(proof, findings=(*proof.findings, finding))


# ---- the child


def start_worker() -> subprocess.Popen[bytes]:
    """Start a child that waits for its request.

    In a session of its own: Ctrl-C is for the parent to hear, which then ends the child. Its
    environment is this one's without secrets, and offline before any library is imported.
    """
    variables = {name: value for name, value in os.environ.items() if name not in _SECRETS}
    process = subprocess.Popen(  # noqa: S603 - this interpreter, a module of ours, and no shell
        [sys.executable, "-P", "-c", _PROGRAM, json.dumps(sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=variables | libraries.OFFLINE,
        start_new_session=True,
        bufsize=0,
    )
    _log.info("process %d waits for a smoke test", process.pid)
    return process


class Child:
    """A child at work; a context manager that ends it, however the parent leaves."""

    def __init__(self, process: subprocess.Popen[bytes], request: Request) -> None:
        self._process, self._request = process, request
        self._watch = _Watch(process.pid, request.settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # a dead disk lets nobody end
                self._process.wait(_GRACE)

    def events(self) -> Iterator[Event]:
        """Yield what the child tells, watching it meanwhile.

        Raises:
            _LostError: It ended before it had finished, or was ended.
        """
        self._ask()
        reader, finished = EventReader(), False
        for data in self._pieces():
            try:
                events = reader.feed(data)
            except msgspec.MsgspecError:
                raise _LostError(_Loss("told what makes no sense")) from None
            for event in events:
                finished = finished or isinstance(event, (Finished, Raised))
                self._watch.note(event)
                yield event
        if not finished:
            raise _LostError(self._how_it_ended())

    def _ask(self) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        try:
            data = memoryview(framed(self._request))
            while data:
                data = data[os.write(pipe.fileno(), data) :]
        except BrokenPipeError:
            return  # it ended at once; how, is told where its events end

    def _pieces(self) -> Iterator[bytes]:
        pipe = self._process.stdout
        assert pipe is not None
        poll = select.poll()
        poll.register(pipe.fileno(), select.POLLIN)
        while True:
            if poll.poll(_LOOK * 1000):
                data = os.read(pipe.fileno(), _PIECE)
                if not data:
                    return
                yield data
            loss = self._watch.loss()
            if loss is not None:
                self._kill()
                raise _LostError(loss)

    def _how_it_ended(self) -> _Loss:
        try:
            code = self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            return _Loss("told nothing more")
        if code >= 0:
            return _Loss(f"ended its process (exit code {code})")
        number = -code
        name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
        if number in _FAULTS:
            return _Loss(f"crashed its process ({name}): a library did what it must not do")
        hint = MEMORY_HINT if number == signal.SIGKILL else ""
        why = ", as by a system without memory left" if number == signal.SIGKILL else ""
        message = f"did not end: its process was ended from outside ({name}){why}"
        return _Loss(message, blame=False, hint=hint)


class _Watch:
    """What a child may hold and compute, and whether it keeps to that."""

    def __init__(self, pid: int, settings: Settings) -> None:
        self._pid = pid
        machine = hardware.available_memory()
        requested = None if settings.memory is None else settings.memory - settings.beside
        # what a plan keeps below is an estimate: an eighth more is no reason to end a test
        self._limit = machine if requested is None else min(machine, requested * 9 // 8)
        self._level: Level | None = None
        self._part: Part | None = None
        self._start = self._part_start = hardware.Usage(0, 0.0)
        self._heard = self._computed_at = time.monotonic()
        self._computed = 0.0

    def note(self, event: Event) -> None:
        """Take in what the child tells: what it may do from now on."""
        self._heard = self._computed_at = time.monotonic()
        if isinstance(event, Began):
            self._level, self._part = event.level, None
            self._start = hardware.usage_of(self._pid) or self._start
        elif isinstance(event, Guarded):
            self._part = event.part
            self._part_start = hardware.usage_of(self._pid) or self._start

    def loss(self) -> _Loss | None:
        """Return why the child is to be ended now; None if it may go on."""
        usage, now = hardware.usage_of(self._pid), time.monotonic()
        if usage is not None:
            if usage.seconds - self._computed > 0.1:  # noqa: PLR2004 - `IDLE_SECONDS` tells
                self._computed, self._computed_at = usage.seconds, now
            overdrawn = self._of_part(usage) or self._of_memory(usage) or self._of_time(usage)
            if overdrawn is not None:
                return overdrawn
        if now - self._heard > SILENT_SECONDS:
            return _Loss(f"read nothing and came to no end for {human_duration(SILENT_SECONDS)}")
        if now - max(self._heard, self._computed_at) > IDLE_SECONDS:
            return _Loss(f"hung: it neither read nor computed for {human_duration(IDLE_SECONDS)}")
        return None

    def _of_part(self, usage: hardware.Usage) -> _Loss | None:
        if self._part is None:
            return None
        if usage.memory > self._part_start.memory + PART_MEMORY:
            return _Loss(f"wants more than {PART_MEMORY // MiB} MiB of memory")
        if usage.seconds > self._part_start.seconds + PART_SECONDS:
            return _Loss(
                f"did not come to an end within {PART_SECONDS:.0f} seconds of processor time"
            )
        return None

    def _of_memory(self, usage: hardware.Usage) -> _Loss | None:
        if (
            self._level is None or self._level in LEVEL_SECONDS
        ):  # before the first it opens the files
            if usage.memory > FILES_MEMORY:
                return _Loss(f"took more than {human_bytes(FILES_MEMORY)} of memory", hint=_ABSURD)
            allowed = max(self._limit, LEAST_MEMORY)
        else:
            allowed = max(self._limit, self._start.memory + ROOM)
        if usage.memory <= allowed:
            return None
        message = f"needs more memory than there is: it took more than {human_bytes(allowed)}"
        return _Loss(message, blame=False, hint=MEMORY_HINT)

    def _of_time(self, usage: hardware.Usage) -> _Loss | None:
        allowed = LEVEL_SECONDS.get(self._level) if self._level else None
        if allowed is None or usage.seconds <= self._start.seconds + allowed:
            return None
        message = f"did not come to an end within {human_duration(allowed)} of processor time"
        return _Loss(message, hint=_ABSURD)


_ABSURD: Final = (
    "A number in config.json, or a file of the tokenizer, is absurd: compare with upstream's."
)


# ---- the folder for small files


_PREFIX: Final = "archiver-smoke-"
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder of this process alone, which vanishes in the end; abandoned ones are removed first.

    A folder is locked (``flock``) as long as the process lives that made it, however that ends.

    Raises:
        ArchiverError: No folder for temporary files can be written to.
    """
    folder, handle = _made()
    try:
        _remove_abandoned(folder.parent)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # if something stays, the next test removes it
        os.close(handle)


def _made() -> tuple[Path, int]:
    """Return a new folder that is locked, and the handle that holds the lock."""
    while True:
        folder = _new()
        try:
            handle = os.open(folder, _FOLDER)
        except FileNotFoundError:  # another test took it for an abandoned one
            continue
        if _locked(handle) is not False and folder.exists():
            return folder, handle
        os.close(handle)


def _new() -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix=_PREFIX))
    except OSError as error:
        explained = explain_system_error(error, "a folder for temporary files was made")
        message = (
            explained.message if error.filename else "No folder for temporary files is writable."
        )
        hint = "Set TMPDIR to a folder that can be written to."
        raise type(explained)(message, hint=hint) from error


def _locked(handle: int) -> bool | None:
    """Return whether the lock is ours now; None if this filesystem knows no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _remove_abandoned(below: Path) -> None:
    with suppress(OSError), os.scandir(below) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX):
                with suppress(OSError):
                    _remove_if_abandoned(entry.path)


def _remove_if_abandoned(path: str) -> None:
    """Remove a folder, never a link to one, that is this user's and that no process holds."""
    handle = os.open(path, _FOLDER)
    try:
        if os.fstat(handle).st_uid == os.geteuid() and _locked(handle):
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(handle)
