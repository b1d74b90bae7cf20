"""The files of a demonstration checkpoint that are the same in each, kept here as they are."""

from __future__ import annotations

from importlib.resources import files


def text_of(name: str) -> str:
    """Return the text of one carried file."""
    return (files(__name__) / name).read_text(encoding="utf-8")
