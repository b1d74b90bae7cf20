"""The levels of an audit: what is known afterwards, each more than the one before.

``structure``: everything is there, in its size, and every object is in an index. ``stored``: and every
pack has the digest that is its name. ``content``: and every object decodes to what it is named by.
``files``: and every file of every snapshot comes out of them with its own digests.
"""

from __future__ import annotations

from typing import Final, get_args

from archiver.archive.policy import Level

LEVELS: Final[tuple[Level, ...]] = get_args(Level)
"""The shallowest first."""


def proves(level: Level, other: Level) -> bool:
    """Whether what was proven at ``level`` is proven at ``other``, too."""
    return LEVELS.index(level) >= LEVELS.index(other)
