"""A table of a plan, read strictly: a key has one kind of value, and what is wrong is noted, not raised."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from archiver.errors import UsageError
from archiver.text import parse_duration, parse_share, parse_size, printable

if TYPE_CHECKING:
    from archiver.plan.toml import Document, Path

Value = TypeVar("Value")
Read = Callable[[Any], Value]
"""Returns what a value means; raises WrongError if it means nothing."""

TEXT_MAX: Final = 250
"""Characters of a text."""
LIST_MAX: Final = 10_000
"""Elements of a list."""
_SIZE_MAX: Final = 1 << 62
_SHOWN: Final = 60
_HOURS_MAX: Final = 1000
_SECONDS_AN_HOUR: Final = 3600


class WrongError(Exception):
    """A value means nothing.

    Args:
        reason: What comes after the key in a sentence, such as ``must be true or false``.
        at: Which element of the value is wrong, if it is one.
    """

    def __init__(self, reason: str, at: Path = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.at = at


class Problem(NamedTuple):
    """What is wrong with a plan, and where."""

    path: Path
    text: str


class Problems:
    """What is wrong with one file."""

    def __init__(self) -> None:
        self._noted: list[Problem] = []

    def __len__(self) -> int:
        return len(self._noted)

    def add(self, path: Path, text: str) -> None:
        """Note a problem; ``text`` names the key."""
        self._noted.append(Problem(path, text))

    def sentences(self, document: Document, most: int) -> list[str]:
        """Return the first of them with their lines, in the order of the file."""
        lines = [(document.line_of(path), text) for path, text in self._noted]
        lines.sort(key=lambda pair: pair[0])
        return [f"line {line}: {text}" if line else text for line, text in lines[:most]]


class Table:
    """One table; every key that is read is known, and `close` notes the others.

    Args:
        value: What stands in its place, which may be no table.
        path: Where that is.
        title: How messages call it, such as ``[plan]``.
        problems: Where to note what is wrong.
    """

    def __init__(self, value: object, path: Path, title: str, problems: Problems) -> None:
        self.path = path
        self.title = title
        self._problems = problems
        self._known: list[str] = []
        self._values: Mapping[str, Any] = {}
        if isinstance(value, dict):
            self._values = value
        else:
            problems.add(path, f"{title} is {'missing' if value is None else 'not a table'}")

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def read(self, key: str, read: Read[Value], default: Value) -> Value:
        """Return what the value of ``key`` means, or ``default`` if there is none or it is wrong."""
        self._known.append(key)
        if key not in self._values:
            return default
        try:
            return read(self._values[key])
        except WrongError as wrong:
            self.note(f"{key} {wrong.reason}", key, *wrong.at)
            return default

    def note(self, text: str, *keys: str | int) -> None:
        """Note a problem with what lies at ``keys`` of this table."""
        self._problems.add((*self.path, *keys), f"{self.title}: {text}" if self.title else text)

    def table(self, key: str, title: str) -> Table | None:
        """Return the table at ``key``; None if there is none."""
        self._known.append(key)
        if key not in self._values:
            return None
        return Table(self._values[key], (*self.path, key), title, self._problems)

    def tables(self, key: str, title: Callable[[int, object], str]) -> Iterator[Table]:
        """Yield the tables of the array at ``key``; ``title`` names each, given its number and value."""
        self._known.append(key)
        listed = self._values.get(key, [])
        if not isinstance(listed, list):
            self.note(f"{key} is not a list of tables; write [[{key}]]", key)
            return
        for number, value in enumerate(listed):
            yield Table(value, (*self.path, key, number), title(number + 1, value), self._problems)

    def close(self) -> None:
        """Note every key that is not known, with the nearest one that is."""
        for key in self._values:
            if key not in self._known:
                shown = printable(key, _SHOWN)
                near = nearest(key, self._known)
                other = f"did you mean {near}?" if near else f"there are {', '.join(self._known)}"
                self.note(f"'{shown}' is not a key that a plan has here; {other}", key)


def nearest(word: str, words: list[str]) -> str:
    """Return the one of ``words`` that was most likely meant; ``""`` if none is near."""
    import difflib  # noqa: PLC0415 - only where something is wrong

    folded = {known.casefold(): known for known in words}
    close = difflib.get_close_matches(word[:_SHOWN].casefold(), folded, 1)
    return folded[close[0]] if close else ""


# --- kinds of values


def text(value: object) -> str:
    """Return a text of one line."""
    if isinstance(value, str) and 0 < len(value) <= TEXT_MAX and value.isprintable():
        return value
    raise WrongError(f"must be a text of 1 to {TEXT_MAX} printable characters")


def flag(value: object) -> bool:
    """Return true or false."""
    if isinstance(value, bool):
        return value
    raise WrongError("must be true or false")


def integer(least: int, most: int) -> Read[int]:
    """Return what reads a whole number."""

    def read(value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        raise WrongError(f"must be a whole number from {least:,} to {most:,}")

    return read


def hours(value: object) -> int:
    """Return hours as seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _HOURS_MAX:
        return max(1, int(value * _SECONDS_AN_HOUR))
    raise WrongError(f"must be a number of hours, more than 0 and at most {_HOURS_MAX:,}")


