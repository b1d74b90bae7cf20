"""The front matter of a model card: YAML between two lines of ``---`` at the top of a README.md.

It comes from upstream and is hostile: bounded, without aliases, and parsed to plain texts only.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

README: Final = "README.md"
README_MAX: Final = 1 << 20
"""Bytes of a card that is read; a larger one counts as empty."""
FRONT_MATTER_MAX: Final = 64 << 10
"""Characters of its front matter,"""
DEPTH_MAX: Final = 16
"""levels of it,"""
TERM_MAX: Final = 200
"""and characters of each of its texts that are kept."""
_FRONT: Final = re.compile(r"\A---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)


class CardText(NamedTuple):
    """A card: the fields of its front matter, and the text below it."""

    fields: dict[str, Any]
    body: str


def parse_card(data: bytes) -> CardText:
    """Return a card's front matter, as dicts, lists and texts, and its text; never an error."""
    text = data.decode("utf-8", "replace").replace("\0", "�").removeprefix("\ufeff")
    front = _FRONT.match(text[: FRONT_MATTER_MAX + 16])
    if front is None:
        return CardText({}, text)
    return CardText(_fields(front[1]), text[front.end() :])


def _fields(text: str) -> dict[str, Any]:
    """Return the fields; none if it is not plain YAML."""
    import yaml  # noqa: PLC0415 - seldom needed

    class Plain(yaml.BaseLoader):  # type: ignore[misc] # it has no types
        """Makes texts of all scalars; aliases, which make much of little, and deep nesting are refused."""

        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.depth >= DEPTH_MAX or self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError
            self.depth += 1
            try:
                return super().compose_node(parent, index)
            finally:
                self.depth -= 1

    try:
        fields = yaml.load(text, Plain)  # noqa: S506 - a loader that makes nothing but plain values
    except (yaml.YAMLError, RecursionError, ValueError, TypeError):
        return {}
    return {str(key): value for key, value in fields.items()} if isinstance(fields, dict) else {}


def texts_of(value: Any) -> Iterator[str]:
    """Yield the texts of a value that is one, or a list of some: bounded, on one line."""
    for each in value if isinstance(value, list) else (value,):
        if isinstance(each, str) and each.strip():
            yield " ".join(each[:TERM_MAX].split())
