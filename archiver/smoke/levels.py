"""The levels of a smoke test, from what reads only headers to what compares numbers."""

from __future__ import annotations

from typing import Final, Literal, get_args

Level = Literal["structure", "tokenizer", "load", "forward", "generate", "golden"]
"""``docs/smoke-test.md`` says what each one proves, and what it cannot."""
LEVELS: Final[tuple[Level, ...]] = get_args(Level)

Verdict = Literal["held", "failed", "skipped", "inapplicable"]
"""``skipped``: it should have run and could not. ``inapplicable``: such a model has no such thing."""


def up_to(level: Level) -> tuple[Level, ...]:
    """All levels up to ``level``, itself included."""
    return LEVELS[: LEVELS.index(level) + 1]
