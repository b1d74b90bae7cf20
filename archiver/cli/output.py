"""Results on stdout (plain text or JSON lines), everything else on stderr."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

_state = {"json": False, "quiet": False}


def configure(*, as_json: bool, quiet: bool) -> None:
    """Choose how results are printed, for the whole process."""
    _state.update(json=as_json, quiet=quiet)


def wants_json() -> bool:
    """Whether results are JSON lines."""
    return _state["json"]


def is_quiet() -> bool:
    """Whether remarks are left out."""
    return _state["quiet"]


def record(kind: str, **fields: Any) -> None:
    """One JSON line on stdout; nothing in text mode."""
    if wants_json():
        sys.stdout.write(json.dumps({"kind": kind, **fields}, ensure_ascii=False) + "\n")


def line(text: str = "") -> None:
    """A line of text on stdout; nothing in JSON mode."""
    if not wants_json():
        sys.stdout.write(text + "\n")


def remark(text: str) -> None:
    """A line for a person on stderr; nothing with --quiet."""
    if not is_quiet():
        sys.stderr.write(text + "\n")


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Aligned columns on stdout; ``right`` names the columns that are aligned right."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    for row in [list(head), *cells]:
        parts = [
            text.rjust(width) if at in right else text.ljust(width)
            for at, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        line("  ".join(parts).rstrip())


def print_error(message: str, hint: str, code: int) -> None:
    """An error: a sentence and what to do next, on stderr; also a JSON line on stdout if wanted."""
    record("error", message=message, hint=hint, exit_code=code)
    sys.stdout.flush()
    sys.stderr.write(f"archiver: {printable(message, 20000)}\n")
    if hint:
        sys.stderr.write(f"  → {printable(hint, 2000)}\n")
