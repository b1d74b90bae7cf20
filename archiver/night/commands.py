"""Commands before and after a night: no shell, a time limit, and the end of what they print is kept."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from archiver.errors import DeniedError, ExitCode
from archiver.night.facts import Fact, worst
from archiver.night.result import Outcome, StepError, StepResult
from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from archiver.plan.document import Plan

COMMAND_SECONDS: Final = 600
"""A command is ended after so long."""
TAIL_MAX: Final = 2000
"""Bytes that are kept of the end of what a command prints."""
_SECRETS: Final = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "ARCHIVER_KEY_PASSWORD")


def require_own(plan: Plan) -> None:
    """Raise DeniedError unless nobody but this user, or root, can have written the plan's commands."""
    folder = Path(plan.file).parent
    info = folder.stat() if plan.file else None
    own = info is not None and info.st_uid in {0, os.geteuid()} and not info.st_mode & 0o022
    if not plan.is_own or not own:
        what = plan.file if not plan.is_own else str(folder)
        raise DeniedError(
            f"{what} is not this user's alone to write, so the plan's commands were not run.",
            hint="Give plan and folder to this user or root, and take away the right to write from "
            "all others: chmod go-w.",
        )


def commands_step(
    step: str, plan: Plan, commands: tuple[tuple[str, ...], ...], environment: Mapping[str, str]
) -> StepResult:
    """Run commands one after the other; one that fails keeps none from being run."""
    require_own(plan)
    facts, errors = [], []
    for words in commands:
        problem = _run(words, environment, Path(plan.file).parent)
        if problem:
            facts.append(Fact("command", words[0], int(ExitCode.PARTIAL), step))
            errors.append(StepError(problem, "", int(ExitCode.PARTIAL), words[0]))
    code = worst(fact.exit_code for fact in facts)
    counts = {"commands": len(commands)}
    outcome: Outcome = "failed" if code else "idle"
    return StepResult(step, outcome, code, tuple(facts), tuple(errors), counts)


def _run(words: tuple[str, ...], environment: Mapping[str, str], folder: Path) -> str:
    """Return why a command failed, with the end of what it printed; ``""`` if it did not."""
    inherited = {name: value for name, value in os.environ.items() if name not in _SECRETS}
    try:
        child = subprocess.Popen(  # noqa: S603 - words of the owner's own plan, and no shell
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**inherited, **environment},
            cwd=folder,
            start_new_session=True,
        )
    except OSError as error:
        return f"It could not be run: {error.strerror}."
    tail = _Tail(child.stdout)
    try:
        code = child.wait(COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        return f"It was ended after {COMMAND_SECONDS} seconds. {_end(child, tail)}".strip()
    except BaseException:
        _end(child, tail)
        raise
    said = tail.text()
    if not code:
        return ""
    return f"It ended with {code}{f': {said}' if said else '.'}"


def _end(child: subprocess.Popen[bytes], tail: _Tail) -> str:
    """End a command and all that it started; return the end of what it printed."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        child.kill()
    child.wait()
    return tail.text()


class _Tail:
    """Keeps the end of what comes, and lets the rest go, so that nobody who prints a lot has to wait."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        self._stream = stream
        self._tail = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        if self._stream is None:
            return
        with self._stream as stream:
            while data := os.read(stream.fileno(), 65536):
                self._tail = (self._tail + data)[-TAIL_MAX:]

    def text(self) -> str:
        """Return it; what children of a command that has ended print later does not count."""
        self._thread.join(1)
        lines = self._tail.decode(errors="replace").split("\n")
        return " / ".join(printable(line.strip(), TAIL_MAX) for line in lines if line.strip())
