"""What came of a step of a night."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import msgspec

from archiver.errors import LockedError, SkippedError
from archiver.night.facts import Fact, ringing_code

if TYPE_CHECKING:
    from archiver.errors import ArchiverError

Outcome = Literal["done", "idle", "failed", "skipped", "away", "cut"]
"""What came of a step: something was done; there was nothing to do; it failed, in part or whole; it could
not be run; what it needs is not there; it was ended before its end, or not begun for that."""

ERRORS_MAX: Final = 1000
"""Errors of a step that are kept one by one."""


class StepError(msgspec.Struct, frozen=True):
    """Something that failed in a step, in words; ``subject`` is the entry, folder or file."""

    message: str
    hint: str
    exit_code: int
    subject: str = ""


class StepResult(msgspec.Struct, frozen=True):
    """What came of a step.

    ``exit_code`` is the worst of what it came upon, whether that is news or not. ``counts`` are figures:
    bytes have ``bytes`` in their name.
    """

    step: str
    outcome: Outcome
    exit_code: int = 0
    facts: tuple[Fact, ...] = ()
    errors: tuple[StepError, ...] = ()
    counts: dict[str, int] = {}
    seconds: int = 0


def failed_step(step: str, error: ArchiverError, subject: str = "") -> StepResult:
    """Return what came of a step that an error ended.

    A disk that is away, a run that is in the way and a check that cannot run are no failures.
    """
    code = ringing_code(int(error.exit_code))
    outcome: Outcome = "failed"
    if isinstance(error, SkippedError | LockedError):
        outcome = "skipped"
    failure = StepError(error.message, error.hint, int(error.exit_code), subject)
    return StepResult(step, outcome, code, (Fact("step", step, code, step),), (failure,))
