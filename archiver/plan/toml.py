"""A TOML file as values, with the line of each key: bounded before it is parsed, whoever wrote it.

The standard library parses it, and tells no lines. So a second look at the same text, only where there is
something to complain of, finds the line on which each key and each element of a list begins.
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

BYTES_MAX: Final = 1 << 20
"""Bytes of a plan,"""
DEPTH_MAX: Final = 16
"""brackets within brackets,"""
PARTS_MAX: Final = 8
"""parts of a dotted key: what parses it takes time as the square of them,"""
MARKS_MAX: Final = 250_000
"""and brackets, points, commas and equals signs in all."""

Path = tuple[str | int, ...]
"""Where a value is: keys of tables and numbers of elements, from the root on."""

_LEXEME: Final = re.compile(
    r'''
      (?P<string> """ (?: \\. | [^"\\] | "(?!"") )*+ "{3,5}
                | \'\'\' (?: [^'] | '(?!'') )*+ '{3,5}
                | " (?: \\. | [^"\\\n] )*+ "
                | ' [^'\n]*+ ' )
    | (?P<newline> \n )
    | (?P<nothing> [ \t\r]++ | \#[^\n]*+ )
    | (?P<mark> [\[\]{}=.,] )
    | (?P<word> [^\s\[\]{}=.,"'\#]++ )
    ''',
    re.VERBOSE | re.DOTALL,
)
_OPENING: Final = frozenset("[{")
_CLOSING: Final = frozenset("]}")
_POSITION: Final = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)\Z")


class TomlError(Exception):
    """It is not TOML, or more than a plan may be.

    Args:
        reason: A part of a sentence.
        line: Where, from 1 on; 0 if it is no one line.
    """

    def __init__(self, reason: str, line: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line


class Document:
    """A parsed file: its values, and where they are."""

    def __init__(self, data: bytes) -> None:
        """Parse ``data``; raise TomlError if it is not TOML within bounds."""
        if len(data) > BYTES_MAX:
            raise TomlError(f"it has more than {BYTES_MAX:,} bytes")
        try:
            # As the parser does: a line ends the same way on every system.
            self._text = data.decode().replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise TomlError("it is not TOML: that is not UTF-8", line) from None
        _require_bounded(self._text)
        self.values = _parsed(self._text)
        self._lines: dict[Path, int] = {}

    def line_of(self, path: Path) -> int:
        """Return the line on which the value at ``path`` begins, or what holds it; 0 if nothing does."""
        if not self._lines:
            self._lines = _Lines(self._text).lines
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 0)


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason = str(error)
        position = _POSITION.search(reason)
        line = int(position[1]) if position and position[1] else text.rstrip().count("\n") + 1
        reason = reason[: position.start()] if position else reason
        raise TomlError(f"it is not TOML: {reason}", line) from None
    except (ValueError, OverflowError, RecursionError) as error:
        # A number of thousands of digits, or a date that no calendar has.
        raise TomlError(f"it is not TOML: {error}") from None


def _lexemes(text: str) -> Iterator[tuple[str, str]]:
    """Yield kind and text of each lexeme, as far as the text is made of lexemes."""
    position = 0
    while match := _LEXEME.match(text, position):
        yield match.lastgroup or "", match[0]
        position = match.end()


def _require_bounded(text: str) -> None:
    """Raise TomlError for what costs a parser much: it is judged by as many characters as that reads."""
    depth = dots = marks = 0
    line = 1
    for kind, lexeme in _lexemes(text):
        line += lexeme.count("\n")
        if kind != "mark":
            dots = 0 if kind == "newline" else dots
            continue
        dots = dots + 1 if lexeme == "." else 0
        marks += 1
        depth += (lexeme in _OPENING) - (lexeme in _CLOSING)
        if depth > DEPTH_MAX:
            raise TomlError(f"brackets are nested deeper than {DEPTH_MAX} levels", line)
        if dots >= PARTS_MAX:
            raise TomlError(f"a key has more than {PARTS_MAX} parts", line)
        if marks > MARKS_MAX:
            raise TomlError(f"it has more than {MARKS_MAX:,} keys and values", line)


class _Lines:
    """The lines of what is TOML: read once from top to bottom."""

    def __init__(self, text: str) -> None:
        self.lines: dict[Path, int] = {}
        self._tables: dict[Path, int] = {}
        """The number of the last element of each array of tables."""
        self._lexemes = _lexemes(text)
        self._line = 1
        self._kind = self._lexeme = ""
        self._advance()
        self._document()

    def _advance(self) -> None:
        """Go on to the next lexeme that means anything; at the end it has no kind."""
        self._line += self._lexeme.count("\n")
        for kind, lexeme in self._lexemes:
            if kind != "nothing":
                self._kind, self._lexeme = kind, lexeme
                return
        self._kind = self._lexeme = ""

    def _document(self) -> None:
        table: Path = ()
        while self._kind:
            if self._kind == "newline":
                self._advance()
            elif self._lexeme == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> Path:
        """Read ``[a.b]`` or ``[[a.b]]``; return the path of the table that begins."""
        line = self._line
        self._advance()
        several = self._lexeme == "["
        if several:
            self._advance()
        keys = self._key()
        while self._lexeme == "]":
            self._advance()
        path: Path = ()
        for number, key in enumerate(keys, 1):
            path += (key,)
            self.lines.setdefault(path, line)
            if several and number == len(keys):
                self._tables[path] = self._tables.get(path, -1) + 1
            if path in self._tables:
                path += (self._tables[path],)
                self.lines.setdefault(path, line)
        return path

    def _pair(self, table: Path) -> None:
        """Read ``a.b = value``."""
        path, line = table, self._line
        for key in self._key():
            path += (key,)
            self.lines.setdefault(path, line)
        self._advance()  # the equals sign
        self._value(path)

    def _key(self) -> list[str]:
        keys: list[str] = []
        while self._kind in {"word", "string"} or self._lexeme == ".":
            if self._kind == "word":
                keys.append(self._lexeme)
            elif self._kind == "string":
                keys.append(_unquoted(self._lexeme))
            self._advance()
        return keys

    def _value(self, path: Path) -> None:
        if self._lexeme == "[":
            self._list(path)
        elif self._lexeme == "{":
            self._inline_table(path)
        else:
            # A number with a point, and a date with a space before the time, are several lexemes.
            while self._kind in {"word", "string"} or self._lexeme == ".":
                self._advance()

    def _list(self, path: Path) -> None:
        self._advance()
        number = 0
        while self._kind and self._lexeme != "]":
            if self._kind == "newline":
                self._advance()
            elif self._lexeme == ",":
                number += 1
                self._advance()
            else:
                self.lines.setdefault((*path, number), self._line)
                self._value((*path, number))
        self._advance()

    def _inline_table(self, path: Path) -> None:
        self._advance()
        while self._kind and self._lexeme != "}":
            if self._kind == "newline" or self._lexeme == ",":
                self._advance()
            else:
                self._pair(path)
        self._advance()


def _unquoted(lexeme: str) -> str:
    if lexeme[0] == "'" or "\\" not in lexeme:
        return lexeme[1:-1]
    return next(iter(tomllib.loads(f"{lexeme} = 0")))
