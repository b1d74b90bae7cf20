"""The next command, for what is wrong in an archive: one place, so that every finding says the same."""

from __future__ import annotations

from typing import Final

UNSTABLE: Final = "Test this machine's memory, cables and disks, then run 'archiver audit' again."
ANOTHER_COPY: Final = "from another copy of this archive"


def copy_back(name: str, snapshot: str = "") -> str:
    """For an immutable file: any copy of it will do, because its name says what it must hold."""
    return f"Copy {name} {ANOTHER_COPY}; docs/findings.md says what to do without one. {_look(snapshot)}"


def bring_back(snapshot: str) -> str:
    """For bytes that no pack has: the packs are what is missing."""
    return f"Bring back this snapshot's packs that are missing or damaged. {_look(snapshot)}"


def _look(snapshot: str) -> str:
    chosen = f" --snapshot {snapshot}" if snapshot else ""
    return f"Then run 'archiver audit{chosen}'."
