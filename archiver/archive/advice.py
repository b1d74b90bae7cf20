"""The next command, for what is wrong in an archive: one place, so that every finding says the same."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from archiver.archive.finding import Code


_ODD: Final = re.compile(r"[^\w@%+=:,./-]", re.ASCII)
"""What a shell would not take for a part of a name,"""
_EXPANDED: Final = re.compile(r"[\"$`\\!]")
"""and what it would not leave alone between double quotes."""


Argv = tuple[str, ...]
"""A command, word by word, as a program would run it."""


def argv(verb: str, place: str, *words: str) -> Argv:
    """A command on the archive at ``place``."""
    return ("archiver", *verb.split(), "-C", place, *words)


def quoted(*commands: Argv) -> str:
    """Commands of which each follows if the one before went well, in quotes, to be typed as they stand."""
    return f"'{' && '.join(map(shlex.join, commands))}'"


def command(verb: str, place: str, *words: str) -> str:
    """A command on the archive at ``place``, in quotes, to be typed as it stands."""
    return quoted(argv(verb, place, *words))


def _typed(path: str) -> str:
    """A path as a shell reads it, without single quotes: the command that it is in stands in those."""
    if not _ODD.search(path):
        return path
    return shlex.quote(path) if _EXPANDED.search(path) else f'"{path}"'


class Advice(NamedTuple):
    """Says what to do next about the archive at ``place``, its path as it was given."""

    place: str

    def copy_back(self, name: str, code: Code, snapshot: str = "") -> str:
        """For an immutable file: parity, or any copy of it, because its name says what it must hold."""
        return (
            f"Run {self.repair()} to bring {name} back. "
            f"'archiver audit --explain {code}' says what to do if that cannot. "
            f"{self.audit(snapshot)}"
        )

    def replace_snapshot(self, snapshot: str) -> str:
        """For a document that was wrong from the beginning: every copy of it says the same."""
        return (
            "Every copy of it says the same. Mirror the repository again, and take this snapshot out of "
            f"use with {command('forget', self.place, snapshot)}. "
            "'archiver audit --explain manifest-invalid' says more."
        )

    def repair(self) -> str:
        """The command that mends what can be mended."""
        return command("repair", self.place)

    def more_places(self, code: Code) -> str:
        """For what a repair could not bring back: the same repair again cannot either."""
        more = command("repair", self.place, "--from", "DIR")
        return (
            f"No place that was asked has it. Run {more}, where DIR is another archive, a restored folder "
            f"or a hub cache that has it. 'archiver audit --explain {code}' says what else to do."
        )

    def bring_back(self, snapshot: str) -> str:
        """For bytes that no pack has: the packs are what is missing."""
        return (
            f"Run {self.repair()} to bring back this snapshot's packs that are missing or damaged. "
            f"{self.audit(snapshot)}"
        )

    def differs(self, snapshot: str) -> str:
        """For a file whose objects are whole: the manifest was wrong from the beginning."""
        return (
            "'archiver audit --explain file-differs' says what to do: no stored byte is known to be "
            f"damaged. {self.audit(snapshot)}"
        )

    def lost_event(self, digest: str) -> str:
        """For an event that others list."""
        return (
            f"Run {self.repair()} with --from and another copy of this archive, to bring back event "
            f"{digest[:16]}. Was it removed on purpose? {self.audit()}"
        )

    def lost_head(self, digest: str) -> str:
        """For an event that somebody knows of and that no other lists."""
        return (
            f"Find out who put an older copy here, or wrote this one anew, without event {digest[:16]}. "
            f"Run {self.repair()} with --from and a copy that has it. {self.audit()}"
        )

    def head(self) -> str:
        """The command that prints what vouches for the journal."""
        return command("head", self.place)

    def rebuild_catalogue(self) -> str:
        """For the SQL index."""
        return f"Run {command('catalogue rebuild', self.place)}. {self.audit()}"

    def make_readable(self, snapshot: str = "") -> str:
        """For a file that the system does not let this user read."""
        return f"Check its permissions, and those of its folders. {self.audit(snapshot)}"

    def give_up(self, title: str) -> str:
        """For a snapshot that was pruned, and then taken back by ``forget --undo``."""
        return (
            f"Bring it with a copy, a mirror or a repair from elsewhere; or, if it is not wanted any more, "
            f"run {command('forget', self.place, title)}."
        )

    def foreign_seal(self, name: str, own_name: str = "") -> str:
        """For a file among the seals that is one under another name, or may be one."""
        path = _typed(f"{self.place}/{name}")
        move = f"move it out of the folder: 'mv {path} /tmp/'"
        if own_name:
            own = _typed(f"{self.place}/{own_name}")
            return f"Give it its name, 'mv -n {path} {own}', or {move}. {self.audit()}"
        return f"Check its permissions, or {move}. {self.audit()}"

    def other_filesystem(self) -> str:
        """For names that only some filesystems can hold."""
        return "Restore it to a filesystem that tells upper from lower case, such as ext4 or XFS."

    def unstable(self) -> str:
        """For readings that differ: the machine comes first."""
        return f"Test this machine's memory, cables and disks. {self.audit()}"

    def audit(self, snapshot: str = "") -> str:
        """Whether it helped, an audit says."""
        chosen = ("--snapshot", snapshot) if snapshot else ()
        return f"Then run {command('audit', self.place, *chosen)}."
