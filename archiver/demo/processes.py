"""Commands that the story runs, each in a process of its own, as a person would."""

from __future__ import annotations

import subprocess

from archiver.errors import ArchiverError, ExitCode

Done = subprocess.CompletedProcess[str]


def process(command: list[str]) -> Done:
    """Run ``command`` to its end, however it ends."""
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own commands


def output_of(done: Done, code: ExitCode = ExitCode.OK) -> str:
    """What it printed; ArchiverError unless it ended with ``code``."""
    if done.returncode != code:
        command, said = " ".join(done.args[1:]), (done.stderr or done.stdout).strip()
        raise ArchiverError(f"'{command}' ended with {done.returncode}: {said}")
    return done.stdout
