"""The next command, for what is wrong in an archive: one place, so that every finding says the same."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from archiver.archive.finding import Code


def command(verb: str, place: str, *words: str) -> str:
    """A command on the archive at ``place``, in quotes, to be typed as it stands."""
    return f"'archiver {verb} -C {shlex.join([place, *words])}'"


class Advice(NamedTuple):
    """Says what to do next about the archive at ``place``, its path as it was given."""

    place: str

    def copy_back(self, name: str, code: Code, snapshot: str = "") -> str:
        """For an immutable file: any copy of it will do, because its name says what it must hold."""
        there = "" if code.endswith("-missing") else " over it, after 'chmod u+w' on it"
        return (
            f"Copy {name} from another copy of this archive{there}; "
            f"'archiver audit --explain {code}' says what to do without one. {self.audit(snapshot)}"
        )

    def bring_back(self, snapshot: str) -> str:
        """For bytes that no pack has: the packs are what is missing."""
        return (
            f"Bring back this snapshot's packs that are missing or damaged. {self.audit(snapshot)}"
        )

    def make_readable(self, snapshot: str = "") -> str:
        """For a file that the system does not let this user read."""
        return f"Check its permissions, and those of its folders. {self.audit(snapshot)}"

    def unstable(self) -> str:
        """For readings that differ: the machine comes first."""
        return f"Test this machine's memory, cables and disks. {self.audit()}"

    def audit(self, snapshot: str = "") -> str:
        """Whether it helped, an audit says."""
        chosen = ("--snapshot", snapshot) if snapshot else ()
        return f"Then run {command('audit', self.place, *chosen)}."
