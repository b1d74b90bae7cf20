"""What the libraries raise, as what it means for the test."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from archiver.archive.findings import Code, Finding
from archiver.errors import ArchiverError, SkippedError
from archiver.smoke.report import FailedError
from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

_NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "could not create a primitive",  # oneDNN's way to say it
)
_LINES, _LETTERS = 3, 400
_SHORT = ("BFloat16", "mixed dtype (CPU)")
"""How torch says that an operation lacks 16-bit floats, or cannot join them with longer ones."""
_LONGER = "Compute in longer numbers: --dtype float32."


@contextmanager
def told_as(code: Code, doing: str) -> Iterator[None]:
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
    """Whether a class that can only compute in 32-bit floats was asked for 16-bit ones."""
    return any(words in str(error) for words in _SHORT)


def reason(error: BaseException, otherwise: str = "no reason is given") -> str:
    """The first lines of a library's exception, joined and safe to show, without a full stop.

    The first line alone may only announce what the next ones say.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable(" ".join(lines[:_LINES]).rstrip(".") or otherwise, _LETTERS)


def _sentence(doing: str, error: Exception) -> str:
    return f"{doing} failed: {type(error).__name__}: {reason(error)}."


def too_large(doing: str) -> SkippedError:
    """Memory ran out at ``doing``."""
    return SkippedError(
        f"{doing} needs more memory than there is.",
        hint="Give a limit, such as --memory 4G; the model is then run piece by piece.",
    )