def size(value: object) -> int:
    """Return bytes: of a number, or of a text such as ``500GB``; 0 is one."""
    if isinstance(value, str):
        try:
            value = parse_size(value)
        except UsageError:
            value = -1
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _SIZE_MAX:
        return value
    raise WrongError('must be a size such as "500GB" or "1.5GiB"')


def some_size(value: object) -> int:
    """Return bytes, more than none."""
    count = size(value)
    if not count:
        raise WrongError("must be more than 0 bytes")
    return count


def duration(value: object) -> int:
    """Return seconds of a text such as ``7d``, more than none."""
    try:
        seconds = parse_duration(value) if isinstance(value, str) else 0
    except UsageError:
        seconds = 0
    if not seconds:
        raise WrongError('must be a duration such as "7d"')
    return seconds


def share(value: object) -> float:
    """Return a part of a whole of a text such as ``5%``."""
    try:
        part = parse_share(value) if isinstance(value, str) else 0.0
    except UsageError:
        part = 0.0
    if not part:
        raise WrongError('must be a share such as "5%"')
    return part


def day(value: object) -> str:
    """Return a day as ``2026-11-29``, of a text or of TOML's own date."""
    from datetime import date, datetime  # noqa: PLC0415 - few plans hold a date

    try:
        if isinstance(value, str):
            value = date.fromisoformat(value)
    except ValueError:
        value = None
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    raise WrongError('must be a day such as "2026-11-29"')


def choice(*words: str) -> Read[str]:
    """Return what reads one of these words."""

    def read(value: object) -> str:
        if isinstance(value, str) and value in words:
            return value
        near = nearest(value, list(words)) if isinstance(value, str) else ""
        said = f"; did you mean {near}?" if near else ""
        raise WrongError(f"must be {_listed(words)}{said}")

    return read


def _listed(words: tuple[str, ...]) -> str:
    quoted = [f'"{word}"' for word in words]
    return f"{', '.join(quoted[:-1])} or {quoted[-1]}" if len(quoted) > 1 else quoted[0]


def list_of(read: Read[Value], example: str, *, alone: bool = False) -> Read[tuple[Value, ...]]:
    """Return what reads a list of such values; ``alone``: also one of them outside of a list."""

    def read_list(value: object) -> tuple[Value, ...]:
        if alone and isinstance(value, str):
            return (read(value),)
        if not isinstance(value, list):
            raise WrongError(f"must be a list such as {example}")
        if len(value) > LIST_MAX:
            raise WrongError(f"must have at most {LIST_MAX:,} elements")
        elements: list[Value] = []
        for number, element in enumerate(value):
            try:
                elements.append(read(element))
            except WrongError as wrong:
                said = f"must be a list such as {example}: element {number + 1} {wrong.reason}"
                raise WrongError(said, (number, *wrong.at)) from None
        return tuple(elements)

    return read_list
