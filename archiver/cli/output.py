"""Results on stdout (plain text or JSON lines); remarks, errors and the log on stderr."""

from __future__ import annotations

import codecs
import json
import logging
import sys
import time
from contextlib import contextmanager, suppress
from io import FileIO
from typing import TYPE_CHECKING, Any, NoReturn

import click

from archiver.errors import ArchiverError, UsageError
from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_state = {"json": False, "quiet": False, "data": False, "closed": False}
_SHORT = "archiver.shortfall"
_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)
_PACKAGE = logging.getLogger("archiver")


def configure(*, as_json: bool, quiet: bool, verbosity: int = 0, log_format: str = "text") -> None:
    """Choose what is printed, and how, for the whole process.

    With a ``verbosity`` of 1 the package's log is printed at level INFO, with 2 also at DEBUG; nothing
    in the package logs at a higher level, so that with 0 there is none. ``log_format`` is ``text`` or
    ``json``.
    """
    _LOG.setFormatter(_JsonFormatter() if log_format == "json" else _LogFormatter(_TEXT))
    _state.update(json=as_json, quiet=quiet, data=False)
    _PACKAGE.setLevel(_LEVELS[min(verbosity, 2)])
    if verbosity and _LOG not in _PACKAGE.handlers:
        _PACKAGE.addHandler(_LOG)


def note_closed_stdout() -> None:
    """Note that whoever started this gave it no stdout: what is printed is lost, and wanted by nobody."""
    _state["closed"] = True


def write_data(data: bytes) -> None:
    """Write to stdout the document that a command was asked for; raise UsageError if that is closed."""
    _require_stdout()
    flush()
    sys.stdout.buffer.write(data)


def _require_stdout() -> None:
    if _state["closed"]:
        raise UsageError(
            "What was asked for goes to stdout, and stdout is closed.",
            hint="Lead it to a file or a program.",
        )


def give_stdout_to_data() -> FileIO:
    """Return stdout for bytes that a command sends there; what it says goes to stderr from now on.

    Raise UsageError if it is a terminal, or closed.
    """
    _require_stdout()
    if sys.stdout.isatty():
        raise UsageError(
            "A tar does not go to a terminal.",
            hint="Lead it on, to a file or a program such as tar -x -C DIR.",
        )
    flush()
    _state["data"] = True
    # Past the buffer: what it could not write it would try again at the end of the process.
    return FileIO(sys.stdout.fileno(), "wb", closefd=False)


def wants_json() -> bool:
    """Return whether results are JSON lines."""
    return _state["json"]


def is_quiet() -> bool:
    """Return whether remarks are left out."""
    return _state["quiet"]


def record(kind: str, **fields: Any) -> None:
    """Print a JSON line on stdout; nothing in text mode."""
    if wants_json():
        _print(json.dumps({"kind": kind, **fields}, ensure_ascii=_encoding() != "utf-8"))


def line(text: str = "") -> None:
    """Print a line of text on stdout, with what is not printable escaped; nothing in JSON mode."""
    if not wants_json():
        _print(_harmless(text))


def _print(text: str) -> None:
    # A file's name may be no text, and a terminal may not know a sign; JSON has the same escape.
    encodable = text.encode(_encoding(), errors="backslashreplace").decode(_encoding())
    if _state["data"]:
        sys.stderr.write(encodable + "\n")
        return
    with _to_stdout():
        sys.stdout.write(encodable + "\n")


def _encoding() -> str:
    """Return the encoding of stdout, by the name that Python has for it."""
    return codecs.lookup(sys.stdout.encoding or "utf-8").name


def flush() -> None:
    """Write out all that was printed; raise OutputError if that fails."""
    with _to_stdout():
        sys.stdout.flush()


def exit_with(code: int) -> NoReturn:
    """End the command with a code other than 0, of which everything is said already."""
    raise click.exceptions.Exit(int(code))


def fall_short(code: int) -> None:
    """Have the command end with ``code`` if it would have ended with 0: it did less than was asked."""
    click.get_current_context().meta[_SHORT] = int(code)


def shortfall() -> int:
    """Return what ``fall_short`` was told, or 0."""
    return int(click.get_current_context().meta.get(_SHORT, 0))


@contextmanager
def _to_stdout() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(
            f"The results cannot be written to stdout: {error.strerror or error}.",
            hint="What the command did is done; only its output is lost or cut short.",
        ) from error


class OutputError(ArchiverError):
    """The results could not be printed."""


def remark(text: str) -> None:
    """Print a line for a person on stderr, above a live line if there is one; nothing with --quiet."""
    if not is_quiet():
        sys.stderr.write(_harmless(text) + "\n")


def hint(text: str, indent: int = 4) -> None:
    """Print what to do next, below what it is about."""
    line(f"{' ' * indent}→ {printable(text, 2000)}")


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Print aligned columns on stdout; ``right`` names the columns that are aligned right."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    for row in [list(head), *cells]:
        parts = [
            text.rjust(width) if at in right else text.ljust(width)
            for at, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        line("  ".join(parts).rstrip())


def print_error(
    message: str, hint: str, code: int, details: Sequence[str] = (), **about: str
) -> None:
    """Print an error: a sentence and what to do next, on stderr; also a JSON line on stdout if wanted.

    ``details`` stand between the two, each in a line of its own. ``about`` are more fields for the JSON
    line, such as the repository that is concerned.
    """
    more = {"details": list(details)} if details else {}
    with suppress(OutputError, BrokenPipeError):
        record("error", message=message, hint=hint, exit_code=code, **more, **about)
        flush()
    sys.stderr.write(f"archiver: {_harmless(message, 20000)}\n")
    for detail in details:
        sys.stderr.write(f"    {_harmless(detail, 2000)}\n")
    if hint:
        sys.stderr.write(f"  → {_harmless(hint, 2000)}\n")


class _LogFormatter(logging.Formatter):
    """A line with the time in UTC. What a message quotes may be upstream's: it is made harmless."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """Return the line; a message cannot begin another one."""
        record.message = _harmless(record.message, 2000)
        return super().formatMessage(record)


class _JsonFormatter(_LogFormatter):
    """A JSON object a line; with the repository and the size in bytes of those that are about some."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "module": record.name,
            "message": _harmless(record.getMessage(), 2000),
        }
        about = {
            key: getattr(record, key) for key in ("repository", "size") if hasattr(record, key)
        }
        return json.dumps(fields | about)


class _LogHandler(logging.Handler):
    """Writes to what stderr is at the moment, which may show a live line."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; a log that cannot be written ends no run."""
        with suppress(OSError, ValueError):
            sys.stderr.write(f"{self.format(record)}\n")


_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_LOG = _LogHandler()
_LOG.setFormatter(_LogFormatter(_TEXT))


def _harmless(text: str, limit: int | None = None) -> str:
    """Return ``text`` with what is not printable escaped; what a message quotes is escaped already."""
    cut = text if limit is None or len(text) <= limit else f"{text[:limit]}…"
    return (
        cut
        if cut.isprintable()
        else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
    )
