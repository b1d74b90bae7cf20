"""What a smoke test found: a record for each level and one for the whole; what libraries raise, as that."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import msgspec

from archiver.archive.findings import Code, Finding
from archiver.errors import ArchiverError, ExitCode, SkippedError
from archiver.text import plural, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


Level = Literal["structure", "tokenizer", "load", "forward", "generate", "golden"]
"""``docs/smoke-test.md`` says what each one proves, and what it cannot."""
LEVELS: Final[tuple[Level, ...]] = get_args(Level)

Verdict = Literal["held", "failed", "skipped", "inapplicable"]
"""``skipped``: it should have run and could not. ``inapplicable``: such a model has no such thing."""


def up_to(level: Level) -> tuple[Level, ...]:
    """Return all levels up to ``level``, itself included."""
    return LEVELS[: LEVELS.index(level) + 1]


class Proof(msgspec.Struct, frozen=True):
    """What a level that ran came to. Without findings (but remarks) it held.

    Attributes:
        proved: What was seen to hold, a short sentence each.
        findings: What was wrong, and remarks.
        facts: Numbers and names for ``--json`` and the receipt; JSON values, no floats (figures that
            are not whole are texts).
    """

    proved: tuple[str, ...]
    findings: tuple[Finding, ...] = ()
    facts: dict[str, Any] = {}

    def accepting(self, codes: frozenset[str]) -> Proof:
        """Return it with the findings marked that the owner accepts."""
        findings = tuple(
            msgspec.structs.replace(finding, accepted=True) if finding.code in codes else finding
            for finding in self.findings
        )
        return msgspec.structs.replace(self, findings=findings)


class LevelReport(msgspec.Struct, frozen=True):
    """How one level ended; ``reason`` says why it was skipped or does not apply."""

    level: Level
    verdict: Verdict
    seconds: float
    proved: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    reason: str = ""
    hint: str = ""
    facts: dict[str, Any] = {}

    @classmethod
    def of(cls, level: Level, proof: Proof, seconds: float) -> LevelReport:
        """Return the report of a level that ran: it failed if a finding is more than a remark."""
        return cls(
            level,
            "failed" if any(not finding.remark for finding in proof.findings) else "held",
            seconds,
            proved=proof.proved,
            findings=proof.findings,
            facts=proof.facts,
        )


class SmokeReport(msgspec.Struct, frozen=True):
    """A whole smoke test.

    Attributes:
        title: ``Org/Name@revision``, or the folder.
        levels: Those that were to be run, in order. After the first that failed or was skipped the
            ones that need it are skipped too.
        fit: How the model fits into this machine, as text lines; empty if it was not looked at.
        environment: Versions of libraries and what the machine is.
    """

    title: str
    levels: tuple[LevelReport, ...]
    fit: tuple[str, ...] = ()
    environment: dict[str, Any] = {}

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings of all levels."""
        return tuple(finding for level in self.levels for finding in level.findings)

    @property
    def held(self) -> bool:
        """Whether every level that was to be run did hold, or does not apply."""
        return all(level.verdict in {"held", "inapplicable"} for level in self.levels)

    @property
    def exit_code(self) -> ExitCode:
        """0 if it held, 25 if a level failed, else 4: a level that was asked for could not run."""
        if self.held:
            return ExitCode.OK
        failed = any(level.verdict == "failed" for level in self.levels)
        return ExitCode.SMOKE_FAILED if failed else ExitCode.SKIPPED


class InapplicableError(ArchiverError):
    """Such a model has nothing that the level could test; the message says why."""


class FailedError(ArchiverError):
    """A level cannot go on because of what it found; what is wrong stands in ``findings``."""

    exit_code = ExitCode.SMOKE_FAILED

    def __init__(self, *findings: Finding) -> None:
        super().__init__(findings[0].message, hint=findings[0].hint)
        self.findings = findings


# ---- many findings of one kind


MOST: Final = 20
"""So many findings of one kind have a line of their own."""


def shortened(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Yield the first ``MOST``; then one that counts the others, which are of the same code."""
    rest = iter(findings)
    first = tuple(islice(rest, MOST))
    yield from first
    if more := sum(1 for _ in rest):
        yield counted(first[0].code, first[0].path, more)


def counted(code: Code, path: str, more: int) -> Finding:
    """Return what stands for findings that are not listed."""
    return Finding(code, f"The same is wrong with {plural(more, 'more', 'more')}.", path=path)


# ---- what the libraries raise, as what it means for the test


_NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "could not create a primitive",  # oneDNN's way to say it
)
MEMORY_HINT: Final = "Give a limit, such as --memory 4G; the model is then run piece by piece."
_LINES, _LETTERS = 3, 400
_SHORT = ("BFloat16", "mixed dtype (CPU)")
"""How torch says that an operation lacks 16-bit floats, or cannot join them with longer ones."""
_LONGER = "Compute in longer numbers: --dtype float32."


@contextmanager
def library_errors(code: Code, doing: str) -> Iterator[None]:
    """Turn a library's exception into a finding; ``doing`` names what it was raised at.

    Raises:
        FailedError: The libraries refused.
        SkippedError: Memory ran out, or the class cannot compute in bfloat16; neither says anything
            of the model.
    """
    try:
        yield
    except ArchiverError:
        raise
    except MemoryError as error:
        raise too_large(doing) from error
    except Exception as error:  # what a library may raise on a model's account has no common base
        if any(words in str(error) for words in _NO_MEMORY):
            raise too_large(doing) from error
        if needs_longer(error):
            raise SkippedError(_sentence(doing, error), hint=_LONGER) from error
        raise FailedError(Finding(code, _sentence(doing, error))) from error


def needs_longer(error: Exception) -> bool:
    """Return whether a class that can only compute in 32-bit floats was asked for 16-bit ones."""
    return any(words in str(error) for words in _SHORT)


def reason(error: BaseException, otherwise: str = "no reason is given") -> str:
    """Return the first lines of a library's exception, joined and safe to show, without a full stop.

    The first line alone may only announce what the next ones say.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable(" ".join(lines[:_LINES]).rstrip(".") or otherwise, _LETTERS)


def _sentence(doing: str, error: Exception) -> str:
    return f"{doing} failed: {type(error).__name__}: {reason(error)}."


def too_large(doing: str) -> SkippedError:
    """Return the error where memory ran out at ``doing``."""
    return SkippedError(f"{doing} needs more memory than there is.", hint=MEMORY_HINT)
