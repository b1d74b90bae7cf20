"""What a check found wrong, as a record with a stable code."""

from __future__ import annotations

from typing import Literal

import msgspec

Code = Literal[
    "file-missing",
    "file-extra",
    "file-size",
    "file-damaged",
    "file-unreadable",
    "path-hostile",
    "link-escapes",
    "manifest-damaged",
]
"""The codes of ``verify``; ``docs/findings.md`` explains each one."""


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is wrong.

    Attributes:
        code: What kind of thing; stable, so that scripts may rely on it.
        message: What happened, as one sentence.
        path: The file, or ``""``.
        tensor: The tensor that is hit, or ``""``.
        rows: The first and the last row of dimension 0 that may be hit, both included; None if it
            is not a tensor with rows.
        object: The BLAKE3 of the segment that should be there, or ``""``.
        hint: What to do next, or ``""``.
    """

    code: str
    message: str
    path: str = ""
    tensor: str = ""
    rows: tuple[int, int] | None = None
    object: str = ""
    hint: str = ""
